"""The lines of a stretch of whole days as a closed period keeps them, one day in memory at a time.

In: a ledger, a policy. Out: encoded days (closed_day.py), each with a checksum of its facts; the paces that applied.
"""

import operator
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from tokenyield_collector.ledger.usage import LedgerUsageReader
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.period import day_of
from tokenyield_collector.reports.closed_day import KEPT_GRAIN, EncodedDay, PoolPlace, encode_day
from tokenyield_collector.statements.gaps import DayGap
from tokenyield_collector.statements.lines import Sums
from tokenyield_collector.statements.references import AppliedReference
from tokenyield_collector.statements.source import OtherCosts, Span
from tokenyield_collector.statements.statement import fleet_statement
from tokenyield_wire.units import MS_PER_DAY


class ReadableLedger(Protocol):
    """The part of a `Ledger` that is needed."""

    def usage(self) -> LedgerUsageReader: ...


class ComputedDay(NamedTuple):
    """`day` is 2026-10-05; `facts` a checksum of what the ledger has of it."""

    day: str
    encoded: EncodedDay
    facts: str


class MonthLines:
    """Of one span."""

    def __init__(
        self,
        ledger: ReadableLedger,
        policy: Policy,
        span: Span,
        others: Sequence[OtherCosts] = (),
        *,
        fleet_from_ms: int = 0,
    ) -> None:
        self._span = span
        self._others = others
        self._statement = fleet_statement(ledger.usage(), policy, span, KEPT_GRAIN, others, fleet_from_ms=fleet_from_ms)
        self._beside = ledger.usage()
        """The statement streams its rows from a reader of its own."""

    @property
    def references(self) -> list[AppliedReference]:
        """Once all days were computed."""
        return self._statement.references

    @property
    def gaps(self) -> list[DayGap]:
        """Once all days were computed."""
        return self._statement.gaps

    def days(self) -> Iterator[ComputedDay]:
        facts = {day_ms: self._facts(day_ms) for day_ms in self._span.days()}
        before: dict[PoolPlace, Sums] = {}
        for day_ms, lines in self._statement.days():
            so_far = self._statement.before_sharing
            of_day = {place: _less(sums, before.get(place)) for place, sums in so_far.items()}
            before = {place: _copy(sums) for place, sums in so_far.items()}
            waits = self._beside.latency(*self._part(day_ms))
            yield ComputedDay(day_of(day_ms).isoformat(), encode_day(lines, of_day, waits), facts[day_ms])

    def _facts(self, day_ms: int) -> str:
        """Of the fleet alone where there is nothing beside it."""
        beside = [other.revision(day_ms, day_ms + MS_PER_DAY) for other in self._others]
        return "+".join(filter(None, (self._beside.checksum(*self._part(day_ms)), *beside)))

    def _part(self, day_ms: int) -> tuple[int, int]:
        return max(day_ms, self._span.start_ms), min(day_ms + MS_PER_DAY, self._span.end_ms)


def _copy(sums: Sums) -> Sums:
    copied = Sums()
    copied[:] = sums
    return copied


def _less(sums: Sums, other: Sums | None) -> Sums:
    left = _copy(sums)
    if other is not None:
        left[:] = map(operator.sub, sums, other)
    return left
