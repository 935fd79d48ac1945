"""Agent and collector as processes on the C stand-in: the books balance through kills, replays and a lost ledger lock."""

import json
import random
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import Stack, answers, get, wait_until
from nvml.stand_in import Scenario, gpu_lines

LINE = (
    "0.0 I slot print_timing: id  0 | task {n} | prompt eval time =       4.70 ms /   {p} tokens (    0.03 ms per token)\n"
    "0.0 I slot print_timing: id  0 | task {n} |        eval time =      17.03 ms /     {c} tokens (    4.26 ms per token)\n"
    "0.0 I slot      release: id  0 | task {n} | stop processing: n_tokens = {length}, truncated = 0\n"
)


class Server:
    """Writes a llama-server's log and knows what it wrote."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.number = 0
        self.completion = 0
        self.computed = 0
        self.cached = 0

    def answer(self, chosen: random.Random) -> None:
        self.number += 1
        prompt, cached, completion = (chosen.randrange(1, 500) for _ in range(3))
        with self.log.open("a") as file:
            file.write(LINE.format(n=self.number, p=prompt, c=completion, length=prompt + cached + completion - 1))
        self.completion += completion
        self.computed += prompt
        self.cached += cached


HEAVY = {
    "asyncio",
    "email",
    "hashlib",
    "http.client",
    "http.server",
    "multiprocessing",
    "ssl",
    "unittest",
    "urllib.request",
}
LIBRARIES = {"msgspec", "pynvml", "typing_extensions", "yaml"}
"""That a running agent may have imported: yaml for its settings, typing_extensions where msgspec has it."""
BY_ENVIRONMENT = {"sitecustomize", "usercustomize", "_distutils_hack", "_virtualenv", "org"}
"""Not the agent's choice; `org` is Jython's, which Python's `copy` tries."""
LOST_S = 12
"""When a GPU is lost: by then the agent has polled it, on a machine with a load of 20 too."""
GPU_LINES = [*gpu_lines(0), *gpu_lines(1, percent=0, pid=77), *gpu_lines(2, percent=0)]


@pytest.fixture
def stack(tmp_path: Path, nvml_library: Path, scenario: Scenario) -> Iterator[Stack]:
    scenario.restart([*GPU_LINES, f"fault 0 {LOST_S} {LOST_S + 5} 15"])
    prices = tmp_path / "prices.yaml"
    prices.write_text(
        "facilities: {main: {pue: 1.3, per_kwh: 0.08}}\n"
        "pools: [{name: h100, owned: {count: 4, gpu: 35040, life_years: 4}}]\n"
    )
    running = Stack(
        tmp_path,
        agent={
            "window_length_s": 1,
            "window_settle_s": 0,
            "poll_interval_ms": 200,
            "workloads": [{"name": "chat", "log": str(tmp_path / "chat.log"), "gpus": [0]}],
        },
        collector={"prices_file": str(prices), "live_window_s": 30},
        agent_env=scenario.environment(nvml_library),
    )
    yield running
    running.kill_all()


