"""The facts of an hour divided among the pools that its time falls to, to the last ms, mJ and token. Pure.

In: the rows of one chain in one hour, one after the other in an order that depends on nothing but them; the portions of
its time. Each row is divided in the proportion of the whole; what is rounded is carried to the next row, so that a
pool has exactly its part of the time, and of everything else the same part rounded down.
"""

import operator
from collections.abc import Iterator, Sequence

from tokenyield_collector.ledger.usage import CAPACITY_TIMES, REPORTED, USAGE_KINDS, WORK_SUMS
from tokenyield_collector.statements.placement import Portion

_AT = {name: i for i, name in enumerate(WORK_SUMS)}
_WORK_MS = [_AT[name] for name in ("productive_ms", "under_yield_ms", "idle_ms")]
_WORK_MJ = [_AT[name] for name in ("productive_mj", "under_yield_mj", "idle_mj")]
_KINDS = [_AT[name] for name in USAGE_KINDS]
_REPORTED = [_AT[name] for name in REPORTED]
_PART_OF = [
    (_AT["unrated_ms"], _AT["productive_ms"]),
    (_AT["parked_ms"], _AT["idle_ms"]),
    (_AT["parked_mj"], _AT["idle_mj"]),
]
"""What is part of another: divided as that is."""
_STATES = len(CAPACITY_TIMES)


class _Axis:
    """Gives of each amount that passes the part that is due, so that all together have `part` of each `whole`."""

    __slots__ = ("_at", "_part", "_whole")

    def __init__(self, part: int, whole: int) -> None:
        self._part, self._whole, self._at = part, whole, 0

    def take(self, value: int) -> int:
        if not value:
            return 0
        before = self._at * self._part // self._whole
        self._at += value
        return self._at * self._part // self._whole - before


class _Cut:
    """Takes the part of one pool from rows."""

    def __init__(self, part_ms: int, whole_ms: int) -> None:
        self._time, self._energy = _Axis(part_ms, whole_ms), _Axis(part_ms, whole_ms)
        self._kinds = [_Axis(part_ms, whole_ms) for _ in _KINDS]

    def work(self, sums: Sequence[int]) -> tuple[list[int], list[int]]:
        """What it takes of a `WorkRow`'s sums, and what is left."""
        taken = [0] * len(sums)
        for i in _WORK_MS:
            taken[i] = self._time.take(sums[i])
        for i in _WORK_MJ:
            taken[i] = self._energy.take(sums[i])
        for i, axis in zip(_KINDS, self._kinds, strict=True):
            taken[i] = axis.take(sums[i])
        for i, whole in _PART_OF:
            if sums[i] and sums[whole]:
                taken[i] = sums[i] * taken[whole] // sums[whole]
        left = list(map(operator.sub, sums, taken))
        for i in _REPORTED:  # how many rows reported a kind: true of both
            taken[i] = sums[i]
        return taken, left

    def capacity(self, sums: Sequence[int]) -> tuple[list[int], list[int]]:
        """The same of a `CapacityRow`'s."""
        taken = [self._time.take(value) for value in sums[:_STATES]]
        taken += [self._energy.take(value) for value in sums[_STATES:]]
        return taken, list(map(operator.sub, sums, taken))


class Division:
    """Divides the rows of one chain in one hour among its portions."""

    def __init__(self, portions: Sequence[Portion]) -> None:
        left_ms = sum(portion.part_ms for portion in portions)
        self._cuts = []
        for portion in portions[:-1]:
            self._cuts.append(_Cut(portion.part_ms, left_ms))
            left_ms -= portion.part_ms

    def work(self, sums: Sequence[int]) -> Iterator[list[int]]:
        """What of a `WorkRow`'s sums is each portion's, in their order."""
        left = list(sums)
        for cut in self._cuts:
            taken, left = cut.work(left)
            yield taken
        yield left

    def capacity(self, sums: Sequence[int]) -> Iterator[list[int]]:
        """The same of a `CapacityRow`'s."""
        left = list(sums)
        for cut in self._cuts:
            taken, left = cut.capacity(left)
            yield taken
        yield left
