"""How exact amounts become decimals that sum. The only place that rounds more than one amount. Pure.

Everything goes from the whole down: first the whole is rounded, then it is divided among its parts, then each part
among its own. So every sum that is shown is the sum of what is shown, in whatever way a table is read. Amounts may be
negative, as a tariff may; what is 0 stays 0.

A *step* is the last decimal: a cent where there are two.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from tokenyield_collector.prices.money import QUANTA_PER_UNIT, rounded
from tokenyield_wire.units import MS_PER_HOUR


class Rounding(NamedTuple):
    """From integers of which `per_unit` are one unit to steps of so many digits."""

    per_unit: int
    digits: int

    def whole(self, exact: int) -> int:
        """Steps of one amount, to the nearest, halves up."""
        return rounded(exact * self._steps, self.per_unit)

    def divided(self, whole: int, parts: Sequence[int]) -> list[int]:
        """`whole` steps among exact parts by largest remainder, ties to the earlier part."""
        return self.column(whole, parts, [0] * len(parts))

    def column(self, whole: int, parts: Sequence[int], missing_by_row: list[int]) -> list[int]:
        """The same for one column of a table. `missing_by_row`: what each row lacks so far by its other columns,
        which is brought up to date. Rows that lack most get the steps, so that they are near their own exact sums."""
        steps, per_unit = self._steps, self.per_unit
        cells, candidates = [0] * len(parts), []
        for i, part in enumerate(parts):
            if part:
                cells[i], rest = divmod(part * steps, per_unit)
                if rest:
                    missing_by_row[i] += rest
                    candidates.append(i)
        missing = whole - sum(cells)
        while missing:
            if not candidates:
                candidates = [i for i, part in enumerate(parts) if part] or [0]
            step = 1 if missing > 0 else -1
            candidates.sort(key=missing_by_row.__getitem__, reverse=missing > 0)
            for i in candidates[: abs(missing)]:
                cells[i] += step
                missing_by_row[i] -= step * per_unit
            missing -= step * min(len(candidates), abs(missing))
            candidates = []
        return cells

    def table(self, columns: Sequence[Sequence[int]], wholes: Sequence[int]) -> list[list[int]]:
        """Columns of steps, each of which sums to its whole."""
        missing_by_row = [0] * len(columns[0]) if columns else []
        return [self.column(whole, parts, missing_by_row) for whole, parts in zip(wholes, columns, strict=True)]

    def plain(self, steps: int) -> Decimal:
        """As a number, without zeros at its end beyond the second decimal."""
        if not steps:
            return _NOTHING
        digits = self.digits
        if digits > _CENT_DIGITS and not steps % 10 ** (digits - _CENT_DIGITS):
            return Decimal(steps // 10 ** (digits - _CENT_DIGITS)).scaleb(-_CENT_DIGITS)
        while digits > _CENT_DIGITS and not steps % 10:
            steps, digits = steps // 10, digits - 1
        return Decimal(steps).scaleb(-digits)

    def number(self, steps: int) -> Decimal:
        """With all its decimals."""
        return Decimal(steps).scaleb(-self.digits)

    @property
    def step(self) -> int:
        """The exact amount of one step."""
        return self.per_unit // self._steps

    @property
    def _steps(self) -> int:
        steps: int = 10**self.digits
        return steps


_CENT_DIGITS = 2
_NOTHING = Decimal("0.00")
EXACT = Rounding(QUANTA_PER_UNIT, 9)
"""Money for machines: JSON, CSV, Parquet, FOCUS, metrics. A thousandth of a millionth."""
CENTS = Rounding(QUANTA_PER_UNIT, _CENT_DIGITS)
"""Money for people."""
MILLIONS, MILLIONS_EXACT = Rounding(10**6, 2), Rounding(10**6, 6)
"""Million tokens."""
HOURS = Rounding(MS_PER_HOUR, 9)


def for_people(whole: int) -> Rounding:
    """Cents; with more decimals where cents would leave the whole fewer than three digits: a minute of one GPU."""
    digits = CENTS.digits
    while digits < EXACT.digits and 0 < abs(whole) * 10 ** (digits - CENTS.digits) < QUANTA_PER_UNIT:
        digits += 1
    return Rounding(QUANTA_PER_UNIT, digits)


class RunningRound:
    """Rounds amounts that come one by one: each gets what the rounded sum of all so far grows by. No row is off by more
    than one step, and nothing is remembered but the sum."""

    def __init__(self, rounding: Rounding) -> None:
        self._rounding = rounding
        self.exact = 0
        """The sum so far, unrounded."""
        self.given = 0
        """The steps given so far."""

    def next(self, value: int) -> int:
        """The steps of the next row."""
        self.exact += value
        step = self._rounding.whole(self.exact) - self.given
        self.given += step
        return step
