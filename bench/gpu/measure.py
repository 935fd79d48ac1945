"""The agent beside a real load on a real GPU: are its joules, activity and tokens true, and what does it take?

    pip install torch zeus && python bench/gpu/measure.py --out build/gpu

For each load (bench/gpu/load.py: matrix products at known duty cycles, prefill, decode at batch 1, 8 and 64) it runs the
real agent and collector, reads GPU 0's energy counter independently twenty times a second, and compares over the whole
windows of the load: joules with the counter and with Zeus, SM activity with the duty cycle, tokens with the load's own
count. Then what a poll costs with and without GPM, and a trace of one run of everything (`trace.jsonl`, for the demo).

With `--stand-in` the same, but NVML is the stand-in, and the loads are curves of it: to see that the script works.
"""

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "agent")]

from harness import Stack, get, wait_until
from nvml.stand_in import Scenario, build, gpu_lines

PATTERN = {
    "name": "bench",
    "contains": "tokens prompt=",
    "pattern": r"^tokens prompt=(?P<prompt_computed>\d+) completion=(?P<completion>\d+)",
}
WINDOW_S = 1
EDGE_S = 3.0
"""Of idling before and after each load, so that whole windows hold it."""
STAND_IN_TOKENS_PER_S = 100


@dataclass(frozen=True)
class Load:
    name: str
    arguments: tuple[str, ...]
    duty: float
    """What the SM activity should be, or for a model what the stand-in plays."""
    tells_activity: bool
    batch: int = 0


LOADS = (
    *(Load(f"duty {part:g}", ("duty", "--duty", str(part)), part, True) for part in (0.1, 0.25, 0.5, 0.75, 0.9)),
    Load("prefill, batch 8", ("prefill", "--batch", "8"), 0.95, False, 8),
    *(Load(f"decode, batch {batch}", ("decode", "--batch", str(batch)), 0.6, False, batch) for batch in (1, 8, 64)),
)


class Watch:
    """GPU 0's energy counter, read beside the agent by a process of its own: (Unix s, mJ)."""

    SCRIPT = (
        "import sys, time, pynvml as n; n.nvmlInit(); h = n.nvmlDeviceGetHandleByIndex(0)\n"
        "while True:\n"
        "    a = time.time(); e = n.nvmlDeviceGetTotalEnergyConsumption(h); b = time.time()\n"
        "    print((a + b) / 2, e, flush=True); time.sleep(0.05)\n"
    )

    def __init__(self, environment: dict[str, str]) -> None:
        self.read: list[tuple[float, float]] = []
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.SCRIPT], stdout=subprocess.PIPE, text=True, env=environment
        )
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            at_s, mj = line.split()
            self.read.append((float(at_s), float(mj)))

    def joules_at(self, at_s: float) -> float:
        """Between two readings as if power stood still."""
        place = bisect_left(self.read, (at_s, 0.0))
        (a_s, a_mj), (b_s, b_mj) = self.read[place - 1], self.read[place]
        return (a_mj + (b_mj - a_mj) * (at_s - a_s) / (b_s - a_s)) / 1000

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def stand_in_lines(load: Load | None, seconds: float) -> list[str]:
    """The load as curves from 0 on, after `EDGE_S` of idling."""
    lines = [*gpu_lines(0, milliwatts=80_000, percent=0, pid=os.getpid()), "sampling 0 20 200"]
    if load is None:
        return lines
    at_s, period_s = EDGE_S, 0.5
    while at_s < EDGE_S + seconds:
        for from_s, milliwatts, sm in ((at_s, 620_000, 1000), (at_s + period_s * load.duty, 80_000, 0)):
            lines += [f"power 0 {from_s} {milliwatts}", f"sm 0 {from_s} {sm}", f"util 0 {from_s} {100 if sm else 0}"]
        at_s += period_s
    return [*lines, f"util 0 {at_s} 0"]


def play_stand_in(load: Load, seconds: float, log: Path) -> dict[str, Any]:
    tokens = 0
    with log.open("a", buffering=1) as file:
        for _ in range(int(seconds)):
            time.sleep(1)
            tokens += STAND_IN_TOKENS_PER_S
            file.write(f"tokens prompt=0 completion={STAND_IN_TOKENS_PER_S}\n")
    return {"tokens": {"prompt": 0, "completion": tokens}, "zeus_joules": None}


