"""What the agent takes beside the GPUs: memory and processor time with 8 GPUs at 1 Hz and 4 followed logs.

Beside it in the same run, on the same C stand-in of NVML and scraped once a second, nvitop-exporter (installed into a
virtual environment of its own; left out where it cannot be had). The agent does more: it follows logs, windows, spools
and ships to a collector. Both run alone on one core, the logs' writer and the collector on another.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import venv
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from harness import Stack, free_port, get, wait_until
from nvml.stand_in import Scenario, build, gpu_lines

GPUS = 8
LOGS = 4
LINES_PER_SECOND = 200
"""Into each log: a server that answers 200 requests a second."""


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> dict[str, float]:
    status = Path(f"/proc/{pid}/status").read_text()
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    kib = {
        "rss": re.search(r"VmRSS:\s+(\d+)", status),
        "rss_max": re.search(r"VmHWM:\s+(\d+)", status),
        "pss": re.search(r"^Pss:\s+(\d+)", rollup, re.MULTILINE),
    }
    return {name: round(int(match[1]) / 1024, 1) for name, match in kib.items() if match}


def measure(pid: int, seconds: float) -> dict[str, Any]:
    """Percent of one core over three stretches, and memory at the end."""
    percents = []
    for _ in range(3):
        before_s, started_s = cpu_s(pid), time.monotonic()
        time.sleep(seconds / 3)
        percents.append(100 * (cpu_s(pid) - before_s) / (time.monotonic() - started_s))
    return {
        "cpu_percent_of_one_core": round(sorted(percents)[1], 2),
        "cpu_spread": [round(min(percents), 2), round(max(percents), 2)],
        "memory_mib": memory_mib(pid),
    }


def write_logs(logs: list[Path], stop: threading.Event) -> None:
    """Access lines all the time, a statistics line every 10 s, into each log."""
    files = [log.open("ab", buffering=0) for log in logs]
    access = b'INFO:     10.1.2.3:48682 - "POST /v1/chat/completions HTTP/1.1" 200 OK\n'
    ticks = 0
    while not stop.wait(0.1):
        ticks += 1
        for file in files:
            file.write(access * (LINES_PER_SECOND // 10))
            if ticks % 100 == 0:
                stamp = time.strftime("%m-%d %H:%M:%S")
                line = (
                    f"(APIServer pid=1) INFO {stamp} [loggers.py:335] Engine 000: Avg prompt throughput: 608.9 tokens/s, "
                    "Avg generation throughput: 1073.9 tokens/s, Running: 4 reqs, Waiting: 0 reqs\n"
                )
                file.write(line.encode())


def our_agent(folder: Path, environment: dict[str, str], seconds: float) -> dict[str, Any]:
    logs = [folder / f"vllm-{i}.log" for i in range(LOGS)]
    for log in logs:
        log.touch()
    workloads = [{"name": f"w{i}", "log": str(log), "gpus": [2 * i, 2 * i + 1]} for i, log in enumerate(logs)]
    agent = {"workloads": workloads, "window_length_s": 15, "window_settle_s": 12}
    stack = Stack(folder, agent=agent, agent_env=environment)
    stop = threading.Event()
    try:
        stack.start_collector()
        stack.start_agent()
        assert stack.agent.process is not None
        pid = stack.agent.process.pid
        os.sched_setaffinity(pid, {0})
        writer = threading.Thread(target=write_logs, args=(logs, stop), daemon=True)
        writer.start()
        time.sleep(30)  # past the first windows, and one scrape of the status page, as Prometheus would
        get(f"{stack.agent_url}/metrics")
        return measure(pid, seconds)
    finally:
        stop.set()
        stack.kill_all()


def nvitop_exporter(folder: Path, environment: dict[str, str], seconds: float) -> dict[str, Any] | None:
    home = folder / "nvitop"
    venv.create(home, with_pip=True)
    install = [str(home / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "nvitop-exporter"]
    if subprocess.run(install, check=False).returncode:
        return None
    port = free_port()
    call = [
        str(home / "bin" / "nvitop-exporter"),
        "--bind-address",
        "127.0.0.1",
        "--port",
        str(port),
        "--interval",
        "1.0",
    ]
    with (folder / "nvitop.out").open("wb") as out:
        process = subprocess.Popen(call, stdout=out, stderr=out, env=environment)
    try:
        os.sched_setaffinity(process.pid, {0})
        wait_until(lambda: process.poll() is not None or _serves(port), what="nvitop-exporter is up")
        if process.poll() is not None:
            print((folder / "nvitop.out").read_text()[-1500:], file=sys.stderr)
            return None
        lines = get(f"http://127.0.0.1:{port}/metrics").count(b"\n")
        time.sleep(10)
        return {**measure(process.pid, seconds), "exposition_lines": lines}
    finally:
        process.kill()
        process.wait()


def _serves(port: int) -> bool:
    try:
        return b"power" in get(f"http://127.0.0.1:{port}/metrics")
    except OSError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = build(folder)
        scenario = Scenario(folder / "scenario.txt")
        scenario.restart([line for gpu in range(GPUS) for line in gpu_lines(gpu, pid=os.getpid())])
        environment = scenario.environment(library)
        found = {
            "tokenyield_agent": our_agent(folder, environment, arguments.seconds),
            "nvitop_exporter": nvitop_exporter(folder, environment, arguments.seconds),
        }
    print(json.dumps({"bench": "footprint", "gpus": GPUS, "logs": LOGS, **found}, indent=2))


if __name__ == "__main__":
    main()
