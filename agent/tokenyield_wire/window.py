"""The records that cross the wire, schema version 1.

In: nothing. Out: the types of a shipment, batch, GPU window, share and token count. Every number is additive over
time, GPUs and workloads (design principle 1), except the fields that end in `_max`, which are for display only.
Unknown is None, never 0.

What always holds is checked by `faults_of_batch`, which the collector runs on all it receives:
* a batch lies within one UTC hour, ends after it starts, and every GPU's four states sum to its length exactly;
* the reasons of unknown time sum to the unknown time;
* a GPU's shares sum to at most its own active and idle time and energy;
* parked time and energy are part of the idle ones; the methods of integrated energy sum to it;
* every list and dict has at most as many entries, and every sum over them is at most as great, as the bounds here.

`gc=False`: these records hold no cycles, and a collector decodes tens of thousands of them a second.
"""

from collections.abc import Iterator, Sized
from itertools import chain
from operator import attrgetter
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from tokenyield_wire.latency import LATENCY_KINDS, LATENCY_SUM_MS_MAX, OBSERVATIONS_MAX, LatencyCount, latency_fault
from tokenyield_wire.units import hour_of_ms

SCHEMA_VERSION = 1
SCHEMA_VERSIONS_ACCEPTED = (1,)

STATES = ("active", "idle", "unallocated", "unknown")

TOKEN_KINDS = ("prompt_computed", "prompt_cached", "prompt_unsplit", "completion")
REQUEST_KINDS = ("requests", "requests_aborted", "requests_failed")
LOAD_KINDS = ("load_known_ms", "running_request_ms", "waiting_request_ms", "cache_used_ms")
"""A server's load: integrals over `load_known_ms` of requests running and waiting, and of the part of its KV cache
in use."""
ENERGY_METHODS = ("counter", "average", "samples", "instant", "power")
"""How a joule was measured, best first: the driver's energy counter; the sensor's mean over a second; its buffer of
samples; its present value; the plain power reading. All but the first are power integrated."""

NAME_CHARS_MAX = 253
Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)]
"""A host, cluster, model or place; 253 is the longest DNS name and Kubernetes object name."""
TEXT_CHARS_MAX = 512
Text = Annotated[str, Meta(max_length=TEXT_CHARS_MAX)]
COUNT_MAX = 2**48
Count = Annotated[int, Meta(ge=0, le=COUNT_MAX)]
"""A non-negative integer. Its bound is far above anything one window can hold."""
SUM_MAX = COUNT_MAX
"""Of each amount over all GPUs, workloads or demand of a batch. A node of 1,024 GPUs at 2 kW uses 2^43 mJ in an hour, a
million tokens a second are 2^32 in it. 2^15 batches at the bound still sum into a signed 64-bit column: as many as 136
nodes send of one hour at 15 s, all of them lying. What a ledger makes of more stands in its own code."""

GPUS_MAX = 1_024
"""GPUs of one node, MIG instances included: 16 GPUs have 112."""
SHARES_MAX = 16_384
"""Pairs of a GPU and a workload that held it."""
WORKLOADS_MAX = 4_096
assert WORKLOADS_MAX * max(LATENCY_SUM_MS_MAX, OBSERVATIONS_MAX) <= SUM_MAX
COUNTS_MAX = 3
"""Token counts of one workload: one for each `Method`."""
DEMAND_MAX = 16_384
"""Callers, over all gateways of the node."""
NAMES_MAX = 64
"""Names in a dict: reasons, methods, sources, of which the agent knows a dozen."""
EVENT_NAMES_MAX = 256
"""Kinds of events of one GPU: NVIDIA has numbered fewer XIDs than that."""


def _at_most(**bound: int) -> Meta:
    """For the JSON Schema. `faults_of_batch` holds it: it reports how many there were, which msgspec does not."""
    return Meta(extra_json_schema=bound)


Method = Literal["counter", "count", "rate"]
"""How tokens were counted: a monotonic counter, a count per request, or a rate times its interval."""
Split = Literal["exclusive", "sm", "memory", "even", "mig"]
"""How a GPU was divided among its workloads: not at all, by SM time, by memory held, evenly, or by MIG slices."""

