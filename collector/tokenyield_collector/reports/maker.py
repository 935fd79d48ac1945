"""Makes reports from a ledger and the policy, for the command line and for the API.

In: the parameters of a request. Out: bytes and their media type. Raises `ParameterError` for a parameter that cannot
be used, `LedgerError`.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Protocol

from tokenyield_collector.attribution.budgets import LOOK_BACK_DAYS, BudgetState, DaySpent, budget_states
from tokenyield_collector.attribution.rules import TOKENS, Budget
from tokenyield_collector.errors import ParameterError
from tokenyield_collector.http.schemas import (
    BudgetAmountsDocument,
    BudgetsDocument,
    CoverageDocument,
    DifferenceDocument,
    VersionsDocument,
)
from tokenyield_collector.ledger.outcomes import OutcomeSlice
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.money import plain
from tokenyield_collector.prices.period import Period, day_of, iso, month_of, months_of, parse_period
from tokenyield_collector.reports.closing import ClosableLedger
from tokenyield_collector.reports.columns import check_by, check_where, grain_of
from tokenyield_collector.reports.coverage import coverage, identifying
from tokenyield_collector.reports.coverage_document import coverage_document
from tokenyield_collector.reports.focus.columns import DEFAULT_VERSION, check_focus_version
from tokenyield_collector.reports.formats import MEDIA_TYPES, PeriodStatement, ReportFormat, TextWriter, load_format
from tokenyield_collector.reports.outcomes import outcomes_of_teams, tie_outcomes
from tokenyield_collector.reports.report import Report, make_report
from tokenyield_collector.reports.report_latency import report_latency
from tokenyield_collector.reports.reported_period import PeriodReader, ReportedPeriod, ReportedStretch, state_of
from tokenyield_collector.reports.team_statement import TEAM, check_teams
from tokenyield_collector.reports.version_list import difference_document, version_document
from tokenyield_collector.statements.gaps import NO_POOL
from tokenyield_collector.statements.names import names_of, own_name
from tokenyield_collector.statements.source import Grain, OtherCosts
from tokenyield_wire.units import MS_PER_DAY, hour_of_ms

_PATTERN = frozenset("*?[")
"""Any of them in what a budget matches makes it a pattern, which may fit other teams too."""
__all__ = ["MEDIA_TYPES", "ReportMaker", "ReportedLedger", "ReportedStretch", "budget_document"]


class ReportedLedger(ClosableLedger, Protocol):
    """The part of a `Ledger` that reports need."""

    def outcomes(self, start_ms: int, end_ms: int) -> list[OutcomeSlice]: ...


@dataclass(frozen=True, kw_only=True)
class ReportMaker:
    """Reads the ledger; writes into it only the roll-ups."""

    ledger: ReportedLedger
    policy: Policy
    now_ms: int
    settle_ms: int = 0
    """How long windows take to arrive; newer time is not reported yet."""
    close_after_ms: int = 0
    """How long after its end a month is closed."""
    others: Sequence[OtherCosts] = ()
    """Cost sources beside the fleet."""
    teams: Sequence[str] | None = None
    """Only what these teams carry; None: all."""
    is_what_if: bool = False
    """Whether `policy` is not the collector's own: then closed months are computed too."""

    def report(
        self,
        period: str,
        by: Sequence[str] = (),
        where: Mapping[str, str] | None = None,
        top: int | None = None,
        *,
        version: int | None = None,
        with_latency: bool = False,
    ) -> Report:
        """`by`: where no column is named, the first dimension of the rules and the model; `where`: only lines with
        these values in these columns; `top`: the rows that lose most, and one of all others; `version`: of a closed
        month, instead of the newest."""
        if top is not None and top < 1:
            raise ParameterError("top", expected="a whole number, at least 1", found=str(top))
        asked = parse_period(period)
        read = self._reader.read(asked, grain_of((*(by or ()), *(where or ()))), version)
        policy = read.statement.policy
        by = check_by(by or policy.default_columns, policy.rules.dimensions)
        where = check_where(where or {}, policy.rules.dimensions)
        check_teams(where, self.teams)
        notes = [*read.notes, *(f"only {name} {value}" for name, value in where.items())]
        report = make_report(read.statement, asked, by, where=where, top=top, state=read.state, notes=notes)
        if with_latency and self.teams is None:
            report.latency = report_latency(read.waits(), policy, by, where)
        span = read.statement.span
        outcomes = self.ledger.outcomes(span.start_ms - span.start_ms % MS_PER_DAY, span.end_ms)
        if self.teams is not None:
            outcomes = outcomes_of_teams(outcomes, policy, self.teams)
        if outcomes:
            tie_outcomes(report, outcomes, policy)
        report.version = read.version
        report.notes += _warnings(report, policy)
        return report

    def encode(
        self,
        period: str,
        by: Sequence[str],
        form: str,
        where: Mapping[str, str] | None = None,
        top: int | None = None,
        focus_version: str = DEFAULT_VERSION,
        version: int | None = None,
    ) -> bytes:
        """The report in one of `MEDIA_TYPES`. Raises `ParameterError` for a part of a FOCUS file."""
        chosen = load_format(form)
        if isinstance(chosen, ReportFormat):
            return chosen.encode(
                self.report(period, by, where, top, version=version, with_latency=chosen.shows_latency)
            )
        if where:
            raise ParameterError(
                next(iter(where)),
                expected=f"no filter with the format {form}",
                found=f"'{next(iter(where.values()))[:40]}'",
                fix="a FOCUS file is of the whole fleet: filter its rows instead",
            )
        out = io.StringIO()
        chosen.write(self._period_statement(period, focus_version, version), out)
        return out.getvalue().encode()

    def focus(
        self,
        period: str,
        out: TextWriter,
        *,
        focus_version: str = DEFAULT_VERSION,
        version: int | None = None,
        beside: Mapping[str, TextWriter] | None = None,
    ) -> Decimal:
        """Write the FOCUS file, streamed, and the files beside it (by format) in one pass. Returns the sum of rows."""
        from tokenyield_collector.reports.focus.invoice import InvoiceLines, write_billing_period
        from tokenyield_collector.reports.focus.writer import write_cost_and_usage
        from tokenyield_collector.reports.formats.focus_metadata import write_metadata_of_made

        whole, files = self._period_statement(period, focus_version, version), beside or {}
        lines = InvoiceLines()
        writers = {
            "focus-invoice-detail": lines.write,
            "focus-metadata": write_metadata_of_made,
            "focus-billing-period": write_billing_period,
        }
        total = write_cost_and_usage(whole, out, lines.add if "focus-invoice-detail" in files else None)
        for form, file in files.items():
            writers[form](whole, file)
        return total

    def budgets(self, month: str | None = None) -> list[BudgetState]:
        """The state of all budgets in a month; default: the current one."""
        month = month_of(self.now_ms) if month is None else month
        no_month = ParameterError("month", expected="a month", found=f"'{month[:40]}'", fix="write 2026-10")
        try:
            period = parse_period(month)
        except ParameterError:
            raise no_month from None
        first = day_of(period.start_ms)
        if first.day != 1 or period.days < 28:
            raise no_month
        back = Period(name=month, start_ms=period.start_ms - LOOK_BACK_DAYS * MS_PER_DAY, end_ms=period.end_ms)
        statement = self._reader.read(back, Grain(cluster=True)).statement
        dimensions, currency = statement.policy.rules.dimensions, statement.policy.prices.currency
        spent = [
            DaySpent(day_of(key.start_ms), names_of(key.carrier, dimensions), sums.total, sums.tokens)
            for key, sums in statement.lines()
        ]
        today = day_of(statement.span.end_ms)
        return budget_states(self._budgets, spent, first, min(today, date.max), currency)

    @property
    def _budgets(self) -> Sequence[Budget]:
        """Those of which all that fits is carried by the teams."""
        budgets = self.policy.rules.budgets
        if self.teams is None:
            return budgets
        own = {own_name(name) for name in self.teams}
        return [one for one in budgets if (team := one.match.get(TEAM)) in own and not _PATTERN & set(team or "")]

    def versions(self, period: str) -> VersionsDocument:
        """All versions of a month."""
        month = self._month(period)
        store = self.ledger.versions
        records = store.records(month.name)
        check = store.checks().get(month.name)
        closes_ms = month.end_ms + self.close_after_ms
        return {
            "period": month.name,
            "state": state_of(month, records, self.known_ms),
            "closes_at": iso(closes_ms),
            "finding": check.finding or None if check is not None else None,
            "versions": [version_document(record) for record in records],
        }

    def difference(
        self, period: str, first: int, second: int, by: Sequence[str] = (), where: Mapping[str, str] | None = None
    ) -> DifferenceDocument:
        """What moved from one version of a month to another, by who, and why."""
        month = self._month(period)
        old, new = (self.report(period, by, where, version=number) for number in (first, second))
        changes = [
            f"version {record.version}: {change}"
            for record in self.ledger.versions.records(month.name)
            if min(first, second) < record.version <= max(first, second)
            for change in version_document(record)["changes"]
            if self.teams is None  # they name nodes and workloads of others
        ]
        return difference_document(old, new, changes)

    def _month(self, period: str) -> Period:
        """The month that a period is of."""
        months = months_of(parse_period(period))
        if len(months) > 1:
            raise ParameterError("period", expected="a month, or days of one", found=f"'{period[:40]}'")
        return months[0]

    def read(self, period: str, grain: Grain) -> ReportedPeriod:
        """The statement of a period, for what is made of more than one."""
        return self._reader.read(parse_period(period), grain)

    def coverage(self, period: str, top: int) -> CoverageDocument:
        """How much each dimension covers under the policy of now, and the `top` most expensive without a value for one.
        Of the ledger: who it is that has none is not kept of closed months."""
        if top < 1:
            raise ParameterError("top", expected="a whole number, at least 1", found=str(top))
        reader = replace(self, policy=identifying(self.policy), is_what_if=True)._reader
        statement = reader.read(parse_period(period), Grain(workload=True, cluster=True)).statement
        span = statement.span
        start, end = iso(span.start_ms), iso(span.end_ms)
        return coverage_document(coverage(statement), self.policy, period=period, start=start, end=end, top=top)

    def stretch(self, period: str) -> ReportedStretch:
        """What the ledger has of a period."""
        self.ledger.roll()
        return self._reader.stretch(parse_period(period))

    def first_ms(self) -> int | None:
        """Start of the first hour or day of which the ledger has anything."""
        return self._reader.first_ms()

    @property
    def known_ms(self) -> int:
        """Up to where all windows should have arrived."""
        return hour_of_ms(self.now_ms - self.settle_ms)

    @property
    def _reader(self) -> PeriodReader:
        return PeriodReader(
            ledger=self.ledger,
            policy=self.policy,
            known_ms=self.known_ms,
            is_what_if=self.is_what_if,
            others=self.others,
            teams=self.teams,
        )

    def _period_statement(self, period: str, focus_version: str, version: int | None) -> PeriodStatement:
        check_focus_version(focus_version)
        if self.teams is not None:
            raise ParameterError(
                "format",
                expected="a format of rows, such as csv, for this token is limited to teams",
                found="a part of a FOCUS file, which is of the whole fleet",
            )
        asked = parse_period(period)
        if len(months_of(asked)) > 1:
            expected = "a month, or days of one month, in a FOCUS file"
            raise ParameterError("period", expected=expected, found=f"'{period[:40]}'", fix="ask for each month")
        read = self._reader.read(asked, Grain(workload=True, cluster=True), version)
        return PeriodStatement(
            read.statement,
            read.billing_period,
            read.version,
            focus_version,
            correction=read.correction,
            invoice_name=read.billing_period.name,
            issued_ms=read.issued_ms,
        )


