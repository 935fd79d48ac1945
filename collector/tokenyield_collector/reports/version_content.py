"""What a version of a closed month consists of, beside its lines: the JSON in `StatementRecord.content`. Pure.

In: a record of the ledger. Out: a `ClosedVersion`, with the policy that it was made under.
"""

from dataclasses import dataclass
from functools import cached_property

import msgspec

from tokenyield_collector.attribution.rules import AttributionRules
from tokenyield_collector.errors import LedgerError
from tokenyield_collector.ledger.closed import StatementRecord
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.load import price_book_of
from tokenyield_collector.prices.period import Period, parse_period
from tokenyield_collector.statements.gaps import DayGap
from tokenyield_collector.statements.lines import FIELDS
from tokenyield_collector.statements.references import AppliedReference
from tokenyield_collector.version import VERSION
from tokenyield_settings.loader import SettingsError

COMPUTING = 2
"""Raised where the same facts and policy come to other lines within one release."""
ENGINE = f"tokenyield {VERSION}, {len(FIELDS)} fields, computing {COMPUTING}"
"""What computed the lines of a version: another one may compute them differently."""


class ClosedDayEntry(msgspec.Struct, frozen=True, array_like=True):
    """One day of a version."""

    digest: str
    parts: int
    facts: str
    """A checksum of the day's facts in the ledger."""
    total: int
    """Its cost, in quanta."""


class VersionContent(msgspec.Struct, frozen=True, kw_only=True):
    """The document."""

    engine: str
    made_by: str
    """The collector that made it."""
    made_ms: int
    start_ms: int
    end_ms: int
    """What the ledger had of the period."""
    facts_from_ms: int
    """The first hour that any figure depends on: paces are learned from hours before the period too."""
    inputs: str
    """A digest of the facts, the policy and the engine."""
    currency: str
    total: int
    """The cost of the whole period, in quanta."""
    days: dict[str, ClosedDayEntry]
    references: list[AppliedReference]
    gaps: list[DayGap]
    """What was not known when it was computed."""
    changes: list[str]
    """Against the version before, a line each."""


@dataclass(frozen=True)
class ClosedVersion:
    """A version of a closed month whose lines are kept."""

    record: StatementRecord
    content: VersionContent

    @property
    def number(self) -> int:
        return self.record.version

    @cached_property
    def period(self) -> Period:
        return parse_period(self.record.period)

    @cached_property
    def policy(self) -> Policy:
        """What it was made under. Raises `LedgerError`."""
        try:
            prices = price_book_of(self.record.prices)
            rules = msgspec.json.decode(self.record.attribution, type=AttributionRules)
        except (SettingsError, msgspec.MsgspecError) as error:
            raise LedgerError(
                f"{self.record.period}, version {self.number}: expected a price book and rules that this collector "
                f"reads, found others ({error}); read it with the collector that made it ({self.content.engine})"
            ) from error
        return Policy(prices=prices, rules=rules)


def closed_version(record: StatementRecord) -> ClosedVersion | None:
    """None for a record that has no lines. Raises `LedgerError` where a newer collector wrote it."""
    if not record.content:
        return None
    try:
        return ClosedVersion(record, msgspec.json.decode(record.content, type=VersionContent))
    except msgspec.MsgspecError as error:
        raise LedgerError(
            f"{record.period}, version {record.version}: expected a version that this collector reads, found another "
            f"({error}); run the newer collector"
        ) from error
