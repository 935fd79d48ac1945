"""What a report of a period is made from: what was kept of its closed months, and the ledger for all else.

In: a ledger, the policy of the moment. Out: a statement, and the state of the period:

* `open`: it is not over
* `closing`: it is over, and the collector has not closed it yet: late windows still count
* `closed`: it shows a version, which nothing changes any more
* `what-if`: computed with prices or rules that are not the collector's

Months are what is closed. A day is as closed as its month, and shows the month's version; a longer period is closed
when all of its months are, and shows the newest version of each.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from tokenyield_collector.errors import ParameterError
from tokenyield_collector.ledger.closed import StatementRecord
from tokenyield_collector.ledger.usage import WorkLatency
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.period import Period, iso, month_of, months_of, parse_period
from tokenyield_collector.reports.closed_statement import (
    ClosedStatement,
    JoinedStatement,
    ReportedStatement,
    StatementDays,
)
from tokenyield_collector.reports.closing import ClosableLedger, inputs_of
from tokenyield_collector.reports.formats import Correction
from tokenyield_collector.reports.team_statement import TeamStatement
from tokenyield_collector.reports.version_content import ClosedVersion, closed_version
from tokenyield_collector.reports.versions import in_words
from tokenyield_collector.statements.source import Grain, OtherCosts, Span
from tokenyield_collector.statements.statement import Statement, fleet_statement
from tokenyield_wire.units import hour_of_ms

PeriodState = Literal["open", "closing", "closed", "what-if"]


def state_of(month: Period, records: Sequence[StatementRecord], known_ms: int) -> PeriodState:
    """Of a month with these versions; `known_ms` is up to where all windows should have arrived."""
    if records and records[-1].content:
        return "closed"
    return "closing" if month.end_ms <= known_ms else "open"


class ReportedStretch(NamedTuple):
    """The part of a period that the ledger can report: whole hours that it has, up to now."""

    period: Period
    start_ms: int
    end_ms: int
    is_over: bool


@dataclass(frozen=True, kw_only=True)
class ReportedPeriod:
    """Ready to be summed up. `version` is that of its month, where all of it is of one that is closed."""

    period: Period
    state: PeriodState
    version: int | None
    billing_period: Period
    """The month, where all of it is of one that is closed."""
    statement: ReportedStatement
    waits: Callable[[], Iterable[WorkLatency]]
    notes: list[str] = field(default_factory=list)
    correction: Correction | None = None
    """Of the version before."""
    issued_ms: int = 0
    """When the version was made."""


@dataclass(frozen=True, kw_only=True)
class PeriodReader:
    """Of one ledger at one moment."""

    ledger: ClosableLedger
    policy: Policy
    known_ms: int
    """Up to where all windows should have arrived."""
    is_what_if: bool = False
    others: Sequence[OtherCosts] = ()
    teams: Sequence[str] | None = None
    """Only the lines that these teams carry."""

    def read(self, period: Period, grain: Grain, number: int | None = None) -> ReportedPeriod:
        """`number`: that version of the month instead of the newest. Raises `ParameterError`, `LedgerError`."""
        read = self._read(period, grain, number)
        if self.teams is None:
            return read
        return replace(read, notes=[f"only what is carried by {', '.join(self.teams)}", *read.notes])

    def _read(self, period: Period, grain: Grain, number: int | None) -> ReportedPeriod:
        self.ledger.roll()
        if self.is_what_if:
            if number is not None:
                fix = "leave out prices and rules"
                raise ParameterError("version", expected="no version of a what-if", found=str(number), fix=fix)
            return self._limited(self._from_ledger(period, grain, "what-if"))
        months = months_of(period)
        versions = [self._version(month, number, is_only=len(months) == 1) for month in months]
        if not any(versions):
            state: PeriodState = "closing" if period.end_ms <= self.known_ms else "open"
            return self._limited(self._from_ledger(period, grain, state))
        if len(months) == 1 and versions[0] is not None:
            return self._limited(self._from_version(period, grain, versions[0]))
        return self._joined(period, grain, months, versions)

    def _limited(self, read: ReportedPeriod) -> ReportedPeriod:
        if self.teams is None:
            return read
        return replace(read, statement=TeamStatement(read.statement, self.teams), waits=tuple, correction=None)

    def stretch(self, period: Period) -> ReportedStretch:
        first_ms = self.first_ms()
        start_ms = period.start_ms if first_ms is None else max(period.start_ms, first_ms)
        end_ms = period.start_ms if first_ms is None else min(period.end_ms, self.known_ms)
        return ReportedStretch(period, start_ms, max(start_ms, end_ms), period.end_ms <= self.known_ms)

    def first_ms(self) -> int | None:
        """Start of the first hour or day of which the ledger has anything."""
        return min(filter(None, (self._fleet_from_ms, *(other.first_ms() for other in self.others))), default=None)

    def _version(self, month: Period, number: int | None, *, is_only: bool) -> ClosedVersion | None:
        records = self.ledger.versions.records(month.name)
        if number is None:
            return closed_version(records[-1]) if records else None
        if not is_only:
            raise ParameterError("version", expected="a period within one month", found="a longer one")
        by_number = {record.version: record for record in records}
        if number not in by_number:
            known = f"1 to {records[-1].version}" if records else "none, for the month is not closed"
            raise ParameterError("version", expected=f"a version of {month.name}: {known}", found=str(number))
        version = closed_version(by_number[number])
        if version is None:
            found = f"{number}, of which an older collector kept no lines"
            raise ParameterError("version", expected="a version whose lines are kept", found=found)
        return version

    # --- the ledger ------------------------------------------------------------------------------------------------

    def _from_ledger(self, period: Period, grain: Grain, state: PeriodState) -> ReportedPeriod:
        stretch = self.stretch(period)
        notes = []
        if stretch.end_ms <= stretch.start_ms:
            notes.append("the ledger has nothing of this period")
        elif stretch.start_ms > period.start_ms:
            notes.append(f"the ledger begins at {iso(stretch.start_ms)}")
        if state == "what-if":
            notes.append("what-if: with prices and rules that are not the collector's; no version is made of it")
        elif state == "closing":
            notes.append("closing: late windows still count; the collector closes its month (close_after_days)")
        if not stretch.is_over:
            notes.append(f"open: up to {iso(stretch.end_ms)}; later time is not included")
        return ReportedPeriod(
            period=period,
            state=state,
            version=None,
            billing_period=period,
            statement=self._statement(stretch.start_ms, stretch.end_ms, grain, self.policy),
            waits=lambda: self.ledger.usage().latency(stretch.start_ms, stretch.end_ms),
            notes=notes,
        )

    def _statement(self, start_ms: int, end_ms: int, grain: Grain, policy: Policy) -> Statement:
        return fleet_statement(
            self.ledger.usage(),
            policy,
            Span(start_ms, end_ms),
            grain,
            self.others,
            fleet_from_ms=end_ms if (from_ms := self._fleet_from_ms) is None else from_ms,
        )

    @property
    def _fleet_from_ms(self) -> int | None:
        """Start of the first hour that the ledger has of the fleet."""
        first_ms = self.ledger.first_ms()
        return None if first_ms is None else hour_of_ms(first_ms)

    # --- what was kept ---------------------------------------------------------------------------------------------

    def _from_version(self, period: Period, grain: Grain, version: ClosedVersion) -> ReportedPeriod:
        closed = ClosedStatement(self.ledger.versions, version, period, grain)
        statement: ReportedStatement = self._hours_of(version, period, grain) if grain.hour else closed
        notes = []
        if closed.span.start_ms > period.start_ms:
            notes.append(f"the ledger began at {iso(closed.span.start_ms)} when it was closed")
        if version.content.changes and self.teams is None:
            number, changes = version.number, in_words(version.content.changes)
            notes.append(f"version {number}, changed against version {number - 1}: {changes}")
        check = self.ledger.versions.checks().get(version.record.period)
        if check is not None and check.finding and self.teams is None:
            notes.append(f"does not agree with the ledger: {check.finding}")
        return ReportedPeriod(
            period=period,
            state="closed",
            version=version.number,
            billing_period=version.period,
            statement=statement,
            waits=closed.waits,
            notes=notes,
            correction=self._correction(version, period, grain),
            issued_ms=version.content.made_ms,
        )

    def _correction(self, version: ClosedVersion, period: Period, grain: Grain) -> Correction | None:
        records = self.ledger.versions.records(version.record.period)
        earlier = next((record for record in records if record.version == version.number - 1), None)
        before = closed_version(earlier) if earlier is not None else None
        if before is None:
            return None
        old, new = before.content.days, version.content.days
        days = {day for day in old.keys() | new.keys() if old.get(day) != new.get(day)}
        made = parse_period(month_of(version.content.made_ms))
        old_days, new_days = (
            ClosedStatement(self.ledger.versions, one, period, grain, days) for one in (before, version)
        )
        return Correction(old_days, new_days, made)

    def _hours_of(self, version: ClosedVersion, period: Period, grain: Grain) -> ReportedStatement:
        """Hours are not kept: they are computed again, as long as the ledger has what the version was made of."""
        content = version.content
        if inputs_of(self.ledger, version.policy, version.period, self.others) != content.inputs:
            raise ParameterError(
                "by",
                expected=f"columns that are kept of {version.period.name}, which is closed",
                found="'hour', and the ledger has other facts than when it was closed, or none",
                fix="ask by day",
            )
        of_month = self._statement(content.start_ms, content.end_ms, grain, version.policy)
        return StatementDays(of_month, period)

    # --- both ------------------------------------------------------------------------------------------------------

    def _joined(
        self, period: Period, grain: Grain, months: Sequence[Period], versions: Sequence[ClosedVersion | None]
    ) -> ReportedPeriod:
        """Each month by itself; open ones under the policy of the moment."""
        parts = []
        for month, version in zip(months, versions, strict=True):
            start_ms, end_ms = max(month.start_ms, period.start_ms), min(month.end_ms, period.end_ms)
            part = Period(name=month.name, start_ms=start_ms, end_ms=end_ms)
            if version is not None:
                parts.append(self._limited(self._from_version(part, grain, version)))
            else:
                state: PeriodState = "closing" if end_ms <= self.known_ms else "open"
                parts.append(self._limited(self._from_ledger(part, grain, state)))
        states: set[PeriodState] = {part.state for part in parts}
        state = next(state for state in ("open", "closing", "closed") if state in states)
        named = ", ".join(
            f"{part.period.name} {part.state}" + (f" (version {part.version})" if part.version is not None else "")
            for part in parts
        )
        return ReportedPeriod(
            period=period,
            state=state,
            version=None,
            billing_period=period,
            statement=JoinedStatement([part.statement for part in parts]),
            waits=lambda: (wait for part in parts for wait in part.waits()),
            notes=[f"by month: {named}", *(f"{part.period.name}: {note}" for part in parts for note in part.notes)],
        )
