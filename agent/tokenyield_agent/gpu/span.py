"""Two readings of one GPU into what it did between them. Pure.

In: the readings at both ends, or the reason why there is none, and who holds the GPU. Out: a `GpuSpan`.

State (design.md section 3), from NVML's utilization.gpu at the end of the span: some kernel ran -> `active`; none ran
and somebody holds the GPU -> `idle`; none ran and nobody holds it -> `unallocated`; cannot be told -> `unknown`.

Energy: the difference of the counter where there is one. Otherwise power integrated by trapezoid, but never over a gap
longer than `gap_ms_max` (3 s, the rule of InferenceX's power bench). A counter that ran backwards was reset (driver
reload): that span is integrated instead.
"""

from dataclasses import dataclass

from tokenyield_agent.binding import UNHELD, Holding
from tokenyield_agent.gpu.reading import GpuReading


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSpan:
    """One GPU over one span between two polls."""

    uuid: str
    state: str
    model: str | None = None
    unknown_reason: str | None = None
    energy_mj: int | None = None
    integrated: bool = False
    reading: GpuReading | None = None
    """The reading at the end of the span; None where the GPU could not be read."""
    holding: Holding = UNHELD


def span_between(
    before: GpuReading | None,
    after: GpuReading,
    *,
    counter_mj: int | None,
    duration_ms: int,
    gap_ms_max: int,
    holding: Holding,
) -> GpuSpan:
    """What `after`'s GPU did since `before`.

    `counter_mj` is the last energy counter seen, which may be older than `before` (the GPU was away, the agent was
    restarted); None when there is none to go by. `before` is None when the GPU was not read at the span's start.
    """
    energy_mj, integrated = _energy(before, after, counter_mj, duration_ms, gap_ms_max)
    state, reason = _state(before, after, duration_ms, gap_ms_max, holding)
    return GpuSpan(
        uuid=after.uuid,
        state=state,
        model=after.model,
        unknown_reason=reason,
        energy_mj=energy_mj,
        integrated=integrated,
        reading=after,
        holding=holding,
    )


def _energy(
    before: GpuReading | None, after: GpuReading, counter_mj: int | None, duration_ms: int, gap_ms_max: int
) -> tuple[int | None, bool]:
    if after.energy_mj is not None and counter_mj is not None and after.energy_mj >= counter_mj:
        return after.energy_mj - counter_mj, False
    if before is None or before.power_mw is None or after.power_mw is None or duration_ms > gap_ms_max:
        return None, False
    return (before.power_mw + after.power_mw) * duration_ms // 2000, True


def _state(
    before: GpuReading | None, after: GpuReading, duration_ms: int, gap_ms_max: int, holding: Holding
) -> tuple[str, str | None]:
    if before is None:
        return "unknown", "not_seen"
    if duration_ms > gap_ms_max:
        return "unknown", "not_polled"
    if after.utilization_percent is None:
        return "unknown", "utilization_unsupported"
    if after.utilization_percent > 0:
        return "active", None
    if holding.held is None:
        return "unknown", "holder_unsupported"
    return ("idle" if holding.held else "unallocated"), None
