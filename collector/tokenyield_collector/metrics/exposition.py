"""The collector's /metrics: facts as counters, money and ratios as gauges. Pure but for the exposition library.

In: a `View`, made at every refresh. Out: Prometheus metric families, as metric_families.py lists them. Labels are
bounded: per-GPU series are the agents' business; workloads and teams beyond `metrics_workloads_max`, and groups (values
of the rules' dimensions) and their models beyond `metrics_groups_max`, share the label '(other)'; `NAMES` counts them.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from prometheus_client.core import Metric

from tokenyield_collector.attribution.budgets import BudgetState
from tokenyield_collector.ledger.base import Facts
from tokenyield_collector.live.cost import CostLine
from tokenyield_collector.live.counters import Series
from tokenyield_collector.live.pricing import Books
from tokenyield_collector.live.yields import BASES, KINDS, WorkloadYield
from tokenyield_collector.metrics import families
from tokenyield_collector.prices.money import NANO_PER_UNIT, amount
from tokenyield_collector.statements.references import AppliedReference
from tokenyield_collector.version import VERSION
from tokenyield_settings.families import Family
from tokenyield_wire.units import MJ_PER_JOULE, MS_PER_HOUR, MS_PER_SECOND

OTHER = "(other)"
Labels = TypeVar("Labels", bound=tuple[str, ...])

# metric of a Series -> (family, divisor to base units, position of the workload's or asker's label)
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


@dataclass(frozen=True, kw_only=True)
class View:
    """One refresh: what the counters stand at, the live books, and what is to date. `currency` is the price book's."""

    counters: Mapping[Series, int] = field(default_factory=dict)
    workloads: tuple[str, ...] = ()
    """All workloads and teams, the first seen first."""
    live: Books | None = None
    live_facts: Facts = field(default_factory=Facts)
    """What `live` was reckoned from."""
    to_date: Mapping[Series, int] = field(default_factory=dict)
    dimensions: tuple[str, ...] = ("team", "product")
    references: Sequence[AppliedReference] = ()
    budgets: Sequence[BudgetState] = ()
    nodes: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """(cluster, state) -> nodes."""
    node_lag_ms: Mapping[str, int] = field(default_factory=dict)
    currency: str = "USD"
    as_of_ms: int = 0
    booked_to_ms: int = 0
    ledger_bytes: int = 0
    books_are_fresh: bool = True
    """Whether the price book and the rules in use are what stands in their files."""
    shows_fleet: bool = True
    """False where another collector on the same ledger shows it."""


@dataclass(kw_only=True)
class Ingest:
    """What the receiving side counted since it started."""

    batches: int = 0
    duplicates: int = 0
    refused: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    commits: int = 0
    commit_seconds: float = 0.0
    waiting_batches: int = 0


class Exposition:
    """A prometheus_client collector over one view: all but what the collector tells of itself."""

    def __init__(self, view: View, workloads_max: int, groups_max: int) -> None:
        self._view = view
        self._workloads_max = workloads_max
        self._groups_max = groups_max

    def collect(self) -> Iterator[Metric]:
        view = self._view
        yield families.BOOKS_FRESH.of(int(view.books_are_fresh))
        if not view.shows_fleet:
            return
        admitted = set(view.workloads[: self._workloads_max])  # the first ones seen, the same after every restart
        yield from _summed(_COUNTERS, view.counters, admitted)
        if view.live is not None:
            yield from _live(view.live, view.currency, admitted)
        yield from _summed(_TO_DATE, view.to_date, admitted, view.currency)
        groups = _Groups(view, self._groups_max)
        yield from _attributed(view, groups)
        yield _references(view.references)
        yield from _budgets(view.budgets, view.currency)
        yield _labelled(families.NODES, view.nodes)
        yield _labelled(families.NODE_LAG, {(cluster,): ms / 1000 for cluster, ms in view.node_lag_ms.items()})
        yield families.LEDGER_BYTES.of(view.ledger_bytes)
        yield _labelled(families.NAMES, _fates(len(view.workloads), self._workloads_max, groups.count, groups.shown))
        yield families.AS_OF.of(view.as_of_ms / 1000)
        yield families.BOOKED_TO.of(view.booked_to_ms / 1000)


