"""Readings and token events into windows of additive facts. Pure.

In: spans of time with what each GPU did in them, jumps of the wall clock, token events. Out: `Batch`es without number.

Theory. The node has one *timeline* in Unix milliseconds. `extend` moves its end forward; `jump` moves it elsewhere
when the wall clock was stepped. The timeline is cut into windows at multiples of the window length, and at jumps.
A window's length is therefore exactly the time that was laid on it, and what holds for it is:

* every GPU's states sum to the window's length: a GPU that was not there for a part has that part as `unknown`;
* energy, activity and tokens laid over several windows keep their whole (largest remainder);
* a token event's part before the oldest open window goes into that one, its part after the newest into that one:
  tokens are never dropped for being early or late.

A window may be taken once the timeline has gone `settle_ms` past its end, so that a rate reported at the end of a 10 s
interval still finds the windows that it speaks of. `state` is everything that is not yet taken; a book restored from it
goes on as if it had never stopped.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from tokenyield_agent.gpu.reading import Activity, GpuReading
from tokenyield_agent.tokens.event import KINDS, Asker, Counted, TokenEvent, sum_kinds
from tokenyield_agent.windows.span import GpuSpan
from tokenyield_agent.workloads.binding import UNTIED
from tokenyield_wire.units import apportion
from tokenyield_wire.window import (
    COUNT_MAX,
    DEMAND_MAX,
    EVENT_NAMES_MAX,
    GPUS_MAX,
    LOAD_KINDS,
    SHARES_MAX,
    SUM_MAX,
    WORKLOADS_MAX,
    Batch,
    Demand,
    GpuWindow,
    StateMillijoules,
    TokenCount,
    Workload,
    WorkloadShare,
)

OPEN_WINDOWS_MAX = 480
"""Two hours of 15 s windows, reached only while the spool cannot be written. Then the
oldest is given up, counted in `WindowBook.dropped`: memory on a GPU host is bounded."""

ASKERS_MAX, ASKERS_ALL_MAX = 1_000, 12_000
"""Askers of one gateway, and of all, in one window; those that come later are added up under `OTHER_ASKER`."""
HOLDINGS_MAX, COUNTED_MAX = 3_000, 1_000
"""Pairs of a GPU and a workload that held it, and workloads that made tokens, in one window; what comes later stands
under `OTHER_WORKLOAD`. So the wire's own bounds are never met: whoever starts processes or sends requests under ever
new names must not cost the node its batch. What is folded is counted in `WindowBook.folded`."""
EVENT_KINDS_MAX = 200
assert ASKERS_ALL_MAX < DEMAND_MAX and HOLDINGS_MAX + COUNTED_MAX < WORKLOADS_MAX  # noqa: PT018
assert HOLDINGS_MAX + GPUS_MAX <= SHARES_MAX and EVENT_KINDS_MAX < EVENT_NAMES_MAX  # noqa: PT018
_ACTIVITY = {
    # quantity of an Activity -> field of the wire, and by what a sum over ms is divided for it
    "compute_bp": ("sm_ms", 10_000),
    "matrix_bp": ("tensor_ms", 10_000),
    "memory_bandwidth_bp": ("dram_ms", 10_000),
    "link_mib_s": ("nvlink_mib", 1000),
    "pcie_mib_s": ("pcie_mib", 1000),
}
OTHER_ASKER = Asker(labels=(("team", "(other)"),))
OTHER_WORKLOAD = "(other)"
OTHER_EVENT = "other"
AnyCount = TypeVar("AnyCount", int, int | None)


class GpuFacts(msgspec.Struct, kw_only=True):
    """One GPU's sums in one open window."""

    model: str | None = None
    index: int | None = None
    state_ms: dict[str, int] = msgspec.field(default_factory=dict)
    unknown_reason_ms: dict[str, int] = msgspec.field(default_factory=dict)
    state_mj: dict[str, int] = msgspec.field(default_factory=dict)
    method_mj: dict[str, int] = msgspec.field(default_factory=dict)
    """Of what was integrated."""
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
    shares: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    """workload -> active_ms, idle_ms, active_mj, idle_mj, parked_ms, parked_mj"""
    splits: dict[str, str] = msgspec.field(default_factory=dict)


