"""The statement of closed days, read from what was kept of them; and of closed and open days one after the other.

In: versions of months (version_content.py), the register of a ledger. Out: the same as a `Statement` gives to reports
and formats: lines by day, what the waterfall was before sharing, the paces that applied, how long callers waited.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

from tokenyield_collector.errors import LedgerError, ParameterError
from tokenyield_collector.ledger.closed import VersionStore
from tokenyield_collector.ledger.usage import WorkLatency
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.period import Period, parse_period
from tokenyield_collector.reports.closed_day import DaySums, PoolPlace, decode_lines, decode_sums
from tokenyield_collector.reports.version_content import ClosedVersion
from tokenyield_collector.statements.gaps import DayGap
from tokenyield_collector.statements.lines import LineKey, Sums, sum_of_sums
from tokenyield_collector.statements.references import AppliedReference
from tokenyield_collector.statements.source import Grain, Span
from tokenyield_collector.statements.statement import KeyedLine, Statement


class ReportedStatement(Protocol):
    """The part of a statement that reports and formats read."""

    @property
    def policy(self) -> Policy: ...

    @property
    def span(self) -> Span: ...

    @property
    def references(self) -> list[AppliedReference]:
        """Once lines were made."""
        ...

    @property
    def gaps(self) -> Sequence[DayGap]:
        """Once lines were made."""
        ...

    @property
    def whole(self) -> Sums | None:
        """All lines, before anything was shared; once lines were made. None where lines are a part of them."""
        ...

    def lines(self) -> Iterator[KeyedLine]: ...


class ClosedStatement:
    """Days of one version. Raises `LedgerError` where a day is damaged or missing."""

    def __init__(
        self,
        store: VersionStore,
        version: ClosedVersion,
        period: Period,
        grain: Grain,
        days: Collection[str] | None = None,
    ) -> None:
        """`days`: only these (2026-10-05)."""
        self._store = store
        self._version = version
        self._grain = grain
        content = version.content
        self.policy = version.policy
        start_ms = max(period.start_ms, content.start_ms)
        self.span = Span(start_ms, max(start_ms, min(period.end_ms, content.end_ms)))
        self.references = content.references
        self.gaps = [gap for gap in content.gaps if period.start_ms <= gap.day_ms < period.end_ms]
        self.before_sharing: dict[PoolPlace, Sums] = defaultdict(Sums)
        self._days = {
            day: entry
            for day, entry in sorted(content.days.items())
            if _is_within(parse_period(day), period) and (days is None or day in days)
        }

    @property
    def whole(self) -> Sums:
        return sum_of_sums(self.before_sharing.values())

    def lines(self) -> Iterator[KeyedLine]:
        self.before_sharing.clear()
        for day, sums in self._sums():
            for place, cost in sums.before_sharing.items():
                self.before_sharing[place].take(cost)
            lines: dict[LineKey, Sums] = {}
            total = 0
            for key, line in self._lines(day) if self._is_fine else sums.lines:
                total += line.total
                coarse = self._grain.coarsened(key)
                if coarse in lines:
                    lines[coarse].take(line)
                else:
                    lines[coarse] = line
            if total != self._days[day].total:
                raise LedgerError(
                    f"{self._name}: expected the lines of {day} to sum to what was closed, found a difference of "
                    f"{total - self._days[day].total} quanta; restore the newest backup"
                )
            yield from lines.items()

    def waits(self) -> Iterator[WorkLatency]:
        """How long callers waited."""
        for _, sums in self._sums():
            yield from sums.waits

    @property
    def _is_fine(self) -> bool:
        """Whether lines are asked for that part 0 of a day does not have."""
        return self._grain.workload or self._grain.node

    def _sums(self) -> Iterator[tuple[str, DaySums]]:
        parts = self._store.day_part({entry.digest for entry in self._days.values()}, 0)
        for day, entry in self._days.items():
            if entry.digest not in parts:
                raise self._missing(day)
            yield day, decode_sums(parts[entry.digest])

    def _lines(self, day: str) -> Iterator[KeyedLine]:
        entry = self._days[day]
        for number in range(1, entry.parts):
            part = self._store.day_part([entry.digest], number).get(entry.digest)
            if part is None:
                raise self._missing(day)
            yield from decode_lines(part)

    def _missing(self, day: str) -> LedgerError:
        return LedgerError(f"{self._name}: expected the lines of {day}, found none; restore the newest backup")

    @property
    def _name(self) -> str:
        return f"{self._version.record.period}, version {self._version.number}"


class StatementDays:
    """The days of a period, of a statement of more days."""

    def __init__(self, statement: Statement, period: Period) -> None:
        self._statement = statement
        self._period = period
        self.policy = statement.policy
        start_ms = max(period.start_ms, statement.span.start_ms)
        self.span = Span(start_ms, max(start_ms, min(period.end_ms, statement.span.end_ms)))
        self.whole = Sums()

    @property
    def references(self) -> list[AppliedReference]:
        return self._statement.references

    @property
    def gaps(self) -> list[DayGap]:
        return [gap for gap in self._statement.gaps if self._period.start_ms <= gap.day_ms < self._period.end_ms]

    def lines(self) -> Iterator[KeyedLine]:
        before = Sums()
        for day_ms, lines in self._statement.days():
            so_far = self._statement.whole
            if self._period.start_ms <= day_ms < self._period.end_ms:
                self.whole[:] = [now + new - old for now, new, old in zip(self.whole, so_far, before, strict=True)]
                yield from lines.items()
            before = so_far


class JoinedStatement:
    """Stretches one after the other, closed or not. All are shown under the policy of the last: its dimensions, by
    name, and its currency. Raises `ParameterError` for the field `period` where they have different currencies."""

    def __init__(self, parts: Sequence[ReportedStatement]) -> None:
        self._parts = parts
        self.policy = parts[-1].policy
        self.span = Span(parts[0].span.start_ms, parts[-1].span.end_ms)
        currencies = sorted({part.policy.prices.currency for part in parts})
        if len(currencies) > 1:
            raise ParameterError(
                "period",
                expected="a period in one currency",
                found=f"months that were closed in {' and '.join(currencies)}",
                fix="ask for each month",
            )

    @property
    def references(self) -> list[AppliedReference]:
        """The newest of each instance, and of each node that has its own."""
        newest = {reference.place: reference for part in self._parts for reference in part.references}
        return [newest[place] for place in sorted(newest)]

    @property
    def gaps(self) -> list[DayGap]:
        return [gap for part in self._parts for gap in part.gaps]

    @property
    def whole(self) -> Sums | None:
        wholes = [part.whole for part in self._parts]
        known = [whole for whole in wholes if whole is not None]
        return sum_of_sums(known) if len(known) == len(wholes) else None

    def lines(self) -> Iterator[KeyedLine]:
        wanted = self.policy.rules.dimensions
        for part in self._parts:
            own = part.policy.rules.dimensions
            if own == wanted:
                yield from part.lines()
            else:
                yield from _under_dimensions(part.lines(), own, wanted)


def _under_dimensions(lines: Iterator[KeyedLine], own: Sequence[str], wanted: Sequence[str]) -> Iterator[KeyedLine]:
    """Values by name; None for a dimension that a line does not have."""
    places = [own.index(name) if name in own else None for name in wanted]
    for key, sums in lines:
        values = tuple(key.carrier.values[at] if at is not None else None for at in places)
        yield key._replace(carrier=key.carrier._replace(values=values)), sums


def _is_within(day: Period, period: Period) -> bool:
    return period.start_ms <= day.start_ms < period.end_ms
