"""What gives lines to a statement: a cost source. The fleet is the first (fleet.py). Pure.

Sharing, reports, budgets, exports and the live view know lines only, and never ask which source gave one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple, Protocol, TypeVar

from tokenyield_collector.policy import Policy
from tokenyield_collector.statements.gaps import DayGap
from tokenyield_collector.statements.lines import LineKey, Sums
from tokenyield_collector.statements.references import AppliedReference
from tokenyield_wire.units import MS_PER_DAY

NO_NODE = ("", "")
Item = TypeVar("Item")


class Span(NamedTuple):
    """[start_ms, end_ms), Unix time in ms."""

    start_ms: int
    end_ms: int

    def days(self) -> range:
        """Starts (ms) of the UTC days that it touches."""
        return range(self.start_ms - self.start_ms % MS_PER_DAY, self.end_ms, MS_PER_DAY)


class Grain(NamedTuple):
    """What lines are by, beside the dimensions."""

    hour: bool = False
    node: bool = False
    workload: bool = False
    cluster: bool = False
    day: bool = True
    """Without, lines of a whole span may stand on its first day, where nothing that they cost depends on the day. Then
    `loaded` is by the usage of the span."""

    def coarsened(self, key: LineKey) -> LineKey:
        """The key of the line that `key` belongs to at this grain."""
        carrier = key.carrier
        if (
            (self.hour or key.start_ms % MS_PER_DAY == 0)
            and (self.node or key.node == NO_NODE)
            and (self.workload or not carrier.workload)
            and (self.cluster or not carrier.cluster)
        ):
            return key
        return key._replace(
            start_ms=key.start_ms if self.hour else key.start_ms - key.start_ms % MS_PER_DAY,
            node=key.node if self.node else NO_NODE,
            carrier=carrier._replace(
                workload=carrier.workload if self.workload else "",
                cluster=carrier.cluster if self.cluster else "",
            ),
        )


class CostSource(Protocol):
    """Gives lines. `references` are the paces that its work was rated with, none for what is bought; `gaps` is what is
    not known of what the lines are about. Both are complete once lines were made."""

    @property
    def references(self) -> Sequence[AppliedReference]: ...

    @property
    def gaps(self) -> Sequence[DayGap]: ...

    def lines(self, span: Span) -> Iterator[tuple[LineKey, Sums]]:
        """What `span` cost, in order of days, before any sharing. Keys may be finer than a statement asks for, and one
        may come several times."""
        ...


class OtherCosts(Protocol):
    """What is beside the fleet, as statements take it in. From any thread."""

    def source(self, policy: Policy, grain: Grain) -> CostSource:
        """For one statement, whose grain is `grain`."""
        ...

    def first_ms(self) -> int | None:
        """Start of the first day that has lines; None where none has."""
        ...

    def revision(self, start_ms: int, end_ms: int) -> str:
        """Changes when lines of the days that begin in [start_ms, end_ms) may; empty where there are none. Quick."""
        ...


def day_by_day(items: Iterable[Item], day_of: Callable[[Item], int]) -> Callable[[int], list[Item]]:
    """A function that gives the items of one day after the other. They come, and days are asked for, in order."""
    groups = groupby(items, day_of)
    ahead = next(groups, None)

    def of(day_ms: int) -> list[Item]:
        nonlocal ahead
        taken: list[Item] = []
        while ahead is not None and ahead[0] <= day_ms:
            taken += ahead[1]
            ahead = next(groups, None)
        return taken

    return of
