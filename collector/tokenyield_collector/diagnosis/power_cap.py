"""Which power limit would have cost few tokens, by what was observed. Pure.

In: slots of time in which a workload was at work, with power and tokens. Out: an `Advice`, or None.

Under a limit of c watts a slot that drew more would have run slower. How much slower is not known without trying; but
the workload *has* worked at c watts or less, and made up to `best(c)` tokens a GPU-second there. A GPU that is held at
c makes at least that (a full batch at a lower clock makes more of a watt than a smaller batch at a high one), so the
loss of a slot is at most `rate - best(c)`. The lowest c is taken at which the loss over all slots stays within bounds.
What a slot would have saved is what it drew above c.
"""

from collections.abc import Iterable
from typing import NamedTuple

from tokenyield_collector.diagnosis.sums import AT_WORK, Slot
from tokenyield_wire.units import MS_PER_SECOND

SLOTS_MIN = 20
STEP_WATTS = 10
WORTH = 0.03
"""Advice that saves a smaller part of the power is not given."""


class Advice(NamedTuple):
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


def advise(slots: Iterable[Slot], *, step_ms: int, loss: float) -> Advice | None:
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
            return Advice(cap, lost, saved, mean_watts, len(points))
    return None