def test_books_balance_whatever_dies(stack: Stack, tmp_path: Path) -> None:
    chosen = random.Random(11)
    server = Server(tmp_path / "chat.log")
    stack.start_collector()
    stack.start_agent()
    for victim in ("agent", "collector", "agent", "both", "agent", "collector"):
        for _ in range(12):
            server.answer(chosen)
            time.sleep(0.05)
        if victim in ("agent", "both"):
            stack.agent.kill()
        if victim in ("collector", "both"):
            stack.collector.kill()
        server.answer(chosen)
        if victim in ("collector", "both"):
            stack.start_collector()
        if victim in ("agent", "both"):
            stack.start_agent()
    stack.wait_for_tokens(server.completion)
    stack.stop()
    assert stack.query(
        "SELECT sum(completion), sum(prompt_computed), sum(prompt_cached), sum(requests) FROM token_hours"
    ) == [(server.completion, server.computed, server.cached, server.number)]
    ((first_ms, last_ms, covered_ms),) = stack.query(
        "SELECT min(start_ms), max(end_ms), sum(end_ms - start_ms) FROM batches"
    )
    assert last_ms - first_ms == covered_ms
    for uuid, total_ms in stack.query(
        "SELECT gpu_uuid, sum(active_ms + idle_ms + unallocated_ms + unknown_ms) FROM gpu_hours GROUP BY 1"
    ):
        assert total_ms == covered_ms, uuid
    reasons = dict(stack.query("SELECT reason, sum(duration_ms) FROM reason_hours WHERE kind = 'unknown' GROUP BY 1"))
    assert reasons["agent_down"] > 0
    assert sum(reasons.values()) == stack.query("SELECT sum(unknown_ms) FROM gpu_hours")[0][0]
    (numbers,) = stack.query("SELECT count(*), count(DISTINCT seq), max(seq) FROM batches")
    assert len(set(numbers)) == 1, "every number once, none missing"


def test_counters_do_not_go_back_and_the_summary_adds_up(stack: Stack, scenario: Scenario, tmp_path: Path) -> None:
    chosen = random.Random(3)
    server = Server(tmp_path / "chat.log")
    stack.start_collector()
    scenario.restart([*GPU_LINES, f"fault 0 {LOST_S} {LOST_S + 5} 15"])
    stack.start_agent()
    before: dict[str, float] = {}
    for round_ in range(3):
        for _ in range(10):
            server.answer(chosen)
            time.sleep(0.1)
        if round_ < 2:
            stack.collector.kill()
            stack.start_collector()
        else:
            wait_until(lambda: is_lost(stack), what="a GPU is lost")
        stack.wait_for_tokens(server.completion)
        now = counters(stack)
        assert all(now.get(series, -1.0) >= value for series, value in before.items())
        before = now
    wait_until(  # an agent whose collector was away waits before it tries again
        lambda: all(row["capacity_cost"] > 0 for row in summary_of(stack)["waterfall"]),
        what="one GPU each is dark, held by nobody, idle, at work",
    )
    summary = summary_of(stack)
    fleet, waterfall = summary["fleet"], summary["waterfall"]
    assert [row["bucket"] for row in waterfall] == ["dark", "unallocated", "idle", "active"]
    assert all(row["capacity_cost"] > 0 for row in waterfall)
    parts = sum(row["capacity_cost"] + row["energy_cost"] for row in waterfall)
    assert parts == pytest.approx(fleet["cost"], abs=1e-9)
    assert fleet["cost"] > 4 * 1.0 * summary["seconds"] / 3600 * 0.999, "four GPUs at 1 USD an hour, and energy"
    (chat,) = [row for row in summary["workloads"] if row["workload"] == "chat"]
    assert chat["tokens_per_joule"]["total"] > 0
    per_million = chat["cost_per_million_tokens"]["total"]
    assert 0 < per_million["direct"] <= per_million["allocated"] < per_million["loaded"]


def agent_shows(stack: Stack, series: str) -> float:
    """The sum of the agent's own metrics that begin so."""
    lines = get(f"{stack.agent_url}/metrics").decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"tokenyield_agent_{series}"))


def is_lost(stack: Stack) -> bool:
    return agent_shows(stack, 'gpu_faults_total{kind="gpu_lost"}') > 0


def summary_of(stack: Stack) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads(get(f"{stack.url}/v1/summary?window_s=30"))
    return summary


def counters(stack: Stack) -> dict[str, float]:
    lines = get(f"{stack.url}/metrics").decode().splitlines()
    return {
        series: float(value)
        for series, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))
        if "_total{" in series and "collector_" not in series
    }


