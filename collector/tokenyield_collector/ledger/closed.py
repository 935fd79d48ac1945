"""What a ledger keeps of closed periods: the register of versions, and the lines of each version by day.

A day is a few texts (*parts*) under the digest of its content, so that versions share the days in which they agree. A
version counts once its record is there, which is written after all of its days: a kill in between leaves days that
nothing names, and the next attempt finds them or `forget_days` removes them.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol


class StatementRecord(NamedTuple):
    """A version of a closed period: what it was made of, and what it consists of."""

    period: str
    version: int
    facts: str
    prices: str
    """The price book, as JSON."""
    attribution: str
    """The rules, as JSON."""
    change: str
    """What changed against the version before; empty for the first."""
    content: str = ""
    """JSON (reports/version_content.py): its days, its total, when it was made and by which collector. Empty where an
    older collector made it, which kept no lines."""


class PeriodCheck(NamedTuple):
    """The last time that a collector compared a closed period with the ledger."""

    period: str
    inputs: str
    """A digest of what its newest version would be made of now."""
    checked_ms: int
    finding: str
    """In words, where the kept version is not what its inputs give; else empty."""


class VersionStore(Protocol):
    """Blocking. `add_…`, `note_…` and `forget_…` are called from the writing thread, the others from any."""

    def periods(self) -> list[str]:
        """Those of which a version is registered."""
        ...

    def records(self, period: str) -> list[StatementRecord]:
        """All versions of a period, the oldest first."""
        ...

    def add_record(self, record: StatementRecord) -> None:
        """The days that it names must be there."""
        ...

    def part_counts(self) -> Mapping[str, int]:
        """Digest of a day -> how many of its parts are there."""
        ...

    def day_part(self, digests: Collection[str], part: int) -> dict[str, str]:
        """Digest -> this part of the day; without those that are not there."""
        ...

    def add_day(self, digest: str, parts: Sequence[str]) -> None:
        """A day that is there already stays as it is."""
        ...

    def forget_days(self, kept: Collection[str]) -> None:
        """Remove all days but these, as far as the engine does so."""
        ...

    def checks(self) -> dict[str, PeriodCheck]:
        """Period -> its last check."""
        ...

    def note_check(self, check: PeriodCheck) -> None: ...
