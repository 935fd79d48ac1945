"""What reports read of a ledger: a period's facts, summed as prices and people need them. No money.

Beside the hours of GPUs, shares and tokens a ledger keeps two roll-ups of them, made again whenever an hour changes:
* `work`: what a workload did on the GPUs of one model in one node in one hour, its time, energy and tokens in one row
  for each of its models;
* `capacity`: all time and energy of those GPUs, whichever workload had them.
Roll-ups depend on facts alone. All that depends on a policy is in the query: which GPUs match the same pools (a
*chain*), which hours of a chain share a price (a *segment*), how tokens are weighted, which pace is the reference, and
to which *group* a piece of work belongs. What comes back is small, whatever the fleet's size.

How things are divided, always in whole milliseconds, millijoules and tokens, and always to the whole (a part is
`x * hi // den - x * lo // den` over cumulated shares):
1. Where a workload ran on several nodes, its tokens are theirs by its active time.
2. Where one server served several models in an hour, its time and energy are theirs in proportion to their tokens,
   weighted as the query says, over all of its nodes; where none made tokens, the first model has all.
3. Active time is productive up to what the tokens made take at the reference pace; the rest is under-yield. Without a
   reference all of it is productive, and is counted as `unrated_ms` beside.
4. A GPU that several nodes report for the same hour counts for the first of them. What the others reported of it is in
   no row; tokens made there are their workload's elsewhere, or made on no GPU that is known (`contested_gpus`).
5. Where gateways report callers, each has the share of the model's weighted tokens that it requested in that hour and
   cluster; what nobody requested through a gateway stays with the workload itself (caller `{}`). What the query names
   as `uncounted` is left out.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from tokenyield_collector.ledger.contradictions import ContestedGpu, DemandDay, DoubledGpu, ForeignDay, GatewayDay
from tokenyield_wire.window import TOKEN_KINDS


class GpuGroup(NamedTuple):
    """GPUs that no price book can tell apart. `labels` are the node's, a JSON object."""

    cluster: str
    node: str
    gpu_model: str
    labels: str = "{}"


class WorkIdentity(NamedTuple):
    """A piece of work, as attribution rules see it. `labels` and `caller` are JSON objects with sorted keys."""

    cluster: str
    workload: str
    model: str
    labels: str
    caller: str


class ModelInstance(NamedTuple):
    """What a reference pace applies to: a model on so many GPUs of a kind in one node."""

    model: str
    gpu_model: str
    gpus: int


class NodeInstance(NamedTuple):
    """What a pace applies to that one node alone has shown."""

    cluster: str
    node: str
    instance: ModelInstance


class BestHour(NamedTuple):
    """The best pace of an instance on one node and day, in an hour of which it worked at least half: the evidence of a
    learned reference.

    `units` are thousandths of weighted tokens; the pace is units per GPU-second, 0 where no hour was half busy.
    """

    instance: ModelInstance
    pace: int
    hour_ms: int
    cluster: str
    workload: str
    units: int
    active_ms: int
    node: str = ""
    """Unknown in months that were closed before paces were learned by node."""


HELD_TIMES = ("active_ms", "idle_ms", "active_mj", "idle_mj", "parked_ms", "parked_mj")
"""Time and energy of a workload in a row of `work`."""
BEST_DAYS = 2
"""Of so many days, the best, readers give each node's best hour."""
USAGE_KINDS = (*TOKEN_KINDS, "requests")
REPORTED = tuple(f"{kind}_reported" for kind in USAGE_KINDS)
WORK_SUMS = (
    "productive_ms",
    "under_yield_ms",
    "idle_ms",
    "unrated_ms",
    "productive_mj",
    "under_yield_mj",
    "idle_mj",
    "parked_ms",
    "parked_mj",
    *USAGE_KINDS,
    *REPORTED,
)
"""`parked_…` is part of idle. `…_reported`: how many rows of the ledger reported this kind; where that is 0, the sum is
unknown and not 0."""


class CapacityTimes(NamedTuple):
    """All time and energy of some GPUs, by state."""

    active_ms: int
    idle_ms: int
    unallocated_ms: int
    unknown_ms: int
    active_mj: int
    idle_mj: int
    unallocated_mj: int
    unknown_mj: int

    @property
    def gpu_ms(self) -> int:
        return self.active_ms + self.idle_ms + self.unallocated_ms + self.unknown_ms

    @property
    def energy_mj(self) -> int:
        return self.active_mj + self.idle_mj + self.unallocated_mj + self.unknown_mj


