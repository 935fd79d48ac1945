"""What was last known of each GPU, and the spans that follow from it and the next snapshot. Pure.

In: snapshots, one after another, and who holds the GPUs. Out: a `GpuSpan` for every GPU that is there, and for every
one that is lost with the reason.
"""

from collections.abc import Mapping
from dataclasses import replace

from tokenyield_agent.gpu.reading import GpuReading, Snapshot
from tokenyield_agent.windows.energy import Energy
from tokenyield_agent.windows.span import GpuSpan, span_between, unread
from tokenyield_agent.workloads.binding import Holding


class GpuTracker:
    """The GPUs of one node."""

    def __init__(self, models: Mapping[str, str | None], counters_mj: Mapping[str, int]) -> None:
        """As the last run knew them, by uuid; see `ResumeState`."""
        self.models = dict(models)
        self.counters_mj = dict(counters_mj)
        self.indices: dict[str, str] = {}
        """uuid -> index of every GPU seen"""
        self._last_readings: dict[str, GpuReading] = {}

    def forget(self) -> None:
        """What the last run knew is too old to go on from."""
        self.counters_mj, self.models = {}, {}

    def remember(self, snapshot: Snapshot) -> None:
        """The next spans begin at this snapshot."""
        self._last_readings = {gpu.uuid: gpu for gpu in snapshot.gpus}
        for gpu in snapshot.gpus:
            self.models[gpu.uuid] = gpu.model
            self.indices[gpu.uuid] = str(gpu.index)
            if gpu.energy_mj is not None:
                self.counters_mj[gpu.uuid] = gpu.energy_mj

    def spans(
        self, snapshot: Snapshot, holdings: Mapping[str, Holding], *, duration_ms: int, gap_ms_max: int
    ) -> tuple[list[GpuSpan], list[GpuSpan]]:
        """(GPUs that were read, GPUs that were not), over the `duration_ms` since the last snapshot."""
        read = [
            span_between(
                self._last_readings.get(gpu.uuid),
                gpu,
                counter_mj=self.counters_mj.get(gpu.uuid),
                duration_ms=duration_ms,
                gap_ms_max=gap_ms_max,
                holding=holdings[gpu.uuid],
            )
            for gpu in snapshot.gpus
        ]
        lost = [
            unread(uuid, self.models.get(uuid), reason, snapshot.lost_events.get(uuid))
            for uuid, reason in snapshot.lost.items()
        ]
        return read, lost

    def spans_of_absence(self, snapshot: Snapshot, *, is_same_boot: bool) -> list[GpuSpan]:
        """What each known GPU did while no agent was looking: unknown, but its energy counter went on."""
        present = {gpu.uuid: gpu for gpu in snapshot.gpus}
        if not is_same_boot:  # taken out meanwhile, or of the host that this one was copied from
            self.models = {uuid: model for uuid, model in self.models.items() if uuid in present}
        spans = []
        for uuid, model in self.models.items():
            counter_mj, energy_mj = self.counters_mj.get(uuid), getattr(present.get(uuid), "energy_mj", None)
            span = unread(uuid, model, "agent_down")
            if counter_mj is not None and energy_mj is not None and energy_mj >= counter_mj:
                span = replace(span, energy=Energy(energy_mj - counter_mj, "counter"))
            spans.append(span)
        return spans
