"""Records of what a ledger gives back: sums of facts by hour or stretch, and what happens now, step by step. Pure.

Times are in ms, energies in mJ. None: the source never reported it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, NamedTuple

from tokenyield_collector.ledger.tables import LATENCY_COUNTS, NODE_KEYS, STORED_NAMES, TABLES
from tokenyield_wire.window import LOAD_KINDS, TOKEN_KINDS


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSums:
    """Sums over the GPUs of one model on one node, times and energies by state."""

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
    """Over this time GPM counted the next five; None where it reported nothing."""
    sm_ms: int | None = None
    tensor_ms: int | None = None
    dram_ms: int | None = None
    nvlink_mib: int | None = None
    pcie_mib: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSums:
    """What else the GPUs of a node reported; see `tables.MEASURE_KEYS` for the kinds."""

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
class TokenAndRequestSums:
    """Of one counting way or gateway."""

    prompt_computed: int | None = None
    prompt_cached: int | None = None
    prompt_unsplit: int | None = None
    completion: int | None = None
    requests: int | None = None
    requests_aborted: int | None = None
    requests_failed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSums(TokenAndRequestSums):
    """Tokens of one workload on one node, counted in one way."""

    hour_ms: int
    cluster: str
    node: str
    workload: str
    server: str
    model: str
    method: str
    load_known_ms: int | None = None
    """The server's load, see `LOAD_KINDS`."""
    running_request_ms: int | None = None
    waiting_request_ms: int | None = None
    cache_used_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandSums(TokenAndRequestSums):
    """What one caller requested from one gateway on one node. `caller` is a JSON object of labels, its keys sorted."""

    hour_ms: int
    cluster: str
    node: str
    gateway: str
    model: str
    caller: str


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
class LatencySums:
    """How long callers of one workload on one node waited, of one kind, see tokenyield_wire/latency.py."""

    hour_ms: int
    cluster: str
    node: str
    workload: str
    model: str
    kind: str
    sum_ms: int
    bucket_00: int
    bucket_01: int
    bucket_02: int
    bucket_03: int
    bucket_04: int
    bucket_05: int
    bucket_06: int
    bucket_07: int
    bucket_08: int
    bucket_09: int
    bucket_10: int
    bucket_11: int
    bucket_12: int
    bucket_13: int
    bucket_14: int
    bucket_15: int
    bucket_16: int
    bucket_17: int
    bucket_18: int
    bucket_19: int
    bucket_20: int

    @property
    def counts(self) -> tuple[int, ...]:
        """Observations by bucket."""
        return _latency_counts(self)


_latency_counts = attrgetter(*LATENCY_COUNTS)


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
    latency: Sequence[LatencySums] = ()
    node_labels: Mapping[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    """(cluster, node) -> its labels, as last reported."""


class GpuNow(NamedTuple):
    """One GPU over a stretch of time, all 0 where it reported nothing. `workload` held it longest."""

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
    """What one workload held of the GPUs of one model in one step of time, and what these did meanwhile: of a shared
    GPU, in proportion to the time held."""

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
    """By the reason that lasted longest: reasons overlap."""
    throttled_lost_ms: int


class MadeSlot(NamedTuple):
    """What one workload made in one step of time, and its load."""

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


WORK_HELD = ("active_ms", "idle_ms", "parked_ms", "active_mj", "idle_mj")
"""Sums of a `WorkSlot` that are the workload's own shares."""
MADE_SUMS = MadeSlot._fields[MadeSlot._fields.index("slot_ms") + 1 :]
assert set(WORK_HELD) < set(WorkSlot._fields)
assert tuple(kind for kind in (*TOKEN_KINDS, *LOAD_KINDS) if kind != "prompt_unsplit") == MADE_SUMS


class FactKind(NamedTuple):
    """A field of `Facts`, the record of its rows, and the table whose sums these are."""

    field: str
    record: type[Any]
    table: str
    keys: tuple[str, ...]
    counts_gpus: bool = False

    @property
    def sums(self) -> list[str]:
        return TABLES[self.table][1]

    @property
    def columns(self) -> list[str]:
        """The columns of `keys`."""
        return [STORED_NAMES.get(key, key) for key in self.keys]

    @property
    def names(self) -> list[str]:
        """Fields of the record in the order hour, keys, number of GPUs, sums."""
        return ["hour_ms", *self.keys, *(["gpus"] if self.counts_gpus else []), *self.sums]

    def rows(self, values: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Records of rows whose values stand in the order of `names`."""
        names = self.names
        return [self.record(**dict(zip(names, row, strict=True))) for row in values]


FACT_KINDS = (
    FactKind("tokens", TokenSums, "token", (*NODE_KEYS, "workload", "server", "model", "method")),
    FactKind("demand", DemandSums, "demand", (*NODE_KEYS, "gateway", "model", "caller")),
    FactKind("labels", LabelSums, "label", (*NODE_KEYS, "workload", "labels")),
    FactKind("latency", LatencySums, "latency", (*NODE_KEYS, "workload", "model", "kind")),
    FactKind("shares", ShareSums, "share", (*NODE_KEYS, "gpu_model", "workload")),
    FactKind("reasons", ReasonSums, "reason", (*NODE_KEYS, "kind", "reason")),
    FactKind("measures", MeasureSums, "measure", (*NODE_KEYS, "kind", "name")),
    FactKind("gpus", GpuSums, "gpu", (*NODE_KEYS, "gpu_model"), counts_gpus=True),
)
"""In the order in which they are read: parts before their wholes, for an engine without snapshots."""
for _kind in FACT_KINDS:
    assert {one.name for one in fields(_kind.record)} == set(_kind.names), _kind.field
assert {kind.field for kind in FACT_KINDS} | {"node_labels"} == {one.name for one in fields(Facts)}
