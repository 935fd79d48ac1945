"""Makes reports from a ledger and the policy, for the command line and for the API.

In: the parameters of a request. Out: bytes and their media type. Raises `ParameterError` for a parameter that cannot
be used, `LedgerError`.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import NamedTuple, Protocol

from tokenyield_collector.attribution.budgets import LOOK_BACK_DAYS, BudgetState, DaySpent, budget_states
from tokenyield_collector.errors import ParameterError
from tokenyield_collector.http.schemas import BudgetsDocument
from tokenyield_collector.ledger.base import StatementRecord
from tokenyield_collector.ledger.usage import LedgerUsageReader
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.period import Period, day_of, iso, month_of, parse_period
from tokenyield_collector.reports.columns import check_by, check_where, grain_of
from tokenyield_collector.reports.focus.columns import DEFAULT_VERSION, check_focus_version
from tokenyield_collector.reports.formats import MEDIA_TYPES, PeriodStatement, ReportFormat, TextWriter, load_format
from tokenyield_collector.reports.report import Report, make_report
from tokenyield_collector.reports.report_latency import report_latency
from tokenyield_collector.reports.versions import next_record
from tokenyield_collector.statements.names import names_of
from tokenyield_collector.statements.source import CostSource, Grain, Span
from tokenyield_collector.statements.statement import Statement, fleet_statement
from tokenyield_wire.units import MS_PER_DAY, hour_of_ms

__all__ = ["MEDIA_TYPES", "ReportMaker", "ReportedLedger", "ReportedStretch", "budget_document"]


class ReportedStretch(NamedTuple):
    """The part of a period that can be reported: whole hours that the ledger has, up to now."""

    period: Period
    start_ms: int
    end_ms: int
    is_closed: bool


class ReportedLedger(Protocol):
    """The part of a `Ledger` that reports need."""

    def first_ms(self) -> int | None: ...

    def roll(self) -> object: ...

    def usage(self) -> LedgerUsageReader: ...

    def statements(self, period: str) -> list[StatementRecord]: ...

    def add_statement(self, record: StatementRecord) -> None: ...


@dataclass(frozen=True, kw_only=True)
class ReportMaker:
    """Reads the ledger; writes into it only the roll-ups and the register of versions."""

    ledger: ReportedLedger
    policy: Policy
    now_ms: int
    settle_ms: int = 0
    """How long windows take to arrive; newer time is not reported yet."""
    others: Sequence[CostSource] = ()
    """Cost sources beside the fleet."""

    def report(
        self,
        period: str,
        by: Sequence[str] = (),
        where: Mapping[str, str] | None = None,
        top: int | None = None,
        *,
        with_latency: bool = False,
    ) -> Report:
        """`by`: where no column is named, the first dimension of the rules and the model; `where`: only lines with
        these values in these columns; `top`: the rows that lose most, and one of all others."""
        if top is not None and top < 1:
            raise ParameterError("top", expected="a whole number, at least 1", found=str(top))
        by = check_by(by or self.policy.default_columns, self.policy.rules.dimensions)
        where = check_where(where or {}, self.policy.rules.dimensions)
        stretch = self.stretch(period)
        version, notes = self._version(stretch)
        notes += [f"only {name} {value}" for name, value in where.items()]
        statement = self._statement(stretch, grain_of((*by, *where)))
        report = make_report(
            statement, stretch.period, by, where=where, top=top, is_closed=stretch.is_closed, notes=notes
        )
        if with_latency:
            waits = self.ledger.usage().latency(stretch.start_ms, stretch.end_ms)
            report.latency = report_latency(waits, self.policy, by, where)
        report.version = version
        report.notes += _warnings(report, self.policy)
        return report

    def encode(
        self,
        period: str,
        by: Sequence[str],
        form: str,
        where: Mapping[str, str] | None = None,
        top: int | None = None,
        focus_version: str = DEFAULT_VERSION,
    ) -> bytes:
        """The report in one of `MEDIA_TYPES`. Raises `ParameterError` for a part of a FOCUS file."""
        chosen = load_format(form)
        if isinstance(chosen, ReportFormat):
            return chosen.encode(self.report(period, by, where, top, with_latency=chosen.shows_latency))
        if where:
            raise ParameterError(
                next(iter(where)),
                expected=f"no filter with the format {form}",
                found=f"'{next(iter(where.values()))[:40]}'",
                fix="a FOCUS file is of the whole fleet: filter its rows instead",
            )
        out = io.StringIO()
        chosen.write(self._period_statement(period, focus_version), out)
        return out.getvalue().encode()

    def focus(
        self,
        period: str,
        out: TextWriter,
        *,
        focus_version: str = DEFAULT_VERSION,
        invoice_out: TextWriter | None = None,
    ) -> Decimal:
        """Write the FOCUS file, streamed, and its invoice from the same pass. Returns the sum of its rows."""
        from tokenyield_collector.reports.focus.invoice import InvoiceLines
        from tokenyield_collector.reports.focus.writer import write_cost_and_usage

        whole = self._period_statement(period, focus_version)
        if invoice_out is None:
            return write_cost_and_usage(whole, out)
        lines = InvoiceLines()
        total = write_cost_and_usage(whole, out, lines.add)
        lines.write(whole, invoice_out)
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
        stretch = self._stretch_of(
            Period(name=period.name, start_ms=period.start_ms - LOOK_BACK_DAYS * MS_PER_DAY, end_ms=period.end_ms)
        )
        dimensions = self.policy.rules.dimensions
        spent = [
            DaySpent(day_of(key.start_ms), names_of(key.carrier, dimensions), sums.total, sums.tokens)
            for key, sums in self._statement(stretch, Grain(cluster=True)).lines()
        ]
        today, currency = day_of(stretch.end_ms), self.policy.prices.currency
        return budget_states(self.policy.rules.budgets, spent, first, min(today, date.max), currency)

    def stretch(self, period: str) -> ReportedStretch:
        return self._stretch_of(parse_period(period))

    def _stretch_of(self, period: Period) -> ReportedStretch:
        self.ledger.roll()
        known_ms = hour_of_ms(self.now_ms - self.settle_ms)
        first_ms = self.ledger.first_ms()
        start_ms = period.start_ms if first_ms is None else max(period.start_ms, hour_of_ms(first_ms))
        end_ms = period.start_ms if first_ms is None else min(period.end_ms, known_ms)
        return ReportedStretch(period, start_ms, max(start_ms, end_ms), period.end_ms <= known_ms)

    def _statement(self, stretch: ReportedStretch, grain: Grain) -> Statement:
        span = Span(stretch.start_ms, stretch.end_ms)
        return fleet_statement(self.ledger.usage(), self.policy, span, grain, self.others)

    def _period_statement(self, period: str, focus_version: str) -> PeriodStatement:
        check_focus_version(focus_version)
        stretch = self.stretch(period)
        version, _ = self._version(stretch)
        statement = self._statement(stretch, Grain(workload=True, cluster=True))
        return PeriodStatement(statement, stretch.period, version, focus_version)

    def _version(self, stretch: ReportedStretch) -> tuple[int | None, list[str]]:
        """The version of a closed period, and notes about it for people."""
        notes = []
        if stretch.end_ms <= stretch.start_ms:
            notes.append("the ledger has nothing of this period")
        elif stretch.start_ms > stretch.period.start_ms:
            notes.append(f"the ledger begins at {iso(stretch.start_ms)}")
        if not stretch.is_closed:
            notes.append(f"open: up to {iso(stretch.end_ms)}; later time is not included")
            return None, notes
        learned = self.policy.prices.reference_rates
        since_ms = stretch.end_ms - learned.learn_days * MS_PER_DAY if learned.learn else stretch.start_ms
        facts = self.ledger.usage().checksum(min(since_ms, stretch.start_ms), stretch.end_ms)
        before = self.ledger.statements(stretch.period.name)
        rules = self.policy.rules.document
        record = next_record(before, stretch.period.name, facts, self.policy.prices.document, rules)
        if not before or record is not before[-1]:
            self.ledger.add_statement(record)
        if record.change:
            notes.append(f"version {record.version}, changed against version {record.version - 1}: {record.change}")
        return record.version, notes


def _warnings(report: Report, policy: Policy) -> list[str]:
    figures, prices = report.total.figures, policy.prices
    warnings = []
    if not prices.pools:
        warnings.append("no price book: usage without cost (set prices_file)")
    elif figures["price_missing_gpu_hours"]:
        warnings.append(
            f"{figures['price_missing_gpu_hours']:,.1f} GPU-hours have no price: no pool of the price book fits them"
        )
    if any(pool.reference for pool in prices.pools):
        warnings.append("GPUs that no pool fits are priced with bundled reference figures, not with yours")
    if figures["unrated_gpu_hours"]:
        warnings.append(
            f"{figures['unrated_gpu_hours']:,.1f} active GPU-hours have no reference pace and count as productive"
        )
    return warnings


def budget_document(states: Sequence[BudgetState], currency: str) -> BudgetsDocument:
    """For JSON; money has two decimals, tokens have none."""
    return {
        "currency": currency,
        "budgets": [
            {
                "name": state.name,
                "month": state.month,
                "unit": state.unit,
                "monthly": state.monthly,
                "spent": state.spent,
                "remaining": state.remaining,
                "spent_percent": round(state.spent_percent, 2),
                "steps": list(state.steps),
                "step": state.step,
                "state": state.state,
                "forecast": None
                if state.forecast is None
                else {"expected": state.forecast.expected, "low": state.forecast.low, "high": state.forecast.high},
            }
            for state in states
        ],
    }
