"""The collector's /metrics: counters and live ratios in base units. Pure but for the exposition library.

In: a `View`, made at every refresh. Out: Prometheus metric families. Labels are bounded: per-GPU series are the agents'
business, and workloads and teams beyond `metrics_workloads_max` share the label '(other)'.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from tokenyield_collector.books import Books
from tokenyield_collector.cost import CostLine
from tokenyield_collector.counters import COST, Series
from tokenyield_collector.money import NANO_PER_UNIT, amount
from tokenyield_collector.version import VERSION
from tokenyield_collector.yields import BASES, KINDS, WorkloadYield
from tokenyield_wire.units import MJ_PER_JOULE, MS_PER_HOUR, MS_PER_SECOND

OTHER = "(other)"

# metric -> (exported name, help, labels, divisor to base units, position of the workload label)
_COUNTERS: dict[str, tuple[str, str, tuple[str, ...], int, int | None]] = {
    "tokens": (
        "tokenyield_tokens",
        "Tokens by kind (prompt_computed, prompt_cached, prompt_unsplit, completion) and by how they were counted",
        ("cluster", "workload", "model", "kind", "method"),
        1,
        1,
    ),
    "requests": (
        "tokenyield_requests",
        "Requests by outcome: answered, aborted by who asked, failed",
        ("cluster", "workload", "model", "outcome"),
        1,
        1,
    ),
    "demand_tokens": (
        "tokenyield_demand_tokens",
        "Tokens asked of a gateway, by team; they are counted at the servers that made them too",
        ("cluster", "gateway", "model", "team", "kind"),
        1,
        3,
    ),
    "demand_requests": (
        "tokenyield_demand_requests",
        "Requests asked of a gateway, by team and outcome",
        ("cluster", "gateway", "model", "team", "outcome"),
        1,
        3,
    ),
    "energy_mj": (
        "tokenyield_energy_joules",
        "Energy of the GPUs by their state while using it",
        ("cluster", "pool", "state"),
        MJ_PER_JOULE,
        None,
    ),
    "gpu_ms": (
        "tokenyield_gpu_seconds",
        "GPU time by state (active, idle, unallocated, unknown)",
        ("cluster", "pool", "state"),
        MS_PER_SECOND,
        None,
    ),
    "workload_energy_mj": (
        "tokenyield_workload_energy_joules",
        "Energy of the GPUs that a workload held",
        ("cluster", "workload", "state"),
        MJ_PER_JOULE,
        1,
    ),
    "workload_gpu_ms": (
        "tokenyield_workload_gpu_seconds",
        "GPU time that a workload held",
        ("cluster", "workload", "state"),
        MS_PER_SECOND,
        1,
    ),
    "price_missing_ms": (
        "tokenyield_price_missing_gpu_seconds",
        "GPU time that no pool of the price book matches; it has no cost",
        (),
        MS_PER_SECOND,
        None,
    ),
}


@dataclass(frozen=True, kw_only=True)
class View:
    """One refresh: what the counters stand at, and the live books. `currency` is the price book's."""

    counters: dict[Series, int] = field(default_factory=dict)
    workloads: tuple[str, ...] = ()
    """All workloads and teams, the first seen first."""
    live: Books | None = None
    currency: str = "USD"
    as_of_ms: int = 0
    ledger_bytes: int = 0
    books_are_fresh: bool = True
    """Whether the price book and the rules in use are what stands in their files."""


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
    """A prometheus_client collector over the present view."""

    def __init__(self, view: Callable[[], View], ingest: Ingest, workloads_max: int) -> None:
        self._view = view
        self._ingest = ingest
        self._workloads_max = workloads_max

    def collect(self) -> Iterator[Metric]:
        view = self._view()
        admitted = self._admitted(view)
        yield from self._counters(view, admitted)
        yield _costs(view)
        if view.live is not None:
            yield from _live(view.live, view.currency, admitted)
        yield from self._own(view)

    def _admitted(self, view: View) -> set[str]:
        """The workloads that keep their name: the first ones seen, the same after every restart."""
        return set(view.workloads[: self._workloads_max])

    def _counters(self, view: View, admitted: set[str]) -> Iterator[Metric]:
        sums: dict[str, dict[tuple[str, ...], int]] = defaultdict(lambda: defaultdict(int))
        for series, value in view.counters.items():
            if series.metric not in _COUNTERS:
                continue
            at = _COUNTERS[series.metric][4]
            labels = series.labels
            if at is not None and labels[at] not in admitted:
                labels = (*labels[:at], OTHER, *labels[at + 1 :])
            sums[series.metric][labels] += value
        for metric, (name, help_text, label_names, divisor, _) in _COUNTERS.items():
            family = CounterMetricFamily(name, help_text, labels=label_names)
            if not label_names:
                family.add_metric((), sums[metric].get((), 0) / divisor)
            else:
                for labels, value in sorted(sums[metric].items()):
                    family.add_metric(labels, value / divisor)
            yield family

    def _own(self, view: View) -> Iterator[Metric]:
        info = GaugeMetricFamily("tokenyield_collector_info", "Version of the collector", labels=["version"])
        info.add_metric([VERSION], 1)
        yield info
        ingest = self._ingest
        yield CounterMetricFamily("tokenyield_collector_batches", "Batches committed", value=ingest.batches)
        yield CounterMetricFamily(
            "tokenyield_collector_duplicate_batches", "Batches sent again and counted once", value=ingest.duplicates
        )
        refused = CounterMetricFamily(
            "tokenyield_collector_refused_requests", "Requests refused, by reason", labels=["reason"]
        )
        for reason, count in sorted(ingest.refused.items()):
            refused.add_metric([reason], count)
        yield refused
        yield CounterMetricFamily("tokenyield_collector_commits", "Commits of the ledger", value=ingest.commits)
        yield CounterMetricFamily(
            "tokenyield_collector_commit_seconds", "Time spent in commits", value=ingest.commit_seconds
        )
        yield GaugeMetricFamily(
            "tokenyield_collector_waiting_batches", "Batches waiting for a commit", value=ingest.waiting_batches
        )
        yield GaugeMetricFamily("tokenyield_collector_ledger_bytes", "Size of the ledger", value=view.ledger_bytes)
        yield GaugeMetricFamily(
            "tokenyield_collector_books_fresh",
            "1 while the price book and rules in use are those in the files, 0 after a change that was refused",
            value=int(view.books_are_fresh),
        )
        yield GaugeMetricFamily(
            "tokenyield_collector_as_of_timestamp_seconds",
            "Up to when the live ratios look",
            value=view.as_of_ms / 1000,
        )


