"""A running agent lets go of the GPUs and takes them up again, on the program itself."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import Program, free_port, get, wait_until
from nvml.stand_in import Scenario, gpu_lines
from tokenyield_agent.gpu.poller import Poller
from tokenyield_agent.gpu.reading import GpuReading, Snapshot
from tokenyield_agent.gpu.release import RELEASE_S_MAX, ReleaseRequest


class OpenDriver:
    """A reader that knows whether it has the driver open."""

    read_seconds = 0.0

    def __init__(self) -> None:
        self.is_open = False
        self.faults: dict[str, int] = {}

    def read(self) -> Snapshot:
        self.is_open = True
        return Snapshot(gpus=(GpuReading(uuid="G", index=0),))

    def close(self) -> None:
        self.is_open = False


def test_a_reader_that_is_let_go_is_closed_and_read_again() -> None:
    inner = OpenDriver()
    poller = Poller(lambda: inner, name="nvml", read_s_max=5)
    assert poller.read().gpus
    poller.release(1000)
    for _ in range(2):
        snapshot = poller.read()
        assert (snapshot.gpus, snapshot.lost, inner.is_open) == ((), {"G": "released"}, False)
    assert poller.is_released
    poller.release(0)
    assert poller.read().gpus
    assert (inner.is_open, poller.is_released, dict(poller.faults)) == (True, False, {})
    poller.close()


def test_a_request_goes_from_one_to_the_other(tmp_path: Path) -> None:
    asked, seen = ReleaseRequest(tmp_path), ReleaseRequest(tmp_path)
    assert seen.pending(1000) is None
    asked.make(1300)
    assert seen.pending(1000) == pytest.approx(300)
    assert seen.pending(2000) == 0
    asked.make(10**10)
    assert seen.pending(1000) == RELEASE_S_MAX
    seen.remove()
    assert asked.pending(1000) is None


class RunningAgent:
    """An agent on the stand-in, without a collector, and the command beside it."""

    def __init__(self, folder: Path, scenario: Scenario, library: Path, **settings: Any) -> None:
        self.port, self.state_dir, self.scenario = free_port(), folder / "agent", scenario
        self.environment = {**scenario.environment(library), "PYTHONPATH": os.pathsep.join(sys.path)}
        self.program = Program(
            "tokenyield_agent.cli",
            "run",
            {"state_dir": str(self.state_dir), "status_listen": f"127.0.0.1:{self.port}", "poll_interval_ms": 200,
             "collector_url": "http://127.0.0.1:9", "discover": "false", **settings},
            folder / "agent.out",
            self.environment,
        )  # fmt: skip

    def metrics(self) -> str:
        return get(f"http://127.0.0.1:{self.port}/metrics").decode()

    def has_driver_open(self) -> bool:
        assert self.program.process is not None
        links = Path(f"/proc/{self.program.process.pid}/fd").iterdir()
        return any(link.is_symlink() and os.readlink(link) == str(self.scenario.path) for link in links)

    def release(self, *flags: str) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, "-m", "tokenyield_agent.cli", "release", "--set", f"state_dir={self.state_dir}"]
        return subprocess.run([*call, *flags], env=self.environment, capture_output=True, text=True, check=False)


@pytest.fixture
def agent(tmp_path: Path, nvml_library: Path, scenario: Scenario) -> Iterator[RunningAgent]:
    scenario.restart([*gpu_lines(0), *gpu_lines(1)])
    running = RunningAgent(tmp_path, scenario, nvml_library)
    yield running
    running.program.stop_if_running()


UP = 'tokenyield_agent_gpu_up{gpu="GPU-00000000-stand-in",index="0"} %d.0'


def test_a_running_agent_lets_go_and_comes_back(agent: RunningAgent) -> None:
    agent.program.start(f"http://127.0.0.1:{agent.port}/healthz")
    wait_until(lambda: UP % 1 in agent.metrics(), what="it reads the GPUs")
    assert agent.has_driver_open()
    released = agent.release("--for", "10m")
    assert (released.returncode, released.stderr) == (0, "")
    assert "the GPUs are let go until " in released.stdout
    assert not agent.has_driver_open(), "a GPU can be reset now"
    wait_until(lambda: UP % 0 in agent.metrics(), what="the GPUs are shown as not read")
    assert agent.release("--end").returncode == 0
    wait_until(lambda: UP % 1 in agent.metrics(), what="the GPUs are read again")
    assert agent.release("--for", "1s").returncode == 0
    wait_until(lambda: agent.program.said().count("is taken up again") == 2, what="it comes back by itself")
    wait_until(lambda: UP % 1 in agent.metrics(), what="and reads")
    assert agent.program.process is not None
    agent.program.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: UP % 0 in agent.metrics(), what="a signal does the same")
    assert "Traceback" not in agent.program.said()
    assert agent.program.terminate() == 0


def test_without_an_agent_the_command_says_so(agent: RunningAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenyield_agent.cli import main
    from tokenyield_agent.commands import release

    assert agent.release().returncode == 2, "there is no folder"
    agent.state_dir.mkdir()
    monkeypatch.setattr(release, "ANSWER_S_MAX", 0.1)
    assert main(["release", "--set", f"state_dir={agent.state_dir}"]) == 1
    assert ReleaseRequest(agent.state_dir).pending(0) is None


@pytest.mark.parametrize("text", ["0", "2h", "5 m", "-1s", "x"])
def test_a_time_that_is_none_is_refused(agent: RunningAgent, text: str) -> None:
    refused = agent.release(f"--for={text}")
    assert refused.returncode == 2
    assert "expected 1s to 1h" in refused.stderr
