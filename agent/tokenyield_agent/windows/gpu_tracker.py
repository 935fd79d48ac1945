"""What was last known of each GPU, and the spans that follow from it and the next snapshot. Pure.

In: snapshots, one after another, and who holds the GPUs. Out: a `GpuSpan` for every GPU that is there, and for every
one that is lost with the reason.

An energy counter goes on from where it was last seen, however long ago, and grows by at most what the board can use in
that time. One that stands still for `STUCK_MS` while the GPU draws power is not believed until it moves. The counter
begins anew after a span whose energy was measured in another way, which is not to be counted
twice.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from tokenyield_agent.gpu.plausible import IMPLAUSIBLE
from tokenyield_agent.gpu.reading import GpuReading, Snapshot
from tokenyield_agent.windows.energy import Energy, is_jump
from tokenyield_agent.windows.span import GpuSpan, span_between, unread
from tokenyield_agent.workloads.binding import Holding

JUMP = f"{IMPLAUSIBLE}_energy"
"""Kind of fault: a counter that grew by more than its board can use."""

STUCK = "stuck_energy"
"""Kind of fault: a counter that stands still while its GPU draws power."""
STUCK_MS = 5_000
"""Drivers write their counters several times a second."""


class GpuTracker:
    """The GPUs of one node. Instants are of the host's monotonic clock, which outlives the agent."""

    def __init__(
        self,
        models: Mapping[str, str | None],
        counters_mj: Mapping[str, int],
        counters_read_ms: Mapping[str, int] | None = None,
    ) -> None:
        """As the last run knew them, by uuid; see `ResumeState`."""
        self.models = dict(models)
        self.counters_mj = dict(counters_mj)
        self.counters_read_ms = dict(counters_read_ms or {})
        self.faults: Counter[str] = Counter()
        self.jumped: set[str] = set()
        """GPUs whose energy counter began, at the last snapshot, to grow by more than they can use."""
        self._jumping: set[str] = set()
        self.indices: dict[str, str] = {}
        """uuid -> index of every GPU seen"""
        self._last_readings: dict[str, GpuReading] = {}
        self._moved: dict[str, tuple[int, int]] = {}
        """uuid -> the energy counter, and when it came to stand at that."""
        self._stuck: set[str] = set()

    def forget(self) -> None:
        """What the last run knew is too old to go on from."""
        self.counters_mj, self.counters_read_ms, self.models = {}, {}, {}

    def remember(self, snapshot: Snapshot, now_ms: int) -> None:
        """The next spans begin at this snapshot."""
        self._last_readings = {gpu.uuid: gpu for gpu in snapshot.gpus}
        self.indices |= {uuid: str(index) for uuid, index in snapshot.lost_indices.items()}
        for gpu in snapshot.gpus:
            self.models[gpu.uuid] = gpu.model
            self.indices[gpu.uuid] = str(gpu.index)
            if gpu.energy_mj is not None:
                if gpu.energy_mj != self._moved.get(gpu.uuid, (None, 0))[0]:
                    self._moved[gpu.uuid] = gpu.energy_mj, _read_ms(gpu, now_ms)
                self.counters_mj[gpu.uuid] = gpu.energy_mj
                self.counters_read_ms[gpu.uuid] = _read_ms(gpu, now_ms)

    def spans(
        self, snapshot: Snapshot, holdings: Mapping[str, Holding], *, duration_ms: int, gap_ms_max: int, now_ms: int
    ) -> tuple[list[GpuSpan], list[GpuSpan]]:
        """(GPUs that were read, GPUs that were not), over the `duration_ms` since the last snapshot, until `now_ms`."""
        read = []
        self.jumped.clear()
        for gpu in snapshot.gpus:
            span = span_between(
                self._last_readings.get(gpu.uuid),
                gpu,
                counter_mj=None if self._is_stuck(gpu, now_ms) else self.counters_mj.get(gpu.uuid),
                duration_ms=duration_ms,
                gap_ms_max=gap_ms_max,
                holding=holdings[gpu.uuid],
                counter_age_ms=self._counter_age_ms(gpu, now_ms),
            )
            self._note_jump(gpu, now_ms)
            if span.energy is not None and span.energy.method != "counter":
                self.counters_mj.pop(gpu.uuid, None)
            read.append(span)
        lost = [
            unread(uuid, self.models.get(uuid), reason, snapshot.lost_events.get(uuid))
            for uuid, reason in snapshot.lost.items()
        ]
        return read, lost

    def _counter_age_ms(self, gpu: GpuReading, now_ms: int) -> int:
        """Since the boot, which an older agent's state does not exceed, where it is not known."""
        return _read_ms(gpu, now_ms) - self.counters_read_ms.get(gpu.uuid, 0)

    def _is_stuck(self, gpu: GpuReading, now_ms: int) -> bool:
        """Whether its counter stands still while it draws power; counted when that begins."""
        counter_mj, since_ms = self._moved.get(gpu.uuid, (None, 0))
        is_still = gpu.energy_mj is not None and gpu.energy_mj == counter_mj
        if not (is_still and gpu.power_mw and _read_ms(gpu, now_ms) - since_ms >= STUCK_MS):
            self._stuck.discard(gpu.uuid)
            return False
        if gpu.uuid not in self._stuck:
            self._stuck.add(gpu.uuid)
            self.faults[STUCK] += 1
        return True

    def _note_jump(self, gpu: GpuReading, now_ms: int) -> bool:
        """Whether its counter jumped; counted when that begins."""
        counter_mj = self.counters_mj.get(gpu.uuid)
        if counter_mj is None or not is_jump(gpu, counter_mj, self._counter_age_ms(gpu, now_ms)):
            self._jumping.discard(gpu.uuid)
            return False
        if gpu.uuid not in self._jumping:
            self._jumping.add(gpu.uuid)
            self.jumped.add(gpu.uuid)
            self.faults[JUMP] += 1
        return True

    def spans_of_absence(self, snapshot: Snapshot, *, is_same_boot: bool, now_ms: int) -> list[GpuSpan]:
        """What each known GPU did while no agent was looking: unknown, but its energy counter went on."""
        present = {gpu.uuid: gpu for gpu in snapshot.gpus}
        if not is_same_boot:  # taken out meanwhile, or of the host that this one was copied from
            self.models = {uuid: model for uuid, model in self.models.items() if uuid in present}
        spans = []
        for uuid, model in self.models.items():
            span, counter_mj, gpu = unread(uuid, model, "agent_down"), self.counters_mj.get(uuid), present.get(uuid)
            if gpu is not None and gpu.energy_mj is not None and counter_mj is not None:
                grew_mj = gpu.energy_mj - counter_mj
                if grew_mj >= 0 and not self._note_jump(gpu, now_ms):
                    span = replace(span, energy=Energy(grew_mj, "counter"))
            spans.append(span)
        return spans


def _read_ms(gpu: GpuReading, now_ms: int) -> int:
    return now_ms if gpu.energy_read_ms is None else gpu.energy_read_ms
