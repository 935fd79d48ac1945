"""The finding that a power limit would have cost few tokens, from what was observed. Pure.

In: slots of time in which a workload was at work, with power and tokens. Out: a `PowerCapAdvice`, or None.

Under a limit of c watts a slot that drew more would have run slower. How much slower is not known without trying; but
the workload *has* worked at c watts or less, and made up to `best(c)` tokens a GPU-second there. A GPU that is limited
to c makes at least that (a full batch at a lower clock makes more of a watt than a smaller batch at a high one), so the
loss of a slot is at most `rate - best(c)`. The lowest c at which the loss over all slots stays within bounds is chosen.
What a slot would have saved is what it drew above c.
"""

from collections.abc import Iterable
from typing import NamedTuple

from tokenyield_collector.diagnosis.findings import HourlyCost, WorkloadFinding
from tokenyield_collector.diagnosis.history import AT_WORK, HistorySlot, WorkloadHistory
from tokenyield_collector.prices.money import decimal
from tokenyield_wire.units import MS_PER_HOUR, MS_PER_SECOND

SLOTS_MIN = 20
STEP_WATTS = 10
WORTH = 0.03
"""Advice that saves a smaller part of the power is not given."""


class PowerCapAdvice(NamedTuple):
    """Per GPU. `lost`: part of the tokens, at most."""

    cap_watts: int
    lost: float
    saved_watts: float
    mean_watts: float
    slots: int


class _Point(NamedTuple):
    watts: float
    rate: float
    """Completion tokens a GPU-second."""
    active_ms: int


def advise(slots: Iterable[HistorySlot], *, step_ms: int, loss: float) -> PowerCapAdvice | None:
    points = sorted(
        _Point(slot.active_mj / slot.active_ms, slot.completion * MS_PER_SECOND / slot.active_ms, slot.active_ms)
        for slot in slots
        if slot.completion and slot.active_ms >= AT_WORK * slot.gpus * step_ms
    )
    if len(points) < SLOTS_MIN:
        return None
    made, time_ms = sum(p.rate * p.active_ms for p in points), sum(p.active_ms for p in points)
    mean_watts = sum(p.watts * p.active_ms for p in points) / time_ms
    first = int(points[0].watts // STEP_WATTS + 1) * STEP_WATTS
    for cap in range(first, int(points[-1].watts), STEP_WATTS):
        best = max((p.rate for p in points if p.watts <= cap), default=0.0)
        over = [p for p in points if p.watts > cap]
        lost = sum(max(0.0, p.rate - best) * p.active_ms for p in over) / made
        saved = sum((p.watts - cap) * p.active_ms for p in over) / time_ms
        if saved < WORTH * mean_watts:
            return None
        if lost <= loss:
            return PowerCapAdvice(cap, lost, saved, mean_watts, len(points))
    return None


def power_cap(history: WorkloadHistory, cost: HourlyCost | None, step_ms: int, loss: float) -> WorkloadFinding | None:
    advice = advise(history.slots.values(), step_ms=step_ms, loss=loss)
    if advice is None:
        return None
    saved_mj = round(advice.saved_watts * history.gpus * MS_PER_HOUR)
    return WorkloadFinding(
        kind="power_cap",
        text=f"a power limit of {advice.cap_watts} W a GPU would have cost {advice.lost:.1%} of its tokens at most "
        f"and saved {advice.saved_watts:.0f} of {advice.mean_watts:.0f} W, by {advice.slots} minutes at work; it is "
        "advice, never set: nvidia-smi --power-limit",
        evidence={
            "cap_watts": advice.cap_watts,
            "lost_share": advice.lost,
            "saved_watts": advice.saved_watts,
            "mean_watts": advice.mean_watts,
        },
        at_stake=None if cost is None or not cost.per_mj else decimal(cost.per_mj * saved_mj),
    )
