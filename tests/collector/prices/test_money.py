"""Money is exact until it is shown."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tokenyield_collector.prices.money import (
    QUANTA_PER_UNIT,
    capacity_quanta,
    decimal,
    energy_quanta,
    rounded,
    split,
)


def test_a_unit_is_an_hour_at_one_and_a_kilowatt_hour_at_one() -> None:
    assert capacity_quanta(10**12, 3_600_000) == QUANTA_PER_UNIT == energy_quanta(10**12, 3_600_000_000)


def test_rounding_is_to_the_nearest_halves_up() -> None:
    assert [rounded(n, 4) for n in (0, 1, 2, 3, 4, 5, 6)] == [0, 0, 1, 1, 1, 1, 2]
    assert decimal(QUANTA_PER_UNIT // 200, 2) == Decimal("0.01")


def test_zeros_are_written_plainly() -> None:
    assert [str(value) for value in (decimal(0), decimal(0, 2))] == ["0", "0.00"]


@given(st.integers(-(10**24), 10**24), st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=8))
def test_parts_sum_to_the_whole_below_0_too(total: int, weights: list[int]) -> None:
    parts = split(total, weights)
    assert sum(parts) == total
    assert all(part * total >= 0 for part in parts)
    if max(weights) > 0:
        assert all(part == 0 for part, weight in zip(parts, weights, strict=True) if weight <= 0)
