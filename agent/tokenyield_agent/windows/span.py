"""Two readings of one GPU into what it did between them. Pure.

In: the readings at both ends, or the reason why there is none, and who holds the GPU. Out: a `GpuSpan`.

State, from the driver's utilization at the end of the span, or the compute activity where that is not reported (a
partitioned GPU): some kernel ran -> `active`; none ran and somebody holds the GPU -> `idle`; none ran and nobody holds
it -> `unallocated`; not known -> `unknown`. A GPU whose holders have long made no token may be *parked* (parked.py),
which is a kind of idle.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tokenyield_agent.gpu.reading import GpuReading
from tokenyield_agent.windows.energy import Energy, energy_between
from tokenyield_agent.workloads.binding import UNHELD, Holding
from tokenyield_wire.units import apportion


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSpan:
    """One GPU over one span between two polls."""

    uuid: str
    state: str
    model: str | None = None
    unknown_reason: str | None = None
    energy: Energy | None = None
    parked: bool = False
    reading: GpuReading | None = None
    """The reading at the end of the span; None where the GPU could not be read."""
    holding: Holding = UNHELD
    events: Mapping[str, int] = field(default_factory=dict)
    """As in `GpuReading.events`; those of a GPU that cannot be read, too."""

    @property
    def compute_bp(self) -> int | None:
        """The best that is known of how busy its compute units were, in hundredths of a percent: by performance
        counters, else at most the driver's utilization."""
        return None if self.reading is None else compute_bp(self.reading)

    def throttled_lost_us(self, duration_ms: int) -> dict[str, int]:
        """Reason -> how much of `duration_ms` of it was lost to held-down clocks, at most, in us: the share of the
        highest core clock that was missing while kernels ran, divided among the reasons. Empty where clocks are
        not reported."""
        reading = self.reading
        reasons = (reading and reading.throttle_reasons) or ()
        if reading is None or not reasons or self.state != "active":
            return {}
        if not reading.core_clock_max_mhz or reading.core_clock_mhz is None:
            return {}
        missing_mhz = max(0, reading.core_clock_max_mhz - reading.core_clock_mhz)
        missing_permille = missing_mhz * 1000 // reading.core_clock_max_mhz
        return dict(zip(reasons, apportion(duration_ms * missing_permille, [1] * len(reasons)), strict=True))


def compute_bp(reading: GpuReading) -> int | None:
    """How busy its compute units were, in hundredths of a percent; None where neither figure is reported."""
    if reading.activity is not None and reading.activity.compute_bp is not None:
        return reading.activity.compute_bp
    return None if reading.utilization_percent is None else reading.utilization_percent * 100


def span_between(
    before: GpuReading | None,
    after: GpuReading,
    *,
    counter_mj: int | None,
    duration_ms: int,
    gap_ms_max: int,
    holding: Holding,
    counter_age_ms: int | None = None,
) -> GpuSpan:
    """What `after`'s GPU did since `before`.

    `counter_mj` is the last energy counter seen, `counter_age_ms` ago, see `energy_between`. `before` is None when the
    GPU was not read at the span's start. Nothing is claimed of a span longer than `gap_ms_max`.
    """
    state, reason = _state(before, after, duration_ms, gap_ms_max, holding)
    return GpuSpan(
        uuid=after.uuid,
        state=state,
        model=after.model,
        unknown_reason=reason,
        energy=energy_between(
            before,
            after,
            counter_mj=counter_mj,
            duration_ms=duration_ms,
            gap_ms_max=gap_ms_max,
            counter_age_ms=counter_age_ms,
        ),
        reading=after,
        holding=holding,
        events=after.events,
    )


def unread(uuid: str, model: str | None, reason: str, events: Mapping[str, int] | None = None) -> GpuSpan:
    """A span in which a known GPU could not be read. It keeps the model it was seen with, and so its price."""
    return GpuSpan(uuid=uuid, state="unknown", model=model, unknown_reason=reason, events=events or {})


def _state(
    before: GpuReading | None, after: GpuReading, duration_ms: int, gap_ms_max: int, holding: Holding
) -> tuple[str, str | None]:
    if before is None:
        return "unknown", "not_seen"
    if duration_ms > gap_ms_max:
        return "unknown", "not_polled"
    busy = after.utilization_percent if after.utilization_percent is not None else compute_bp(after)
    if busy is None:
        return "unknown", after.failures.get("utilization", "utilization_unsupported")
    if busy > 0:
        return "active", None
    if holding.held is None:
        return "unknown", after.failures.get("processes", "holder_unsupported")
    return ("idle" if holding.held else "unallocated"), None
