"""The doctor on a host with a GPU from the stand-in and a process that looks like an inference server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nvml.stand_in import Scenario, gpu_lines


def examine(environment: dict[str, str], *flags: str) -> tuple[int, dict[tuple[str, str], list[str]]]:
    call = [sys.executable, "-m", "tokenyield_agent.cli", "doctor", "--format", "json"]
    for flag in flags:
        call += ["--set", flag]
    done = subprocess.run(
        call, capture_output=True, check=False, env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    found: dict[tuple[str, str], list[str]] = {}
    for finding in json.loads(done.stdout):
        found.setdefault((finding["about"], finding["level"]), []).append(finding["text"])
    return done.returncode, found


@pytest.mark.parametrize("followed", [True, False])
def test_what_is_there_and_what_is_missing(
    followed: bool, tmp_path: Path, nvml_library: Path, scenario: Scenario, fixtures: Path
) -> None:
    log = tmp_path / "chat.log"
    log.write_bytes((fixtures / "llamacpp" / "server.log").read_bytes())
    with log.open("ab") as out:
        server = subprocess.Popen(["bash", "-c", "exec -a llama-server sleep 60"], stdout=out)
    try:
        scenario.restart([*gpu_lines(0, pid=server.pid), *gpu_lines(1), "unsupported 1 energy", *gpu_lines(2, pid=1)])
        workloads = [{"name": "chat", "log": str(log)}, {"name": "x", "log": f"{tmp_path}/none.log", "gpus": [9]}]
        code, found = examine(
            scenario.environment(nvml_library),
            f"state_dir={tmp_path}/state",
            f"workloads={json.dumps(workloads if followed else [])}",
            "collector_url=http://127.0.0.1:9",
        )
    finally:
        server.kill()
        server.wait()
    assert code == 1
    assert len(found["gpu", "ok"]) == 2
    assert "no energy counter" in found["gpu", "note"][0]
    assert "does not answer" in found["collector", "fault"][0]
    assert found["state", "ok"]
    if followed:
        assert f"llamacpp pid {server.pid} is workload chat" in found["server", "ok"]
        assert "llamacpp, model" in found["log", "ok"][0]
        assert "does not exist yet" in found["log", "note"][0]
        assert "names GPU 9, which this node does not have" in found["binding", "fault"][0]
        assert "is held by chat (split: exclusive)" in found["binding", "ok"][0]
        assert "belongs to no workload" in found["binding", "note"][0]
    else:
        assert any(f"pid {server.pid} is followed by no workload" in text for text in found["server", "note"])
        assert "no workloads are configured" in found["log", "fault"][0]
