"""Token buckets: how often something may happen, for each key. Pure: the clock is an argument."""

from collections import OrderedDict
from collections.abc import Hashable


class Buckets:
    """`rate_per_s` in the long run, `burst` at once, for each key. At most `keys_max` keys are remembered; the one that
    was used longest ago goes first."""

    def __init__(self, rate_per_s: float, burst: float, keys_max: int = 10_000) -> None:
        self._rate = rate_per_s
        self._burst = burst
        self._keys_max = keys_max
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def wait_s(self, key: Hashable, now_s: float, amount: float = 1.0) -> float:
        """0 where `amount` is allowed now, and is counted; else how long until it is, and nothing is counted. More than
        `burst` at once counts as `burst`, so that nothing waits for ever."""
        amount = min(amount, self._burst)
        level = self._level(key, now_s)
        self._levels.pop(key, None)
        is_allowed = level >= amount
        self._levels[key] = (level - amount if is_allowed else level, now_s)
        if len(self._levels) > self._keys_max:
            self._levels.popitem(last=False)
        return 0.0 if is_allowed else (amount - level) / self._rate

    def would_wait_s(self, key: Hashable, now_s: float, amount: float = 1.0) -> float:
        """The same, and nothing is counted."""
        return max(0.0, (min(amount, self._burst) - self._level(key, now_s)) / self._rate)

    def _level(self, key: Hashable, now_s: float) -> float:
        level, at_s = self._levels.get(key, (self._burst, now_s))
        return min(self._burst, level + (now_s - at_s) * self._rate)
