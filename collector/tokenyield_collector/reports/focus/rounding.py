"""Amounts of rows that sum to rounded totals, however many rows there are. Pure.

Each row gets what the rounded sum of all rows so far grows by: no row is off by more than one step, and nothing is
remembered but the sum.
"""

from collections.abc import Sequence

from tokenyield_collector.prices.money import rounded
from tokenyield_wire.units import apportion


class RunningRound:
    """Integers of `per_unit` parts of a unit into steps of 10^-`digits`."""

    def __init__(self, per_unit: int, digits: int) -> None:
        self._per_unit = per_unit
        self._steps = 10**digits
        self.exact = 0
        """The sum so far, unrounded."""
        self.given = 0
        """The steps given so far."""

    def next(self, value: int) -> int:
        """The steps of the next row."""
        self.exact += value
        step = rounded(self.exact * self._steps, self._per_unit) - self.given
        self.given += step
        return step


def split(total: int, weights: Sequence[int]) -> list[int]:
    """In proportion to `weights`, which are >= 0; `total` may be negative, as a tariff may."""
    parts = apportion(abs(total), weights)
    return parts if total >= 0 else [-part for part in parts]
