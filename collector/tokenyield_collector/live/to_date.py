"""What all closed hours cost, and who carries it: the figures *to date* of /metrics. Pure.

In: statements of the calendar months (UTC), each computed as the report of that month is. Out: series -> integer (money
in nano-units of the currency, ms, mJ, tokens). So the difference between two instants of what is to date is what a
report shows of the time between, and a correction (late data, new prices, a better pace learned) corrects it.

Money stays in quanta until it is shown. Then the whole of a metric is rounded, divided among the values of its last
label (buckets, components), and each of these among its series: whatever a query sums, it gets the rounded sum.

A month is computed again when what it depends on changed: its facts, those that paces are learned from, the policy.
Each is kept in the ledger (kept_months.py), so that a start costs nothing. What retention takes from the ledger goes
into a base kept there (`Ledger.retire`), priced as it was then; `BASES_END` says up to where that goes. A ledger's
integers have 64 bits, so the base of an amount is two of them: whole nano-units, and what is left of it (`_REST`).
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from tokenyield_collector.attribution.rules import DEFAULT_DIMENSIONS
from tokenyield_collector.live.kept_months import KeptMonth, KeptMonths, MonthToDate
from tokenyield_collector.live.series import Series
from tokenyield_collector.live.series_names import Labels, name_of
from tokenyield_collector.prices.components import COMPONENTS, OWNERSHIP
from tokenyield_collector.prices.money import QUANTA_PER_NANO
from tokenyield_collector.prices.period import month_of, parse_period
from tokenyield_collector.reports.rounding import EXACT
from tokenyield_collector.statements.buckets import BUCKETS, COSTS
from tokenyield_collector.statements.gaps import KINDS, OF_SPEND, Gap, gaps_of
from tokenyield_collector.statements.lines import Carrier, Sums
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

GRAIN = Grain(workload=True, cluster=True, day=False)
"""What a statement must be made with: not by day, which is ten times as many rows of a big fleet's month."""
EARLIER = "earlier"
"""The name, in the place of a month's, of the sum of all months but the newest."""
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
_KINDS = tuple(kind.name for kind in KINDS if kind not in OF_SPEND)
_HELD = ("productive", "under_yield", "idle")


def month_to_date(statement: Statement) -> MonthToDate:
    """Compute `statement`, whose grain must be `GRAIN`."""
    values = _Values(int)
    lines: dict[tuple[Carrier, str | None], Sums] = defaultdict(Sums)
    for key, sums in statement.lines():
        lines[key.carrier, key.pool].take(sums)
    for (carrier, pool), sums in lines.items():
        _add_attributed(values, carrier, pool, sums)
        if not carrier.is_lost:
            _add_workload(values, carrier, sums)
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


def _add_attributed(values: _Values, carrier: Carrier, pool: str | None, sums: Sums) -> None:
    who = (cluster_name(carrier), pool_name(pool), model_name(carrier), *dimension_values(carrier))
    for bucket in COSTS:
        values.add("attributed_cost", (*who, bucket), sums.cost(bucket))
    for bucket in BUCKETS:
        values.add("attributed_gpu_ms", (*who, bucket), sums.get(f"{bucket}_ms"))
    values.add("attributed_energy_mj", who, sums.get("gpu_mj"))
    for kind in TOKEN_KINDS:
        values.add_reported("attributed_tokens", (*who, kind), sums, kind)
    values.add_reported("attributed_requests", who, sums, "requests")


def _add_workload(values: _Values, carrier: Carrier, sums: Sums) -> None:
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


@dataclass(frozen=True, kw_only=True)
class FiguresToDate:
    """What is shown. `policy` is the fingerprint of the policy that it was computed under."""

    values: Mapping[Series, int] = field(default_factory=dict)
    references: Sequence[AppliedReference] = ()
    gaps: Sequence[Gap] = ()
    newest_gaps: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(_KINDS, 0))
    end_ms: int = -1
    """Of the newest hour in it."""
    policy: str = ""
    dimensions: tuple[str, ...] = DEFAULT_DIMENSIONS
    currency: str = ""
    names: frozenset[tuple[str, Labels]] = frozenset()
    """Names in labels (series_names.py)."""


