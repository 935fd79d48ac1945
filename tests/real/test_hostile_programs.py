"""A schedule of a hostile node and hostile tenants over the real programs; `make faults-hostile` plays a hundred."""

import os
from pathlib import Path

import pytest

from faults.hostile_programs import opened
from faults.program_runs import play_one

SCHEDULES = int(os.environ.get("TOKENYIELD_FAULT_SCHEDULES", "1"))

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_a_hostile_node_and_tenants_bend_no_books_and_silence_nothing(
    seed: int, tmp_path: Path, nvml_library: Path
) -> None:
    assert not play_one(opened, seed, tmp_path, nvml_library).why
