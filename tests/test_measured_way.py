"""What GPUs measure, from NVML's stand-in through both programs to what people see: parked, without a counter, hanging."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import Stack, get, wait_until
from nvml.stand_in import Scenario, gpu_lines
from test_whole_way import LINE

UP_S = 12
"""By then the agent polls, on a machine with a load of 20 too."""
PRICES = "currency: USD\npools: [{name: h100, rented: {per_gpu_hour: 3.6}}]\n"


@pytest.fixture
def stack(tmp_path: Path, nvml_library: Path, scenario: Scenario) -> Iterator[Stack]:
    """GPU 0 is polled by tiny kernels of a server that has answered once; GPU 1 has no counter and no mean power; GPU 2
    hangs for two seconds."""
    scenario.restart(
        [
            *gpu_lines(0), "sm 0 0 20", "dram 0 0 10", "throttle 0 0 4", "clock 0 0 1584", f"xid 0 {UP_S} 31",
            *gpu_lines(1), "unsupported 1 energy", "unsupported 1 average", "sampling 1 20 200",
            *gpu_lines(2), f"hang 2 {UP_S} {UP_S + 2}",
        ]
    )  # fmt: skip
    prices = tmp_path / "prices.yaml"
    prices.write_text(PRICES)
    workloads = [{"name": f"w{i}", "log": str(tmp_path / f"w{i}.log"), "gpus": [i]} for i in range(3)]
    running = Stack(
        tmp_path,
        agent={"window_length_s": 1, "window_settle_s": 0, "poll_interval_ms": 250, "parked_after_s": 2,
               "workloads": workloads},
        collector={"prices_file": str(prices), "live_window_s": 30},
        agent_env=scenario.environment(nvml_library),
    )  # fmt: skip
    yield running
    running.kill_all()


def answer(stack: Stack, workload: int, number: int, completion: int) -> None:
    with (stack.folder / f"w{workload}.log").open("a") as file:
        file.write(LINE.format(n=number, p=5, c=completion, length=5 + completion - 1))


def what_people_see(stack: Stack) -> tuple[set[str], dict[str, Any]]:
    """Names that `diagnose` lists, and the summary, once w0 is parked and the hang of GPU 2 is over."""
    parked = b'workload_parked_gpu_seconds_total{cluster="default",workload="w0"}'
    wait_until(lambda: parked in get(f"{stack.url}/metrics"), what="w0 is parked")
    wait_until(lambda: b'nvml_slow"} 1.0' in get(f"{stack.agent_url}/metrics"), what="the hang is counted")
    summary_url = f"{stack.url}/v1/summary?window_s=60"
    wait_until(lambda: b"xid_31" in get(summary_url), what="the windows of the hang are there")
    diagnosis = subprocess.run(
        [sys.executable, "-m", "tokenyield_collector.cli", "diagnose", "--collector", stack.url, "--hours", "0.01",
         "--format", "json"],
        check=True, capture_output=True, env={**os.environ, "PYTHONPATH": "agent:collector"},
    )  # fmt: skip
    names = {row["workload"] for row in json.loads(diagnosis.stdout)["workloads"]}
    return names, json.loads(get(summary_url))


def test_what_is_measured_reaches_who_looks(stack: Stack) -> None:
    stack.start_collector()
    stack.start_agent()
    wait_until(lambda: b"tokenyield_agent_polls_total 0.0" not in get(f"{stack.agent_url}/metrics"), what="it polls")
    for workload in range(3):
        answer(stack, workload, 1, 100)
    written, is_over = [0], threading.Event()

    def keep_answering() -> None:
        while not is_over.wait(0.1):
            written[0] += 1
            for workload in (1, 2):  # these go on, and the hang of a GPU does not hold up their logs
                answer(stack, workload, 1 + written[0], 10)

    answering = threading.Thread(target=keep_answering)
    answering.start()
    try:
        names, summary = what_people_see(stack)
    finally:
        is_over.set()
        answering.join()
    assert names == {"w0", "w1", "w2"}
    stack.stop()
    fleet, workloads = summary["fleet"], {row["workload"]: row for row in summary["workloads"]}
    assert workloads["w0"]["gpu_seconds"]["parked"] > 0
    assert workloads["w0"]["parked_cost"] > 0
    assert workloads["w1"]["gpu_seconds"]["parked"] == 0, "it made tokens"
    assert fleet["energy_by_method"]["samples"] > 0
    assert fleet["energy_by_method"]["counter"] > 0
    assert fleet["throttled_lost_gpu_seconds"]["sw_power_cap"] > 0
    assert fleet["events"] == {"xid_31": 1}
    assert 0 < fleet["activity"]["sm"] < 0.1
    ((completion,),) = stack.query("SELECT sum(completion)::BIGINT FROM token_hours WHERE workload = 'w2'")
    assert completion == 100 + 10 * written[0], "every token was counted while NVML hung"
    reasons = dict(
        stack.query("SELECT reason, sum(duration_ms)::BIGINT FROM reason_hours WHERE kind = 'unknown' GROUP BY 1")
    )
    assert reasons["nvml_slow"] > 1000
    ((broken,),) = stack.query(
        "SELECT count(*) FROM gpu_windows WHERE parked_ms > idle_ms OR integrated_mj > active_mj + idle_mj + "
        "unallocated_mj + unknown_mj"
    )
    assert broken == 0
