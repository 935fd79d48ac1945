"""The collector's /metrics: facts as counters, money and ratios as gauges. Pure but for the exposition library.

In: a `View`, made at every refresh. Out: Prometheus metric families, as families.py lists them. Labels are bounded:
per-GPU series are the agents' business; workloads and teams beyond `metrics_workloads_max`, and groups (values of the
rules' dimensions) and their models beyond `metrics_groups_max`, share the label '(other)'; `NAMES` counts them.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from tokenyield_collector.attribution.budgets import BudgetState
from tokenyield_collector.ingest.stats import IngestStats
from tokenyield_collector.ledger.latency import PERCENTILES, histograms
from tokenyield_collector.live.counters import Series
from tokenyield_collector.live.live_view import TOKEN_SUMS, LiveView, LiveWorkload, live_cost, live_duration_ms
from tokenyield_collector.live.view import View
from tokenyield_collector.metrics import families
from tokenyield_collector.prices.components import COMPONENTS, OWNERSHIP
from tokenyield_collector.prices.money import NANO_PER_UNIT
from tokenyield_collector.statements.buckets import LIVE_BUCKETS
from tokenyield_collector.statements.lines import BASES
from tokenyield_collector.statements.names import OTHER, own_name, pool_name
from tokenyield_collector.statements.references import AppliedReference
from tokenyield_collector.version import VERSION
from tokenyield_settings.families import Family
from tokenyield_wire.units import MJ_PER_JOULE, MS_PER_SECOND

AnyFamily = CounterMetricFamily | GaugeMetricFamily

# metric of a Series -> (family, divisor to base units, position of the workload's or team's label)
_COUNTERS: dict[str, tuple[Family, int, int | None]] = {
    "tokens": (families.TOKENS, 1, 1),
    "requests": (families.REQUESTS, 1, 1),
    "demand_tokens": (families.DEMAND_TOKENS, 1, 3),
    "demand_requests": (families.DEMAND_REQUESTS, 1, 3),
    "energy_mj": (families.ENERGY, MJ_PER_JOULE, None),
    "gpu_ms": (families.GPU_SECONDS, MS_PER_SECOND, None),
    "workload_energy_mj": (families.WORKLOAD_ENERGY, MJ_PER_JOULE, 1),
    "workload_gpu_ms": (families.WORKLOAD_GPU_SECONDS, MS_PER_SECOND, 1),
    "parked_ms": (families.PARKED, MS_PER_SECOND, 1),
    "integrated_mj": (families.ENERGY_INTEGRATED, MJ_PER_JOULE, None),
    "energy_error_mj": (families.ENERGY_ERROR, MJ_PER_JOULE, None),
    "activity_ms": (families.ACTIVITY, MS_PER_SECOND, None),
    "activity_known_ms": (families.ACTIVITY_KNOWN, MS_PER_SECOND, None),
    "throttled_ms": (families.THROTTLED, MS_PER_SECOND, None),
    "throttled_lost_ms": (families.THROTTLED_LOST, MS_PER_SECOND, None),
    "gpu_events": (families.EVENTS, 1, None),
    "host_mj": (families.HOST_ENERGY, MJ_PER_JOULE, None),
    "price_missing_ms": (families.PRICE_MISSING, MS_PER_SECOND, None),
}
_TO_DATE: dict[str, tuple[Family, int, int | None]] = {
    "cost": (families.COST_TO_DATE, NANO_PER_UNIT, None),
    "idle_capacity_cost": (families.IDLE_CAPACITY_TO_DATE, NANO_PER_UNIT, None),
    "hardware_cost": (families.HARDWARE_TO_DATE, NANO_PER_UNIT, None),
    "workload_cost": (families.WORKLOAD_COST_TO_DATE, NANO_PER_UNIT, 1),
    "workload_bucket_ms": (families.WORKLOAD_SECONDS_TO_DATE, MS_PER_SECOND, 1),
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

    def __init__(self, view: View, workloads_max: int, groups_max: int) -> None:
        self._view = view
        self._workloads_max = workloads_max
        self._groups_max = groups_max

    def collect(self) -> Iterator[Metric]:
        view = self._view
        yield families.POLICY_FRESH.of(int(view.policy_is_fresh))
        if not view.shows_fleet:
            return
        admitted = set(view.workloads[: self._workloads_max])  # the first ones seen, the same after every restart
        yield from _summed(_COUNTERS, view.counters, admitted)
        if view.live is not None:
            yield from _live(view.live, view.currency, admitted)
        yield from _summed(_TO_DATE, view.to_date, admitted, view.currency)
        groups = _ShownGroups(view, self._groups_max)
        yield from _attributed(view, groups)
        yield _references(view.references)
        yield from _budgets(view.budgets)
        yield families.NODES.samples({(own_name(cluster), state): n for (cluster, state), n in view.nodes.items()})
        yield families.NODE_LAG.samples({(own_name(cluster),): ms / 1000 for cluster, ms in view.node_lag_ms.items()})
        yield families.LEDGER_BYTES.of(view.ledger_bytes)
        yield families.NAMES.samples(_fates(len(view.workloads), self._workloads_max, groups.count, groups.shown))
        yield families.AS_OF.of(view.as_of_ms / 1000)
        yield families.TO_DATE_AT.of(view.to_date_ms / 1000)


class OwnExposition:
    """A prometheus_client collector over what the receiving side counts: cheap, and fresh at every scrape."""

    def __init__(self, ingest: IngestStats) -> None:
        self._ingest = ingest

    def collect(self) -> Iterator[Metric]:
        ingest = self._ingest
        yield families.INFO.samples({(VERSION,): 1})
        yield families.BATCHES.of(ingest.batches)
        yield families.DUPLICATES.of(ingest.duplicates)
        yield families.REFUSED.samples({(reason,): count for reason, count in sorted(ingest.refused.items())})
        yield families.COMMITS.of(ingest.commits)
        yield families.COMMIT_SECONDS.of(ingest.commit_seconds)
        yield families.WAITING.of(ingest.waiting_batches)


def _fates(workloads: int, workloads_max: int, groups: int, groups_shown: int) -> dict[tuple[str, str], float]:
    shown = min(workloads, workloads_max)
    return {
        ("workload", "shown"): shown,
        ("workload", "folded"): workloads - shown,
        ("group", "shown"): groups_shown,
        ("group", "folded"): groups - groups_shown,
    }


def _summed(
    shown: Mapping[str, tuple[Family, int, int | None]],
    values: Mapping[Series, int],
    admitted: set[str],
    currency: str = "",
) -> Iterator[Metric]:
    """Series of `shown`, those of workloads that are not admitted under one name."""
    sums: dict[str, dict[tuple[str, ...], int]] = defaultdict(lambda: defaultdict(int))
    for series, value in values.items():
        if series.metric not in shown:
            continue
        at, labels = shown[series.metric][2], series.labels
        if at is not None and labels[at] not in admitted:
            labels = (*labels[:at], OTHER, *labels[at + 1 :])
        sums[series.metric][labels] += value
    for metric, (family, divisor, _) in shown.items():
        if not family.labels:
            yield family.of(sums[metric].get((), 0) / divisor)
            continue
        head = (currency,) if family.labels[0] == "currency" else ()
        yield family.samples({(*head, *labels): sum_ / divisor for labels, sum_ in sorted(sums[metric].items())})


class _ShownGroups:
    """Which labels of what is attributed keep their names. `most` bounds the groups, and the places they stand in.

    A place (cluster, pool, model and group) beyond the bound loses its model; a group beyond it its name.
    """

    def __init__(self, view: View, most: int) -> None:
        self._end = _GROUP_AT + len(view.dimensions)
        places = sorted({s.labels[: self._end] for s in view.to_date if s.metric in _ATTRIBUTED}, key=self._order)
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
            place = (*place[: _GROUP_AT - 1], OTHER, *group)
        return (*place, *rest)


def _attributed(view: View, groups: _ShownGroups) -> Iterator[Metric]:
    listed = families.attributed(view.dimensions)
    sums: dict[str, dict[tuple[str, ...], int]] = defaultdict(lambda: defaultdict(int))
    for series, value in view.to_date.items():
        if series.metric in listed:
            sums[series.metric][groups.labels(series.labels)] += value
    for metric, family in listed.items():
        head = (view.currency,) if family.labels[0] == "currency" else ()
        divisor = _ATTRIBUTED[metric]
        yield family.samples(
            {
                (*head, *labels): sum_ / divisor
                for labels, sum_ in sorted(sums[metric].items())
                if len(head) + len(labels) == len(family.labels)  # what was retired under other dimensions has no place
            }
        )


def _live(live: LiveView, currency: str, admitted: set[str]) -> Iterator[Metric]:
    yield from _live_places(live, currency)
    held, parked = families.WORKLOAD_COST_PER_HOUR.new(), families.PARKED_COST.new()
    per_joule, per_watt, unit_costs = (
        families.TOKENS_PER_JOULE.new(),
        families.TOKENS_PER_WATT.new(),
        families.UNIT_COST.new(),
    )
    for row in live.workloads:
        cluster, workload, model = row.names
        if workload not in admitted:
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
    yield from _latency(live, admitted)


def _latency(live: LiveView, admitted: set[str]) -> Iterator[Metric]:
    """Of workloads that are admitted; waits of the others cannot be added up as percentiles."""
    waits, observations = families.LATENCY.new(), families.LATENCY_OBSERVATIONS.new()
    rows = [row for row in live.facts.latency if own_name(row.workload) in admitted]
    of_models = histograms(rows, lambda row: (own_name(row.cluster), own_name(row.workload), own_name(row.model)))
    for (model, kind), histogram in sorted(of_models.items()):
        observations.add_metric([*model, kind], histogram.observations)
        for percentile in PERCENTILES:
            if (at_most_ms := histogram.at_most_ms(percentile)) is not None:
                waits.add_metric([*model, kind, f"p{percentile}"], at_most_ms / MS_PER_SECOND)
    yield from (waits, observations)


def _live_places(live: LiveView, currency: str) -> Iterator[Metric]:
    gpus: dict[tuple[str, ...], float] = {}
    costs: dict[tuple[str, ...], float] = {}
    idle: dict[tuple[str, ...], float] = {}
    hardware: dict[tuple[str, ...], float] = {}
    for (cluster, pool), sums in live.places.items():
        place = (own_name(cluster), pool_name(pool))
        for bucket in LIVE_BUCKETS:
            gpus[*place, bucket] = live_duration_ms(sums, bucket) / live.elapsed_ms
        for bucket in LIVE_BUCKETS if pool is not None else ():
            costs[currency, *place, bucket] = live.per_hour(live_cost(sums, bucket))
        for component in COMPONENTS:
            if sums.component(component):
                idle[currency, *place, component] = live.per_hour(sums.idle_component(component))
        for component, ownership in OWNERSHIP.items():
            if quanta := sums.component(component):
                hardware[currency, *place, ownership] = live.per_hour(quanta)
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
        paces.add_metric([own_name(at.model), at.gpu_model, str(at.gpus), one.source], one.tokens_per_second)
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
