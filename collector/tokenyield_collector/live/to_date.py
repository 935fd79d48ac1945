"""What all closed hours cost, and who carries it: the figures *to date* of /metrics. Pure.

In: statements of the calendar months (UTC), each computed as the report of that month is. Out: series -> integer (money
in nano-units of the currency, ms, mJ, tokens). So the difference between two instants of what is to date is what a
report shows of the time between, and a correction (late data, new prices, a better pace learned) corrects it.

Money stays in quanta until it is shown. Then the whole of a metric is rounded, divided among the values of its last
label (buckets, components), and each of these among its series: whatever a query sums, it gets the rounded sum.

A month is computed again when one of its hours changed or closed. What retention takes from the ledger goes into a base
kept there (`Ledger.retire`), priced as it was then; `BASES_END` says up to where that goes. A ledger's integers have 64
bits, so the base of an amount is two of them: whole nano-units, and what is left of it (`_REST`).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tokenyield_collector.live.counters import Series
from tokenyield_collector.prices.components import COMPONENTS, OWNERSHIP
from tokenyield_collector.prices.money import QUANTA_PER_NANO
from tokenyield_collector.prices.period import month_of, parse_period
from tokenyield_collector.reports.rounding import EXACT
from tokenyield_collector.statements.buckets import BUCKETS, COSTS
from tokenyield_collector.statements.gaps import BY_NAME, DayGap, Gap, gaps_of
from tokenyield_collector.statements.lines import LineKey, Sums
from tokenyield_collector.statements.names import (
    cluster_name,
    dimension_values,
    model_name,
    own_name,
    pool_name,
    workload_name,
)
from tokenyield_collector.statements.references import AppliedReference
from tokenyield_collector.statements.source import Grain
from tokenyield_collector.statements.statement import Statement
from tokenyield_wire.units import MS_PER_DAY, hour_of_ms
from tokenyield_wire.window import TOKEN_KINDS

GRAIN = Grain(workload=True, cluster=True)
"""What a statement must be made with."""
BASES_END = Series("booked_from_ms", ())
MONEY = ("cost", "workload_cost", "attributed_cost", "idle_capacity_cost", "hardware_cost")
METRICS = (
    *MONEY,
    "workload_bucket_ms",
    "attributed_gpu_ms",
    "attributed_energy_mj",
    "attributed_tokens",
    "attributed_requests",
)
_REST = ".rest"
"""After the name of a metric of money: quanta of its base beside whole nano-units."""
_HELD = ("productive", "under_yield", "idle")


@dataclass(frozen=True, kw_only=True)
class MonthToDate:
    """A statement as series. Money is still in quanta, so that months add up exactly."""

    values: dict[Series, int] = field(default_factory=dict)
    references: list[AppliedReference] = field(default_factory=list)
    gaps: list[DayGap] = field(default_factory=list)


def month_to_date(statement: Statement) -> MonthToDate:
    """Compute `statement`, whose grain must be `GRAIN`."""
    values = _Values(int)
    for key, sums in statement.lines():
        _add_attributed(values, key, sums)
        if not key.carrier.is_lost:
            _add_workload(values, key, sums)
    for (cluster, _, pool), sums in statement.before_sharing.items():
        _add_place(values, (own_name(cluster), pool_name(pool)), sums)
    return MonthToDate(values=dict(values), references=statement.references, gaps=statement.gaps)


class _Values(defaultdict[Series, int]):
    def add(self, metric: str, labels: tuple[str, ...], value: int) -> None:
        if value:
            self[Series(metric, labels)] += value

    def add_reported(self, metric: str, labels: tuple[str, ...], sums: Sums, kind: str) -> None:
        """Tokens or requests, a 0 as well where it was reported."""
        if (count := sums.reported(kind)) is not None:
            self[Series(metric, labels)] += count


def _add_attributed(values: _Values, key: LineKey, sums: Sums) -> None:
    carrier = key.carrier
    who = (cluster_name(carrier), pool_name(key.pool), model_name(carrier), *dimension_values(carrier))
    for bucket in COSTS:
        values.add("attributed_cost", (*who, bucket), sums.cost(bucket))
    for bucket in BUCKETS:
        values.add("attributed_gpu_ms", (*who, bucket), sums.get(f"{bucket}_ms"))
    values.add("attributed_energy_mj", who, sums.get("gpu_mj"))
    for kind in TOKEN_KINDS:
        values.add_reported("attributed_tokens", (*who, kind), sums, kind)
    values.add_reported("attributed_requests", who, sums, "requests")


def _add_workload(values: _Values, key: LineKey, sums: Sums) -> None:
    carrier = key.carrier
    workload = (cluster_name(carrier), workload_name(carrier), model_name(carrier))
    for bucket in (*_HELD, "shared"):
        values.add("workload_cost", (*workload, bucket), sums.cost(bucket))
    for bucket in _HELD:
        values.add("workload_bucket_ms", (*workload, bucket), sums.get(f"{bucket}_ms"))


def _add_place(values: _Values, place: tuple[str, str], sums: Sums) -> None:
    for bucket in BUCKETS:
        values.add("cost", (*place, bucket), sums.cost(bucket))
    for component in COMPONENTS:
        values.add("idle_capacity_cost", (*place, component), sums.idle_component(component))
    for component, ownership in OWNERSHIP.items():
        values.add("hardware_cost", (*place, ownership), sums.component(component))


class ToDate:
    """All months so far. `compute` gives that of [start, end)."""

    def __init__(self, compute: Callable[[int, int], MonthToDate], bases: Mapping[str, int]) -> None:
        self._compute = compute
        known = {Series.of_key(key): value for key, value in bases.items()}
        self._bases = _bases(known)
        self._from_ms = known.get(BASES_END)
        self._months: dict[str, tuple[int, int, MonthToDate]] = {}
        """Month -> the start and end (ms) of what of it was computed, and that."""
        self._stale: set[str] = set()
        self._values: dict[Series, int] | None = None
        """What `values` last made, while it holds."""

    def mark(self, hours_ms: Iterable[int]) -> None:
        """Note that these hours changed."""
        self._stale.update(month_of(hour_ms) for hour_ms in hours_ms)

    def bring_up_to(self, first_ms: int, known_ms: int) -> None:
        """Compute every month whose hours changed or closed. `known_ms` is the end of the newest closed hour."""
        at_ms = hour_of_ms(first_ms) if self._from_ms is None else self._from_ms
        kept = {}
        while at_ms < known_ms:
            month = month_of(at_ms)
            end_ms = min(parse_period(month).end_ms, known_ms)
            before = self._months.get(month)
            if before is None or before[:2] != (at_ms, end_ms) or month in self._stale:
                before = (at_ms, end_ms, self._compute(at_ms, end_ms))
            kept[month] = before
            at_ms = end_ms
        if kept != self._months:
            self._values = None
        self._months = kept
        self._stale.clear()

    def is_behind(self, known_ms: int) -> bool:
        """Whether an hour has closed since."""
        return self._to_ms() < known_ms

    def _to_ms(self) -> int:
        return max((end_ms for _, end_ms, _ in self._months.values()), default=-1)

    @property
    def is_stale(self) -> bool:
        return bool(self._stale)

    def values(self) -> Mapping[Series, int]:
        """To date."""
        if self._values is None:
            self._values = _shown(self._exact())
        return self._values

    def _exact(self) -> dict[Series, int]:
        sums: dict[Series, int] = defaultdict(int)
        for _, _, month in self._months.values():
            for series, value in month.values.items():
                sums[series] += value
        for series, base in self._bases.items():
            sums[series] += base
        return sums

    def references(self) -> list[AppliedReference]:
        """Those of the newest month."""
        return self._months[max(self._months)][2].references if self._months else []

    def gaps(self) -> list[Gap]:
        """Those of the newest month."""
        return gaps_of(self._months[max(self._months)][2].gaps) if self._months else []

    def newest_gaps(self) -> dict[str, int]:
        """Kind -> gaps of the newest day that has closed hours, so that one that was closed is seen to be."""
        counts = dict.fromkeys(BY_NAME, 0)
        if self._months:
            _, end_ms, month = self._months[max(self._months)]
            day_ms = (end_ms - 1) // MS_PER_DAY * MS_PER_DAY
            for gap in gaps_of(gap for gap in month.gaps if gap.day_ms == day_ms):
                counts[gap.kind.name] += 1
        return counts

    def retire(self, first_ms: int, before_ms: int) -> dict[str, int]:
        """Move what is before `before_ms` into the bases; returns what is added, for `Ledger.retire`."""
        from_ms = hour_of_ms(first_ms) if self._from_ms is None else self._from_ms
        if before_ms <= from_ms:
            return {}
        added: dict[Series, int] = {BASES_END: before_ms - (self._from_ms or 0)}
        for series, value in self._compute(from_ms, before_ms).values.items():
            self._bases[series] = self._bases.get(series, 0) + value
            if series.metric in MONEY:
                added[series], added[_rest_of(series)] = divmod(value, QUANTA_PER_NANO)
            else:
                added[series] = value
        self._from_ms = before_ms
        self._values = None
        self.bring_up_to(first_ms, self._to_ms())  # without what is now in the bases
        return {series.key(): value for series, value in added.items()}


def _bases(known: Mapping[Series, int]) -> dict[Series, int]:
    """Money in quanta. Bases of ledgers that kept nano-units only have no rest."""
    return {
        series: value * QUANTA_PER_NANO + known.get(_rest_of(series), 0) if series.metric in MONEY else value
        for series, value in known.items()
        if series.metric in METRICS
    }


def _rest_of(series: Series) -> Series:
    return Series(series.metric + _REST, series.labels)


def _shown(sums: Mapping[Series, int]) -> dict[Series, int]:
    """Money in nano-units that sum to the rounded whole, by the last label first."""
    shown = dict(sums)
    for metric in MONEY:
        parts: dict[str, list[Series]] = defaultdict(list)
        for series in sorted(series for series in sums if series.metric == metric):
            parts[series.labels[-1]].append(series)
        exact = [sum(sums[series] for series in listed) for listed in parts.values()]
        for listed, steps in zip(parts.values(), EXACT.divided(EXACT.whole(sum(exact)), exact), strict=True):
            shown.update(zip(listed, EXACT.divided(steps, [sums[series] for series in listed]), strict=True))
    return shown
