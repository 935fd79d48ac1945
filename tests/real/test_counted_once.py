"""A real llama-server that nobody configured: found by its process, scraped and followed, every token counted once."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from harness import Stack, get, wait_until
from nvml.stand_in import Scenario, gpu_lines
from real.door import Door
from real.llama_server import LlamaServer, Load
from tokenyield_agent.workloads.procfs import Procfs

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LlamaServer]:
    started = LlamaServer(tmp_path, tmp_path / "llama.log")
    yield started
    started.kill()


def counted_by_endpoint(stack: Stack) -> bool:
    lines = get(f"{stack.agent_url}/metrics").decode().splitlines()
    return any(
        line.startswith("tokenyield_agent_source_counted_by_endpoint{") and line.endswith(" 1.0") for line in lines
    )


def tokens_equal(stack: Stack, said: dict[str, int]) -> dict[str, int]:
    truth = (said["completion"], said["prompt"] - said["cached"], said["cached"], said["requests"])
    found = stack.query(
        "SELECT sum(completion), sum(prompt_computed), sum(prompt_cached), sum(requests) FROM token_windows"
    )
    assert found == [truth]
    return dict(stack.query("SELECT method, sum(completion)::BIGINT FROM token_windows GROUP BY method"))


def test_a_server_that_nobody_configured(
    server: LlamaServer, tmp_path: Path, nvml_library: Path, scenario: Scenario
) -> None:
    """Found on its GPU with its endpoint and its log; the agent is killed three times meanwhile."""
    scenario.restart(gpu_lines(0, pid=server.process.pid))
    stack = Stack(tmp_path, agent={"scrape_interval_s": 1}, agent_env=scenario.environment(nvml_library))
    try:
        stack.start_collector()
        stack.start_agent()
        wait_until(lambda: counted_by_endpoint(stack), what="the endpoint is found")
        load = Load(server)
        chosen = random.Random(3)
        for _ in range(3):
            time.sleep(chosen.uniform(2, 4))
            stack.agent.kill()
            time.sleep(chosen.uniform(0.2, 1.5))
            stack.start_agent()
        load.wait_for(requests=10)
        said = load.finish()
        wait_until(lambda: counted_by_endpoint(stack), what="the endpoint is found again")
        stack.wait_for_tokens(said["completion"])
        stack.stop()
        methods = tokens_equal(stack, said)
        assert set(methods) >= {"counter"}
        assert methods["counter"] == said["completion"], "the log repeats what the counters tell, and counts nothing"
        name = f"llamacpp:{server.port}"
        assert stack.query("SELECT DISTINCT workload, server, model FROM token_windows WHERE completion > 0") == [
            (name, "llamacpp", "tiny.gguf")
        ]
        ((share_ms, held_ms),) = stack.query(
            "SELECT (SELECT sum(active_ms + idle_ms) FROM share_windows), (SELECT sum(active_ms + idle_ms) FROM gpu_windows)"
        )
        assert share_ms == held_ms
        print(f"\n{said} equal in the ledger, all from counters, found by itself, 3 kills")
    finally:
        stack.kill_all()


@contextmanager
def in_one_shell(commands: list[str], folder: Path) -> Iterator[int]:
    """The pid of the shell."""
    shell = subprocess.Popen(["bash", "-c", " & ".join([*commands, "wait"])], start_new_session=True)
    try:
        yield shell.pid
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()


@contextmanager
def in_one_tmux(commands: list[str], folder: Path) -> Iterator[int]:
    """The pid of tmux, which has the first command in its own."""
    assert shutil.which("tmux"), "apt install tmux"
    tmux = ["tmux", "-S", str(folder / "tmux.socket"), "-f", os.devnull]
    subprocess.run([*tmux, "new-session", "-d", commands[0]], check=True)
    try:
        for command in commands[1:]:
            subprocess.run([*tmux, "split-window", "-d", command], check=True)
        yield int(subprocess.run([*tmux, "display", "-p", "#{pid}"], check=True, capture_output=True).stdout)
    finally:
        subprocess.run([*tmux, "kill-server"], check=True)


@pytest.mark.parametrize("start", [in_one_shell, in_one_tmux])
def test_two_servers_that_one_process_started(
    start: Callable[[list[str], Path], AbstractContextManager[int]],
    tmp_path: Path,
    nvml_library: Path,
    scenario: Scenario,
) -> None:
    """They are two workloads; each is counted whole, by its own counters."""
    servers = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        servers.append(LlamaServer(tmp_path / name, tmp_path / f"{name}.log", starts=False))
    with start([server.command for server in servers], tmp_path) as parent:
        for server in servers:
            server.wait()
        procfs = Procfs()
        running = {pid: procfs.argv_of(pid) for pid in procfs.descendants_of(parent)}
        by_port = {argv[4]: pid for pid, argv in running.items() if "llama-server" in argv[0]}
        pids = [by_port[str(server.port)] for server in servers]
        scenario.restart([line for i, pid in enumerate(pids) for line in gpu_lines(i, pid=pid)])
        stack = Stack(tmp_path, agent={"scrape_interval_s": 1}, agent_env=scenario.environment(nvml_library))
        try:
            stack.start_collector()
            stack.start_agent()
            shown = [f'counted_by_endpoint{{workload="llamacpp:{server.port}"}} 1.0' for server in servers]
            page = f"{stack.agent_url}/metrics"
            wait_until(lambda: all(line in get(page).decode() for line in shown), what="both endpoints are found")
            loads = [Load(server) for server in servers]
            for load in loads:
                load.wait_for(requests=30)
            truth = [load.finish() for load in loads]
            stack.wait_for_tokens(sum(made["completion"] for made in truth))
            stack.stop()
        finally:
            stack.kill_all()
    counted = stack.query(
        "SELECT workload, sum(completion)::BIGINT, sum(prompt_computed)::BIGINT FROM token_windows GROUP BY 1"
    )
    assert {row[0]: row[1:] for row in counted} == {
        f"llamacpp:{server.port}": (made["completion"], made["prompt"] - made["cached"])
        for server, made in zip(servers, truth, strict=True)
    }
    print(f"\n{truth} equal in the ledger, each at its own workload")


def test_the_log_takes_over_and_back(
    server: LlamaServer, tmp_path: Path, nvml_library: Path, scenario: Scenario
) -> None:
    """The endpoint goes away and comes back while requests run; then the server is killed and started again."""
    door = Door(server.port)
    workload = {"name": "chat", "metrics": f"http://127.0.0.1:{door.port}", "log": str(tmp_path / "llama.log")}
    scenario.restart(gpu_lines(0, pid=server.process.pid))
    stack = Stack(
        tmp_path,
        agent={"workloads": [workload], "scrape_interval_s": 1, "discover": "false"},
        agent_env=scenario.environment(nvml_library),
    )
    try:
        stack.start_collector()
        stack.start_agent()
        wait_until(lambda: counted_by_endpoint(stack), what="the endpoint answers")
        load = Load(server)
        for _ in range(2):
            load.wait_for(requests=20)
            door.shut()
            wait_until(lambda: not counted_by_endpoint(stack), what="the log takes over")
            load.wait_for(requests=20)
            door.open()
            wait_until(lambda: counted_by_endpoint(stack), what="the endpoint is back")
        load.wait_for(requests=10)
        first = load.finish()
        stack.wait_for_tokens(first["completion"])
        server.kill()
        door.shut()
        wait_until(lambda: not counted_by_endpoint(stack), what="the server is gone")
        server.start()
        door.open()
        again = Load(server)
        wait_until(lambda: counted_by_endpoint(stack), what="the new server answers")
        again.wait_for(requests=20)
        second = again.finish()
        stack.wait_for_tokens(first["completion"] + second["completion"])
        door.shut()
        stack.stop()
        said = {kind: first[kind] + second[kind] for kind in first}
        methods = tokens_equal(stack, said)
        assert methods["count"] > 0, "the log counted while the endpoint was away"
        assert methods["counter"] > 0, "the counters counted while it answered"
        print(f"\n{said} equal in the ledger: {methods}; two handovers, one restart of the server")
    finally:
        stack.kill_all()
