"""Parts of rows whose time is divided among pools, summed over the hours of a day that share a price. Pure.

Cost is a rate times integers, so that the sum of parts at one rate costs what they cost one by one: a day is priced
once for each place and rate, not once for each hour of it.
"""

import operator
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

from tokenyield_collector.ledger.usage import CapacityRow, WorkRow
from tokenyield_collector.statements.placement import Portion

Row = TypeVar("Row", WorkRow, CapacityRow)


class Part(NamedTuple, Generic[Row]):
    """What one portion takes of rows that are alike; `row` is the first of them."""

    row: Row
    portion: Portion
    sums: list[int]


class Parts(Generic[Row]):
    """Of one day, in the order in which each came first."""

    def __init__(self, *, by_hour: bool) -> None:
        self._by_hour = by_hour
        self._found: dict[tuple[object, ...], Part[Row]] = {}

    def add(self, row: Row, group: int, portion: Portion, sums: Sequence[int]) -> bool:
        """Whether it is the first of its kind."""
        segment = row.segment if self._by_hour else 0
        # A rate lives as long as its part. Why there is none depends on the chain.
        key = (portion.pool, id(portion.rate) if portion.rate else row.chain, row.node, group, segment)
        part = self._found.get(key)
        if part is None:
            self._found[key] = Part(row, portion, list(sums))
            return True
        part.sums[:] = map(operator.add, part.sums, sums)
        return False

    def listed(self) -> list[Part[Row]]:
        return list(self._found.values())
