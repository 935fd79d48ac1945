"""The doctor on a host with a GPU from the stand-in and a process that looks like an inference server."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nvml.stand_in import Scenario, gpu_lines
from recordings import COMMANDS, RUNS
from tokenyield_agent.tokens.dialects.registry import SERVERS


def examine(environment: dict[str, str], *flags: str) -> tuple[int, dict[tuple[str, str], list[str]]]:
    call = [sys.executable, "-m", "tokenyield_agent.cli", "doctor", "--format", "json"]
    for flag in flags:
        call += ["--set", flag]
    done = subprocess.run(
        call, capture_output=True, check=False, env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    found: dict[tuple[str, str], list[str]] = {}
    report = json.loads(done.stdout)
    for row in report["rows"]:
        found.setdefault((row["gpu"], row["held_by"]), []).extend(row.values())
    for finding in report["findings"]:
        found.setdefault((finding["about"], finding["level"]), []).append(finding["text"])
    return done.returncode, found


@contextmanager
def server_writing_to(
    log: Path, *, name: str = "llamacpp", command: str = "llama-server"
) -> Iterator[subprocess.Popen[bytes]]:
    """What looks like a server, whose standard output goes to `log`, which holds a recorded log already."""
    log.write_bytes((RUNS[name] / "server.log").read_bytes())
    with log.open("ab") as out:
        server = subprocess.Popen(["bash", "-c", f"exec -a '{command}' sleep 60"], stdout=out)
    try:
        yield server
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("followed", [True, False])
def test_what_is_there_and_what_is_missing(
    followed: bool, tmp_path: Path, nvml_library: Path, scenario: Scenario
) -> None:
    with server_writing_to(log := tmp_path / "chat.log") as server:
        scenario.restart([*gpu_lines(0, pid=server.pid), *gpu_lines(1), "unsupported 1 energy", *gpu_lines(2, pid=1)])
        workloads = [{"name": "chat", "log": str(log)}, {"name": "x", "log": f"{tmp_path}/none.log", "gpus": [9]}]
        code, found = examine(
            scenario.environment(nvml_library),
            f"state_dir={tmp_path}/state",
            f"workloads={json.dumps(workloads if followed else [])}",
            "collector_url=http://127.0.0.1:9",
        )
    assert code == 1
    assert len(found["gpu", "ok"]) == 2
    assert "no energy counter" in found["gpu", "note"][0]
    assert "does not answer" in found["collector", "fault"][0]
    assert found["state", "ok"]
    if followed:
        assert "llamacpp, model" in found["log", "ok"][0]
        assert "does not exist yet" in found["log", "note"][0]
        assert "names GPU 9, which this node does not have" in found["binding", "fault"][0]
        chat = found["0", "chat"]
        assert "who writes its log" in chat
    else:
        chat = found["0", "llamacpp:8080"]
        assert "its processes; standard output" in chat
        assert "start it with --metrics for exact counts while requests run" in chat
    assert f"llamacpp log, {log}" in chat
    assert "a lower bound, per answered request" in chat, "its log shows nothing of aborted requests"
    assert "no process, no allocation" in found["1", "nobody"]
    assert [key for key in found if key[0] == "2"], "what runs as pid 1 holds it"


def test_a_configured_log_is_not_counted_again_by_discovery(
    tmp_path: Path, nvml_library: Path, scenario: Scenario
) -> None:
    """Its GPU is named, so that nobody looks for its process; the server that runs there writes the same log."""
    with server_writing_to(log := tmp_path / "chat.log") as server:
        scenario.restart([*gpu_lines(0, pid=server.pid), *gpu_lines(1, pid=server.pid)])
        workloads = [{"name": "chat", "log": str(log), "gpus": [0]}]
        _, found = examine(
            scenario.environment(nvml_library), f"state_dir={tmp_path}/state", f"workloads={json.dumps(workloads)}"
        )
    assert "workloads.gpus" in found["0", "chat"]
    assert [key for key in found if key[0] == "1"] == [("1", "a process we cannot tie")]


@pytest.mark.parametrize(
    ("command", "name", "port"),
    [entry for entry in COMMANDS if entry[1] in RUNS and not SERVERS[entry[1]].reports_tokens],
)
def test_a_server_that_reports_no_tokens_is_shown_as_such(
    command: str, name: str, port: int | None, tmp_path: Path, nvml_library: Path, scenario: Scenario
) -> None:
    with server_writing_to(log := tmp_path / "chat.log", name=name, command=command) as server:
        scenario.restart(gpu_lines(0, pid=server.pid))
        environment, state = scenario.environment(nvml_library), f"state_dir={tmp_path}/state"
        _, by_process = examine(environment, state)
        workloads = json.dumps([{"name": "chat", "log": str(log), "gpus": [0]}])
        _, configured = examine(environment, state, f"workloads={workloads}")
    for row in (by_process["0", f"{name}:{port}"], configured["0", "chat"]):
        assert "no tokens" in row
        assert SERVERS[name].no_tokens in row
    assert f"chat: {log}: {SERVERS[name].no_tokens}" in configured["log", "note"]
