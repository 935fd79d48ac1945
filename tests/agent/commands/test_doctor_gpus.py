"""The doctor on GPUs that answer with errors and garbage."""

from pathlib import Path

from agent.commands.test_doctor import examine
from nvml.stand_in import Scenario, gpu_lines


def test_what_cannot_be_read_or_believed_is_named(tmp_path: Path, nvml_library: Path, scenario: Scenario) -> None:
    scenario.restart(
        [*gpu_lines(0), f"value 0 0 1000 power {2**32 - 1}", "unsupported 0 fields", *gpu_lines(1), "fault 1 0 1000 999",
         *gpu_lines(2), "fault 2 0 1000 4 util"]
    )  # fmt: skip
    code, found = examine(
        scenario.environment(nvml_library), f"state_dir={tmp_path}/state", "collector_url=http://127.0.0.1:9"
    )
    assert code == 1
    notes, faults = found["gpu", "note"], found["gpu", "fault"]
    assert any("GPU 0 GPU-00000000-stand-in: power is implausible" in text for text in notes)
    assert any("GPU 2 GPU-00000002-stand-in: utilization is nvml_no_permission" in text for text in notes)
    assert any(text.startswith("index-1: nvml_unknown") for text in faults)
