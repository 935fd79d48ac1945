"""The recorded cases of GPUs that answer with errors and garbage, in a running agent."""

import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from agent.gpu.test_release import RunningAgent
from harness import get, wait_until
from nvml.stand_in import Scenario, gpu_lines

UP_S = 15
"""By then every agent polls, on a machine with a load of 20 too."""
CASES = ("name-not-utf8", "unknown-error-midrun", "noperm-for-a-moment", "one-gpu-cannot-be-opened", "garbage-power")


@pytest.fixture
def agents(tmp_path: Path, nvml_library: Path, fixtures: Path) -> Iterator[dict[str, tuple[RunningAgent, Scenario]]]:
    """One for each case, all at once."""
    running = {}
    for case in CASES:
        (folder := tmp_path / case).mkdir()
        scenario = Scenario(folder / "scenario.txt")
        running[case] = RunningAgent(folder, scenario, nvml_library), scenario
    yield running
    for agent, _ in running.values():
        agent.program.stop_if_running()


def value(agent: RunningAgent, name: str, labels: str) -> float | None:
    match = re.search(rf"^tokenyield_agent_{name}{{{re.escape(labels)}}} (\S+)$", agent.metrics(), re.MULTILINE)
    return None if match is None else float(match[1])


ONE = 'gpu="GPU-00000000-stand-in",index="0"'
TWO = 'gpu="GPU-00000001-stand-in",index="1"'


def later(recorded: bytes) -> list[bytes]:
    """The same, where what begins after its start begins `UP_S` later."""
    lines = []
    for line in recorded.splitlines():
        words = line.split()
        places = {b"fault": (2, 3), b"power": (2,)}.get(words[0], ())
        if places and float(words[2]) > 0:
            for place in places:
                words[place] = str(float(words[place]) + UP_S).encode()
        lines.append(b" ".join(words))
    return lines


def test_all_at_once(agents: dict[str, tuple[RunningAgent, Scenario]], fixtures: Path) -> None:
    for case, (agent, scenario) in agents.items():
        scenario.restart([])
        recorded = (fixtures / "nvml" / f"{case}.scenario").read_bytes()
        scenario.path.write_bytes(scenario.path.read_bytes() + b"\n".join(later(recorded)) + b"\n")
        agent.program.start_without_waiting()
    for agent, _ in agents.values():
        wait_until(partial(answers, agent), what="it polls")
    names, unknown, denied, unopened, garbage = (agents[case][0] for case in CASES)

    assert value(names, "gpu_info", ONE + ',model="NVIDIA H100 80GB HBM3"') == 1
    assert value(names, "gpu_info", TWO + ',model="\ufffdNVIDIA"') == 1

    wait_until(lambda: value(unknown, "gpu_up", TWO) == 0, what="a GPU that answers with errors is down")
    assert (value(unknown, "gpu_up", ONE), value(unknown, "gpu_faults_total", 'kind="nvml_unknown"')) == (1, 1)

    wait_until(lambda: value(denied, "gpu_faults_total", 'kind="nvml_no_permission"') == 1, what="it was denied")
    wait_until(lambda: value(denied, "gpu_up", TWO) == 1, what="it is read again")
    active_s = value(denied, "gpu_seconds_total", TWO + ',state="active"') or 0
    wait_until(lambda: (value(denied, "gpu_seconds_total", TWO + ',state="active"') or 0) > active_s, what="active")

    assert value(unopened, "gpu_up", 'gpu="index-1",index="1"') == 0
    assert value(unopened, "gpu_up", ONE) == 1
    assert (value(unopened, "gpu_seconds_total", 'gpu="index-1",index="1",state="unknown"') or 0) > 0

    wait_until(lambda: value(garbage, "gpu_faults_total", 'kind="implausible_power"') == 1, what="the garbage")
    wait_until(lambda: (value(garbage, "gpu_seconds_total", ONE + ',state="active"') or 0) >= 8, what="8 s")
    active_s = value(garbage, "gpu_seconds_total", ONE + ',state="active"') or 0
    joules = value(garbage, "gpu_energy_used_joules_total", ONE + ',method="power"') or 0
    assert joules == pytest.approx(300 * active_s, rel=0.1), "about 2.4 kJ in 8 s"
    for agent, _ in agents.values():
        assert agent.program.terminate() == 0
        assert "Traceback" not in agent.program.said()
        assert agent.program.said().count("initialising NVML again") == 0


def answers(agent: RunningAgent) -> bool:
    assert agent.program.process is not None
    assert agent.program.process.poll() is None, agent.program.said()[-3000:]
    try:
        return b"tokenyield_agent_polls_total 0.0" not in get(f"http://127.0.0.1:{agent.port}/metrics")
    except OSError:
        return False


GARBAGE = {
    "energy": (0, 2**64 - 1), "power": (2**32 - 1,), "util": (101, 2**32 - 1), "used": (2**64 - 1,), "temp": (2**32 - 1,),
    "clock": (2**32 - 1,), "procs": (0, 2**32 - 1), "procmem": (2**64 - 1, 2**63), "procutil": (2**32 - 1,),
    "samples": (2**32 - 1,), "average": (2**32 - 1,), "instant": (2**32 - 1,), "stamp": (0, 2**64 - 1),
    "limit": (0, 2**32 - 1), "slices": (0, 2**32 - 1), "gpm": ("nan", "inf"),
}  # fmt: skip


def test_an_agent_whose_gpus_answer_garbage_goes_on(tmp_path: Path, nvml_library: Path, scenario: Scenario) -> None:
    """All of it at once, for ever, beside a GPU of every method and one that is divided."""
    lines = []
    for gpu, missing in enumerate(
        ((), ("energy",), ("energy", "average"), ("energy", "samples", "average"), ("fields",))
    ):
        own = gpu_lines(gpu, pid=1)
        lines += [own[0] + " mig" if gpu == 4 else own[0], *own[1:], f"proc {gpu} 2 10 5 0 1000000", f"mig {gpu} 1 3"]
        lines += [f"unsupported {gpu} {name}" for name in missing]
        for kind, values in GARBAGE.items():
            lines += [
                f"value {gpu} {second} {second + 0.5} {kind} {values[second % len(values)]}"
                for second in range(gpu % 2, 120, 2)
            ]
    scenario.restart(lines)
    agent = RunningAgent(tmp_path, scenario, nvml_library, window_length_s=1, window_settle_s=0, discover="true")
    agent.program.start_without_waiting()
    try:
        wait_until(partial(answers, agent), what="it polls")
        wait_until(lambda: spooled(agent) >= 6, what="windows are closed")
        used_j = sum(float(line.rpartition(" ")[2]) for line in agent.metrics().splitlines() if ENERGY_USED in line)
        length_s = time.clock_gettime(time.CLOCK_MONOTONIC) - scenario.epoch_s
        assert used_j <= 5 * 1.5 * 700 * (length_s + 10)
        assert agent.program.terminate() == 0
        assert "Traceback" not in agent.program.said()
        assert "cannot be understood" not in agent.program.said()
    finally:
        agent.program.stop_if_running()


ENERGY_USED = "tokenyield_agent_gpu_energy_used_joules_total{"


def spooled(agent: RunningAgent) -> float:
    match = re.search(r"^tokenyield_agent_spool_batches (\S+)$", agent.metrics(), re.MULTILINE)
    return 0.0 if match is None else float(match[1])