class Progress(NamedTuple):
    """How many months of the present work are done, of how many."""

    done: int = 0
    of: int = 0


def _of_span(start_ms: int, end_ms: int) -> str:
    return f"{start_ms}-{end_ms}"


class ToDate:
    """All months so far, under one policy. `compute` gives that of [start, end), `inputs_of` a digest of all that this
    depends on. With `kept`, months that were computed before are read.

    `steps` may run in another thread than `shown` is read.
    """

    def __init__(
        self,
        compute: Callable[[int, int], MonthToDate],
        bases: Mapping[str, int],
        *,
        inputs_of: Callable[[int, int], str] = _of_span,
        kept: KeptMonths | None = None,
        identity: FiguresToDate | None = None,
    ) -> None:
        self._compute = compute
        self._inputs_of = inputs_of
        self.kept = kept
        known = {Series.of_key(key): value for key, value in bases.items()}
        self._bases = _bases(known)
        self._from_ms = known.get(BASES_END)
        self._months: dict[str, KeptMonth] = {}
        """In order."""
        self._earlier: KeptMonth | None = None
        """The sum of all but the newest."""
        self._identity = identity or FiguresToDate()
        """What figures have beside months."""
        self.shown: FiguresToDate | None = None
        """None until every month is there."""
        self._stale: set[str] = set()
        self.progress = Progress()

    def mark(self, hours_ms: Iterable[int]) -> None:
        """Note that these hours changed."""
        self._stale.update(month_of(hour_ms) for hour_ms in hours_ms)

    def is_behind(self, known_ms: int) -> bool:
        """Whether an hour has closed since."""
        return self.shown is None or self.shown.end_ms < known_ms

    @property
    def is_stale(self) -> bool:
        return bool(self._stale)

    def bring_up_to(self, first_ms: int, known_ms: int) -> None:
        """All steps at once."""
        for _ in self.steps(first_ms, known_ms):
            pass

    def steps(self, first_ms: int, known_ms: int) -> Iterator[None]:
        """Compute every month that depends on what changed, the newest first, with a step for each. `known_ms` is the
        end of the newest closed hour. What is shown changes at the end."""
        marked = tuple(self._stale)
        months: dict[str, KeptMonth] = {}
        due: list[tuple[str, int, int, str]] = []
        for month, start_ms, end_ms in self._spans(first_ms, known_ms):
            inputs = self._inputs_of(start_ms, end_ms)
            if (before := self._known(month, start_ms, end_ms, inputs)) is not None:
                months[month] = before
            else:
                due.append((month, start_ms, end_ms, inputs))
        self.progress = Progress(0, len(due))
        for number, (month, start_ms, end_ms, inputs) in enumerate(reversed(due)):
            months[month] = KeptMonth.of(month, (start_ms, end_ms), inputs, self._compute(start_ms, end_ms))
            if self.kept is not None:
                self.kept.add(months[month])
            self.progress = Progress(number + 1, len(due))
            yield
        if months != self._months or self.shown is None:
            self._months = dict(sorted(months.items()))
            to_add_up = self._added_up(list(self._months.values()))
            self.shown = figures_of(self._identity, to_add_up, self._bases)
            if self.kept is not None:
                self.kept.show([*to_add_up[:-1], *self._months.values()], self.shown.values)
        self._stale.difference_update(marked)

    def _known(self, month: str, start_ms: int, end_ms: int, inputs: str) -> KeptMonth | None:
        """What was computed of it from these inputs, in this run or one before."""
        known = self._months.get(month)
        if known is not None and known.is_of(start_ms, end_ms, inputs):
            return known
        known = self.kept.month(month, inputs) if self.kept is not None else None
        return known if known is not None and known.is_of(start_ms, end_ms, inputs) else None

    def _added_up(self, months: list[KeptMonth]) -> list[KeptMonth]:
        """All before the newest as one, so that an hour, and a start, cost the same however many these are."""
        earlier = months[:-1]
        if len(earlier) < 2:
            return months
        inputs, start_ms, end_ms = _digest(earlier), earlier[0].start_ms, earlier[-1].end_ms
        if self._earlier is None or not self._earlier.is_of(start_ms, end_ms, inputs):
            self._earlier = self.kept.month(EARLIER, inputs) if self.kept is not None else None
        if self._earlier is None or not self._earlier.is_of(start_ms, end_ms, inputs):
            sums = MonthToDate(values=_sum_of(earlier))
            self._earlier = KeptMonth.of(EARLIER, (start_ms, end_ms), inputs, sums)
            if self.kept is not None:
                self.kept.add(self._earlier)
        return [self._earlier, months[-1]]

    def _spans(self, first_ms: int, known_ms: int) -> Iterator[tuple[str, int, int]]:
        """(month, start, end), in order."""
        at_ms = hour_of_ms(first_ms) if self._from_ms is None else self._from_ms
        while at_ms < known_ms:
            month = month_of(at_ms)
            end_ms = min(parse_period(month).end_ms, known_ms)
            yield month, at_ms, end_ms
            at_ms = end_ms

    def shown_last(self) -> FiguresToDate | None:
        """What was shown before the start, under whatever policy; None where that is unknown."""
        last = self.kept.shown() if self.kept is not None else None
        if last is None:
            return None
        identity = replace(self._identity, policy=last.policy, dimensions=last.dimensions, currency=last.currency)
        return _figures(identity, last.figures.values, last.figures, last.end_ms)

    def values(self) -> Mapping[Series, int]:
        """To date."""
        return self.shown.values if self.shown is not None else _shown(self._bases)

    def retire(self, first_ms: int, before_ms: int) -> dict[str, int]:
        """Move what is before `before_ms` into the bases; returns what is added, for `Ledger.retire`. What is shown
        stays, and the next `steps` go on from there."""
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
        return {series.key(): value for series, value in added.items()}


