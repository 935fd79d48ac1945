"""A short run of the world that goes wrong, and the seeds that once found a fault. `make faults` runs ten thousand.

The world has grown, so that seeds of before play other schedules. What these found then is held by tests of its own:
test_spool.py (damaged records, epochs, gaps after a restore), test_agent.py (absences, copied hosts, NVML that hangs).
"""

from pathlib import Path

import pytest

from faults.world import play

FOUND = {
    145: "two copies were made of a log since the agent's last state, and the second was not read",
    148: "the same",
    319: "the same, at the last start",
    337: "the same, of three copies",
    407: "a log that came while the agent was down was taken away before its first look",
    530: "the same",
    992: "of a log that came while the agent was down its beginning was not remembered, and its copies were not found",
    3903: "a damaged state without batches was not taken from its copy",
    5318: "the same",
}


@pytest.mark.parametrize("seed", sorted({*range(8), *FOUND}))
def test_the_books_balance_whatever_goes_wrong(seed: int, tmp_path: Path) -> None:
    play(seed, tmp_path)