def play(load: Load, seconds: float, log: Path) -> dict[str, Any]:
    call = [sys.executable, str(Path(__file__).with_name("load.py")), *load.arguments]
    done = subprocess.run(
        [*call, "--seconds", str(seconds), "--log", str(log)], stdout=subprocess.PIPE, check=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def agent_cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(
    load: Load, folder: Path, seconds: float, scenario: Scenario | None, environment: dict[str, str]
) -> dict[str, Any]:
    """One load beside a fresh agent and collector."""
    folder.mkdir(parents=True)
    log = folder / "tokens.log"
    log.touch()
    if scenario is not None:
        scenario.restart(stand_in_lines(load, seconds))
    agent = {
        "window_length_s": WINDOW_S,
        "window_settle_s": 1,
        "discover": "false",
        "workloads": [{"name": "load", "log": str(log), "dialect": "bench", "gpus": [0], "start": "beginning"}],
        "dialects": [PATTERN],
    }
    stack = Stack(folder, agent=agent, agent_env=environment)
    watch = Watch(environment)
    try:
        stack.start_collector()
        stack.start_agent()
        assert stack.agent.process is not None
        time.sleep(EDGE_S if scenario is None else max(0.0, EDGE_S - (time.monotonic() - scenario.epoch_s)))
        before_s, cpu_before_s, polls = time.time_ns() / 1e9, agent_cpu_s(stack.agent.process.pid), _polls(stack)
        said = play(load, seconds, log) if scenario is None else play_stand_in(load, seconds, log)
        after_s = time.time_ns() / 1e9
        cpu_s = agent_cpu_s(stack.agent.process.pid) - cpu_before_s
        polls = _polls(stack) - polls
        time.sleep(EDGE_S)
        stack.stop()
        end_s = time.time_ns() / 1e9
        wait_until(lambda: bool(watch.read) and watch.read[-1][0] > end_s, what="the counter is read to the end")
    finally:
        watch.close()
        stack.kill_all()
    # Whole windows around the load, at whose ends the GPU idles: what a window may be off there is little.
    from_ms, to_ms = int(before_s - 1) * 1000, (int(after_s) + 2) * 1000
    within = f"start_ms >= {from_ms} AND start_ms < {to_ms}"
    ((first_ms, last_ms),) = stack.query(f"SELECT min(start_ms), max(end_ms) FROM batches WHERE {within}")
    energy = "active_mj + idle_mj + unallocated_mj + unknown_mj"
    ((used_mj, error_mj, sm_ms, known_ms),) = stack.query(
        f"SELECT sum({energy})::BIGINT, sum(energy_error_mj)::BIGINT, sum(sm_ms)::BIGINT, sum(activity_known_ms)::BIGINT "
        f"FROM gpu_windows WHERE {within}"
    )
    ((completion, prompt),) = stack.query(
        "SELECT sum(completion)::BIGINT, sum(prompt_computed)::BIGINT FROM token_windows"
    )
    truth = watch.joules_at(last_ms / 1000) - watch.joules_at(first_ms / 1000)
    tokens = said["tokens"]
    # Polls and windows are not at one moment: a poll's span is at most one interval off at either end.
    expected_busy_s = load.duty * (after_s - before_s)
    return {
        "load": load.name,
        "seconds": round(after_s - before_s, 2),
        "joules": round(used_mj / 1000, 1),
        "counter_joules": round(truth, 1),
        "off_percent": round(100 * (used_mj / 1000 - truth) / truth, 3),
        "estimated_error_joules": round(error_mj / 1000, 1),
        "zeus_joules": said["zeus_joules"],
        "sm_busy_s": None if sm_ms is None else round(sm_ms / 1000, 2),
        "expected_busy_s": round(expected_busy_s, 2) if load.tells_activity else None,
        "activity_known_s": round(known_ms / 1000, 2),
        "tokens": completion + prompt,
        "tokens_by_the_load": tokens["completion"] + tokens["prompt"],
        "tokens_per_joule": round((completion + prompt) / (used_mj / 1000), 3),
        "agent_cpu_ms_per_poll": round(1000 * cpu_s / max(1, polls), 2),
    }


def _polls(stack: Stack) -> int:
    match = re.search(rb"^tokenyield_agent_polls_total (\S+)", get(f"{stack.agent_url}/metrics"), re.MULTILINE)
    assert match is not None
    return int(float(match[1]))


def poll_cost(environment: dict[str, str]) -> dict[str, Any]:
    """CPU and time of one reading of all GPUs of this machine, with and without GPM."""
    script = (
        "import json, statistics, time\n"
        "from tokenyield_agent.gpu.nvidia.reader import NvmlReader\n"
        "found = {}\n"
        "for has_gpm in (True, False):\n"
        "    reader = NvmlReader(); gpus = len(reader.read().gpus)\n"
        "    for device in reader._devices:\n"
        "        device._gpm = device._gpm if has_gpm else None\n"
        "    cpu, wall = [], []\n"
        "    for _ in range(100):\n"
        "        time.sleep(0.1); c, w = time.process_time(), time.monotonic(); reader.read()\n"
        "        cpu.append(1000 * (time.process_time() - c)); wall.append(1000 * (time.monotonic() - w))\n"
        "    reader.close()\n"
        "    found['with_gpm' if has_gpm else 'without_gpm'] = {'gpus': gpus, 'cpu_ms': round(statistics.median(cpu), 3), "
        "'wall_ms': round(statistics.median(wall), 3), 'wall_ms_max': round(max(wall), 3)}\n"
        "print(json.dumps(found))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextlib.contextmanager
def recording(file: Path, environment: dict[str, str], label: str, is_real: bool) -> Iterator[None]:
    call = [
        sys.executable,
        "-m",
        "tokenyield_agent.cli",
        "record",
        "--out",
        str(file),
        "--seconds",
        "3600",
        "--label",
        label,
    ]
    process = subprocess.Popen(
        [*call, *([] if is_real else ["--synthetic"])], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()  # not SIGINT, which the child of a background job ignores
        process.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/gpu"))
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--stand-in", action="store_true")
    parser.add_argument("--loads", type=int, default=len(LOADS), help="only the first so many")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    environment, scenario = dict(os.environ), None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.stand_in:
            scenario = Scenario(folder / "scenario.txt")
            scenario.restart(stand_in_lines(None, 0))
            environment = scenario.environment(build(folder))
        results = []
        label = f"{len(LOADS)} loads of bench/gpu/measure.py, {'stand-in' if arguments.stand_in else 'real GPU'}"
        with recording(arguments.out / "trace.jsonl", environment, label, not arguments.stand_in):
            for place, load in enumerate(LOADS[: arguments.loads]):
                print(f"{load.name} ...", file=sys.stderr)
                results.append(measure(load, folder / str(place), arguments.seconds, scenario, environment))
        found = {
            "bench": "gpu/measure",
            "stand_in": arguments.stand_in,
            "loads": results,
            "poll": poll_cost(environment),
        }
    (arguments.out / "results.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