class OpenWindow(msgspec.Struct, kw_only=True):
    """A window being written. Its length so far is `end_ms - start_ms`; `grid_end_ms` is where it will end."""

    start_ms: int
    end_ms: int
    grid_end_ms: int
    jumped: bool = False
    gpus: dict[str, GpuFacts] = msgspec.field(default_factory=dict)
    tokens: dict[str, dict[str, dict[str, int | None]]] = msgspec.field(default_factory=dict)
    """workload -> method -> kind -> count"""
    demand: dict[str, dict[str, dict[str, int]]] = msgspec.field(default_factory=dict)
    """gateway -> asker, as JSON -> kind -> count"""
    host_mj: dict[str, int] = msgspec.field(default_factory=dict)
    """source -> energy"""


class BookState(msgspec.Struct, kw_only=True):
    """All that a book holds; plain values, for the spool."""

    end_ms: int | None = None
    windows: list[OpenWindow] = msgspec.field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadName:
    """How a workload is called on the wire."""

    server: str
    place: str
    model: str | None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Part:
    """What of a span falls into one window, beside its length."""

    energy_mj: int | None = None
    error_mj: int = 0
    activity_ms: int = 0
    events: Mapping[str, int] = field(default_factory=dict)


class WindowBook:
    """The open windows of one node."""

    def __init__(self, *, length_ms: int, settle_ms: int, state: BookState | None = None) -> None:
        if 3_600_000 % length_ms:
            raise ValueError(f"window length {length_ms} ms does not divide an hour")
        self._length_ms = length_ms
        self._settle_ms = settle_ms
        self._state = msgspec.convert(msgspec.to_builtins(state), BookState) if state else BookState()
        self.dropped = 0
        self.folded = dict.fromkeys(("asker", "workload", "event"), 0)
        """How often something was laid under a common name because a window held too many names."""

    @property
    def end_ms(self) -> int | None:
        """Where the timeline ends; None before anything was laid on it."""
        return self._state.end_ms

    def state(self, *, without: int = 0) -> BookState:
        """What is held, leaving out the `without` oldest windows."""
        return BookState(end_ms=self._state.end_ms, windows=self._state.windows[without:])

    def jump(self, to_ms: int) -> None:
        """The wall clock was stepped (or the book is new): the timeline goes on at `to_ms`. No time passes."""
        newest = self._state.windows[-1] if self._state.windows else None
        if newest is not None and newest.end_ms == newest.start_ms:
            newest.start_ms = newest.end_ms = to_ms
            newest.grid_end_ms = self._grid_end(to_ms)
        elif newest is not None:
            newest.jumped = True
        self._state.end_ms = to_ms

    def extend(self, to_ms: int, spans: Iterable[GpuSpan]) -> None:
        """Lay what the GPUs did from the timeline's end to `to_ms`."""
        start_ms = self._state.end_ms
        assert start_ms is not None, "jump to where the timeline starts first"
        if to_ms <= start_ms:
            return
        slices = self._slices(start_ms, to_ms)
        lengths = [length for _, length in slices]
        for window, length in slices:
            window.end_ms += length
        for span in spans:
            laid = _parts(span, lengths)
            for (window, length), part in zip(slices, laid, strict=True):
                self._lay(window, span, length, part)
        self._state.end_ms = to_ms
        while len(self._state.windows) > OPEN_WINDOWS_MAX:
            del self._state.windows[0]
            self.dropped += 1

    def add(self, event: TokenEvent) -> None:
        """Lay a token event over the windows that it overlaps."""
        windows = self._state.windows or [self._window_at_end()]
        overlaps = [max(0, min(w.end_ms, event.end_ms) - max(w.start_ms, event.start_ms)) for w in windows]
        overlaps[0] += max(0, min(event.end_ms, windows[0].start_ms) - event.start_ms)
        overlaps[-1] += max(0, event.end_ms - max(event.start_ms, windows[-1].end_ms))
        if not any(overlaps):  # an instant, or a stretch that a jump took out of the timeline
            at = max((i for i, w in enumerate(windows) if w.start_ms <= event.start_ms), default=0)
            overlaps[at] = 1
        parts = {
            kind: apportion(whole, overlaps)
            for kind in (*KINDS, *LOAD_KINDS)
            if (whole := getattr(event.counted, kind)) is not None
        }
        for i, window in enumerate(windows):
            if overlaps[i]:
                part_of = {kind: part[i] for kind, part in parts.items()}
                if event.counted.asker is not None:
                    self._add_demand(window, event.workload, event.counted.asker, part_of)
                else:
                    self._add_tokens(window, event.workload, event.counted, part_of)

    def add_host_energy(self, mj: int, source: str) -> None:
        """Lay what the host used on the newest window."""
        window = self._state.windows[-1] if self._state.windows else self._window_at_end()
        _count(window.host_mj, source, mj)

    def ready(self, *, flush: bool = False) -> int:
        """How many of the oldest windows may be taken now; when `flush`, all that have any length."""
        windows = self._state.windows
        if flush:
            # A window without length has tokens but no time yet; it stays, and goes on after the restart.
            return len(windows) - bool(windows and windows[-1].end_ms == windows[-1].start_ms)
        # Nothing can be laid any more on what stands before a jump.
        ready = max((i + 1 for i, window in enumerate(windows[:-1]) if window.jumped), default=0)
        end_ms = self._state.end_ms or 0
        while ready < len(windows) and end_ms >= windows[ready].grid_end_ms + self._settle_ms:
            ready += 1
        return ready

    def batches(self, count: int, names: dict[str, WorkloadName], first_seq: int) -> list[Batch]:
        """The `count` oldest windows as batches numbered from `first_seq`. They stay in the book until `discard`."""
        return [_batch(window, names, first_seq + i) for i, window in enumerate(self._state.windows[:count])]

    def discard(self, count: int) -> None:
        """Forget the `count` oldest windows: they are safe in the spool."""
        del self._state.windows[:count]

    def _lay(self, window: OpenWindow, span: GpuSpan, length_ms: int, part: _Part) -> None:
        energy_mj = part.energy_mj
        facts = window.gpus.get(span.uuid)
        if facts is None:
            facts = window.gpus[span.uuid] = GpuFacts()
            # The part of the window before this GPU was first seen. `length_ms` of it are being laid now.
            _count(facts.state_ms, "unknown", window.end_ms - window.start_ms - length_ms)
            _count(facts.unknown_reason_ms, "not_seen", window.end_ms - window.start_ms - length_ms)
        facts.model = span.model or facts.model
        _count(facts.state_ms, span.state, length_ms)
        if span.state == "unknown":
            _count(facts.unknown_reason_ms, span.unknown_reason or "unread", length_ms)
        for what, times in part.events.items():
            is_named = what in facts.events or len(facts.events) < EVENT_KINDS_MAX
            _count(facts.events, what if is_named else self._fold("event", OTHER_EVENT), times)
        if energy_mj is None or span.energy is None:
            facts.energy_missing_ms += length_ms
        else:
            _count(facts.state_mj, span.state, energy_mj)
            if span.energy.method != "counter":
                _count(facts.method_mj, span.energy.method, energy_mj)
                facts.error_mj += part.error_mj
        if span.parked:
            facts.parked_ms += length_ms
            facts.parked_mj += energy_mj or 0
        if span.state in ("active", "idle"):
            self._share(window, facts, span, length_ms, energy_mj or 0)
        if span.reading is not None:
            _lay_reading(facts, span.reading, span, length_ms)
            if span.reading.activity is not None:
                _lay_activity(facts, span.reading.activity, part.activity_ms)

    def _share(self, window: OpenWindow, facts: GpuFacts, span: GpuSpan, length_ms: int, energy_mj: int) -> None:
        weights = span.holding.weights
        if not weights:
            return
        parts_ms = apportion(length_ms, list(weights.values()))
        parts_mj = apportion(energy_mj, list(weights.values()))
        for workload, part_ms, part_mj in zip(weights, parts_ms, parts_mj, strict=True):
            if workload == UNTIED:
                continue
            if workload not in facts.shares and sum(len(gpu.shares) for gpu in window.gpus.values()) >= HOLDINGS_MAX:
                workload = self._fold("workload", OTHER_WORKLOAD)
            share = facts.shares.setdefault(workload, {})
            _count(share, f"{span.state}_ms", part_ms)
            _count(share, f"{span.state}_mj", part_mj)
            if span.parked:
                _count(share, "parked_ms", part_ms)
                _count(share, "parked_mj", part_mj)
            facts.splits[workload] = span.holding.split

    def _add_tokens(self, window: OpenWindow, workload: str, counted: Counted, parts: dict[str, int]) -> None:
        if workload not in window.tokens and len(window.tokens) >= COUNTED_MAX:
            workload = self._fold("workload", OTHER_WORKLOAD)
        sums = window.tokens.setdefault(workload, {}).setdefault(counted.method, {})
        for kind, part in parts.items():
            sums[kind] = _bounded((sums.get(kind) or 0) + part)

    def _add_demand(self, window: OpenWindow, gateway: str, asker: Asker, parts: dict[str, int]) -> None:
        askers = window.demand.setdefault(gateway, {})
        key = msgspec.json.encode(asker).decode()
        if key not in askers and (len(askers) >= ASKERS_MAX or sum(map(len, window.demand.values())) >= ASKERS_ALL_MAX):
            self._fold("asker", "")
            key = msgspec.json.encode(OTHER_ASKER).decode()
        askers[key] = {kind: _bounded(count) for kind, count in sum_kinds(askers.get(key, {}), parts).items()}

    def _fold(self, kind: str, common_name: str) -> str:
        self.folded[kind] += 1
        return common_name

    def _slices(self, start_ms: int, to_ms: int) -> list[tuple[OpenWindow, int]]:
        slices = []
        while start_ms < to_ms:
            window = self._window_at(start_ms)
            length = min(to_ms, window.grid_end_ms) - start_ms
            slices.append((window, length))
            start_ms += length
        return slices

    def _window_at(self, at_ms: int) -> OpenWindow:
        """The newest window if it goes on at `at_ms`, else a new one there."""
        newest = self._state.windows[-1] if self._state.windows else None
        if newest is not None and not newest.jumped and at_ms < newest.grid_end_ms:
            return newest
        window = OpenWindow(start_ms=at_ms, end_ms=at_ms, grid_end_ms=self._grid_end(at_ms))
        self._state.windows.append(window)
        return window

    def _grid_end(self, at_ms: int) -> int:
        return at_ms - at_ms % self._length_ms + self._length_ms

    def _window_at_end(self) -> OpenWindow:
        assert self._state.end_ms is not None, "jump to where the timeline starts first"
        return self._window_at(self._state.end_ms)


