"""The whole way with a real llama-server: what its answers say is what stands in the ledger, whatever dies on the way."""

import json
import os
import random
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import Stack, free_port, get, wait_until
from nvml.stand_in import Scenario, gpu_lines
from real.build_llama_server import build
from real.tiny_model import write_tiny_model

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

CLIENTS = 4
POWER = ["power 0 0 90000", "power 0 4 520000", "power 0 9 310000", "power 0 14 640000", "power 0 21 450000"]


class LlamaServer:
    """A real llama-server on a tiny random model, its output appended to `log`."""

    def __init__(self, folder: Path, log: Path) -> None:
        model = folder / "tiny.gguf"
        write_tiny_model(model)
        self.port = free_port()
        program = build(Path(os.environ.get("TOKENYIELD_CACHE", "~/.cache/tokenyield")).expanduser())
        call = [str(program), "-m", str(model), "--port", str(self.port), "--host", "127.0.0.1"]
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [*call, "-np", str(CLIENTS), "-c", "4096", "--no-webui", "--metrics"], stdout=out, stderr=out
            )
        wait_until(self._ready, what="llama-server is ready")

    def _ready(self) -> bool:
        try:
            return b"ok" in get(f"http://127.0.0.1:{self.port}/health")
        except OSError:
            return False

    def complete(self, prompt: str, max_tokens: int) -> dict[str, Any]:
        body = json.dumps({"prompt": prompt, "max_tokens": max_tokens, "seed": 1}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/completions", body)
        with urllib.request.urlopen(request, timeout=60) as answer:
            usage: dict[str, Any] = json.load(answer)["usage"]
            return usage


class Load:
    """Clients that keep the server busy and add up the `usage` of every answer."""

    def __init__(self, server: LlamaServer) -> None:
        self._server = server
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.sums = {"prompt": 0, "cached": 0, "completion": 0, "requests": 0}
        self._threads = [threading.Thread(target=self._run, args=(seed,)) for seed in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _run(self, seed: int) -> None:
        chosen = random.Random(seed)
        prefix = "all clients begin alike so that the cache has something to do " * 3
        while not self._stop.is_set():
            prompt = prefix[: chosen.randrange(1, len(prefix))] + str(chosen.random())
            usage = self._server.complete(prompt, chosen.randrange(1, 200))
            with self._lock:
                self.sums["prompt"] += usage["prompt_tokens"]
                self.sums["cached"] += usage["prompt_tokens_details"]["cached_tokens"]
                self.sums["completion"] += usage["completion_tokens"]
                self.sums["requests"] += 1
            self._stop.wait(0.02)

    def finish(self) -> dict[str, int]:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self.sums


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "llama.log"


@pytest.fixture
def server(tmp_path: Path, log: Path) -> Iterator[LlamaServer]:
    started = LlamaServer(tmp_path, log)
    yield started
    started.process.kill()
    started.process.wait()


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
    time.sleep(20)
    said = load.finish()
    time.sleep(1.5)
    stack.stop()
    assert said["requests"] > 100
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
        if round_ == 1:  # copytruncate while nobody looks
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
    time.sleep(3)
    said = load.finish()
    time.sleep(1.5)
    wait_until(lambda: stack.spool_batches() == 0, what="the spool is empty", timeout_s=90)
    stack.stop()
    books_must_balance(stack, scenario, said)
    print(f"\n{said} equal in the ledger after 8 kills, a copytruncate and a rename")
