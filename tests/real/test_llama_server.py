"""The whole way with a real llama-server: what its answers say is what stands in the ledger, whatever dies on the way."""

import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import Stack, wait_until
from nvml.stand_in import Scenario, gpu_lines
from real.llama_server import LlamaServer, Load

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

POWER = ["power 0 0 90000", "power 0 3 520000", "power 0 6 310000", "power 0 8 640000", "power 0 10 450000"]
LAST_STEP_S = 10


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "llama.log"


@pytest.fixture
def server(tmp_path: Path, log: Path) -> Iterator[LlamaServer]:
    started = LlamaServer(tmp_path, log)
    yield started
    started.kill()


@pytest.fixture
def stack(tmp_path: Path, log: Path, server: LlamaServer, nvml_library: Path, scenario: Scenario) -> Iterator[Stack]:
    lines = [line for line in gpu_lines(0, pid=server.process.pid) if not line.startswith("power")]
    scenario.restart(lines + POWER)
    running = Stack(
        tmp_path,
        agent={"workloads": [{"name": "chat", "log": str(log)}], "spool_age_max_s": 86400},
        agent_env=scenario.environment(nvml_library),
    )
    yield running
    running.kill_all()


def books_must_balance(stack: Stack, scenario: Scenario, said: dict[str, int]) -> None:
    tokens = stack.query(
        "SELECT sum(completion), sum(prompt_computed), sum(prompt_cached), sum(requests) FROM token_windows"
    )
    truth = (said["completion"], said["prompt"] - said["cached"], said["cached"], said["requests"])
    assert [truth] == tokens
    assert tokens == stack.query(
        "SELECT sum(completion), sum(prompt_computed), sum(prompt_cached), sum(requests) FROM token_hours"
    )

    ((first_ms, last_ms, covered_ms),) = stack.query(
        "SELECT min(start_ms), max(end_ms), sum(end_ms - start_ms) FROM batches"
    )
    ((state_ms, energy_mj),) = stack.query(
        "SELECT sum(active_ms + idle_ms + unallocated_ms + unknown_ms), "
        "sum(active_mj + idle_mj + unallocated_mj + unknown_mj) FROM gpu_windows"
    )
    assert last_ms - first_ms == covered_ms, "no time is missing or doubled"
    assert state_ms == covered_ms, "the states of the one GPU sum to the wall time"

    wall_less_mono_s = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)  # noqa: TID251 - a test's own clock
    first_s, last_s = first_ms / 1000 - wall_less_mono_s, last_ms / 1000 - wall_less_mono_s
    truth_mj = scenario.energy_mj(0, last_s) - scenario.energy_mj(0, first_s)
    assert energy_mj == pytest.approx(truth_mj, rel=0.001)

    ((share_ms,),) = stack.query("SELECT sum(active_ms + idle_ms) FROM share_windows WHERE workload = 'chat'")
    ((held_ms,),) = stack.query("SELECT sum(active_ms + idle_ms) FROM gpu_windows")
    assert share_ms == held_ms, (
        "the GPU's process is llama-server, which writes the log: all its time is the workload's"
    )
    ((model, kind),) = stack.query("SELECT DISTINCT model, server FROM token_windows")
    assert (model, kind) == ("tiny.gguf", "llamacpp")


def test_the_ledger_equals_the_answers(stack: Stack, server: LlamaServer, scenario: Scenario) -> None:
    stack.start_collector()
    stack.start_agent()
    load = Load(server)
    load.wait_for(requests=40)
    wait_until(lambda: time.monotonic() > scenario.epoch_s + LAST_STEP_S + 1, what="all steps of the power have been")
    said = load.finish()
    stack.wait_for_tokens(said["completion"])
    stack.stop()
    assert said["cached"] > 0
    books_must_balance(stack, scenario, said)
    print(f"\n{said} equal in the ledger")


def test_the_ledger_equals_the_answers_whatever_dies(
    stack: Stack, server: LlamaServer, scenario: Scenario, log: Path
) -> None:
    stack.start_collector()
    stack.start_agent()
    load = Load(server)
    chosen = random.Random(7)
    for round_ in range(4):
        time.sleep(chosen.uniform(2, 4))
        stack.agent.kill()
        if round_ == 1:  # copytruncate while nobody looks; lines written between the two would be lost
            with server.paused():
                shutil.copy2(log, log.with_suffix(".log.1"))
                os.truncate(log, 0)
        time.sleep(chosen.uniform(0.2, 1.5))
        stack.start_agent()
        time.sleep(chosen.uniform(1, 3))
        stack.collector.kill()
        if round_ == 2:  # rename with create; llama-server cannot reopen and writes on to the renamed file
            log.rename(log.with_suffix(".log.2"))
            log.touch()
        time.sleep(chosen.uniform(0.2, 2))
        stack.start_collector()
    load.wait_for(requests=10)
    said = load.finish()
    stack.wait_for_tokens(said["completion"])
    stack.stop()
    books_must_balance(stack, scenario, said)
    print(f"\n{said} equal in the ledger after 8 kills, a copytruncate and a rename")
