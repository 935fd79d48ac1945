"""What the agent takes beside the GPUs: memory and processor time with 8 GPUs at 1 Hz.

Three loads: `logs`, four vLLM logs; `mixed`, eight sources of different kinds (vLLM plain and in a pod's CRI log, llama.cpp
in Docker's file, SGLang, TGI, a LiteLLM gateway, and two servers scraped every 5 s that show vLLM's recorded page of
120 kB); `access`, one log that takes 10,000 lines of access log a second.

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
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from harness import Stack, free_port, get, wait_until
from nvml.stand_in import Scenario, build, gpu_lines

GPUS = 8
LOGS = 4
LINES_PER_SECOND = 200
"""Into each log: a server that answers 200 requests a second."""
ACCESS_LINES_PER_SECOND = 10_000
FIXTURES = Path(__file__).parents[1] / "tests" / "fixtures"
ACCESS = b'INFO:     10.1.2.3:48682 - "POST /v1/chat/completions HTTP/1.1" 200 OK\n'
Load = tuple[dict[str, Any], Callable[[threading.Event], None]]
"""Settings of the agent, and what writes its logs until it is told to stop."""


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


def stats_line() -> bytes:
    stamp = time.strftime("%m-%d %H:%M:%S")
    return (
        f"(APIServer pid=1) INFO {stamp} [loggers.py:335] Engine 000: Avg prompt throughput: 608.9 tokens/s, "
        "Avg generation throughput: 1073.9 tokens/s, Running: 4 reqs, Waiting: 0 reqs\n"
    ).encode()


def as_cri(lines: bytes) -> bytes:
    return b"".join(b"2026-11-23T12:00:00.123456789Z stderr F " + line for line in lines.splitlines(keepends=True))


def as_docker(lines: bytes) -> bytes:
    return b"".join(
        json.dumps(
            {"log": line + "\n", "stream": "stderr", "time": "2026-11-23T12:00:00Z"}, separators=(",", ":")
        ).encode()
        + b"\n"
        for line in lines.decode().splitlines()
    )


def writer_of(streams: dict[Path, Callable[[int], bytes]]) -> Callable[[threading.Event], None]:
    """Ten times a second, each stream's bytes of that tick into its file."""
    for path in streams:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def write(stop: threading.Event) -> None:
        files = {path: path.open("ab", buffering=0) for path in streams}
        ticks = 0
        while not stop.wait(0.1):
            ticks += 1
            for path, stream in streams.items():
                files[path].write(stream(ticks))

    return write


def vllm_stream(lines_per_second: int) -> Callable[[int], bytes]:
    """Access lines all the time, a statistics line every 10 s."""
    access = ACCESS * (lines_per_second // 10)
    return lambda tick: access + (stats_line() if tick % 100 == 0 else b"")


def four_logs(folder: Path) -> Load:
    logs = [folder / f"vllm-{i}.log" for i in range(LOGS)]
    workloads = [{"name": f"w{i}", "log": str(log), "gpus": [2 * i, 2 * i + 1]} for i, log in enumerate(logs)]
    return {"workloads": workloads}, writer_of({log: vllm_stream(LINES_PER_SECOND) for log in logs})


def one_access_log(folder: Path) -> Load:
    log = folder / "access.log"
    workloads = [{"name": "w", "log": str(log), "gpus": [0, 1, 2, 3]}]
    return {"workloads": workloads}, writer_of({log: vllm_stream(ACCESS_LINES_PER_SECOND)})


def mixed_sources(folder: Path) -> Load:
    llamacpp = (FIXTURES / "servers" / "llamacpp" / "run" / "server.log").read_bytes().splitlines(keepends=True)
    sglang = (FIXTURES / "servers" / "sglang" / "0.5-plain.log").read_bytes()
    tgi = (FIXTURES / "servers" / "tgi" / "text.log").read_bytes().splitlines(keepends=True)[-5]
    asked = (FIXTURES / "gateways" / "litellm" / "1.106.log").read_bytes().splitlines(keepends=True)
    pod = folder / "pods" / "prod_chat-0_3a1bc2d4-5e6f-4a7b-8c9d-0e1f2a3b4c5d" / "server" / "0.log"
    plain = vllm_stream(LINES_PER_SECOND)

    def part(lines: list[bytes], tick: int, count: int) -> bytes:
        start = tick * count % (len(lines) - count)
        return b"".join(lines[start : start + count])

    streams: dict[Path, Callable[[int], bytes]] = {
        folder / "vllm.log": plain,
        pod: lambda tick: as_cri(plain(tick)),
        folder / "x-json.log": lambda tick: as_docker(part(llamacpp, tick, 20)),
        folder / "sglang.log": lambda tick: sglang if tick % 5 == 0 else b"",
        folder / "tgi.log": lambda tick: tgi * 5,
        folder / "litellm.jsonl": lambda tick: part(asked, tick, 10).replace(b"chatcmpl-", b"chatcmpl-%d-" % tick),
    }
    names = ("vllm", "pod", "docker", "sglang", "tgi")
    logs = [
        {"name": name, "log": str(path), "gpus": [i]}
        for i, (name, path) in enumerate(zip(names, streams, strict=False))
    ]
    scraped = [{"name": f"scraped{i}", "metrics": show_page(), "gpus": [6 + i]} for i in range(2)]
    gateways = [{"name": "litellm", "log": str(folder / "litellm.jsonl")}]
    return {"workloads": logs + scraped, "gateways": gateways}, writer_of(streams)


def show_page() -> str:
    """The address of a server that shows vLLM's recorded counters."""
    body = (FIXTURES / "servers" / "vllm" / "run" / "metrics.after.prom").read_bytes()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


def our_agent(
    folder: Path, environment: dict[str, str], seconds: float, make: Callable[[Path], Load]
) -> dict[str, Any]:
    folder.mkdir()
    agent, write = make(folder)
    stack = Stack(folder, agent={**agent, "window_length_s": 15, "window_settle_s": 12}, agent_env=environment)
    stop = threading.Event()
    try:
        stack.start_collector()
        stack.start_agent()
        assert stack.agent.process is not None
        pid = stack.agent.process.pid
        os.sched_setaffinity(pid, {0})
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread), {0})
        threading.Thread(target=write, args=(stop,), daemon=True).start()
        time.sleep(30)  # past the first windows, and one scrape of the status page, as Prometheus would
        page = get(f"{stack.agent_url}/metrics").decode()
        events = sum(
            float(line.split()[-1])
            for line in page.splitlines()
            if line.startswith("tokenyield_agent_source_events_total")
        )
        return {**measure(pid, seconds), "events_in_30_s": int(events)}
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
            "logs": our_agent(folder / "logs", environment, arguments.seconds, four_logs),
            "mixed": our_agent(folder / "mixed", environment, arguments.seconds, mixed_sources),
            "access": our_agent(folder / "access", environment, arguments.seconds, one_access_log),
            "nvitop_exporter": nvitop_exporter(folder, environment, arguments.seconds),
        }
    print(json.dumps({"bench": "footprint", "gpus": GPUS, **found}, indent=2))


if __name__ == "__main__":
    main()
