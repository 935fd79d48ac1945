"""The energy of one GPU between two readings, how it was got, and how far off it may be. Pure.

In: two readings and the time between them. Out: an `Energy`, the best of these that the GPU has:

* `counter`: the difference of the driver's energy counter. Exact between polls, whatever the poll rate. A counter that
  went back was reset (the driver was reloaded): that span is taken from the power at its ends instead.
* `average`: the driver's mean over the last second, times the time between its stamps; the part of that time that is
  longer than the second is taken at the mean of both readings. At 1 Hz nothing is unseen.
* `samples`: the sensor's own buffer, by trapezoid over its time stamps.
* `instant`: the present power with its time stamp, by trapezoid between two stamps.
* `power`: the present power without one, by trapezoid between two polls.

Nothing is bridged over more than `gap_ms_max` (3 s, the rule of InferenceX's power bench), and nothing is more than the
board can use in the time (gpu/plausible.py): a counter that jumps further, a sensor that reports more time than has
passed, is not believed, and the span goes to the next method. The counter goes on from where it stands then.

The error is half the gap between the upper and the lower Riemann sum: for each stretch between two samples
`|p1 - p0| * t / 2`, which holds where power rises or falls only once between two samples, and is an estimate where it
does more. It does not cover the sensor itself, which NVIDIA gives as +-5 %; and on some GPUs (A100, H100 among them)
the power sensor sees a quarter of the time ("Part-time Power Measurements", 2023), which is why the counter comes
first.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from tokenyield_agent.gpu.plausible import power_bound_mw
from tokenyield_agent.gpu.reading import GpuReading

AVERAGED_US = 1_000_000
"""What `power_average` is a mean of."""
COUNTER_LAG_MS = 250
"""How long a driver may keep its counter before it writes it anew: 20 to 100 ms on the GPUs that were measured."""
SENSOR_LAG_MS = 1_000
"""How far the sensor's last sample may lie behind the poll before."""


class Energy(NamedTuple):
    """Energy in mJ of one span, with the estimated error either way."""

    mj: int
    method: str
    error_mj: int = 0


def energy_between(
    before: GpuReading | None,
    after: GpuReading,
    *,
    counter_mj: int | None,
    duration_ms: int,
    gap_ms_max: int,
    counter_age_ms: int | None = None,
) -> Energy | None:
    """What `after`'s GPU used since `before`; None where that is not known.

    `counter_mj` is the last energy counter seen, `counter_age_ms` ago, which may be before `before` (the GPU was away,
    the agent was restarted); None when there is none to go by. The age is the span's where it is not given.
    """
    if after.energy_mj is not None and counter_mj is not None and after.energy_mj >= counter_mj:
        age_ms = duration_ms if counter_age_ms is None else counter_age_ms
        if not is_jump(after, counter_mj, age_ms):
            return Energy(after.energy_mj - counter_mj, "counter")
    if before is None or duration_ms > gap_ms_max:
        return None
    gap_us_max, long_us = gap_ms_max * 1000, (duration_ms + SENSOR_LAG_MS) * 1000
    energy: Energy | None = None
    if before.power_average and after.power_average:
        energy = _averages(before.power_average, after.power_average, min(gap_us_max, long_us))
    elif after.power_samples and before.power_samples and before.power_samples[-1] == after.power_samples[0]:
        energy = _trapezoids(after.power_samples, "samples", gap_us_max)
        bound_mj = power_bound_mw(after.power_max_mw) * (duration_ms + gap_ms_max) // 1000
        energy = energy if energy is not None and energy.mj <= bound_mj else None
    elif before.power_instant and after.power_instant:
        energy = _trapezoids((before.power_instant, after.power_instant), "instant", min(gap_us_max, long_us))
    if energy is None and before.power_mw is not None and after.power_mw is not None:
        energy = _trapezoids(((0, before.power_mw), (duration_ms * 1000, after.power_mw)), "power", gap_us_max)
    return energy


def is_jump(after: GpuReading, counter_mj: int, age_ms: int) -> bool:
    """Whether the counter grew by more since `age_ms` ago than the board can use."""
    bound_mj = power_bound_mw(after.power_max_mw) * (max(0, age_ms) + COUNTER_LAG_MS) // 1000
    return after.energy_mj is not None and after.energy_mj - counter_mj > bound_mj


def _trapezoids(samples: Sequence[tuple[int, int]], method: str, gap_us_max: int) -> Energy | None:
    """None where the sensor was silent for too long, or its clock went back. One sample alone is a span of nothing:
    what the GPU used meanwhile comes with the next."""
    twice_nj = twice_error_nj = 0
    for (at_us, mw), (next_us, next_mw) in itertools.pairwise(samples):
        span_us = next_us - at_us
        if not 0 <= span_us <= gap_us_max:
            return None
        twice_nj += (mw + next_mw) * span_us
        twice_error_nj += abs(next_mw - mw) * span_us
    return Energy(twice_nj // 2_000_000, method, -(-twice_error_nj // 2_000_000))


def _averages(before: tuple[int, int], after: tuple[int, int], gap_us_max: int) -> Energy | None:
    span_us, change_mw = after[0] - before[0], abs(after[1] - before[1])
    if not 0 <= span_us <= gap_us_max:
        return None
    seen_us = min(span_us, AVERAGED_US)
    unseen_us = span_us - seen_us
    nj = after[1] * seen_us + (before[1] + after[1]) * unseen_us // 2
    # Polls closer than a second average over the same time twice: the share that is not new is not known to be level.
    doubtful_us = unseen_us if unseen_us else AVERAGED_US - seen_us
    return Energy(nj // 1_000_000, "average", -(-change_mw * min(doubtful_us, span_us) // 2_000_000))