def figures_of(identity: FiguresToDate, months: Collection[KeptMonth], bases: Mapping[Series, int]) -> FiguresToDate:
    """What months (the newest last) and bases come to."""
    sums: dict[Series, int] = defaultdict(int, bases)
    newest, end_ms = MonthToDate(), -1
    for month in months:
        newest, end_ms = month.unpacked(), month.end_ms
        for series, value in newest.values.items():
            sums[series] += value
    return _figures(identity, _shown(sums), newest, end_ms)


def _sum_of(months: Iterable[KeptMonth]) -> dict[Series, int]:
    sums: dict[Series, int] = defaultdict(int)
    for month in months:
        for series, value in month.unpacked().values.items():
            sums[series] += value
    return dict(sums)


def _digest(months: Iterable[KeptMonth]) -> str:
    """Of what these months were computed from."""
    parts = [(month.month, month.start_ms, month.end_ms, month.inputs) for month in months]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _figures(identity: FiguresToDate, values: Mapping[Series, int], newest: MonthToDate, end_ms: int) -> FiguresToDate:
    counts, day_ms = dict.fromkeys(_KINDS, 0), (end_ms - 1) // MS_PER_DAY * MS_PER_DAY
    of_newest_day = (gap for gap in newest.gaps if gap.day_ms == day_ms)  # one that is closed shows by it
    for gap in gaps_of(of_newest_day):
        counts[gap.kind.name] += 1
    return replace(
        identity,
        values=values,
        references=newest.references,
        gaps=gaps_of(newest.gaps),
        newest_gaps=counts,
        end_ms=end_ms,
        names=frozenset(named for s in values if (named := name_of(s.metric, s.labels)) is not None),
    )


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
