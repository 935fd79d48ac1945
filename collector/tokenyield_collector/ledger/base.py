"""What a ledger keeps and promises. Engines stand beside this file; one contract test suite holds them all.

In: shipments. Out: receipts, and sums of facts over any stretch of time. Never any money (design principle 2).

The promises:
* `append` returns after the batches are durable, and counts each (agent_id, epoch, cluster, node, seq) once, whatever
  is sent again.
* An hour is always recomputed from its windows, never added to, so late and repeated batches are harmless.
* A kill at any point leaves a ledger that opens, with every batch that had its receipt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from tokenyield_collector.ledger.usage import UsageReader
from tokenyield_wire.window import Shipment


class Receipt(NamedTuple):
    """What became of one shipment."""

    accepted: int
    duplicates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSums:
    """Sums over the GPUs of one model on one node. Times in ms, energies in mJ, both by state."""

    hour_ms: int
    cluster: str
    node: str
    gpu_model: str
    gpus: int
    active_ms: int
    idle_ms: int
    unallocated_ms: int
    unknown_ms: int
    active_mj: int
    idle_mj: int
    unallocated_mj: int
    unknown_mj: int
    integrated_mj: int = 0
    """Energy that is not from the counter, and by how much it may be off."""
    energy_error_mj: int = 0
    energy_missing_ms: int = 0
    parked_ms: int = 0
    """Part of the idle time and energy."""
    parked_mj: int = 0
    utilization_ms: int | None = None
    memory_used_mib_seconds: int | None = None
    activity_known_ms: int = 0
    """Over this time GPM counted the next five; None where it told nothing."""
    sm_ms: int | None = None
    tensor_ms: int | None = None
    dram_ms: int | None = None
    nvlink_mib: int | None = None
    pcie_mib: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSums:
    """What the GPUs of a node told beside; see `tables.MEASURE_KEYS` for the kinds."""

    hour_ms: int
    cluster: str
    node: str
    kind: str
    name: str
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonSums:
    """GPU time that was `unknown` or `throttled` (the kind), by reason. Reasons of throttling overlap."""

    hour_ms: int
    cluster: str
    node: str
    kind: str
    reason: str
    duration_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareSums:
    """What one workload held of the GPUs of one model on one node."""

    hour_ms: int
    cluster: str
    node: str
    gpu_model: str
    workload: str
    active_ms: int
    idle_ms: int
    active_mj: int
    idle_mj: int
    parked_ms: int = 0
    parked_mj: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Tokens and requests. None: never told by the source."""

    prompt_computed: int | None = None
    prompt_cached: int | None = None
    prompt_unsplit: int | None = None
    completion: int | None = None
    requests: int | None = None
    requests_aborted: int | None = None
    requests_failed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSums(Counts):
    """Tokens of one workload on one node, counted in one way."""

    hour_ms: int
    cluster: str
    node: str
    workload: str
    server: str
    model: str
    method: str
    load_known_ms: int | None = None
    """How it stood, see `LOAD_KINDS`."""
    running_request_ms: int | None = None
    waiting_request_ms: int | None = None
    cache_used_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandSums(Counts):
    """What one asker asked of one gateway on one node. `asker` is a JSON object of labels, its keys sorted."""

    hour_ms: int
    cluster: str
    node: str
    gateway: str
    model: str
    asker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSums:
    """How long a workload carried these labels: a JSON object, its keys sorted."""

    hour_ms: int
    cluster: str
    node: str
    workload: str
    labels: str
    seen_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All sums of one stretch of time. `hour_ms` of the rows is 0 where the stretch is not an hour of the ledger."""

    gpus: Sequence[GpuSums] = ()
    measures: Sequence[MeasureSums] = ()
    reasons: Sequence[ReasonSums] = ()
    shares: Sequence[ShareSums] = ()
    tokens: Sequence[TokenSums] = ()
    demand: Sequence[DemandSums] = ()
    labels: Sequence[LabelSums] = ()
    node_labels: Mapping[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    """(cluster, node) -> what it told of itself last."""


class GpuNow(NamedTuple):
    """One GPU over a stretch of time; one that said nothing in it has 0 everywhere. `workload` held it longest."""

    cluster: str
    node: str
    uuid: str
    gpu_model: str
    active_ms: int
    idle_ms: int
    unallocated_ms: int
    unknown_ms: int
    energy_mj: int
    workload: str


class WorkSlot(NamedTuple):
    """What one workload held of the GPUs of one model in one step of time, and what these did meanwhile: of a GPU that
    is shared, in proportion to the time held."""

    cluster: str
    workload: str
    gpu_model: str
    slot_ms: int
    gpus: int
    active_ms: int
    idle_ms: int
    parked_ms: int
    active_mj: int
    idle_mj: int
    activity_known_ms: int
    sm_ms: int | None
    tensor_ms: int | None
    dram_ms: int | None
    throttled_ms: int
    """By the reason that held longest: reasons overlap."""
    throttled_lost_ms: int


class MadeSlot(NamedTuple):
    """What one workload made in one step of time, and how it stood. None: not told."""

    cluster: str
    workload: str
    server: str
    model: str
    slot_ms: int
    prompt_computed: int | None
    prompt_cached: int | None
    completion: int | None
    load_known_ms: int | None
    running_request_ms: int | None
    waiting_request_ms: int | None
    cache_used_ms: int | None


class StatementRecord(NamedTuple):
    """What a closed period's report was made of. The documents are JSON; no money is kept."""

    period: str
    version: int
    facts: str
    prices: str
    attribution: str
    change: str
    """What changed against the version before; empty for the first."""


