from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenyield_wire.units import apportion, hour_of_ms, ns_to_ms

weights = st.lists(st.integers(0, 10**15), min_size=1, max_size=20)


@given(st.integers(0, 10**18), weights)
def test_the_parts_sum_to_the_whole(total: int, weights: list[int]) -> None:
    assert sum(apportion(total, weights)) == total


@given(st.integers(0, 10**18), weights)
def test_no_part_is_a_whole_unit_from_its_exact_share(total: int, weights: list[int]) -> None:
    weight_sum = sum(weights)
    for part, weight in zip(apportion(total, weights), weights, strict=True):
        if weight_sum:
            assert abs(part * weight_sum - total * weight) < weight_sum


def test_ties_go_to_the_earlier_weight() -> None:
    assert apportion(10, [1, 1, 1]) == [4, 3, 3]
    assert apportion(5, [0, 0]) == [5, 0]


@pytest.mark.parametrize(("total", "weights"), [(1, []), (-1, [1]), (1, [1, -1])])
def test_what_cannot_be_split_is_refused(total: int, weights: list[int]) -> None:
    with pytest.raises(ValueError, match="apportion"):
        apportion(total, weights)


@given(st.lists(st.integers(0, 10**12), min_size=2, max_size=50))
def test_whole_milliseconds_of_consecutive_spans_telescope(steps_ns: list[int]) -> None:
    instants, at = [0], 0
    for step in steps_ns:
        at += step
        instants.append(at)
    spans = [ns_to_ms(b) - ns_to_ms(a) for a, b in pairwise(instants)]
    assert sum(spans) == ns_to_ms(instants[-1])


def test_the_hour_of_an_instant() -> None:
    assert hour_of_ms(3_600_000) == 3_600_000
    assert hour_of_ms(7_199_999) == 3_600_000
