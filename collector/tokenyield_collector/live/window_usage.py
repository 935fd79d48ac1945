"""The newest windows as usage, so that the live view is a statement like any other. Pure.

In: facts of stretches of time that lie within one hour each. Out: a `UsageReader`. It knows no reference pace: all
active time is productive, and unrated. A workload is one piece of work, under the model that it reported last, with
the labels that it carried longest; nothing is divided among callers.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import add
from typing import NamedTuple

import msgspec

from tokenyield_collector.ledger.contradictions import ContestedGpu, DemandDay, DoubledGpu, ForeignDay
from tokenyield_collector.ledger.facts import Facts
from tokenyield_collector.ledger.tables import HOST_KINDS
from tokenyield_collector.ledger.usage import (
    CAPACITY_SUMS,
    CAPACITY_TIMES,
    NO_GPU_CHAIN,
    USAGE_KINDS,
    WORK_SUMS,
    BestHour,
    CapacityRow,
    GpuGroup,
    HostDay,
    UsageQuery,
    UsageRows,
    WorkIdentity,
    WorkRow,
)
from tokenyield_wire.units import MS_PER_DAY

_NO_CAPACITY = [0] * len(CAPACITY_SUMS)
_Place = tuple[int, int, str, tuple[str, str]]
"""Day, segment, chain, (cluster, node)."""
Workload = tuple[str, str]
"""(cluster, name)."""
_NO_CALLER = "{}"


class Stretch(NamedTuple):
    """All facts of [start_ms, start_ms + elapsed_ms), which lies within one hour: a rate holds for that long."""

    facts: Facts
    start_ms: int
    elapsed_ms: int

    @property
    def day_ms(self) -> int:
        return self.start_ms - self.start_ms % MS_PER_DAY


class WindowUsage:
    """A `UsageReader` over stretches that follow each other."""

    def __init__(self, stretches: Sequence[Stretch]) -> None:
        self._stretches = stretches
        self._node_labels: dict[tuple[str, str], str] = {}
        for stretch in stretches:
            for node, labels in stretch.facts.node_labels.items():
                self._node_labels[node] = msgspec.json.encode(labels, order="sorted").decode()
        self.models = model_of_workloads(stretches)
        self.labels = labels_of_workloads(stretches)

    def gpu_groups(self) -> list[GpuGroup]:
        places = {(row.cluster, row.node, row.gpu_model) for stretch in self._stretches for row in stretch.facts.gpus}
        return [self._group(*place) for place in sorted(places)]

    def best_hours(self, start_ms: int, end_ms: int, weights: Mapping[str, int]) -> Sequence[BestHour]:
        return ()

    def reported_ms(
        self, start_ms: int, end_ms: int, chain_of: Callable[[GpuGroup], str]
    ) -> Mapping[tuple[str, int], int]:
        reported: dict[tuple[str, int], int] = defaultdict(int)
        for stretch in self._stretches:
            for row in stretch.facts.gpus:
                chain = chain_of(self._group(row.cluster, row.node, row.gpu_model))
                reported[chain, stretch.start_ms] += sum(getattr(row, name) for name in CAPACITY_TIMES)
        return reported

    def usage(self, query: UsageQuery) -> UsageRows:
        work: list[WorkRow] = []
        capacity: dict[_Place, list[int]] = {}
        for i, stretch in enumerate(self._stretches):
            work += self._work(query, i, stretch)
            for row in stretch.facts.gpus:
                segment, chain = self._segment(query, i, self._group(row.cluster, row.node, row.gpu_model))
                sums = [getattr(row, name) for name in CAPACITY_SUMS]
                place = (stretch.day_ms, segment, chain, (row.cluster, row.node))
                capacity[place] = [*map(add, capacity.get(place, _NO_CAPACITY), sums)]
        return UsageRows(iter(work), (CapacityRow(*place, sums) for place, sums in capacity.items()))

    def host_energy(self, start_ms: int, end_ms: int) -> list[HostDay]:
        days: dict[tuple[int, str, str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for stretch in self._stretches:
            for row in stretch.facts.measures:
                if row.kind in HOST_KINDS:
                    days[stretch.day_ms, row.cluster, row.node, row.name][row.kind] += row.amount
        return [HostDay(*place, *(amounts[kind] for kind in HOST_KINDS)) for place, amounts in sorted(days.items())]

    def demand(self, start_ms: int, end_ms: int, gateway_models: Mapping[str, str]) -> Sequence[DemandDay]:
        """None: a window knows too little of requests that have begun and not ended."""
        return ()

    def doubled_gpus(self, start_ms: int, end_ms: int) -> Sequence[DoubledGpu]:
        """None: these are sums over GPUs."""
        return ()

    def contested_gpus(self, start_ms: int, end_ms: int) -> Sequence[ContestedGpu]:
        """None: who was first is decided of closed hours; until then each node's GPUs count."""
        return ()

    def foreign_days(self, start_ms: int, end_ms: int) -> Sequence[ForeignDay]:
        """None: they are named by day."""
        return ()

    def checksum(self, start_ms: int, end_ms: int) -> str:
        return ""

    def _group(self, cluster: str, node: str, gpu_model: str) -> GpuGroup:
        return GpuGroup(cluster, node, gpu_model, self._node_labels.get((cluster, node), "{}"))

    def _segment(self, query: UsageQuery, i: int, group: GpuGroup) -> tuple[int, str]:
        """(segment, chain) of GPUs in the i-th stretch."""
        chain = query.chain_of(group)
        return query.segments[chain][i], chain

    def _work(self, query: UsageQuery, i: int, stretch: Stretch) -> Iterator[WorkRow]:
        """A row for each share, the first of a workload with its tokens; one for tokens made on no GPU."""
        tokens = _tokens_of(stretch.facts)
        for row in stretch.facts.shares:
            workload = (row.cluster, row.workload)
            segment, chain = self._segment(query, i, self._group(row.cluster, row.node, row.gpu_model))
            times = {
                "productive_ms": row.active_ms,
                "unrated_ms": row.active_ms,
                "idle_ms": row.idle_ms,
                "productive_mj": row.active_mj,
                "idle_mj": row.idle_mj,
                "parked_ms": row.parked_ms,
                "parked_mj": row.parked_mj,
            }
            sums = _work_sums(times | tokens.pop(workload, {}))
            yield WorkRow(stretch.day_ms, segment, chain, (row.cluster, row.node), self._number(query, workload), sums)
        for workload, counts in tokens.items():
            segment, number = query.segments[NO_GPU_CHAIN][i], self._number(query, workload)
            sums = _work_sums(counts)
            yield WorkRow(stretch.day_ms, segment, NO_GPU_CHAIN, (workload[0], ""), number, sums)

    def _number(self, query: UsageQuery, workload: Workload) -> int:
        cluster, name = workload
        labels = self.labels.get(workload, "{}")
        return query.group_of(WorkIdentity(cluster, name, self.models.get(workload, ""), labels, _NO_CALLER))


