"""One open window: the sums of what is laid on it, by GPU, workload and gateway. Pure.

In: spans of GPUs cut to the window, token counts. Out: plain sums, which go into the spool with the agent's state and
become a batch when the window is closed (batch.py). Field names stay: the spool of an older agent holds them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import msgspec

from tokenyield_agent.gpu.reading import Activity, GpuReading
from tokenyield_agent.tokens.event import Caller, TokenCounts, sum_kinds
from tokenyield_agent.tokens.latency import added, bounded
from tokenyield_agent.windows.bounds import (
    CALLERS_ALL_MAX,
    CALLERS_MAX,
    COUNTED_MAX,
    EVENT_KINDS_MAX,
    HOLDINGS_MAX,
    OTHER_CALLER,
    OTHER_EVENT,
    OTHER_WORKLOAD,
    Folds,
    apart_from_others,
)
from tokenyield_agent.windows.span import GpuSpan
from tokenyield_agent.workloads.binding import UNTIED
from tokenyield_wire.latency import LatencyKind
from tokenyield_wire.units import apportion
from tokenyield_wire.window import COUNT_MAX, Method, Split

ACTIVITY_FIELDS = {
    # quantity of an Activity -> field of the wire, and by what a sum over ms is divided for it
    "compute_bp": ("sm_ms", 10_000),
    "matrix_bp": ("tensor_ms", 10_000),
    "memory_bandwidth_bp": ("dram_ms", 10_000),
    "link_mib_s": ("nvlink_mib", 1000),
    "pcie_mib_s": ("pcie_mib", 1000),
}


class OpenShare(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One workload's part of one GPU."""

    active_ms: int = 0
    idle_ms: int = 0
    active_mj: int = 0
    idle_mj: int = 0
    parked_ms: int = 0
    parked_mj: int = 0


class OpenGpu(msgspec.Struct, kw_only=True):
    """One GPU's sums in one open window."""

    model: str | None = None
    index: int | None = None
    state_ms: dict[str, int] = msgspec.field(default_factory=dict)
    unknown_reason_ms: dict[str, int] = msgspec.field(default_factory=dict)
    state_mj: dict[str, int] = msgspec.field(default_factory=dict)
    method_mj: dict[str, int] = msgspec.field(default_factory=dict)
    """Of the integrated part."""
    error_mj: int = 0
    energy_missing_ms: int = 0
    parked_ms: int = 0
    parked_mj: int = 0
    activity_known_ms: int = 0
    activity: dict[str, int] = msgspec.field(default_factory=dict)
    """Quantity of an Activity -> its sum over ms."""
    utilization_pct_ms: int | None = None
    memory_mib_ms: int | None = None
    throttled_ms: dict[str, int] = msgspec.field(default_factory=dict)
    throttled_lost_us: dict[str, int] = msgspec.field(default_factory=dict)
    events: dict[str, int] = msgspec.field(default_factory=dict)
    power_mw_max: int | None = None
    temperature_c_max: int | None = None
    memory_total_mib: int | None = None
    shares: dict[str, OpenShare] = msgspec.field(default_factory=dict)
    """By workload."""
    splits: dict[str, Split] = msgspec.field(default_factory=dict)


class OpenWindow(msgspec.Struct, kw_only=True):
    """A window being written. Its length so far is `end_ms - start_ms`; `grid_end_ms` is where it will end."""

    start_ms: int
    end_ms: int
    grid_end_ms: int
    jumped: bool = False
    gpus: dict[str, OpenGpu] = msgspec.field(default_factory=dict)
    tokens: dict[str, dict[Method, dict[str, int]]] = msgspec.field(default_factory=dict)
    """workload -> method -> kind -> count"""
    demand: dict[str, dict[str, dict[str, int]]] = msgspec.field(default_factory=dict)
    """gateway -> caller, as JSON -> kind -> count"""
    host_mj: dict[str, int] = msgspec.field(default_factory=dict)
    """source -> energy"""
    latency: dict[str, dict[LatencyKind, list[int]]] = msgspec.field(default_factory=dict)
    """workload -> kind -> sum of waits in ms, then how many fell into each bucket; each workload is in `tokens` too"""