class Ledger(Protocol):
    """Blocking; what writes is called from one thread; `…_between`, `facts_…`, `last_seen`, `counter_bases` and
    `first_ms` from any.

    Others commit while one reads. Every reading call answers from one state of the ledger: each batch counts in all of
    the answer or in none of it. Figures that are compared or subtracted must come from one call (or one `usage`
    reader). What an engine cannot hold of that stands with its methods.
    """

    is_shared: bool
    """Whether other collectors write into it as well."""

    def leads(self) -> bool:
        """Whether, of the collectors that share the ledger, this one recomputes hours, retires, and shows the fleet's
        metrics, so that they are not shown twice. Asked at every refresh."""
        ...

    def append(self, shipments: Sequence[Shipment], received_ms: int) -> list[Receipt]:
        """Make all batches durable in one commit. Raises `LedgerError`, and then nothing was kept."""
        ...

    def missing(self, shipment: Shipment) -> list[tuple[int, int]]:
        """The newest ranges of its sender's batch numbers that are not here though later ones are, inclusive. For
        agents to send again what a ledger restored from a backup has lost; empty where that is not known."""
        ...

    def fold(self) -> list[int]:
        """Recompute the hours whose windows changed since the last call; returns them (start, ms)."""
        ...

    def facts_of_hours(self, hours_ms: Sequence[int] | None = None, *, by_node: bool = True) -> Facts:
        """Sums by hour, of the given hours or of all; over all nodes, named "", unless `by_node`."""
        ...

    def facts_between(self, start_ms: int, end_ms: int, *, by_node: bool = True) -> Facts:
        """Sums over the windows that start in [start_ms, end_ms), as one stretch; over all nodes unless `by_node`."""
        ...

    def facts_of_stretches(self, stretches: Sequence[tuple[int, int]], *, by_node: bool = True) -> list[Facts]:
        """The same of each (start_ms, end_ms), all of one state of the ledger. They may overlap, as a whole and its
        parts do."""
        ...

    def gpus_between(self, start_ms: int, end_ms: int, known_since_ms: int) -> Sequence[GpuNow]:
        """What every GPU that reported since `known_since_ms` did in [start_ms, end_ms), by cluster, node and uuid."""
        ...

    def work_between(self, start_ms: int, end_ms: int, step_ms: int) -> Sequence[WorkSlot]:
        """What every workload held in each step of [start_ms, end_ms), from the windows that are kept."""
        ...

    def made_between(self, start_ms: int, end_ms: int, step_ms: int) -> Sequence[MadeSlot]:
        """What every workload made in each step of [start_ms, end_ms), from the windows that are kept."""
        ...

    def last_tokens(self) -> Mapping[tuple[str, str], int]:
        """(cluster, workload) -> start (ms) of the newest window kept in which it made a token."""
        ...

    def first_ms(self) -> int | None:
        """Start of the oldest window ever kept; None in an empty ledger."""
        ...

    def last_seen(self) -> Mapping[tuple[str, str], int]:
        """(cluster, node) -> end (ms) of its newest window, of the nodes that sent one in the ledger's last day."""
        ...

    def retire(self, *, windows_before_ms: int, hours_before_ms: int, counter_bases: dict[str, int]) -> None:
        """Forget old windows and hours, and add what exported counters lose by it to their bases, in one commit."""
        ...

    def counter_bases(self) -> dict[str, int]:
        """What exported counters start from: series -> integer, see `retire`."""
        ...

    def roll(self, before_ms: int | None = None, hours_max: int | None = None) -> bool:
        """Make the roll-ups that `usage` reads again, of at most so many hours (before that instant) that changed.

        Folds first. Returns whether some are left.
        """
        ...

    def usage(self) -> UsageReader:
        """What reports read: of one state of the ledger for as long as the reader is held, from its first read on. For
        one statement, in one thread."""
        ...

    def statements(self, period: str) -> list[StatementRecord]:
        """What was said of a period before, the first first."""
        ...

    def add_statement(self, record: StatementRecord) -> None: ...

    def hours(self) -> list[int]:
        """Start of every hour that is kept."""
        ...

    def windows_from_ms(self) -> int | None:
        """Start of the oldest window that is still kept; None where there is none."""
        ...

    def doubled(self) -> list[tuple[str, str, int, int]]:
        """(cluster, node, start, count) of windows of a node that are there more than once: their time counts twice."""
        ...

    def size_bytes(self) -> int: ...

    def close(self) -> None: ...