def _parts(span: GpuSpan, lengths: list[int]) -> list[_Part]:
    parts = [_Part() for _ in lengths]
    parts[-1].events = span.events
    if span.energy is not None:
        whole, errors = apportion(span.energy.mj, lengths), apportion(span.energy.error_mj, lengths)
        for part, mj, error_mj in zip(parts, whole, errors, strict=True):
            part.energy_mj, part.error_mj = mj, error_mj
    if span.reading is not None and span.reading.activity is not None:
        for part, known_ms in zip(parts, apportion(span.reading.activity.span_ms, lengths), strict=True):
            part.activity_ms = known_ms
    return parts


def _lay_activity(facts: GpuFacts, activity: Activity, known_ms: int) -> None:
    facts.activity_known_ms += known_ms
    for quantity in _ACTIVITY:
        if (value := getattr(activity, quantity)) is not None:
            facts.activity[quantity] = facts.activity.get(quantity, 0) + value * known_ms


def _lay_reading(facts: GpuFacts, reading: GpuReading, span: GpuSpan, length_ms: int) -> None:
    facts.index = reading.index
    facts.memory_total_mib = reading.memory_total_mib
    if reading.power_mw is not None:
        facts.power_mw_max = max(facts.power_mw_max or 0, reading.power_mw)
    if reading.temperature_c is not None:
        hottest = facts.temperature_c_max
        facts.temperature_c_max = reading.temperature_c if hottest is None else max(hottest, reading.temperature_c)
    if span.state == "unknown":
        return  # the reading says nothing about a span that was not watched
    if reading.utilization_percent is not None:
        facts.utilization_pct_ms = (facts.utilization_pct_ms or 0) + reading.utilization_percent * length_ms
    if reading.memory_used_mib is not None:
        facts.memory_mib_ms = (facts.memory_mib_ms or 0) + reading.memory_used_mib * length_ms
    for reason in reading.throttle_reasons or ():
        _count(facts.throttled_ms, reason, length_ms)
    for reason, lost_us in span.throttled_lost_us(length_ms).items():
        _count(facts.throttled_lost_us, reason, lost_us)