Named = Annotated[dict[Name, Count], _at_most(maxProperties=NAMES_MAX)]

LABELS_MAX = 16
"""Labels of one workload or caller."""
Labels = Annotated[dict[Name, Text], Meta(max_length=LABELS_MAX)]


class StateMillijoules(Struct, gc=False, frozen=True, kw_only=True):
    """Energy in mJ by the state that the GPU was in while using it."""

    active: Count = 0
    idle: Count = 0
    unallocated: Count = 0
    unknown: Count = 0

    def total(self) -> int:
        return self.active + self.idle + self.unallocated + self.unknown


class GpuWindow(Struct, gc=False, frozen=True, kw_only=True, omit_defaults=True):
    """One GPU over one window. `uuid` and `model` (the product's name) are the driver's."""

    uuid: Name
    model: Text | None = None
    index: Annotated[int, Meta(ge=0)] | None = None
    active_ms: Count = 0
    idle_ms: Count = 0
    unallocated_ms: Count = 0
    unknown_ms: Count = 0
    unknown_reason_ms: Named = {}
    energy_mj: StateMillijoules = StateMillijoules()
    energy_integrated_mj: Count = 0
    """Part of the energy that was integrated from power because the GPU has no energy counter (or it was reset)."""
    energy_method_mj: Named = {}
    """That part by method, see `ENERGY_METHODS`; the rest is from the counter."""
    energy_error_mj: Count = 0
    """Estimated error of that part, either way, from how far power moved between two samples."""
    energy_missing_ms: Count = 0
    """Time for which no energy is known at all."""
    utilization_ms: Count | None = None
    """Integral of the driver's utilization: ms during which some kernel ran. None where the GPU does not report it."""
    memory_used_mib_seconds: Count | None = None
    """Integral of memory used, MiB x s."""
    parked_ms: Count = 0
    """Part of the idle time in which no workload on the GPU had made a token for long, even if tiny kernels ran."""
    parked_mj: Count = 0
    """Part of the idle energy."""
    activity_known_ms: Count = 0
    """Time over which performance counters ran; the next five are None where they did not, or where the GPU does not
    report them."""
    sm_ms: Count | None = None
    """Integral of the share of SMs that were busy."""
    tensor_ms: Count | None = None
    dram_ms: Count | None = None
    """Integral of the share of the memory's bandwidth that was used."""
    nvlink_mib: Count | None = None
    """Moved over NVLink, both directions."""
    pcie_mib: Count | None = None
    throttled_ms: Named = {}
    """By reason; reasons overlap."""
    throttled_lost_ms: Named = {}
    """Active time lost while throttled, by reason: the share of the highest clock that was missing,
    divided among the reasons. At most: work that waits for memory loses less."""
    events: Annotated[dict[Name, Count], _at_most(maxProperties=EVENT_NAMES_MAX)] = {}
    """XIDs (`xid_N`), ECC errors, remapped rows, errors of links: how often."""
    power_mw_max: Count | None = None
    temperature_c_max: int | None = None
    memory_total_mib: Count | None = None


class WorkloadShare(Struct, gc=False, frozen=True, kw_only=True, omit_defaults=True):
    """What one workload held of one GPU during the window."""

    gpu_uuid: Name
    workload: Name
    split: Split
    active_ms: Count = 0
    idle_ms: Count = 0
    active_mj: Count = 0
    idle_mj: Count = 0
    parked_ms: Count = 0
    """Part of the idle time and, below, energy."""
    parked_mj: Count = 0


