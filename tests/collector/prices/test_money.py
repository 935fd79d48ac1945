"""Money is exact until it is shown, and what is shown sums to what the sum shows."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenyield_collector.prices.money import (
    QUANTA_PER_UNIT,
    capacity_quanta,
    cents,
    decimal,
    energy_quanta,
    nano,
    rounded,
    spread,
)

quanta = st.integers(0, 10**30)


def test_a_unit_is_an_hour_at_one_and_a_kilowatt_hour_at_one() -> None:
    assert capacity_quanta(10**12, 3_600_000) == QUANTA_PER_UNIT == energy_quanta(10**12, 3_600_000_000)


def test_rounding_is_to_the_nearest_halves_up() -> None:
    assert [rounded(n, 4) for n in (0, 1, 2, 3, 4, 5, 6)] == [0, 0, 1, 1, 1, 1, 2]
    assert decimal(QUANTA_PER_UNIT // 200, 2) == Decimal("0.01")
    assert nano(QUANTA_PER_UNIT // 3) == 333_333_333


def test_zeros_are_written_plainly() -> None:
    assert [str(value) for value in (decimal(0), decimal(0, 2), *cents([0]), *spread([0]))] == [
        "0",
        "0.00",
        "0.00",
        "0",
    ]


@given(st.lists(quanta, min_size=1, max_size=40), st.sampled_from([2, 6, 9]))
def test_parts_sum_to_the_rounded_whole_and_each_is_within_one_step(parts: list[int], digits: int) -> None:
    shown = spread(parts, digits)
    assert sum(shown, Decimal(0)) == decimal(sum(parts), digits)
    for part, value in zip(parts, shown, strict=True):
        assert abs(value - Decimal(part) / QUANTA_PER_UNIT) <= Decimal(1).scaleb(-digits)


def test_there_may_be_no_parts() -> None:
    assert cents([]) == []
    with pytest.raises(ValueError, match="negative"):
        cents([-1, 2])