def _count(sums: dict[str, int], key: str, amount: int) -> None:
    if amount:
        sums[key] = sums.get(key, 0) + amount


def _bounded(count: int) -> int:
    """What the wire takes: a server that lies must not cost the node its batch."""
    return min(count, COUNT_MAX)


def _fitted(
    counts: Mapping[tuple[str, str], Mapping[str, AnyCount]],
) -> dict[tuple[str, str], dict[str, AnyCount]]:
    """The same, no kind of which sums to more than the wire takes: where one does, each has an equal part at most, so
    that a server that lies is cut and not those beside it."""
    sums: dict[str, int] = {}
    for kinds in counts.values():
        for kind, count in kinds.items():
            sums[kind] = sums.get(kind, 0) + (count or 0)
    cuts = {kind: SUM_MAX // len(counts) for kind, whole in sums.items() if whole > SUM_MAX}
    if not cuts:
        return {name: dict(kinds) for name, kinds in counts.items()}
    return {
        name: {kind: count and min(count, cuts.get(kind, COUNT_MAX)) for kind, count in kinds.items()}
        for name, kinds in counts.items()
    }


def _batch(window: OpenWindow, names: dict[str, WorkloadName], seq: int) -> Batch:
    length_ms = window.end_ms - window.start_ms
    gpus, shares = [], []
    held: set[str] = set()
    for uuid, facts in sorted(window.gpus.items()):
        gpus.append(_gpu_window(uuid, facts, length_ms))
        for workload, share in sorted(facts.shares.items()):
            held.add(workload)
            split = facts.splits[workload]
            shares.append(WorkloadShare(gpu_uuid=uuid, workload=workload, split=split, **share))  # type: ignore[arg-type]
    workloads = []
    counted = _fitted({(key, method): sums for key, of in window.tokens.items() for method, sums in of.items()})
    for key in sorted(held | window.tokens.keys()):
        name = names.get(key, WorkloadName(server="unknown", place=key, model=None))
        counts = tuple(
            TokenCount(method=method, **counted[key, method])  # type: ignore[arg-type]
            for method in sorted(window.tokens.get(key, {}))
        )
        workloads.append(
            Workload(
                key=key,
                server=name.server,
                place=name.place,
                model=name.model,
                tokens=counts,
                labels=dict(name.labels),
            )
        )
    asked = _fitted({(gateway, key): sums for gateway, of in sorted(window.demand.items()) for key, sums in of.items()})
    demand = [
        Demand(gateway=gateway, model=asker.model, asker=dict(asker.labels), **sums)
        for (gateway, asker), sums in (
            ((gateway, msgspec.json.decode(key, type=Asker)), sums) for (gateway, key), sums in asked.items()
        )
    ]
    return Batch(
        seq=seq,
        start_ms=window.start_ms,
        end_ms=window.end_ms,
        gpus=tuple(gpus),
        shares=tuple(shares),
        workloads=tuple(workloads),
        demand=tuple(demand),
        host_energy_mj=window.host_mj,
    )


def _gpu_window(uuid: str, facts: GpuFacts, length_ms: int) -> GpuWindow:
    missing_ms = length_ms - sum(facts.state_ms.values())
    _count(facts.state_ms, "unknown", missing_ms)  # it was there at the start and not at the end
    _count(facts.unknown_reason_ms, "not_seen", missing_ms)
    state_ms = facts.state_ms
    return GpuWindow(
        uuid=uuid,
        model=facts.model,
        index=facts.index,
        active_ms=state_ms.get("active", 0),
        idle_ms=state_ms.get("idle", 0),
        unallocated_ms=state_ms.get("unallocated", 0),
        unknown_ms=state_ms.get("unknown", 0),
        unknown_reason_ms=facts.unknown_reason_ms,
        energy_mj=StateMillijoules(**facts.state_mj),
        energy_integrated_mj=sum(facts.method_mj.values()),
        energy_method_mj=facts.method_mj,
        energy_error_mj=facts.error_mj,
        energy_missing_ms=facts.energy_missing_ms,
        utilization_ms=None if facts.utilization_pct_ms is None else facts.utilization_pct_ms // 100,
        memory_used_mib_seconds=None if facts.memory_mib_ms is None else facts.memory_mib_ms // 1000,
        parked_ms=facts.parked_ms,
        parked_mj=facts.parked_mj,
        activity_known_ms=facts.activity_known_ms,
        **{
            field: sum_ // divisor
            for quantity, (field, divisor) in _ACTIVITY.items()
            if (sum_ := facts.activity.get(quantity)) is not None
        },
        throttled_ms=facts.throttled_ms,
        throttled_lost_ms={reason: us // 1000 for reason, us in facts.throttled_lost_us.items() if us >= 1000},
        events=facts.events,
        power_mw_max=facts.power_mw_max,
        temperature_c_max=facts.temperature_c_max,
        memory_total_mib=facts.memory_total_mib,
    )