def test_a_stop_ships_everything(stack: Stack, tmp_path: Path) -> None:
    server = Server(tmp_path / "chat.log")
    stack.start_collector()
    stack.start_agent()
    for _ in range(5):
        server.answer(random.Random(1))
    stack.stop()
    assert stack.query("SELECT sum(completion) FROM token_hours") == [(server.completion,)]


def test_the_agents_own_page_and_what_it_imported(stack: Stack, scenario: Scenario) -> None:
    """The agent is light because it imports little: what a library more takes beside the GPUs is a choice to be made."""
    stack.agent.env["PYTHONPROFILEIMPORTTIME"] = "1"
    scenario.restart(GPU_LINES)
    stack.start_collector()
    stack.start_agent()
    is_up = b'tokenyield_agent_gpu_up{gpu="GPU-00000000-stand-in",index="0"} 1.0'
    wait_until(lambda: is_up in get(f"{stack.agent_url}/metrics"), what="the GPU is read")
    assert b"tokenyield_agent_gpu_energy_joules_total{" in get(f"{stack.agent_url}/metrics")
    wait_until(lambda: answers(f"{stack.agent_url}/readyz"), what="the agent is ready")
    wait_until(lambda: agent_shows(stack, "spool_acknowledged_total") > 0, what="a window is shipped")
    assert stack.agent.terminate() == 0
    modules = set(re.findall(r"^import time:[ \d|]+ (\S+)$", stack.agent.said(), re.MULTILINE))
    assert {"tokenyield_agent.daemon", "tokenyield_agent.gpu.nvidia.reader"} <= modules
    assert not HEAVY & modules
    names = {module.partition(".")[0] for module in modules} - sys.stdlib_module_names - BY_ENVIRONMENT
    assert {name for name in names if not name.startswith("tokenyield_")} <= LIBRARIES


def test_reload_takes_new_workloads_and_keeps_the_old_on_a_fault(tmp_path: Path) -> None:
    import os
    import signal

    config = tmp_path / "agent.yaml"
    config.write_text("workloads: []\n")
    stack = Stack(tmp_path, agent={"gpu_reader": "none", "poll_interval_ms": 100})
    assert stack.agent._call[3] == "run"
    stack.agent._call += ["--config", str(config)]
    try:
        stack.start_collector()
        stack.start_agent()
        config.write_text(f"workloads: [{{name: late, log: {tmp_path}/late.log, dialect: llamacpp}}]\n")
        assert stack.agent.process is not None
        os.kill(stack.agent.process.pid, signal.SIGHUP)
        wait_until(lambda: "workloads reloaded: 1" in stack.agent.said())
        config.write_text("workloads: 7\n")
        os.kill(stack.agent.process.pid, signal.SIGHUP)
        wait_until(lambda: "the old one stays" in stack.agent.said())
        Server(tmp_path / "late.log").answer(random.Random(5))
        wait_until(lambda: b'source_events_total{workload="late"} 1.0' in get(f"{stack.agent_url}/metrics"))
    finally:
        stack.kill_all()


def test_a_gpu_that_is_lost_while_the_agent_restarts_keeps_its_time(stack: Stack, scenario: Scenario) -> None:
    stack.start_collector()
    scenario.restart([*gpu_lines(0), *gpu_lines(1, percent=0), f"fault 0 {LOST_S} 120 15"])
    stack.start_agent()
    wait_until(lambda: is_lost(stack), what="the GPU is lost")
    stack.agent.kill()
    stack.start_agent()
    wait_until(lambda: agent_shows(stack, "spool_appended_total ") >= 2, what="the new one has closed windows")
    stack.stop()
    ((covered_ms,),) = stack.query("SELECT sum(end_ms - start_ms) FROM batches")
    totals = stack.query(
        "SELECT gpu_uuid, sum(active_ms + idle_ms + unallocated_ms + unknown_ms) FROM gpu_hours GROUP BY 1 ORDER BY 1"
    )
    assert [total_ms for _, total_ms in totals] == [covered_ms, covered_ms]