@dataclass(slots=True)
class _SpanPart:
    """The part of a span that falls into one window, beside its length."""

    energy_mj: int | None = None
    error_mj: int = 0
    activity_ms: int = 0
    events: Mapping[str, int] = field(default_factory=dict)


def lay_span(span: GpuSpan, slices: list[tuple[OpenWindow, int]], folds: Folds) -> None:
    """Lay a span over windows, of which each (end moved on already) takes so many ms. Wholes are kept: the parts of
    energy and activity sum to the span's own."""
    parts = _parts(span, [length_ms for _, length_ms in slices])
    for (window, length_ms), part in zip(slices, parts, strict=True):
        _lay(window, span, length_ms, part, folds)


def _parts(span: GpuSpan, lengths_ms: list[int]) -> list[_SpanPart]:
    parts = [_SpanPart() for _ in lengths_ms]
    parts[-1].events = span.events
    if span.energy is not None:
        energy_mj, error_mj = apportion(span.energy.mj, lengths_ms), apportion(span.energy.error_mj, lengths_ms)
        for part, part_mj, part_error_mj in zip(parts, energy_mj, error_mj, strict=True):
            part.energy_mj, part.error_mj = part_mj, part_error_mj
    if span.reading is not None and span.reading.activity is not None:
        for part, known_ms in zip(parts, apportion(span.reading.activity.span_ms, lengths_ms), strict=True):
            part.activity_ms = known_ms
    return parts


def _lay(window: OpenWindow, span: GpuSpan, length_ms: int, part: _SpanPart, folds: Folds) -> None:
    energy_mj = part.energy_mj
    sums = window.gpus.get(span.uuid)
    if sums is None:
        sums = window.gpus[span.uuid] = OpenGpu()
        # The part of the window before this GPU was first seen. `length_ms` of it are being laid now.
        add(sums.state_ms, "unknown", window.end_ms - window.start_ms - length_ms)
        add(sums.unknown_reason_ms, "not_seen", window.end_ms - window.start_ms - length_ms)
    sums.model = span.model or sums.model
    add(sums.state_ms, span.state, length_ms)
    if span.state == "unknown":
        add(sums.unknown_reason_ms, span.unknown_reason or "unread", length_ms)
    for event, times in part.events.items():
        is_named = event in sums.events or len(sums.events) < EVENT_KINDS_MAX
        add(sums.events, event if is_named else folds.fold("event", OTHER_EVENT), times)
    if energy_mj is None or span.energy is None:
        sums.energy_missing_ms += length_ms
    else:
        add(sums.state_mj, span.state, energy_mj)
        if span.energy.method != "counter":
            add(sums.method_mj, span.energy.method, energy_mj)
            sums.error_mj += part.error_mj
    if span.parked:
        sums.parked_ms += length_ms
        sums.parked_mj += energy_mj or 0
    if span.state in ("active", "idle") and span.holding.weights:
        _share(window, sums, span, length_ms, energy_mj or 0, folds)
    if span.reading is not None:
        _lay_reading(sums, span.reading, span, length_ms)
        if span.reading.activity is not None:
            _lay_activity(sums, span.reading.activity, part.activity_ms)


def _lay_activity(sums: OpenGpu, activity: Activity, known_ms: int) -> None:
    sums.activity_known_ms += known_ms
    for quantity in ACTIVITY_FIELDS:
        if (value := getattr(activity, quantity)) is not None:
            sums.activity[quantity] = sums.activity.get(quantity, 0) + value * known_ms