def _work_sums(values: Mapping[str, int]) -> list[int]:
    return [values.get(name, 0) for name in WORK_SUMS]


def _tokens_of(facts: Facts) -> dict[Workload, dict[str, int]]:
    """Tokens and requests of each workload, and how many rows reported them at all."""
    counts: dict[Workload, dict[str, int]] = {}
    for row in facts.tokens:
        of_workload = counts.setdefault((row.cluster, row.workload), defaultdict(int))
        for kind in USAGE_KINDS:
            if (count := getattr(row, kind)) is not None:
                of_workload[kind] += count
                of_workload[f"{kind}_reported"] += 1
    return counts


def model_of_workloads(stretches: Iterable[Stretch]) -> dict[Workload, str]:
    """The model that each reported last."""
    return {
        (row.cluster, row.workload): row.model for stretch in stretches for row in stretch.facts.tokens if row.model
    }


def labels_of_workloads(stretches: Iterable[Stretch]) -> dict[Workload, str]:
    """The labels (JSON) that each carried longest."""
    seen: dict[tuple[Workload, str], int] = defaultdict(int)
    for stretch in stretches:
        for row in stretch.facts.labels:
            seen[(row.cluster, row.workload), row.labels] += row.seen_ms
    longest: dict[Workload, tuple[int, str]] = {}
    for (workload, labels), seen_ms in seen.items():
        longest[workload] = max(longest.get(workload, (0, "")), (seen_ms, labels))
    return {workload: labels for workload, (_, labels) in longest.items()}


def server_of_workloads(facts: Facts) -> dict[Workload, str]:
    """The kind of server of each, where one is known."""
    servers: dict[Workload, str] = {}
    for row in facts.tokens:
        if row.server != "unknown":
            servers.setdefault((row.cluster, row.workload), row.server)
    return servers
