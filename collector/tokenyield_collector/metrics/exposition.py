"""The collector's /metrics: facts as counters, money and ratios as gauges. Pure but for the exposition library.

In: a `View`, made at every refresh. Out: Prometheus metric families, as families.py lists them. Per-GPU series are the
agents' business; labels that others choose share one budget of series (folding.py), and `NAMES` counts what it folds.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from tokenyield_collector.attribution.budgets import BudgetState
from tokenyield_collector.ingest.stats import IngestStats
from tokenyield_collector.ledger.facts import LatencySums
from tokenyield_collector.ledger.latency import PERCENTILES, histograms
from tokenyield_collector.live.live_view import TOKEN_SUMS, LiveView, LiveWorkload, live_cost, live_duration_ms
from tokenyield_collector.live.series import Series
from tokenyield_collector.live.series_names import Labels, name_of
from tokenyield_collector.live.view import HistoryState, View
from tokenyield_collector.metrics import families
from tokenyield_collector.metrics.folding import ShownNames
from tokenyield_collector.metrics.labelled import CollectorFamily as Family
from tokenyield_collector.metrics.vendors import vendors_of
from tokenyield_collector.prices.components import COMPONENTS, OWNERSHIP
from tokenyield_collector.prices.money import NANO_PER_UNIT
from tokenyield_collector.pull.state import REASONS, PullState
from tokenyield_collector.statements.buckets import LIVE_BUCKETS
from tokenyield_collector.statements.lines import BASES
from tokenyield_collector.statements.names import OTHER, own_name, pool_name
from tokenyield_collector.statements.references import AppliedReference
from tokenyield_collector.version import VERSION
from tokenyield_collector.watch.state import WatchState
from tokenyield_wire.units import MJ_PER_JOULE, MS_PER_SECOND

REFERENCES_MAX = 1_000
AnyFamily = CounterMetricFamily | GaugeMetricFamily

# metric of a Series -> (family, divisor to base units)
_COUNTERS: dict[str, tuple[Family, int]] = {
    "tokens": (families.TOKENS, 1),
    "requests": (families.REQUESTS, 1),
    "demand_tokens": (families.DEMAND_TOKENS, 1),
    "demand_requests": (families.DEMAND_REQUESTS, 1),
    "energy_mj": (families.ENERGY, MJ_PER_JOULE),
    "gpu_ms": (families.GPU_SECONDS, MS_PER_SECOND),
    "workload_energy_mj": (families.WORKLOAD_ENERGY, MJ_PER_JOULE),
    "workload_gpu_ms": (families.WORKLOAD_GPU_SECONDS, MS_PER_SECOND),
    "parked_ms": (families.PARKED, MS_PER_SECOND),
    "integrated_mj": (families.ENERGY_INTEGRATED, MJ_PER_JOULE),
    "energy_error_mj": (families.ENERGY_ERROR, MJ_PER_JOULE),
    "activity_ms": (families.ACTIVITY, MS_PER_SECOND),
    "activity_known_ms": (families.ACTIVITY_KNOWN, MS_PER_SECOND),
    "throttled_ms": (families.THROTTLED, MS_PER_SECOND),
    "throttled_lost_ms": (families.THROTTLED_LOST, MS_PER_SECOND),
    "gpu_events": (families.EVENTS, 1),
    "host_mj": (families.HOST_ENERGY, MJ_PER_JOULE),
    "price_missing_ms": (families.PRICE_MISSING, MS_PER_SECOND),
}
_TO_DATE: dict[str, tuple[Family, int]] = {
    "cost": (families.COST_TO_DATE, NANO_PER_UNIT),
    "idle_capacity_cost": (families.IDLE_CAPACITY_TO_DATE, NANO_PER_UNIT),
    "hardware_cost": (families.HARDWARE_TO_DATE, NANO_PER_UNIT),
    "workload_cost": (families.WORKLOAD_COST_TO_DATE, NANO_PER_UNIT),
    "workload_bucket_ms": (families.WORKLOAD_SECONDS_TO_DATE, MS_PER_SECOND),
}
_ATTRIBUTED = {
    "attributed_cost": NANO_PER_UNIT,
    "attributed_gpu_ms": MS_PER_SECOND,
    "attributed_energy_mj": MJ_PER_JOULE,
    "attributed_tokens": 1,
    "attributed_requests": 1,
}
_GROUP_AT = 3
"""Where the dimensions begin in the labels of what is attributed: after cluster, pool and model."""


class Exposition:
    """A prometheus_client collector over one view: all but what the collector counts of itself."""

    def __init__(self, view: View, series_max: int) -> None:
        self._view = view
        self._series_max = series_max

    def collect(self) -> Iterator[Metric]:
        view = self._view
        yield families.POLICY_FRESH.of(int(view.policy_is_fresh))
        if not view.shows_fleet:
            return
        names = ShownNames(_names(view), self._series_max, sorted({own_name(cluster) for cluster, _ in view.nodes}))
        yield from _summed(_COUNTERS, view.counters, names)
        if view.live is not None:
            yield from _live(view.live, view.currency, names)
        yield from _summed(_TO_DATE, view.to_date.values, names, view.to_date.currency)
        groups = _ShownGroups(view, names)
        yield from _attributed(view, groups)
        yield families.GAPS.samples({(kind,): count for kind, count in view.to_date.newest_gaps.items()})
        yield _references(sorted(view.to_date.references, key=lambda pace: pace.node is not None)[:REFERENCES_MAX])
        yield from _budgets(view.budgets)
        yield families.FORECAST.samples(
            {
                (one.measure, one.unit, bound): getattr(one, bound)
                for one in view.forecasts
                for bound in ("p10", "p50", "p90")
            }
        )
        yield from vendors_of(view.bought, view.currency)
        yield from _nodes(view, names)
        yield families.LEDGER_BYTES.of(view.ledger_bytes)
        yield families.NAMES.samples(
            names.fates | {("group", "shown"): groups.shown, ("group", "folded"): groups.count - groups.shown}
        )
        yield families.AS_OF.of(view.as_of_ms / 1000)
        yield families.TO_DATE_AT.of(view.to_date_ms / 1000)
        yield from _history(view.history)


class OwnExposition:
    """A prometheus_client collector over what the receiving side counts: cheap, and fresh at every scrape."""

    def __init__(
        self,
        ingest: IngestStats,
        pulls: Callable[[], Sequence[PullState]] = tuple,
        watched: Callable[[], Sequence[WatchState]] = tuple,
    ) -> None:
        self._ingest = ingest
        self._pulls = pulls
        self._watched = watched

    def collect(self) -> Iterator[Metric]:
        ingest = self._ingest
        yield families.INFO.samples({(VERSION,): 1})
        yield families.BATCHES.of(ingest.batches)
        yield families.DUPLICATES.of(ingest.duplicates)
        yield families.REFUSED.samples({(reason,): count for reason, count in sorted(ingest.refused.items())})
        yield families.OTLP_POINTS.samples(dict(sorted(ingest.points.items())))
        yield families.ENROLLED.samples({(how,): count for how, count in sorted(ingest.enrolled.items())})
        yield families.ENROL_REFUSED.samples({(why,): count for why, count in sorted(ingest.enrol_refused.items())})
        yield families.COMMITS.of(ingest.commits)
        yield families.COMMIT_SECONDS.of(ingest.commit_seconds)
        yield families.WAITING.of(ingest.waiting_batches)
        yield from _pulls(self._pulls())
        yield from _watched(self._watched())


def _pulls(states: Sequence[PullState]) -> Iterator[Metric]:
    """Accounts of spend.yaml, of which there is a bounded number."""
    yield families.PULL_SUCCESS.samples(
        {(one.name,): one.success_at_ms / MS_PER_SECOND for one in states if one.success_at_ms is not None}
    )
    yield families.PULL_FAILING.samples(
        {(one.name,): int(bool(one.problems)) for one in states if one.problems or one.success_at_ms is not None}
    )
    yield families.PULL_MISSING.samples(
        {(one.name,): one.missing_days for one in states if one.missing_days is not None}
    )
    yield families.PULL_ROWS.samples({(one.name,): one.rows for one in states})
    yield families.PULL_REFUSED.samples(
        {(one.name, reason): one.refused[reason] for one in states for reason in REASONS}
    )


def _watched(states: Sequence[WatchState]) -> Iterator[Metric]:
    """Folders of sources, of which there is a bounded number."""
    yield families.WATCH_FILES.samples(
        {
            (one.folder, state): count
            for one in states
            for state, count in (("imported", one.imported), ("waiting", one.waiting), ("failed", len(one.failed)))
        }
    )
    yield families.WATCH_PROBLEM.samples({(one.folder,): int(one.is_failing) for one in states})
    yield families.WATCH_ROWS.samples({(one.folder,): one.rows for one in states})
    yield families.WATCH_REFUSED.samples({(one.folder,): one.refused for one in states})


def _names(view: View) -> dict[str, list[Labels]]:
    """Class -> names, the first seen first; after those of counters what other cost sources bring."""
    names = {name_class: list(of_class) for name_class, of_class in view.names.items()}
    others: set[tuple[str, Labels] | None] = set(view.to_date.names)
    if view.live is not None:
        places = ((own_name(cluster), pool_name(pool)) for cluster, pool in view.live.places)
        others |= {name_of("gpu_ms", place) for place in places}
    known = {(name_class, name) for name_class, of_class in names.items() for name in of_class}
    for name_class, name in sorted(named for named in others - known if named is not None):
        names.setdefault(name_class, []).append(name)
    return names


def _history(history: HistoryState) -> Iterator[Metric]:
    yield families.TO_DATE_POLICY.of(int(history.policy_is_current))
    left = {("months",): history.months.of - history.months.done, ("counter_hours",): history.hours_to_count}
    yield families.HISTORY_LEFT.samples(left)


def _nodes(view: View, names: ShownNames) -> Iterator[Metric]:
    counts: dict[tuple[str, str], float] = defaultdict(float)
    lags_s: dict[tuple[str], float] = defaultdict(float)
    for (cluster, state), count in view.nodes.items():
        counts[names.cluster(own_name(cluster)), state] += count
    for cluster, lag_ms in view.node_lag_ms.items():
        shown = (names.cluster(own_name(cluster)),)
        lags_s[shown] = max(lags_s[shown], lag_ms / MS_PER_SECOND)
    yield families.NODES.samples(counts)
    yield families.NODE_LAG.samples(lags_s)


def _summed(
    shown: Mapping[str, tuple[Family, int]],
    values: Mapping[Series, int],
    names: ShownNames,
    currency: str = "",
) -> Iterator[Metric]:
    """Series of `shown`, with the names that they keep."""
    sums: dict[str, dict[tuple[str, ...], int]] = defaultdict(lambda: defaultdict(int))
    for (metric, labels), value in values.items():
        if metric in shown:
            sums[metric][names.labels(metric, labels)] += value
    for metric, (family, divisor) in shown.items():
        if not family.labels:
            yield family.of(sums[metric].get((), 0) / divisor)
            continue
        head = (currency,) if family.labels[0] == "currency" else ()
        yield family.samples({(*head, *labels): sum_ / divisor for labels, sum_ in sorted(sums[metric].items())})


class _ShownGroups:
    """Which labels of what is attributed keep their names. The budget bounds the groups, and where they stand.

    What stands (cluster, pool, model and group) beyond the bound loses its model; a group beyond it its name.
    """

    def __init__(self, view: View, names: ShownNames) -> None:
        self._names, most = names, names.most("group")
        self._end = _GROUP_AT + len(view.to_date.dimensions)
        places = sorted(
            {s.labels[: self._end] for s in view.to_date.values if s.metric in _ATTRIBUTED}, key=self._order
        )
        groups = sorted({place[_GROUP_AT:] for place in places})
        self._groups = set(groups[:most])
        self._places = set(places[:most])
        self.count, self.shown = len(groups), len(self._groups)

    @staticmethod
    def _order(place: tuple[str, ...]) -> tuple[str, ...]:
        return (*place[_GROUP_AT:], *place[:_GROUP_AT])

    def labels(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        place, rest = labels[: self._end], labels[self._end :]
        if place not in self._places:
            group = place[_GROUP_AT:]
            if group not in self._groups:
                group = (OTHER,) * len(group)
            place = (*self._names.labels("cost", place[: _GROUP_AT - 1]), OTHER, *group)
        return (*place, *rest)


def _attributed(view: View, groups: _ShownGroups) -> Iterator[Metric]:
    listed = families.attributed(view.to_date.dimensions)
    sums: dict[str, dict[tuple[str, ...], int]] = defaultdict(lambda: defaultdict(int))
    for series, value in view.to_date.values.items():
        if series.metric in listed:
            sums[series.metric][groups.labels(series.labels)] += value
    for metric, family in listed.items():
        head = (view.to_date.currency,) if family.labels[0] == "currency" else ()
        divisor = _ATTRIBUTED[metric]
        yield family.samples(
            {
                (*head, *labels): sum_ / divisor
                for labels, sum_ in sorted(sums[metric].items())
                if len(head) + len(labels) == len(family.labels)  # what was retired under other dimensions has no place
            }
        )


def _live(live: LiveView, currency: str, names: ShownNames) -> Iterator[Metric]:
    yield from _live_places(live, currency, names)
    held, parked = families.WORKLOAD_COST_PER_HOUR.new(), families.PARKED_COST.new()
    per_joule, per_watt, unit_costs = (
        families.TOKENS_PER_JOULE.new(),
        families.TOKENS_PER_WATT.new(),
        families.UNIT_COST.new(),
    )
    for row in live.workloads:
        cluster, workload, model = row.names
        if not names.has_workload(cluster, workload, model):
            continue
        _add_workload_cost(held, parked, live, row, currency)
        for kind in TOKEN_SUMS:
            labels = [cluster, workload, model, kind]
            if (ratio := row.tokens_per_joule(kind)) is not None:
                per_joule.add_metric(labels, ratio)
                per_watt.add_metric(labels, ratio)
            for basis in BASES:
                if (cost := row.cost_per_million_tokens(kind, basis)) is not None:
                    unit_costs.add_metric([currency, *labels, basis], cost)
    yield from (held, parked, per_watt, per_joule, unit_costs)
    yield from _latency(live, names)


def _latency(live: LiveView, names: ShownNames) -> Iterator[Metric]:
    """Of workloads that keep their names; waits of the others cannot be added up as percentiles."""
    waits, observations = families.LATENCY.new(), families.LATENCY_OBSERVATIONS.new()

    def name(row: LatencySums) -> tuple[str, str, str]:
        return own_name(row.cluster), own_name(row.workload), own_name(row.model)

    of_models = histograms([row for row in live.facts.latency if names.has_workload(*name(row))], name)
    for (model, kind), histogram in sorted(of_models.items()):
        observations.add_metric([*model, kind], histogram.observations)
        for percentile in PERCENTILES:
            if (at_most_ms := histogram.at_most_ms(percentile)) is not None:
                waits.add_metric([*model, kind, f"p{percentile}"], at_most_ms / MS_PER_SECOND)
    yield from (waits, observations)


def _live_places(live: LiveView, currency: str, names: ShownNames) -> Iterator[Metric]:
    gpus: dict[tuple[str, ...], float] = defaultdict(float)
    costs: dict[tuple[str, ...], float] = defaultdict(float)
    idle: dict[tuple[str, ...], float] = defaultdict(float)
    hardware: dict[tuple[str, ...], float] = defaultdict(float)
    for (cluster, pool), sums in live.places.items():
        place = names.labels("gpu_ms", (own_name(cluster), pool_name(pool)))
        for bucket in LIVE_BUCKETS:
            gpus[*place, bucket] += live_duration_ms(sums, bucket) / live.elapsed_ms
        for bucket in LIVE_BUCKETS if pool is not None else ():
            costs[currency, *place, bucket] += live.per_hour(live_cost(sums, bucket))
        for component in COMPONENTS:
            if sums.component(component):
                idle[currency, *place, component] += live.per_hour(sums.idle_component(component))
        for component, ownership in OWNERSHIP.items():
            if quanta := sums.component(component):
                hardware[currency, *place, ownership] += live.per_hour(quanta)
    yield families.GPUS.samples(dict(sorted(gpus.items())))
    yield families.COST_PER_HOUR.samples(dict(sorted(costs.items())))
    yield families.IDLE_CAPACITY_PER_HOUR.samples(dict(sorted(idle.items())))
    yield families.HARDWARE_PER_HOUR.samples(dict(sorted(hardware.items())))


def _add_workload_cost(held: AnyFamily, parked: AnyFamily, live: LiveView, row: LiveWorkload, currency: str) -> None:
    direct, allocated = row.quanta("direct"), row.quanta("allocated")
    if direct is None or allocated is None:
        return
    place = [currency, *row.names[:2]]
    held.add_metric([*place, "active"], live.per_hour(direct))
    held.add_metric([*place, "idle"], live.per_hour(allocated - direct))
    if row.parked_quanta:
        parked.add_metric(place, live.per_hour(row.parked_quanta))


def _references(references: Iterable[AppliedReference]) -> Metric:
    paces = families.REFERENCE.new()
    for one in references:
        at = one.instance
        source = one.source + ("_nodes" if one.nodes else "_days" if one.days else "")
        node = [own_name(name) for name in one.node or ("", "")]
        labels = [own_name(at.model), at.gpu_model, str(at.gpus), *node, source]
        paces.add_metric(labels, one.tokens_per_second)
    return paces


def _budgets(budgets: Iterable[BudgetState]) -> Iterator[Metric]:
    whole, spent, forecast = families.BUDGET.new(), families.BUDGET_SPENT.new(), families.BUDGET_FORECAST.new()
    steps = families.BUDGET_STEP.new()
    for one in budgets:
        if one.state == "not in force":
            continue
        labels = [one.unit, one.name]
        whole.add_metric(labels, float(one.monthly))
        spent.add_metric(labels, float(one.spent))
        if one.forecast is not None:
            for bound in ("expected", "low", "high"):
                forecast.add_metric([*labels, bound], float(getattr(one.forecast, bound)))
        for step in one.steps:
            steps.add_metric([*labels, str(step)], float(step == one.step))
    yield from (whole, spent, forecast, steps)