class TokenCount(Struct, gc=False, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens of one workload counted in one way. A kind that the source does not report is None.

    `prompt_computed` leaves out what the prefix cache served; that is `prompt_cached`. A source that does not
    separate these two gives `prompt_unsplit` instead. `requests` were answered; `requests_aborted` were given up by
    the caller. The last four are the server's load meanwhile, see `LOAD_KINDS`.
    """

    method: Method
    prompt_computed: Count | None = None
    prompt_cached: Count | None = None
    prompt_unsplit: Count | None = None
    completion: Count | None = None
    requests: Count | None = None
    requests_aborted: Count | None = None
    requests_failed: Count | None = None
    load_known_ms: Count | None = None
    running_request_ms: Count | None = None
    waiting_request_ms: Count | None = None
    cache_used_ms: Count | None = None


class Workload(Struct, gc=False, frozen=True, kw_only=True, omit_defaults=True):
    """One running inference server instance: server kind, served model, where it runs; and the tokens it made."""

    key: Name
    server: Name
    place: Name
    model: Name | None = None
    tokens: Annotated[tuple[TokenCount, ...], _at_most(maxItems=COUNTS_MAX)] = ()
    labels: Labels = {}
    """What is known of it beyond its name: namespace, pod, team, product. Only labels that the agent's settings
    name."""
    latency: Annotated[tuple[LatencyCount, ...], Meta(max_length=len(LATENCY_KINDS))] = ()
    """How long its callers waited, as far as its server reports it."""


class Demand(Struct, gc=False, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens that one caller requested of one gateway. They were made by servers behind it and are counted there too:
    demand shows who called, and is never added to the tokens of workloads."""

    gateway: Name
    model: Name | None = None
    caller: Labels = msgspec.field(name="asker", default_factory=dict)
    """team, key, user, end_user, project, org, tags, agent_task, session, agent, service_tier, context: those that the
    agent's settings allow."""
    prompt_computed: Count | None = None
    prompt_cached: Count | None = None
    prompt_unsplit: Count | None = None
    completion: Count | None = None
    requests: Count | None = None
    requests_aborted: Count | None = None
    requests_failed: Count | None = None


class Batch(Struct, gc=False, frozen=True, kw_only=True, omit_defaults=True):
    """One window of one node, numbered. `start_ms` and `end_ms` are Unix time, half open."""

    seq: Annotated[int, Meta(ge=1, le=2**62)]
    start_ms: Count
    end_ms: Count
    gpus: Annotated[tuple[GpuWindow, ...], _at_most(maxItems=GPUS_MAX)] = ()
    shares: Annotated[tuple[WorkloadShare, ...], _at_most(maxItems=SHARES_MAX)] = ()
    workloads: Annotated[tuple[Workload, ...], _at_most(maxItems=WORKLOADS_MAX)] = ()
    demand: Annotated[tuple[Demand, ...], _at_most(maxItems=DEMAND_MAX)] = ()
    host_energy_mj: Named = {}
    """The host's own energy by where it is from: `rapl` (processors and memory), `dcmi` or `power_meter` (the whole
    machine, GPUs included). Part of a reading over several windows is laid on the one that it ends in."""


class Shipment(Struct, gc=False, frozen=True, kw_only=True, omit_defaults=True):
    """The body of `POST /v1/batches`: one agent's batches, oldest first."""

    schema: int
    agent_id: Name
    epoch: Name
    cluster: Name
    node: Name
    batches: tuple[Batch, ...]
    labels: Labels = {}
    """What is known of the node (rack, purchase, contract): price books may match on it."""


class Fault(NamedTuple):
    """Why a record is refused: the JSON path of the field, what was found, and what was expected."""

    field: str
    found: str
    expected: str


def faults_of_batch(batch: Batch, path: str) -> Iterator[Fault]:
    """Everything in `batch` that breaks the identities at the head of this file; nothing when it is sound."""
    length_ms = batch.end_ms - batch.start_ms
    if length_ms <= 0:
        yield Fault(f"{path}.end_ms", str(batch.end_ms), f"an instant after start_ms ({batch.start_ms})")
        return
    if batch.end_ms > hour_of_ms(batch.start_ms) + 3_600_000:
        yield Fault(f"{path}.end_ms", str(batch.end_ms), "a window that lies within one UTC hour")
    if too_many := list(_too_many(batch, path)):
        yield from too_many
        return
    if _is_great(batch):
        yield from _too_great(batch, path)
    left: dict[str, list[int]] = {}
    for i, gpu in enumerate(batch.gpus):
        energy = gpu.energy_mj
        if gpu.uuid in left:
            yield Fault(f"{path}.gpus[{i}].uuid", gpu.uuid, "each GPU once in a batch")
        left[gpu.uuid] = [gpu.active_ms, gpu.idle_ms, energy.active, energy.idle]
        states_ms = gpu.active_ms + gpu.idle_ms + gpu.unallocated_ms + gpu.unknown_ms
        if states_ms != length_ms:
            expected = f"the length of the batch, {length_ms} ms"
            yield Fault(f"{path}.gpus[{i}]", f"states that sum to {states_ms} ms", expected)
        if gpu.unknown_ms != (sum(gpu.unknown_reason_ms.values()) if gpu.unknown_reason_ms else 0):
            found = f"{sum(gpu.unknown_reason_ms.values())} ms over all reasons"
            expected = f"reasons that sum to unknown_ms ({gpu.unknown_ms})"
            yield Fault(f"{path}.gpus[{i}].unknown_reason_ms", found, expected)
        if gpu.parked_ms > gpu.idle_ms or gpu.parked_mj > energy.idle:
            found = f"{gpu.parked_ms} ms and {gpu.parked_mj} mJ"
            yield Fault(f"{path}.gpus[{i}].parked_ms", found, "at most the idle time and energy")
        if gpu.energy_method_mj and sum(gpu.energy_method_mj.values()) != gpu.energy_integrated_mj:
            found = f"{sum(gpu.energy_method_mj.values())} mJ over all methods"
            expected = f"methods that sum to energy_integrated_mj ({gpu.energy_integrated_mj})"
            yield Fault(f"{path}.gpus[{i}].energy_method_mj", found, expected)
    keys = {workload.key for workload in batch.workloads}
    if len(keys) != len(batch.workloads):
        yield Fault(f"{path}.workloads", f"{len(batch.workloads)} of {len(keys)} keys", "each workload once in a batch")
    for i, workload in enumerate(batch.workloads):
        if len(workload.tokens) > 1 and len({count.method for count in workload.tokens}) != len(workload.tokens):
            found = ", ".join(count.method for count in workload.tokens)
            yield Fault(f"{path}.workloads[{i}].tokens", found, "each method once")
        if workload.latency and (fault := latency_fault(workload.latency)) is not None:
            yield Fault(f"{path}.workloads[{i}].latency", *fault)
    for i, share in enumerate(batch.shares):
        if share.workload not in keys:
            yield Fault(f"{path}.shares[{i}].workload", share.workload, "the key of a workload in the same batch")
        own = left.get(share.gpu_uuid)
        if own is None:
            yield Fault(f"{path}.shares[{i}].gpu_uuid", share.gpu_uuid, "the uuid of a GPU in the same batch")
            continue
        own[0] -= share.active_ms
        own[1] -= share.idle_ms
        own[2] -= share.active_mj
        own[3] -= share.idle_mj
        if share.parked_ms > share.idle_ms or share.parked_mj > share.idle_mj:
            yield Fault(f"{path}.shares[{i}].parked_ms", str(share.parked_ms), "at most the idle time and energy")
        if min(own) < 0:
            expected = "shares that sum to at most the GPU's own"
            yield Fault(f"{path}.shares[{i}]", "shares above the GPU's own time or energy", expected)


def _too_many(batch: Batch, path: str) -> Iterator[Fault]:
    """Lists and dicts with more entries than their bound."""
    sized: list[tuple[str, Sized, int]] = [
        ("gpus", batch.gpus, GPUS_MAX),
        ("shares", batch.shares, SHARES_MAX),
        ("workloads", batch.workloads, WORKLOADS_MAX),
        ("demand", batch.demand, DEMAND_MAX),
        ("host_energy_mj", batch.host_energy_mj, NAMES_MAX),
    ]
    for i, workload in enumerate(batch.workloads):
        if len(workload.tokens) > COUNTS_MAX:
            sized.append((f"workloads[{i}].tokens", workload.tokens, COUNTS_MAX))
    for i, gpu in enumerate(batch.gpus):
        if len(gpu.events) > EVENT_NAMES_MAX:
            sized.append((f"gpus[{i}].events", gpu.events, EVENT_NAMES_MAX))
        if (
            len(gpu.throttled_ms) > NAMES_MAX
            or len(gpu.throttled_lost_ms) > NAMES_MAX
            or len(gpu.unknown_reason_ms) > NAMES_MAX
            or len(gpu.energy_method_mj) > NAMES_MAX
        ):
            sized += [(f"gpus[{i}].{name}", getattr(gpu, name), NAMES_MAX) for name in _GPU_NAMED]
    for name, entries, most in sized:
        if len(entries) > most:
            yield Fault(f"{path}.{name}", f"{len(entries)} entries", f"at most {most}")


_GPU_NAMED = ("unknown_reason_ms", "energy_method_mj", "throttled_ms", "throttled_lost_ms")
_GPU_SUMMED = (
    *(f"energy_mj.{state}" for state in STATES),
    "energy_integrated_mj",
    "energy_error_mj",
    "energy_missing_ms",
    "utilization_ms",
    "memory_used_mib_seconds",
    "activity_known_ms",
    "sm_ms",
    "tensor_ms",
    "dram_ms",
    "nvlink_mib",
    "pcie_mib",
)
"""The others are bounded by the length of the batch, or by one of these."""
_NAMED_SUMMED = ("throttled_ms", "throttled_lost_ms", "events")
_DEMAND_SUMMED = (*TOKEN_KINDS, *REQUEST_KINDS)
_TOKENS_SUMMED = (*_DEMAND_SUMMED, *LOAD_KINDS)
_of_gpu, _of_tokens, _of_demand = (attrgetter(*names) for names in (_GPU_SUMMED, _TOKENS_SUMMED, _DEMAND_SUMMED))


def _is_great(batch: Batch) -> bool:
    """Whether all amounts together are above `SUM_MAX`; where not, no sum of some of them is. Written out for its pace:
    it is asked of every batch."""
    total = sum(batch.host_energy_mj.values()) if batch.host_energy_mj else 0
    for gpu in batch.gpus:
        energy = gpu.energy_mj
        total += energy.active + energy.idle + energy.unallocated + energy.unknown + gpu.energy_integrated_mj
        total += gpu.energy_error_mj + gpu.energy_missing_ms + gpu.activity_known_ms + (gpu.utilization_ms or 0)
        total += (gpu.memory_used_mib_seconds or 0) + (gpu.sm_ms or 0) + (gpu.tensor_ms or 0) + (gpu.dram_ms or 0)
        total += (gpu.nvlink_mib or 0) + (gpu.pcie_mib or 0)
        if gpu.throttled_ms or gpu.throttled_lost_ms or gpu.events:
            total += sum(gpu.throttled_ms.values()) + sum(gpu.throttled_lost_ms.values()) + sum(gpu.events.values())
    for workload in batch.workloads:
        for count in workload.tokens:
            total += sum(filter(None, _of_tokens(count)))
    for demand in batch.demand:
        total += sum(filter(None, _of_demand(demand)))
    return total > SUM_MAX


def _too_great(batch: Batch, path: str) -> Iterator[Fault]:
    """Amounts whose sum over a list is above `SUM_MAX`. Shares are at most what their GPUs have."""
    counts = chain.from_iterable(workload.tokens for workload in batch.workloads)
    sums: dict[str, int] = {"host_energy_mj": sum(batch.host_energy_mj.values())}
    for name, fields, rows in (
        ("gpus", _GPU_SUMMED, map(_of_gpu, batch.gpus)),
        ("workloads[].tokens", _TOKENS_SUMMED, map(_of_tokens, counts)),
        ("demand", _DEMAND_SUMMED, map(_of_demand, batch.demand)),
    ):
        columns = list(zip(*rows, strict=True))
        sums |= {f"{name}[].{field}": sum(filter(None, column)) for field, column in zip(fields, columns)}  # noqa: B905
    for field in _NAMED_SUMMED:
        sums[f"gpus[].{field}"] = sum(sum(getattr(gpu, field).values()) for gpu in batch.gpus)
    for field, total in sums.items():
        if total > SUM_MAX:
            yield Fault(f"{path}.{field}", f"a sum of {total}", f"at most {SUM_MAX} over the whole batch")
