from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tokenyield_collector.ledger.receipts import NumberSet


@given(st.lists(st.integers(1, 60)))
def test_it_is_a_set(numbers: list[int]) -> None:
    number_set, expected = NumberSet(), set[int]()
    for number in numbers:
        assert number_set.add(number) == (number not in expected)
        expected.add(number)
    assert [number in number_set for number in range(62)] == [number in expected for number in range(62)]
    ranges = number_set.ranges()
    assert sum(end - start + 1 for start, end in ranges) == len(expected)
    assert all(b[0] - a[1] > 1 for a, b in pairwise(ranges)), "neighbours are joined"
    assert NumberSet(ranges).ranges() == ranges


@given(st.sets(st.integers(1, 60)), st.booleans())
def test_gaps_are_what_is_not_in_it(numbers: set[int], from_one: bool) -> None:
    number_set = NumberSet()
    for number in numbers:
        number_set.add(number)
    first = 1 if from_one else min(numbers, default=1)
    missing = [number for number in range(first, max(numbers, default=0)) if number not in numbers]
    gaps = number_set.gaps(from_one=from_one, newest=60)
    assert [number for start, end in gaps for number in range(start, end + 1)] == missing
    assert number_set.gaps(from_one=from_one, newest=2) == gaps[-2:]


def test_memory_grows_with_gaps_only() -> None:
    number_set = NumberSet()
    for number in range(1, 100_000):
        number_set.add(number)
    assert number_set.ranges() == [(1, 99_999)]
