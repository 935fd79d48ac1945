"""Making slow calls less often. Pure."""

SLOW_S = 0.010
"""A call that takes longer than this is made less often: at 1 Hz it would take a hundredth of a core, or hold up the
other GPUs. A driver's usual calls take tens of microseconds."""
SKIPS_MAX = 60


class Backoff:
    """When to repeat a call that turned out slow: after 1, 3, 7, ... 60 polls, until it is quick again."""

    def __init__(self) -> None:
        self._skips = 0
        self._left = 0

    def is_due(self) -> bool:
        """Call it once a poll."""
        self._left -= 1
        return self._left < 0

    def took(self, seconds: float) -> None:
        """How long the call took."""
        self._skips = min(SKIPS_MAX, 2 * self._skips + 1) if seconds > SLOW_S else 0
        self._left = self._skips

    @property
    def is_slow(self) -> bool:
        """Whether calls are skipped at present."""
        return self._skips > 0