def _lay_reading(sums: OpenGpu, reading: GpuReading, span: GpuSpan, length_ms: int) -> None:
    sums.index = reading.index
    sums.memory_total_mib = reading.memory_total_mib
    if reading.power_mw is not None:
        sums.power_mw_max = max(sums.power_mw_max or 0, reading.power_mw)
    if reading.temperature_c is not None:
        hottest_c = sums.temperature_c_max
        sums.temperature_c_max = reading.temperature_c if hottest_c is None else max(hottest_c, reading.temperature_c)
    if span.state == "unknown":
        return  # the reading is not valid for a span that was not watched
    if reading.utilization_percent is not None:
        sums.utilization_pct_ms = (sums.utilization_pct_ms or 0) + reading.utilization_percent * length_ms
    if reading.memory_used_mib is not None:
        sums.memory_mib_ms = (sums.memory_mib_ms or 0) + reading.memory_used_mib * length_ms
    for reason in reading.throttle_reasons or ():
        add(sums.throttled_ms, reason, length_ms)
    for reason, lost_us in span.throttled_lost_us(length_ms).items():
        add(sums.throttled_lost_us, reason, lost_us)


def _share(window: OpenWindow, sums: OpenGpu, span: GpuSpan, length_ms: int, energy_mj: int, folds: Folds) -> None:
    weights = list(span.holding.weights.values())
    parts = zip(span.holding.weights, apportion(length_ms, weights), apportion(energy_mj, weights), strict=True)
    for workload, part_ms, part_mj in parts:
        if workload == UNTIED:
            continue
        share = sums.shares.get(workload)
        if share is None:
            if sum(len(gpu.shares) for gpu in window.gpus.values()) >= HOLDINGS_MAX:
                workload = folds.fold("workload", OTHER_WORKLOAD)
            share = sums.shares.setdefault(workload, OpenShare())
        if span.state == "active":
            share.active_ms += part_ms
            share.active_mj += part_mj
        else:
            share.idle_ms += part_ms
            share.idle_mj += part_mj
        if span.parked:
            share.parked_ms += part_ms
            share.parked_mj += part_mj
        sums.splits[workload] = cast(Split, span.holding.split)


def add(sums: dict[str, int], key: str, amount: int) -> None:
    """An amount of 0 makes no key."""
    if amount:
        sums[key] = sums.get(key, 0) + amount


def add_tokens(window: OpenWindow, workload: str, counts: TokenCounts, parts: Mapping[str, int], folds: Folds) -> None:
    """`parts`: kind -> the window's part of `counts`."""
    if workload not in window.tokens and len(window.tokens) >= COUNTED_MAX:
        workload = folds.fold("workload", OTHER_WORKLOAD)
    sums = window.tokens.setdefault(workload, {}).setdefault(counts.method, {})
    for kind, part in parts.items():
        sums[kind] = _bounded(sums.get(kind, 0) + part)


def add_latency(window: OpenWindow, workload: str, latency: Mapping[LatencyKind, Sequence[int]], folds: Folds) -> None:
    """A whole observation falls into one window."""
    if workload not in window.tokens and len(window.tokens) >= COUNTED_MAX:
        workload = folds.fold("workload", OTHER_WORKLOAD)
    window.tokens.setdefault(workload, {})
    of_workload = window.latency.setdefault(workload, {})
    for kind, sums in latency.items():
        of_workload[kind] = bounded(added(of_workload.get(kind), sums))


def add_demand(window: OpenWindow, gateway: str, caller: Caller, parts: Mapping[str, int], folds: Folds) -> None:
    """`parts`: kind -> the window's part of what `caller` requested of `gateway`."""
    callers = window.demand.setdefault(gateway, {})
    key = msgspec.json.encode(apart_from_others(caller)).decode()
    if key not in callers and (len(callers) >= CALLERS_MAX or sum(map(len, window.demand.values())) >= CALLERS_ALL_MAX):
        key = folds.fold("caller", msgspec.json.encode(OTHER_CALLER).decode())
    callers[key] = {kind: _bounded(count) for kind, count in sum_kinds(callers.get(key, {}), parts).items()}


def _bounded(count: int) -> int:
    """What the wire takes: a server that reports nonsense must not cost the node its batch."""
    return min(count, COUNT_MAX)
