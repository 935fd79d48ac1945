"""Which batch numbers have been received, as few ranges instead of many numbers. Pure."""

from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple


class ReceiptDifference(NamedTuple):
    """Numbers of a node's batches in which a ledger's list of what it received differs from the batches themselves."""

    cluster: str
    node: str
    hour_ms: int
    first_seq: int
    last_seq: int
    are_there: bool
    """And not in the list; otherwise in the list and not there."""


class NumberSet:
    """A set of positive integers that come mostly in order. Memory grows with the gaps, not with the numbers."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        """`ranges` are inclusive, ascending and disjoint."""
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in ranges:
            self._starts.append(start)
            self._ends.append(end)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._starts, number) - 1
        return at >= 0 and number <= self._ends[at]

    def add(self, number: int) -> bool:
        """Whether `number` was new."""
        at = bisect_right(self._starts, number) - 1
        if at >= 0 and number <= self._ends[at]:
            return False
        joins_left = at >= 0 and self._ends[at] == number - 1
        joins_right = at + 1 < len(self._starts) and self._starts[at + 1] == number + 1
        if joins_left and joins_right:
            self._ends[at] = self._ends[at + 1]
            del self._starts[at + 1], self._ends[at + 1]
        elif joins_left:
            self._ends[at] = number
        elif joins_right:
            self._starts[at + 1] = number
        else:
            self._starts.insert(at + 1, number)
            self._ends.insert(at + 1, number)
        return True

    def gaps(self, *, from_one: bool, newest: int) -> list[tuple[int, int]]:
        """Ranges of numbers that are missing before others, inclusive: so many of the newest, ascending. What is
        missing before the first number counts if `from_one`."""
        ends = [0, *self._ends] if from_one else self._ends
        starts = self._starts if from_one else self._starts[1:]
        pairs = zip(ends[-newest - 1 : -1], starts[-newest:], strict=True)
        return [(end + 1, start - 1) for end, start in pairs if end + 1 < start]

    def ranges(self) -> list[tuple[int, int]]:
        return list(zip(self._starts, self._ends, strict=True))
