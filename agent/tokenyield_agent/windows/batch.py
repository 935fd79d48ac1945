"""A closed window into the batch that goes over the wire. Pure."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from tokenyield_agent.tokens.event import Caller
from tokenyield_agent.windows.open_window import ACTIVITY_FIELDS, OpenGpu, OpenWindow, add
from tokenyield_agent.workloads.workload_name import WorkloadName
from tokenyield_wire.bounded import bounded
from tokenyield_wire.latency import LATENCY_KINDS, LatencyCount, LatencyKind
from tokenyield_wire.window import (
    COUNT_MAX,
    NAME_CHARS_MAX,
    SUM_MAX,
    TEXT_CHARS_MAX,
    Batch,
    Demand,
    GpuWindow,
    Method,
    StateMillijoules,
    TokenCount,
    Workload,
    WorkloadShare,
)

Name = TypeVar("Name", str, Method)


def batch_of(window: OpenWindow, names: dict[str, WorkloadName], seq: int) -> Batch:
    """Numbered `seq`. A workload that `names` does not hold goes by its key, of unknown server."""
    length_ms = window.end_ms - window.start_ms
    gpus = sorted(window.gpus.items())
    shares = tuple(share for uuid, sums in gpus for share in _shares(uuid, sums))
    tokens = fitted({(key, method): sums for key, of in window.tokens.items() for method, sums in of.items()})
    counts: dict[str, list[TokenCount]] = {key: [] for key in window.tokens}
    for (key, method), sums in sorted(tokens.items()):
        counts[key].append(TokenCount(method=method, **sums))
    demand = fitted({(gateway, key): sums for gateway, of in sorted(window.demand.items()) for key, sums in of.items()})
    keys = sorted({key for _, sums in gpus for key in sums.shares} | window.tokens.keys())
    return Batch(
        seq=seq,
        start_ms=window.start_ms,
        end_ms=window.end_ms,
        gpus=tuple(_gpu_window(uuid, sums, length_ms) for uuid, sums in gpus),
        shares=shares,
        workloads=tuple(_workload(key, names, counts.get(key, []), window.latency.get(key, {})) for key in keys),
        demand=tuple(_demand(gateway, key, sums) for (gateway, key), sums in demand.items()),
        host_energy_mj=window.host_mj,
    )


def _shares(uuid: str, sums: OpenGpu) -> list[WorkloadShare]:
    return [
        WorkloadShare(
            gpu_uuid=_wire_name(uuid),
            workload=_wire_name(workload),
            split=sums.splits[workload],
            active_ms=share.active_ms,
            idle_ms=share.idle_ms,
            active_mj=share.active_mj,
            idle_mj=share.idle_mj,
            parked_ms=share.parked_ms,
            parked_mj=share.parked_mj,
        )
        for workload, share in sorted(sums.shares.items())
    ]


def _workload(
    key: str,
    names: dict[str, WorkloadName],
    counts: list[TokenCount],
    latency: Mapping[LatencyKind, Sequence[int]],
) -> Workload:
    name = names.get(key) or WorkloadName(server="unknown", place=key, model=None)
    return Workload(
        key=_wire_name(key),
        server=_wire_name(name.server),
        place=_wire_name(name.place),
        model=_wire_name(name.model) if name.model else None,
        tokens=tuple(counts),
        labels={_wire_name(label): bounded(text, TEXT_CHARS_MAX) for label, text in name.labels.items()},
        latency=tuple(_latency(kind, latency[kind]) for kind in LATENCY_KINDS if kind in latency),
    )


def _wire_name(name: str) -> str:
    """As long as the wire takes, whoever chose it: a batch that the collector refuses is lost for all of the node."""
    return bounded(name, NAME_CHARS_MAX)


def _latency(kind: LatencyKind, sums: Sequence[int]) -> LatencyCount:
    counts = list(sums[1:])
    while counts and not counts[-1]:
        counts.pop()
    return LatencyCount(kind=kind, sum_ms=sums[0], counts=tuple(counts))


def _demand(gateway: str, key: str, sums: dict[str, int]) -> Demand:
    caller = msgspec.json.decode(key, type=Caller)
    model = _wire_name(caller.model) if caller.model else None
    return Demand(
        gateway=_wire_name(gateway),
        model=model,
        caller={_wire_name(label): bounded(text, TEXT_CHARS_MAX) for label, text in caller.labels},
        **sums,
    )


def _gpu_window(uuid: str, sums: OpenGpu, length_ms: int) -> GpuWindow:
    missing_ms = length_ms - sum(sums.state_ms.values())
    add(sums.state_ms, "unknown", missing_ms)  # it was there at the start and not at the end
    add(sums.unknown_reason_ms, "not_seen", missing_ms)
    state_ms = sums.state_ms
    return GpuWindow(
        uuid=_wire_name(uuid),
        model=None if sums.model is None else bounded(sums.model, TEXT_CHARS_MAX),
        index=sums.index,
        active_ms=state_ms.get("active", 0),
        idle_ms=state_ms.get("idle", 0),
        unallocated_ms=state_ms.get("unallocated", 0),
        unknown_ms=state_ms.get("unknown", 0),
        unknown_reason_ms=sums.unknown_reason_ms,
        energy_mj=StateMillijoules(**sums.state_mj),
        energy_integrated_mj=sum(sums.method_mj.values()),
        energy_method_mj=sums.method_mj,
        energy_error_mj=sums.error_mj,
        energy_missing_ms=sums.energy_missing_ms,
        utilization_ms=None if sums.utilization_pct_ms is None else sums.utilization_pct_ms // 100,
        memory_used_mib_seconds=None if sums.memory_mib_ms is None else sums.memory_mib_ms // 1000,
        parked_ms=sums.parked_ms,
        parked_mj=sums.parked_mj,
        activity_known_ms=sums.activity_known_ms,
        **{
            field: sum_ // divisor
            for quantity, (field, divisor) in ACTIVITY_FIELDS.items()
            if (sum_ := sums.activity.get(quantity)) is not None
        },
        throttled_ms=sums.throttled_ms,
        throttled_lost_ms={reason: us // 1000 for reason, us in sums.throttled_lost_us.items() if us >= 1000},
        events=sums.events,
        power_mw_max=sums.power_mw_max,
        temperature_c_max=sums.temperature_c_max,
        memory_total_mib=sums.memory_total_mib,
    )


def fitted(counts: Mapping[tuple[str, Name], Mapping[str, int]]) -> dict[tuple[str, Name], dict[str, int]]:
    """The same counts, no kind of which sums to more than the wire takes. Where one does, each has at most an equal
    part, so that a server that reports nonsense is cut and not those beside it."""
    sums: dict[str, int] = {}
    for kinds in counts.values():
        for kind, count in kinds.items():
            sums[kind] = sums.get(kind, 0) + count
    cuts = {kind: SUM_MAX // len(counts) for kind, whole in sums.items() if whole > SUM_MAX}
    return {
        name: {kind: min(count, cuts.get(kind, COUNT_MAX)) for kind, count in kinds.items()} if cuts else dict(kinds)
        for name, kinds in counts.items()
    }
