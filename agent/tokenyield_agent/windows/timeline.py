"""Monotonic time to the node's timeline of Unix milliseconds. Pure.

Durations come from the monotonic clock, positions from the wall clock. The wall clock is believed when the agent
starts and again whenever it has been stepped, by a person, by NTP or by a suspend; then the timeline jumps, and no
duration is lost or counted twice. Slewing needs nothing: Linux slews CLOCK_MONOTONIC and CLOCK_REALTIME alike.
"""

from tokenyield_wire.units import NS_PER_MS, ns_to_ms

STEP_MS_MIN = 250
"""Smaller differences are scheduling noise between reading one clock and the other."""


class Timeline:
    """The place of the monotonic clock on the timeline."""

    def __init__(self, mono_ns: int, wall_ns: int) -> None:
        self._wall_less_mono_ns = wall_ns - mono_ns
        self.steps = 0

    def now_ms(self, mono_ns: int) -> int:
        """Unix time of `mono_ns`, by the wall clock as it was last believed."""
        return ns_to_ms(mono_ns + self._wall_less_mono_ns)

    def step_ms(self, mono_ns: int, wall_ns: int) -> int:
        """How far the wall clock has been stepped since it was last believed; 0 when it was not. Believes it now."""
        step_ns = wall_ns - mono_ns - self._wall_less_mono_ns
        if abs(step_ns) < STEP_MS_MIN * NS_PER_MS:
            return 0
        self._wall_less_mono_ns += step_ns
        self.steps += 1
        return step_ns // NS_PER_MS
