"""A short run of the world that goes wrong, and the seeds that once found a fault. `make faults` runs ten thousand."""

import pytest

from faults.world import play

FOUND = {
    2: "records after a damaged one were lost with it, uncounted",
    40: "a collector restored twice to the same backup was not given the same batches twice",
    53: "batches before the first that a restored collector knows were not sent again",
    67: "the number of a damaged newest batch was given to another, which the collector took for a repetition",
    142: "a range that nobody has hid older ranges that the agent had",
    10065: "a spool of one damaged record began a new epoch and forgot its state",
    10131: "the same, with two gaps",
}


@pytest.mark.parametrize("seed", sorted({*range(24), *FOUND}))
def test_the_books_balance_whatever_goes_wrong(seed: int) -> None:
    play(seed)