def _costs(view: View) -> Metric:
    family = CounterMetricFamily(
        "tokenyield_cost",
        "Cost of the fleet by waterfall bucket (dark, unallocated, idle, productive); the sum is the whole cost",
        labels=["currency", "cluster", "pool", "bucket", "component"],
    )
    for series, value in sorted(view.counters.items()):
        if series.metric == COST:
            family.add_metric([view.currency, *series.labels], value / NANO_PER_UNIT)
    return family


def _live(books: Books, currency: str, admitted: set[str]) -> Iterator[Metric]:
    rows = [row for row in books.workloads if row.workload in admitted]
    tokens_per_joule = GaugeMetricFamily(
        "tokenyield_tokens_per_joule",
        "Tokens per joule over the live window, idle energy included",
        labels=["cluster", "workload", "model", "kind"],
    )
    unit_cost = GaugeMetricFamily(
        "tokenyield_cost_per_million_tokens",
        "Cost per million tokens over the live window, on the direct, allocated and loaded basis",
        labels=["currency", "cluster", "workload", "model", "kind", "basis"],
    )
    for row in rows:
        for kind in KINDS:
            if (ratio := row.tokens_per_joule(kind)) is not None:
                tokens_per_joule.add_metric([row.cluster, row.workload, row.model, kind], ratio)
            for basis in BASES:
                if (cost := row.cost_per_million_tokens(kind, basis)) is not None:
                    unit_cost.add_metric([currency, row.cluster, row.workload, row.model, kind, basis], cost)
    yield tokens_per_joule
    yield unit_cost
    idle = GaugeMetricFamily(
        "tokenyield_idle_cost_per_hour",
        "Cost per hour of GPUs that make no tokens, over the live window, by bucket",
        labels=["currency", "cluster", "pool", "bucket"],
    )
    for (cluster, pool, bucket), per_hour in sorted(idle_cost_per_hour(books).items()):
        idle.add_metric([currency, cluster, pool, bucket], per_hour)
    yield idle


def idle_cost_per_hour(books: Books) -> dict[tuple[str, str, str], float]:
    """(cluster, pool, bucket) -> what is lost per hour at the present pace, without the productive bucket."""
    lost: dict[tuple[str, str, str], int] = defaultdict(int)
    for line in books.fleet.lines:
        if line.bucket != "productive":
            lost[line.cluster, line.pool, line.bucket] += line.quanta
    return (
        {key: amount(quanta) * MS_PER_HOUR / books.elapsed_ms for key, quanta in lost.items()}
        if books.elapsed_ms
        else {}
    )


def bucket_quanta(lines: list[CostLine], component: str | None = None) -> dict[str, int]:
    """Quanta by bucket over all pools, of one component or of both."""
    sums: dict[str, int] = defaultdict(int)
    for line in lines:
        if component in (None, line.component):
            sums[line.bucket] += line.quanta
    return dict(sums)


def fleet_tokens(rows: list[WorkloadYield], kind: str) -> int:
    return sum(row.tokens(kind) for row in rows)