CAPACITY_SUMS = CapacityTimes._fields
CAPACITY_TIMES = CAPACITY_SUMS[: len(CAPACITY_SUMS) // 2]


NO_CHAIN = ""
"""The chain of GPUs that match no pool."""
NO_GPU_CHAIN = "-"
"""The chain of what ran on no GPU that is known: no pool can take it either."""


class WorkRow(NamedTuple):
    """What one group did with GPUs of one chain in one segment of a day."""

    day_ms: int
    segment: int
    chain: str
    node: tuple[str, str]
    """(cluster, node) where the query asks for nodes, else ("", "")."""
    group: int
    sums: Sequence[int]
    """As `WORK_SUMS`."""


class CapacityRow(NamedTuple):
    """All time and energy of the GPUs of one chain in one segment of a day, whichever workload held them."""

    day_ms: int
    segment: int
    chain: str
    node: tuple[str, str]
    sums: Sequence[int]
    """As `CAPACITY_SUMS`."""


class HostDay(NamedTuple):
    """What one node's host was measured to use on one day (UTC), and meanwhile the time and energy of its GPUs."""

    day_ms: int
    cluster: str
    node: str
    source: str
    host_mj: int
    gpu_ms: int
    gpu_mj: int


class WorkLatency(NamedTuple):
    """How long callers of one piece of work waited, of one kind (tokenyield_wire/latency.py); not divided by caller."""

    identity: WorkIdentity
    kind: str
    sum_ms: int
    counts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class UsageQuery:
    """How to sum. `weights` are thousandths of a token by kind; a reference is in weighted tokens a GPU-second."""

    start_ms: int
    end_ms: int
    by_node: bool
    weights: Mapping[str, int]
    chain_of: Callable[[GpuGroup], str]
    segments: Mapping[str, Sequence[int]]
    """Of each chain, `NO_CHAIN` and `NO_GPU_CHAIN` among them, the segment of every hour from `start_ms` on; 0 where it
    is left out."""
    references: Mapping[ModelInstance, int]
    node_references: Mapping[NodeInstance, int] = field(default_factory=dict)
    """Paces of one node each, for instances without one that holds for all nodes."""
    gateway_models: Mapping[str, str]
    group_of: Callable[[WorkIdentity], int]
    uncounted: Sequence[GatewayDay] = ()
    """What gateways counted that another one counted too."""
    undated: Mapping[str, Collection[int]] = field(default_factory=dict)
    """Of each chain, segments whose rows are not by day but of the whole period; their day is the first."""
    is_dated: Callable[[int], bool] = field(default=lambda _: False)
    """Groups whose work is by day in these too. Asked once `group_of` has numbered all groups."""


class UsageRows(NamedTuple):
    """What a `UsageQuery` gives."""

    work: Iterator[WorkRow]
    capacity: Iterator[CapacityRow]


class UsageReader(Protocol):
    """What statements read. Blocking. Periods are whole UTC hours."""

    def gpu_groups(self) -> Sequence[GpuGroup]:
        """All that ever were; one that is in no hour of a period has no rows in it."""
        ...

    def best_hours(self, start_ms: int, end_ms: int, weights: Mapping[str, int]) -> Sequence[BestHour]:
        """The best hour of each day, for the `BEST_DAYS` best days of each instance on each node, the best first."""
        ...

    def reported_ms(
        self, start_ms: int, end_ms: int, chain_of: Callable[[GpuGroup], str]
    ) -> Mapping[tuple[str, int], int]:
        """(chain, hour) -> GPU time that was reported, in whatever state."""
        ...

    def usage(self, query: UsageQuery) -> UsageRows:
        """Rows in order of their days."""
        ...

    def host_energy(self, start_ms: int, end_ms: int) -> Sequence[HostDay]:
        """Of nodes that measure it."""
        ...

    def demand(self, start_ms: int, end_ms: int, gateway_models: Mapping[str, str]) -> Sequence[DemandDay]:
        """What gateways counted, beside what servers made."""
        ...

    def doubled_gpus(self, start_ms: int, end_ms: int) -> Sequence[DoubledGpu]:
        """GPUs that one node reports for more time than there is."""
        ...

    def contested_gpus(self, start_ms: int, end_ms: int) -> Sequence[ContestedGpu]:
        """GPUs that several nodes report at once."""
        ...

    def foreign_days(self, start_ms: int, end_ms: int) -> Sequence[ForeignDay]:
        """Workloads whose names nodes of another scope used first, by day, cluster and name."""
        ...

    def checksum(self, start_ms: int, end_ms: int) -> str:
        """Changes when any fact of the period does."""
        ...


class LedgerUsageReader(UsageReader, Protocol):
    """Of a ledger, which has what statements do not need."""

    def latency(self, start_ms: int, end_ms: int) -> Sequence[WorkLatency]:
        """Of servers that report it; the labels are those that a workload carried longest."""
        ...
