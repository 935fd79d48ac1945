"""The doctor on a host with a GPU from the stand-in and a process that looks like an inference server."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness import wait_until
from metrics_server import serving
from nvml.stand_in import Scenario, gpu_lines
from recordings import COMMANDS, RUNS
from tokenyield_agent.doctor.token_sources import log_quality
from tokenyield_agent.tokens.dialects.registry import SERVERS
from tokenyield_agent.workloads.procfs import Procfs
from tokenyield_wire.window import TOKEN_KINDS


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


def quality_of_log(name: str) -> str:
    """What its log is called while it holds all that it can."""
    report = SERVERS[name].log_report
    assert report is not None
    methods = {kind: frozenset({"count"}) for kind in TOKEN_KINDS if report.exactness(kind)}
    return log_quality(methods, report)  # type: ignore[arg-type]


@contextmanager
def server_writing_to(
    log: Path, *, name: str = "llamacpp", command: str = "llama-server", text: bytes | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """What looks like a server, whose standard output goes to `log`, which holds `text` or a recorded log already."""
    log.write_bytes((RUNS[name] / "server.log").read_bytes() if text is None else text)
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
    assert f"llamacpp log, {log}" in chat
    assert quality_of_log("llamacpp") in chat
    assert chat[-1].startswith("start it with --metrics for exact counts"), "its counters do not answer"
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


OLLAMA = b"""time=2026-11-26T14:55:35.922Z level=INFO source=routes.go:1663 msg="server config" env="map[]"
time=2026-11-26T14:56:01.100Z level=INFO source=server.go:594 msg="llama runner started in 2.01 seconds"
[GIN] 2026/11/26 - 14:56:03 | 200 |  1.201713912s |       127.0.0.1 | POST     "/api/chat"
[GIN] 2026/11/26 - 14:56:05 | 200 |  1.101713912s |       127.0.0.1 | POST     "/v1/chat/completions"
"""
SEVERAL_API_SERVERS = b"""(ApiServer_1 pid=1063) INFO 11-26 14:44:10 [api_server.py:100] vLLM API server version 0.32.0
(ApiServer_1 pid=1063) WARNING 11-26 14:44:17 [loggers.py:1386] AsyncLLM created with api_server_count more than 1; disabling stats logging to avoid incomplete stats.
INFO:     127.0.0.1:52710 - "POST /v1/chat/completions HTTP/1.1" 200 OK
"""


@pytest.mark.parametrize(
    ("name", "command", "text", "quality", "change"),
    [
        ("ollama", "ollama serve", OLLAMA, "requests only, no tokens", "a gateway in front of it"),
        ("vllm", "vllm serve m", SEVERAL_API_SERVERS, "no tokens", "it runs with several API servers"),
        ("llamacpp", "llama-server", b"", "no tokens yet", "start it with --metrics"),
        ("llamacpp", "llama-server --metrics", b"", "no tokens yet", "it has --metrics, and its counters do not answer"),
    ],
)  # fmt: skip
def test_how_good_is_what_is_really_counted(
    name: str,
    command: str,
    text: bytes,
    quality: str,
    change: str,
    tmp_path: Path,
    nvml_library: Path,
    scenario: Scenario,
) -> None:
    with server_writing_to(log := tmp_path / "chat.log", name=name, command=command, text=text) as server:
        scenario.restart(gpu_lines(0, pid=server.pid))
        environment, state = scenario.environment(nvml_library), f"state_dir={tmp_path}/state"
        _, discovered = examine(environment, state)
        chat = {"name": "chat", "log": str(log)}
        _, configured = examine(environment, state, f"workloads={json.dumps([chat])}")
        _, with_gpus = examine(environment, state, f"workloads={json.dumps([{**chat, 'gpus': [0]}])}")
    (row,) = [cells for (gpu, _), cells in discovered.items() if gpu == "0"]
    for cells in (row, configured["0", "chat"], with_gpus["0", "chat"]):
        assert cells[-2].startswith(quality)
        assert change in cells[-1]
    if text:
        assert [note for note in configured["log", "note"] if note.startswith(f"chat: {log}: ")]


JOURNALCTL = """#!/bin/sh
case "$*" in *--follow*) exec sleep 60;; *_SYSTEMD_UNIT={unit}*) exec cat {log};; esac
"""


@pytest.mark.parametrize(
    ("name", "command", "quality"),
    [("llamacpp", "llama-server", quality_of_log("llamacpp")), ("ollama", "ollama serve", "requests only, no tokens")],
)
def test_a_journal_is_judged_by_what_is_in_it(
    name: str, command: str, quality: str, tmp_path: Path, nvml_library: Path, scenario: Scenario
) -> None:
    """The agent reads it from now on, and has seen nothing of it yet."""
    log = tmp_path / "recorded.log"
    log.write_bytes(OLLAMA if name == "ollama" else (RUNS[name] / "server.log").read_bytes())
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "journalctl"
    program.write_text(JOURNALCTL.format(unit="chat.service", log=log))
    program.chmod(0o755)
    with server_writing_to(tmp_path / "other.log", command=command, text=b"") as server:
        scenario.restart(gpu_lines(0, pid=server.pid))
        environment = scenario.environment(nvml_library)
        workloads = json.dumps([{"name": "chat", "journal": "chat.service", "gpus": [0]}])
        _, report = examine(
            {**environment, "PATH": f"{program.parent}:{environment['PATH']}"},
            f"state_dir={tmp_path}/state",
            f"workloads={workloads}",
        )
    cells = report["0", "chat"]
    assert cells[-3:-1] == [f"{name} log, journal of chat.service", quality]
    level = "ok" if name == "llamacpp" else "note"
    assert [text for text in report["log", level] if text.startswith("chat: journal of chat.service: ")]


def test_a_server_before_its_first_request_has_no_tokens_yet(
    tmp_path: Path, nvml_library: Path, scenario: Scenario
) -> None:
    scenario.restart(gpu_lines(0))
    with serving(b"# TYPE dynamo_frontend_inflight_requests gauge\ndynamo_frontend_inflight_requests 0\n") as server:
        workloads = json.dumps([{"name": "chat", "metrics": server.url, "gpus": [0]}])
        _, report = examine(scenario.environment(nvml_library), f"state_dir={tmp_path}/state", f"workloads={workloads}")
    assert report["0", "chat"][-2] == "no tokens yet"
    assert "shows no counters before its first request" in report["0", "chat"][-1]


def test_an_operators_own_dialect_is_examined(tmp_path: Path, nvml_library: Path, scenario: Scenario) -> None:
    log = tmp_path / "own.log"
    log.write_text("made 12 tokens\n" * 3)
    dialects = json.dumps([{"name": "mine", "contains": "made ", "pattern": r"made (?P<completion>\d+) tokens"}])
    workloads = json.dumps([{"name": "chat", "log": str(log), "dialect": "mine", "gpus": [0]}])
    scenario.restart(gpu_lines(0))
    _, report = examine(
        scenario.environment(nvml_library),
        f"state_dir={tmp_path}/state",
        f"dialects={dialects}",
        f"workloads={workloads}",
    )
    assert report["0", "chat"][-3:-1] == [f"mine log, {log}", "exact, per request; no prompts"]
    assert report["log", "ok"] == [f"chat: {log}: mine, model not in this part of the log, 3 statistics read"]


def test_a_log_of_two_servers_is_named_with_what_to_change(
    tmp_path: Path, nvml_library: Path, scenario: Scenario
) -> None:
    command = "(exec -a llama-server sleep 60) & (exec -a llama-server sleep 61) & echo $!; wait"
    with (tmp_path / "both.log").open("wb") as out:
        shell = subprocess.Popen(["bash", "-c", command], stdout=out, start_new_session=True)
    try:
        pids = Procfs()
        wait_until(lambda: [pids.argv_of(pid)[:1] for pid in pids.descendants_of(shell.pid)] == [("llama-server",)] * 2)
        one, other = pids.descendants_of(shell.pid)
        scenario.restart([*gpu_lines(0, pid=one), *gpu_lines(1, pid=other)])
        _, report = examine(scenario.environment(nvml_library), f"state_dir={tmp_path}/state")
    finally:
        os.killpg(shell.pid, 9)
        shell.wait()
    for gpu, pid in (("0", one), ("1", other)):
        cells = report[gpu, f"llamacpp:8080:{pid}"]
        assert cells[-2] == "no tokens"
        assert "another server writes to the same log" in cells[-1]
        assert "start it with --metrics" in cells[-1]
