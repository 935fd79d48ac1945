"""A day of the agent in minutes: does its memory stay flat, does it keep its file handles, does the spool drain?

    python bench/soak.py                   24 hours at 1 Hz

The real agent on the C stand-in of NVML (8 GPUs), with two logs that are rotated every hour of the day and a real collector
that it ships to, goes through the day as fast as it can: its clock is moved on by a second before each poll. What a day
brings is there: 86,400 polls, 5,760 windows, 24 rotations, and from noon to three the collector is down. Every hour: resident
memory, open files, batches and bytes in the spool. At the end the ledger has every window and every token.

`slope` is the least-squares line through the hours after the third, in MiB a day.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from footprint import cpu_s, memory_mib

from harness import Stack, wait_until
from nvml.stand_in import Scenario, build, gpu_lines

HOUR_S = 3_600
DAY_S = 24 * HOUR_S
DOWN_HOURS = (12, 15)
GPUS = 8
REQUESTS_EVERY_S = 3


def the_agent(folder: Path, url: str, seconds: int) -> None:
    """In a process of its own: the agent through the day. Prints a line of JSON an hour, and waits for one to go on."""
    from faults.tenant_log import LINE
    from tokenyield_agent.config import Settings, WorkloadSettings
    from tokenyield_agent.daemon import Agent
    from tokenyield_agent.host.clock import HostClock

    class Day(HostClock):
        def __init__(self) -> None:
            self.passed_s = 0
            self._start_ns = time.time_ns() - seconds * 10**9

        def mono_ns(self) -> int:
            return self.passed_s * 10**9

        def wall_ns(self) -> int:
            return self._start_ns + self.passed_s * 10**9

    logs = [folder / f"llama-{i}.log" for i in range(2)]
    workloads = tuple(
        WorkloadSettings(name=f"w{i}", log=str(log), gpus=tuple(range(4 * i, 4 * i + 4))) for i, log in enumerate(logs)
    )
    settings = Settings(
        node="n", collector_url=url, state_dir=str(folder / "agent"), status_listen="", discover=False, workloads=workloads,
        collector_timeout_s=5,
    )  # fmt: skip
    clock = Day()
    agent = Agent(settings, clock=clock)
    agent.begin()
    agent.shipper.start()
    completion = 0
    for second in range(1, seconds + 1):
        clock.passed_s = second
        if second % REQUESTS_EVERY_S == 0:
            for log in logs:
                with log.open("a") as file:
                    file.write(LINE.format(n=second, p=9, c=second % 400 + 1, length=second % 400 + 9))
                completion += second % 400 + 1
        agent.poll()
        if second % HOUR_S == 0:
            for log in logs:
                log.rename(f"{log}.{second // HOUR_S}")
                log.touch()
            depth, size = agent.spool.depth()
            files = len(os.listdir("/proc/self/fd"))
            print(json.dumps({"spool_batches": depth, "spool_bytes": size, "files": files}), flush=True)
            input()
    agent.poll()
    agent._take(flush=True)
    agent.shipper.stop(60)
    print(json.dumps({"completion": completion, "left": agent.spool.depth()[0]}), flush=True)


def soak(seconds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = build(folder)
        scenario = Scenario(folder / "scenario.txt")
        scenario.restart([line for gpu in range(GPUS) for line in gpu_lines(gpu, pid=os.getpid())])
        stack = Stack(folder, collector={"agent_batches_per_s": 1000, "refresh_interval_s": 5})
        stack.start_collector()
        env = scenario.environment(library) | {"PYTHONPATH": os.pathsep.join(sys.path)}
        call = [sys.executable, __file__, "--agent", str(folder), "--url", stack.url, "--seconds", str(seconds)]
        process = subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True)
        assert process.stdin is not None
        assert process.stdout is not None
        hours: list[dict[str, Any]] = []
        started_s = time.monotonic()
        for hour in range(1, seconds // HOUR_S + 1):
            told = json.loads(process.stdout.readline())
            hours.append({"rss_mib": memory_mib(process.pid)["rss"], **told})
            used_s = cpu_s(process.pid)
            if hour == DOWN_HOURS[0]:
                stack.collector.kill()
            elif hour == DOWN_HOURS[1]:
                stack.start_collector()
            if sys.stderr.isatty():
                print(f"\r{hour} h: {hours[-1]}", end="", file=sys.stderr)
            process.stdin.write("\n")
            process.stdin.flush()
        end = json.loads(process.stdout.readline())
        assert process.wait(60) == 0
        wait_until(lambda: stack.collector.process is not None)
        assert stack.collector.terminate() == 0
        ((batches, distinct, covered_ms),) = stack.query(
            "SELECT count(*), count(DISTINCT seq), sum(end_ms - start_ms)::BIGINT FROM batches"
        )
        ((completion,),) = stack.query("SELECT sum(completion)::BIGINT FROM token_hours")
    assert end["left"] == 0, f"{end['left']} batches were not shipped"
    assert (batches, completion, covered_ms) == (distinct, end["completion"], seconds * 1000)
    late = hours[3:]
    slope = (
        statistics.linear_regression(range(len(late)), [hour["rss_mib"] for hour in late]).slope
        if len(late) > 1
        else 0.0
    )
    return {
        "bench": "soak",
        "hours": seconds // HOUR_S,
        "times_faster": round(seconds / (time.monotonic() - started_s)),
        "polls": seconds,
        "windows": batches,
        "cpu_ms_per_poll": round(1000 * used_s / seconds, 2),
        "rss_mib_by_hour": [hour["rss_mib"] for hour in hours],
        "slope_mib_per_day": round(slope * 24, 2),
        "files_by_hour": [hour["files"] for hour in hours],
        "spool_batches_by_hour": [hour["spool_batches"] for hour in hours],
        "spool_mib_by_hour": [round(hour["spool_bytes"] / 2**20, 1) for hour in hours],
        "tokens_lost": end["completion"] - completion,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=DAY_S, help="of the day that passes; whole hours")
    parser.add_argument("--agent", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.agent:
        the_agent(arguments.agent, arguments.url, arguments.seconds)
    else:
        print(json.dumps(soak(arguments.seconds), indent=2))