class OwnExposition:
    """A prometheus_client collector over what the receiving side counts: cheap, and fresh at every scrape."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    def collect(self) -> Iterator[Metric]:
        ingest = self._ingest
        yield _labelled(families.INFO, {(VERSION,): 1})
        yield families.BATCHES.of(ingest.batches)
        yield families.DUPLICATES.of(ingest.duplicates)
        yield _labelled(families.REFUSED, {(reason,): count for reason, count in sorted(ingest.refused.items())})
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
        yield _labelled(family, {(*head, *labels): sum_ / divisor for labels, sum_ in sorted(sums[metric].items())})


class _Groups:
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


def _attributed(view: View, groups: _Groups) -> Iterator[Metric]:
    listed = families.attributed(view.dimensions)
    sums: dict[str, dict[tuple[str, ...], int]] = defaultdict(lambda: defaultdict(int))
    for series, value in view.to_date.items():
        if series.metric in listed:
            sums[series.metric][groups.labels(series.labels)] += value
    for metric, family in listed.items():
        head = (view.currency,) if family.labels[0] == "currency" else ()
        divisor = _ATTRIBUTED[metric]
        yield _labelled(
            family,
            {
                (*head, *labels): sum_ / divisor
                for labels, sum_ in sorted(sums[metric].items())
                if len(head) + len(labels) == len(family.labels)  # what was retired under other dimensions has no place
            },
        )


def _labelled(family: Family, samples: Mapping[Labels, float]) -> Metric:
    found = family.new()
    for labels, value in samples.items():
        found.add_metric(labels, value)
    return found


def _live(books: Books, currency: str, admitted: set[str]) -> Iterator[Metric]:
    gpus: dict[tuple[str, ...], float] = defaultdict(float)
    costs: dict[tuple[str, ...], float] = defaultdict(float)
    for line in books.fleet.lines:
        gpus[line.cluster, line.pool, line.bucket] += line.duration_ms / books.elapsed_ms
        costs[currency, line.cluster, line.pool, line.bucket] += _per_hour(line.quanta, books)
    yield _labelled(families.GPUS, dict(sorted(gpus.items())))
    yield _labelled(families.COST_PER_HOUR, dict(sorted(costs.items())))
    held, parked, ratios, unit_costs = (
        families.WORKLOAD_COST_PER_HOUR.new(),
        families.PARKED_COST.new(),
        families.TOKENS_PER_JOULE.new(),
        families.UNIT_COST.new(),
    )
    for row in books.workloads:
        if row.workload not in admitted:
            continue
        if (direct := row.quanta["direct"]) is not None and (allocated := row.quanta["allocated"]) is not None:
            place = [currency, row.cluster, row.workload]
            held.add_metric([*place, "active"], _per_hour(direct, books))
            held.add_metric([*place, "idle"], _per_hour(allocated - direct, books))
            if row.parked_quanta:
                parked.add_metric(place, _per_hour(row.parked_quanta, books))
        for kind in KINDS:
            if (ratio := row.tokens_per_joule(kind)) is not None:
                ratios.add_metric([row.cluster, row.workload, row.model, kind], ratio)
            for basis in BASES:
                if (cost := row.cost_per_million_tokens(kind, basis)) is not None:
                    unit_costs.add_metric([currency, row.cluster, row.workload, row.model, kind, basis], cost)
    yield from (held, parked, ratios, unit_costs)


def _per_hour(quanta: int, books: Books) -> float:
    return amount(quanta) * MS_PER_HOUR / books.elapsed_ms


def _references(references: Iterable[AppliedReference]) -> Metric:
    found = families.REFERENCE.new()
    for one in references:
        at = one.instance
        found.add_metric([at.model, at.gpu_model, str(at.gpus), one.source], one.tokens_per_second)
    return found


def _budgets(budgets: Iterable[BudgetState], currency: str) -> Iterator[Metric]:
    whole, spent, forecast = families.BUDGET.new(), families.BUDGET_SPENT.new(), families.BUDGET_FORECAST.new()
    for one in budgets:
        if one.state == "not in force":
            continue
        whole.add_metric([currency, one.name], float(one.monthly))
        spent.add_metric([currency, one.name], float(one.spent))
        if one.forecast is not None:
            for bound in ("expected", "low", "high"):
                forecast.add_metric([currency, one.name, bound], float(getattr(one.forecast, bound)))
    yield from (whole, spent, forecast)


def idle_cost_per_hour(books: Books) -> dict[tuple[str, str, str], float]:
    """(cluster, pool, bucket) -> what is lost per hour at the present pace: all but what was active."""
    lost: dict[tuple[str, str, str], int] = defaultdict(int)
    for line in books.fleet.lines:
        if line.bucket != "active":
            lost[line.cluster, line.pool, line.bucket] += line.quanta
    return {key: _per_hour(quanta, books) for key, quanta in lost.items()} if books.elapsed_ms else {}


def bucket_quanta(lines: list[CostLine], component: str | None = None) -> dict[str, int]:
    """Quanta by bucket over all pools, of one component or of both."""
    sums: dict[str, int] = defaultdict(int)
    for line in lines:
        if component in (None, line.component):
            sums[line.bucket] += line.quanta
    return dict(sums)


def fleet_tokens(rows: list[WorkloadYield], kind: str) -> int:
    return sum(row.tokens(kind) for row in rows)
