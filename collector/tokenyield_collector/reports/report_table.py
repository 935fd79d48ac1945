"""The table of a report: rows, their sum, and the waterfall above them, all of whose money sums. Pure.

In: exact sums by the values of the columns, and those of the whole. Out: rows with their money exactly and in cents
(report_money.py), and with their figures (row_figures.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.prices.components import OWNERSHIP
from tokenyield_collector.prices.money import QUANTA_PER_UNIT
from tokenyield_collector.reports.report_money import Amounts, costs_of, days_money, rows_money, whole_money
from tokenyield_collector.reports.rounding import CENTS, EXACT, MILLIONS, MILLIONS_EXACT
from tokenyield_collector.reports.row_figures import row_figures
from tokenyield_collector.statements.buckets import BUCKETS, COSTS, IDLE_CAPACITY
from tokenyield_collector.statements.lines import Sums
from tokenyield_wire.units import MS_PER_HOUR
from tokenyield_wire.window import TOKEN_KINDS


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRow:
    """One row. `cost` and its parts are exact; the rest is in `figures` (row_figures.py)."""

    by: dict[str, str]
    cost: Decimal
    parts: dict[str, Decimal]
    """The cost by bucket, and what was taken over from others (`shared`)."""
    figures: dict[str, Any]
    shown: dict[str, Decimal]
    """For people: the money of the row in cents, by column, and `million_tokens`. They sum as the exact amounts do."""

    @property
    def has_outcomes(self) -> bool:
        """Whether some outcome is tied to it."""
        return any(value is not None for name, value in self.figures.items() if name.startswith("outcomes_"))

    @property
    def columns(self) -> dict[str, Any]:
        """The row as flat columns: what it is by, its cost, `cost_<part>`, figures."""
        return {**self.by, "cost": self.cost, **{f"cost_{name}": self.parts[name] for name in COSTS}, **self.figures}


class WaterfallStep(NamedTuple):
    """One bucket of the waterfall, exactly and in cents.

    `shared` is the part of the cost that the policy gave to others: the cost without it is what the rows have in this
    bucket. Unknown where the report is filtered: the waterfall is then that of the rows, `shared` among its buckets.
    """

    cost: Decimal
    shown: Decimal
    shared: Decimal | None
    shown_shared: Decimal | None
    gpu_hours: float | None


class IdleCapacity(NamedTuple):
    """What was paid for capacity on which nothing ran, exactly and in cents, and how much of the hardware cost that is:
    in total, owned and rented; None without such hardware."""

    cost: Decimal
    shown: Decimal
    share_of_hardware_cost: dict[str, float | None]


class ReportTable:
    """Rows, their sum and the waterfall above them, all of whose money sums."""

    def __init__(
        self,
        by: Sequence[str],
        grouped: Mapping[tuple[str, ...], Sums],
        whole: Sums,
        before_sharing: Sums | None,
        prices: PriceBook,
    ) -> None:
        """`before_sharing` is None where only the part that rows carry is known."""
        self._caused = whole if before_sharing is None else before_sharing
        self._currency = prices.currency
        caused = None if before_sharing is None else costs_of(before_sharing)
        self._exact, self._shown = (whole_money(rounding, costs_of(whole), caused) for rounding in (EXACT, CENTS))
        ordered = [values for values in sorted(grouped) if any(grouped[values])]
        self._sums = sums = [grouped[values] for values in ordered]
        exact, exact_total = rows_money(EXACT, self._exact, whole, sums)
        shown, shown_total = rows_money(CENTS, self._shown, whole, sums)
        millions, all_millions = _millions(sums)
        amounts = zip(exact, shown, millions, strict=True)
        self.rows = [
            _row(dict(zip(by, values, strict=True)), one, prices, *money)
            for values, one, money in zip(ordered, sums, amounts, strict=True)
        ]
        """In order of their values, without those in which nothing happened."""
        self.total = _row({}, whole, prices, exact_total, shown_total, all_millions)

    def waterfall(self) -> dict[str, WaterfallStep]:
        steps = {}
        for name, cost in self._exact.waterfall.items():
            if name == "shared" and not cost:
                continue
            shared, shown_shared = self._exact.shared.get(name), self._shown.shared.get(name)
            steps[name] = WaterfallStep(
                cost=EXACT.plain(cost),
                shown=CENTS.plain(self._shown.waterfall[name]),
                shared=None if shared is None else EXACT.plain(shared),
                shown_shared=None if shown_shared is None else CENTS.plain(shown_shared),
                gpu_hours=self._caused.get(f"{name}_ms") / MS_PER_HOUR if name in BUCKETS else None,
            )
        return steps

    def idle_capacity(self) -> IdleCapacity:
        """As the waterfall has it, whoever carries it."""
        caused = self._caused
        steps = [[money.waterfall[name] for name in IDLE_CAPACITY] for money in (self._exact, self._shown)]
        return IdleCapacity(
            cost=EXACT.plain(sum(steps[0])),
            shown=CENTS.plain(sum(steps[1])),
            share_of_hardware_cost={
                "total": caused.idle_share(),
                **{ownership: caused.idle_share(component) for component, ownership in OWNERSHIP.items()},
            },
        )

    def shown_days(self, days: Sequence[Sums]) -> list[dict[str, Decimal]]:
        return days_money(CENTS, self._shown, days)

    def notes(self) -> Iterator[str]:
        """For people who read cents."""
        small = sum(0 < abs(sums.total) * 100 < QUANTA_PER_UNIT for sums in self._sums)
        if small:
            rows = f"{small} row costs" if small == 1 else f"{small} rows cost"
            yield f"{rows} less than 0.01 {self._currency}: cents add up to the sum, csv and json have exact amounts"


def _row(
    by: dict[str, str], sums: Sums, prices: PriceBook, exact: Amounts, shown: Amounts, millions: Decimal
) -> ReportRow:
    return ReportRow(
        by=by,
        cost=exact["cost"],
        parts={name: exact[f"cost_{name}"] for name in COSTS},
        figures=row_figures(sums, prices, exact),
        shown={**shown, "million_tokens": millions},
    )


def _millions(rows: Sequence[Sums]) -> tuple[list[Decimal], Decimal]:
    """Million tokens of each row and of all; with all their decimals where two would hide a row."""
    tokens = [sum(sums.get(kind) for kind in TOKEN_KINDS) for sums in rows]
    rounding = MILLIONS_EXACT if any(0 < count < MILLIONS.step for count in tokens) else MILLIONS
    whole = rounding.whole(sum(tokens))
    return [rounding.number(steps) for steps in rounding.divided(whole, tokens)], rounding.number(whole)
