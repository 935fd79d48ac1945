"""A few schedules of faults over the real programs; `make faults-programs` plays two hundred."""

from pathlib import Path

import pytest

from faults.program_runs import play_one
from faults.programs import opened

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


@pytest.mark.parametrize("seed", range(6))
def test_the_books_balance_whatever_happens_to_the_programs(seed: int, tmp_path: Path, nvml_library: Path) -> None:
    assert not play_one(opened, seed, tmp_path, nvml_library).why
