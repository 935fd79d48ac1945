"""The scripts for a machine with a GPU, on the stand-in: they must be ready when one is lent."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tokenyield_agent.gpu.trace import load_trace

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
GPU = Path(__file__).parents[2] / "bench" / "gpu"


def test_the_agent_beside_a_load(tmp_path: Path) -> None:
    script, out = str(GPU / "measure.py"), str(tmp_path)
    call = [sys.executable, script, "--stand-in", "--seconds", "5", "--loads", "2", "--out", out]
    subprocess.run(call, check=True, stdout=subprocess.DEVNULL)
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["stand_in"]
    for load in found["loads"]:
        assert abs(load["off_percent"]) < 0.5, "the bar of a GPU with a counter"
        assert load["sm_busy_s"] == pytest.approx(load["expected_busy_s"], abs=0.3)
        assert load["tokens"] == load["tokens_by_the_load"] == 500
    assert set(found["poll"]) == {"with_gpm", "without_gpm"}
    header, lines = load_trace(tmp_path / "trace.jsonl")
    assert not header.real_gpu
    assert len(lines) > 10


def test_the_bars_can_be_measured() -> None:
    call = [sys.executable, str(GPU / "bars.py"), "--seconds", "8", "--runs", "1", "--rounds", "30"]
    (energy,) = json.loads(subprocess.run(call, check=True, capture_output=True).stdout)["energy"]
    assert abs(energy["counter"]["off_percent"]) < 0.5
    assert abs(energy["average"]["off_percent"]) < 3