def _warnings(report: Report, policy: Policy) -> list[str]:
    figures, prices = report.total.figures, policy.prices
    warnings = []
    if not prices.pools:
        warnings.append("no price book: usage without cost (set prices_file)")
    if any(pool.reference for pool in prices.pools):
        warnings.append("GPUs that no pool fits are priced with bundled reference figures, not with yours")
    if figures["unrated_gpu_hours"]:
        warnings.append(
            f"{figures['unrated_gpu_hours']:,.1f} active GPU-hours have no reference pace and count as productive"
        )
    hidden = {NO_POOL.name} if not prices.pools else set()  # of which the first warning is
    return warnings + [gap.text for gap in report.gaps if gap.kind.name not in hidden]


def budget_document(states: Sequence[BudgetState], currency: str) -> BudgetsDocument:
    """For JSON: exact amounts, and beside them those for people (`shown`), in cents. Tokens have no decimals."""
    return {
        "currency": currency,
        "budgets": [
            {
                "name": state.name,
                "month": state.month,
                "unit": state.unit,
                **_budget_amounts(state),
                "shown": _budget_amounts(state.shown),
                "spent_percent": round(state.spent_percent, 2),
                "steps": list(state.steps),
                "step": state.step,
                "state": state.state,
            }
            for state in states
        ],
    }


def _budget_amounts(state: BudgetState) -> BudgetAmountsDocument:
    def number(amount: Decimal) -> Decimal:
        return amount if state.unit == TOKENS else plain(amount)

    one = state.forecast
    return {
        "monthly": number(state.monthly),
        "spent": number(state.spent),
        "remaining": number(state.remaining),
        "forecast": None
        if one is None
        else {"expected": number(one.expected), "low": number(one.low), "high": number(one.high)},
    }
