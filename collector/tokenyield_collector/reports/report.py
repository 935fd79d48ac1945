"""A statement summed up by columns. Pure.

In: a `Statement`, the columns to group by. Out: a `Report`: rows whose costs sum, down every column and along every
row, to the report's total and its waterfall, exactly and in cents (report_table.py).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from tokenyield_collector.errors import ParameterError
from tokenyield_collector.prices.period import Period, day_of, iso
from tokenyield_collector.reports.buy_or_run import BuyOrRun, api_gaps, buy_or_run
from tokenyield_collector.reports.closed_statement import ReportedStatement
from tokenyield_collector.reports.report_latency import ReportLatency
from tokenyield_collector.reports.report_table import IdleCapacity, ReportRow, ReportTable, WaterfallStep
from tokenyield_collector.reports.reported_period import PeriodState
from tokenyield_collector.statements.buckets import LOST
from tokenyield_collector.statements.gaps import Gap, gaps_of
from tokenyield_collector.statements.lines import LineKey, Sums, sum_of_sums
from tokenyield_collector.statements.names import OTHER, column_values
from tokenyield_collector.statements.references import AppliedReference
from tokenyield_wire.units import MS_PER_DAY

if TYPE_CHECKING:
    from tokenyield_collector.reports.outcomes import ReportedOutcome

ROWS_MAX = 200_000
"""Rows that a report may have; a finer one is a FOCUS file, which is streamed."""


@dataclass(kw_only=True)
class Report:
    """What formats encode. `notes` are lines for people."""

    period: Period
    currency: str
    by: tuple[str, ...]
    where: dict[str, str] = field(default_factory=dict)
    start: str
    end: str
    state: PeriodState
    price_book: str
    version: int | None = None
    notes: list[str] = field(default_factory=list)
    rows: list[ReportRow] = field(default_factory=list)
    total: ReportRow
    steps: dict[str, WaterfallStep]
    """The waterfall: bucket -> what it cost."""
    idle_capacity: IdleCapacity
    days: dict[str, dict[str, Decimal]]
    """Day -> part of the cost -> cents, for plots."""
    gaps: list[Gap] = field(default_factory=list)
    """What is not known of the whole fleet in the period, however the report is filtered."""
    references: list[AppliedReference] = field(default_factory=list)
    buy_or_run: list[BuyOrRun] = field(default_factory=list)
    latency: ReportLatency | None = None
    """None where it was not read, or where the report is filtered by a column that callers' waits are not known by."""
    token_weights: dict[str, str]
    outcomes: list["ReportedOutcome"] = field(default_factory=list)
    """What `tie_outcomes` found; their figures are in the rows."""

    @property
    def waterfall(self) -> dict[str, Decimal]:
        """The exact cost of each bucket."""
        return {name: step.cost for name, step in self.steps.items()}

    @property
    def column_names(self) -> list[str]:
        """Of every row, in order."""
        return [*self.by, *self.total.columns]

    @property
    def head_lines(self) -> list[str]:
        """What the report is about, in words."""
        version = f", version {self.version}" if self.version is not None else ""
        prices = self.price_book or "none"
        state = f"{self.state}{version}"
        first = f"{self.period.name} ({state}): {self.start} to {self.end}, price book {prices}, {self.currency}"
        return [first, *self.notes]


def make_report(
    statement: ReportedStatement,
    period: Period,
    by: Sequence[str],
    *,
    where: Mapping[str, str] | None = None,
    top: int | None = None,
    state: PeriodState,
    notes: Sequence[str] = (),
) -> Report:
    """Sum up `statement`, whose grain must be that of `by` and `where`; only lines with the values of `where`.

    `top`: only so many rows, those that lose most; the rest is one row `OTHER`. Raises `ParameterError` when there are
    too many rows.
    """
    prices = statement.policy.prices
    groups = _SummedLines(by, where or {}, statement.policy.rules.dimensions, with_models=bool(prices.api_prices))
    for key, sums in statement.lines():
        groups.add(key, sums)
    rows = groups.rows if top is None else _top(groups.rows, top)
    table = ReportTable(by, rows, groups.whole, None if where else statement.whole, prices)
    days = sorted(groups.days.items())
    return Report(
        period=period,
        currency=prices.currency,
        by=tuple(by),
        where=dict(where or {}),
        start=iso(statement.span.start_ms),
        end=iso(statement.span.end_ms),
        state=state,
        price_book=prices.fingerprint,
        notes=[*notes, *table.notes()],
        rows=table.rows,
        total=table.total,
        steps=table.waterfall(),
        idle_capacity=table.idle_capacity(),
        days={
            day_of(day_ms).isoformat(): money
            for (day_ms, _), money in zip(days, table.shown_days([sums for _, sums in days]), strict=True)
        },
        gaps=gaps_of([*statement.gaps, *api_gaps(groups.models, prices)]),
        references=statement.references,
        buy_or_run=buy_or_run(groups.models, prices),
        token_weights={name: str(getattr(prices.token_weights, name)) for name in ("prompt", "cached", "completion")},
    )


class _SummedLines:
    """The lines of a statement, summed by row, by model and by day."""

    def __init__(
        self, by: Sequence[str], where: Mapping[str, str], dimensions: Sequence[str], *, with_models: bool
    ) -> None:
        self._by, self._filtered = by, tuple(where)
        self._values = tuple(where.values())
        self._dimensions = dimensions
        self._with_models = with_models
        self._is_timed = bool({"day", "hour"} & {*by, *where})
        self._remembered: dict[tuple[object, ...], tuple[tuple[str, ...], tuple[str, ...]]] = {}
        """What lines of many days share: the rest of the key -> its values in the columns and in the filter."""
        self.rows: dict[tuple[str, ...], Sums] = defaultdict(Sums)
        self.models: dict[tuple[str, int], Sums] = defaultdict(Sums)
        """By model and day."""
        self.days: dict[int, Sums] = defaultdict(Sums)

    def add(self, key: LineKey, sums: Sums) -> None:
        values, filtered = self._values_of(key)
        if filtered != self._values:
            return
        if values not in self.rows and len(self.rows) >= ROWS_MAX:
            fix = "name fewer columns or a shorter period"
            raise ParameterError("by", expected=f"at most {ROWS_MAX} rows", found="more", fix=fix)
        self.rows[values].take(sums)
        if self._with_models and key.carrier.kind == "work" and key.carrier.model:
            self.models[key.carrier.model, key.start_ms - key.start_ms % MS_PER_DAY].take(sums)
        self.days[key.start_ms - key.start_ms % MS_PER_DAY].take_costs(sums)

    def _values_of(self, key: LineKey) -> tuple[tuple[str, ...], tuple[str, ...]]:
        place = key if self._is_timed else key[1:]
        if place not in self._remembered:
            dimensions = self._dimensions
            self._remembered[place] = (
                column_values(key, self._by, dimensions),
                column_values(key, self._filtered, dimensions),
            )
        return self._remembered[place]

    @property
    def whole(self) -> Sums:
        return sum_of_sums(self.rows.values())


def _top(grouped: dict[tuple[str, ...], Sums], top: int) -> dict[tuple[str, ...], Sums]:
    """The `top` rows that lose most, and one row of all others."""
    if len(grouped) <= top:
        return grouped
    by_loss = sorted(grouped, key=lambda values: (-sum(grouped[values].get(bucket) for bucket in LOST), values))
    kept = {values: grouped[values] for values in by_loss[:top]}
    kept[(OTHER,) * len(by_loss[0])] = sum_of_sums(grouped[values] for values in by_loss[top:])
    return kept
