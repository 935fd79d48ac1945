"""The facts of an hour divided among the pools that its time falls to, to the last ms, mJ and token. Pure.

In: the rows of one chain in one hour, one after the other in an order that depends on nothing but them; the portions of
its time. Each row is divided in the proportion of the whole; what is rounded is carried to the next row, so that a
pool has exactly its part of the time, and of everything else the same part rounded down.

All rows are divided at once, column by column: where a pool is too small all month, a big fleet has a million of them.
"""

import operator
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain

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

_Columns = Sequence[Sequence[int]]
_CutColumns = Callable[[_Columns], tuple[list[Sequence[int]], list[Sequence[int]]]]


class _Axis:
    """Gives of each amount that passes the part that is due, so that all together have `part` of each `whole`."""

    __slots__ = ("_at", "_part", "_whole")

    def __init__(self, part: int, whole: int) -> None:
        self._part, self._whole, self._at = part, whole, 0

    def take(self, values: Sequence[int]) -> Sequence[int]:
        if not any(values):
            return values
        part, whole = self._part, self._whole
        upto = list(accumulate(values, initial=self._at))
        self._at = upto[-1]
        due = [at * part // whole for at in upto]
        return list(map(operator.sub, due[1:], due))

    def take_rows(self, columns: Sequence[Sequence[int]]) -> list[Sequence[int]]:
        """The same of several columns, whose amounts pass row by row."""
        taken = self.take(list(chain.from_iterable(zip(*columns, strict=True))))
        return [taken[i :: len(columns)] for i in range(len(columns))]


class _Cut:
    """Takes the part of one pool from rows, given as columns."""

    def __init__(self, part_ms: int, whole_ms: int) -> None:
        self._time, self._energy = _Axis(part_ms, whole_ms), _Axis(part_ms, whole_ms)
        self._kinds = [_Axis(part_ms, whole_ms) for _ in _KINDS]

    def work(self, columns: Sequence[Sequence[int]]) -> tuple[list[Sequence[int]], list[Sequence[int]]]:
        """What it takes of the sums of `WorkRow`s, and what is left."""
        taken = list(columns)
        for axis, places in ((self._time, _WORK_MS), (self._energy, _WORK_MJ)):
            for i, column in zip(places, axis.take_rows([columns[i] for i in places]), strict=True):
                taken[i] = column
        for i, axis in zip(_KINDS, self._kinds, strict=True):
            taken[i] = axis.take(columns[i])
        for i, whole in _PART_OF:
            if any(columns[i]):
                rows = zip(columns[i], taken[whole], columns[whole], strict=True)
                taken[i] = [value * part // of if of else 0 for value, part, of in rows]
        left = [list(map(operator.sub, *both)) for both in zip(columns, taken, strict=True)]
        for i in _REPORTED:  # how many rows reported a kind: true of both
            left[i] = list(columns[i])
        return taken, list(left)

    def capacity(self, columns: Sequence[Sequence[int]]) -> tuple[list[Sequence[int]], list[Sequence[int]]]:
        """The same of `CapacityRow`s'."""
        taken = self._time.take_rows(columns[:_STATES]) + self._energy.take_rows(columns[_STATES:])
        return taken, [list(map(operator.sub, *both)) for both in zip(columns, taken, strict=True)]


class Division:
    """Divides the rows of one chain in one hour among its portions: all of its work, and then of its capacity."""

    def __init__(self, portions: Sequence[Portion]) -> None:
        left_ms = sum(portion.part_ms for portion in portions)
        self._cuts = []
        for portion in portions[:-1]:
            self._cuts.append(_Cut(portion.part_ms, left_ms))
            left_ms -= portion.part_ms

    def work(self, rows: Sequence[Sequence[int]]) -> Iterator[tuple[Sequence[int], ...]]:
        """What of the sums of each `WorkRow` is each portion's, in their order."""
        return self._divided([cut.work for cut in self._cuts], rows)

    def capacity(self, rows: Sequence[Sequence[int]]) -> Iterator[tuple[Sequence[int], ...]]:
        """The same of `CapacityRow`s'."""
        return self._divided([cut.capacity for cut in self._cuts], rows)

    def _divided(
        self, cuts: Sequence[_CutColumns], rows: Sequence[Sequence[int]]
    ) -> Iterator[tuple[Sequence[int], ...]]:
        if not rows:
            return iter(())
        left: Sequence[Sequence[int]] = list(zip(*rows, strict=True))
        parts = []
        for cut in cuts:
            taken, left = cut(left)
            parts.append(zip(*taken, strict=True))
        parts.append(zip(*left, strict=True))
        return zip(*parts, strict=True)
