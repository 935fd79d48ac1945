from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tokenyield_collector.ledger.receipts import NumberSet


@given(st.lists(st.integers(1, 60)))
def test_it_is_a_set(numbers: list[int]) -> None:
    found, wanted = NumberSet(), set[int]()
    for number in numbers:
        assert found.add(number) == (number not in wanted)
        wanted.add(number)
    assert [number in found for number in range(62)] == [number in wanted for number in range(62)]
    ranges = found.ranges()
    assert sum(end - start + 1 for start, end in ranges) == len(wanted)
    assert all(b[0] - a[1] > 1 for a, b in pairwise(ranges)), "neighbours are joined"
    assert NumberSet(ranges).ranges() == ranges


def test_memory_grows_with_gaps_only() -> None:
    found = NumberSet()
    for number in range(1, 100_000):
        found.add(number)
    assert found.ranges() == [(1, 99_999)]
