"""Rows that are rounded one by one sum to the rounded whole, and parts to what was split."""

from hypothesis import given
from hypothesis import strategies as st

from tokenyield_collector.prices.money import rounded
from tokenyield_collector.reports.focus.rounding import RunningRound, split

amounts = st.integers(-(10**24), 10**24)


@given(st.lists(amounts, max_size=20), st.sampled_from([1, 7, 3_600_000, 36 * 10**20]))
def test_rows_sum_to_the_rounded_whole_and_none_is_off_by_more_than_a_step(values: list[int], per_unit: int) -> None:
    running = RunningRound(per_unit, 9)
    steps = [running.next(value) for value in values]
    assert sum(steps) == running.given == rounded(sum(values) * 10**9, per_unit)
    assert running.exact == sum(values)
    assert all(abs(step * per_unit - value * 10**9) <= per_unit for step, value in zip(steps, values, strict=True))


@given(amounts, st.lists(st.integers(0, 10**9), min_size=1, max_size=8))
def test_parts_sum_to_the_whole_below_0_too(total: int, weights: list[int]) -> None:
    parts = split(total, weights)
    assert sum(parts) == total
    assert all(part * total >= 0 for part in parts)
