"""A real Prometheus scrapes a real collector and agent; promtool checks what they expose."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import Stack, get, wait_until
from nvml.stand_in import Scenario, gpu_lines
from real.prometheus_server import Prometheus, running

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]


@pytest.fixture
def stack(tmp_path: Path, nvml_library: Path, scenario: Scenario, fixtures: Path) -> Iterator[Stack]:
    scenario.restart(gpu_lines(0))
    prices = tmp_path / "prices.yaml"
    prices.write_text("pools: [{name: h100, rented: {per_gpu_hour: 2, count: 2}}]\n")
    log = tmp_path / "chat.log"
    running = Stack(
        tmp_path,
        agent={
            "window_length_s": 1,
            "window_settle_s": 0,
            "workloads": [{"name": "chat", "log": str(log), "gpus": [0]}],
        },
        collector={"prices_file": str(prices), "live_window_s": 30},
        agent_env=scenario.environment(nvml_library),
    )
    running.start_collector()
    running.start_agent()
    log.write_bytes((fixtures / "servers" / "llamacpp" / "run" / "server.log").read_bytes())
    yield running
    running.kill_all()


@pytest.fixture
def prometheus(tmp_path: Path, stack: Stack) -> Iterator[Prometheus]:
    targets = json.dumps([f"127.0.0.1:{stack.port}", f"127.0.0.1:{stack.agent_port}"])
    jobs = f"[{{job_name: tokenyield, static_configs: [{{targets: {targets}}}]}}]"
    with running(tmp_path, f"global: {{scrape_interval: 1s}}\nscrape_configs: {jobs}\n") as found:
        yield found


def test_prometheus_scrapes_what_the_ledger_holds(prometheus: Prometheus, stack: Stack) -> None:
    wait_until(lambda: prometheus.values("sum(up)") == [2.0], what="both targets are up")
    completion = 'sum(tokenyield_tokens_total{kind="completion"})'
    wait_until(lambda: prometheus.values(completion) == [20_941.0], what="the recorded log's completion tokens")
    for query in (
        'sum(tokenyield_energy_joules_total{state="active"}) > 0',
        'sum(tokenyield_gpu_seconds_total{state="active"}) > 0',
        'tokenyield_cost_per_hour{currency="USD",bucket="dark"} > 0',
        'tokenyield_gpus{bucket="dark"} > 0',
        'tokenyield_tokens_per_joule{workload="chat",model="tiny.gguf",kind="total"} > 0',
        'tokenyield_cost_per_million_tokens{basis="loaded",kind="completion"} > 0',
        "rate(tokenyield_agent_polls_total[10s]) > 0",
    ):
        wait_until(lambda query=query: prometheus.values(query) != [], what=query)  # type: ignore[misc]
    before = prometheus.values(completion)
    stack.collector.kill()
    stack.start_collector()
    wait_until(lambda: prometheus.values("min(changes(up[1m]))") != [] and prometheus.values("sum(up)") == [2.0])
    wait_until(lambda: prometheus.values(completion) == before, what="the counter goes on where it was")
    assert prometheus.values("sum(resets(tokenyield_tokens_total[1m]))") == [0.0]
    assert prometheus.values("sum(resets(tokenyield_gpu_seconds_total[1m]))") == [0.0]


def test_promtool_finds_nothing_to_say(stack: Stack) -> None:
    wait_until(lambda: stack.counted() > 0, what="tokens are shown")
    for url in (stack.url, stack.agent_url):
        exposed = get(f"{url}/metrics")
        checked = subprocess.run(["promtool", "check", "metrics"], input=exposed, capture_output=True, check=False)
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
