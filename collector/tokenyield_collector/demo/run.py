"""Run a collector and an agent on this host and show what comes out.

In: how long, which port, perhaps a real log. Out: URLs, a live table, and the last table when it ends.
Real GPUs are read when NVML finds any; else the recorded trace beside this file. What is shown says which.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from tokenyield_collector.demo.live_table import summary_tables

HERE = Path(__file__).parent
START_TIMEOUT_S = 30.0
SHOW_EVERY_S = 1.0
WINDOW_S = 60
REPLAY_SLOWDOWN = 5.0
"""The recorded llama-server answered 203 requests in 7 s; five times slower is a pace that one can watch."""
_ELAPSED = re.compile(rb"^(\d+)\.(\d\d)\.(\d{3})\.(\d{3}) ")
_CLOCK = re.compile(rb"INFO (\d\d-\d\d \d\d:\d\d:\d\d) ")


def run_demo(*, duration_s: float, port: int, log_file: Path | None) -> int:
    """0 when tokens or joules reached the ledger, 1 when the programs did not start."""
    console = Console(width=None if sys.stdout.isatty() else 110)
    with tempfile.TemporaryDirectory(prefix="tokenyield-demo-") as folder:
        demo = _Demo(Path(folder), port, log_file)
        try:
            demo.start()
            for note in demo.notes:
                console.print(note, style="dim", highlight=False)
            summary = _show(demo, console, duration_s)
        except _NotStarted as error:
            console.print(f"[red]{error}[/red]")
            return 1
        finally:
            demo.stop()
    if summary is not None and not console.is_terminal:
        console.print(summary_tables(summary, ()))
    return 0


class _NotStarted(Exception):
    """A program of the demo did not come up; the message ends with what it logged."""


class _Demo:
    """The two programs and the replay that feeds the recorded logs."""

    def __init__(self, folder: Path, port: int, log_file: Path | None) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._folder = folder
        self._agent_port = port + 1
        self._port = port
        self._log_file = log_file
        self._programs: list[subprocess.Popen[bytes]] = []
        self._stop = threading.Event()
        self.notes: list[str] = []

    def start(self) -> None:
        gpus = _real_gpus()
        prices = HERE / ("prices_real.yaml" if gpus else "prices.yaml")
        self._run(
            "collector",
            "tokenyield_collector.cli",
            "serve",
            f"listen=127.0.0.1:{self._port}",
            f"ledger_path={self._folder}/ledger.duckdb",
            f"prices_file={prices}",
            "refresh_interval_s=1",
            "live_lag_s=10",
            "live_grid_s=5",
            f"live_window_s={WINDOW_S}",
        )
        self._wait_for("collector", f"{self.url}/readyz")
        workloads = self._workloads(gpus)
        reader = ["gpu_reader=nvml"] if gpus else ["gpu_reader=trace", f"gpu_trace_file={HERE / 'trace.jsonl'}"]
        self._run(
            "agent",
            "tokenyield_agent.cli",
            "run",
            f"state_dir={self._folder}/agent",
            f"collector_url={self.url}",
            f"status_listen=127.0.0.1:{self._agent_port}",
            "window_length_s=5",
            "window_settle_s=3",
            f"workloads={json.dumps(workloads)}",
            *reader,
        )
        self._wait_for("agent", f"http://127.0.0.1:{self._agent_port}/healthz")
        self.notes += [
            f"collector  {self.url}/ (the page)  {self.url}/v1/summary  {self.url}/metrics",
            f"agent      http://127.0.0.1:{self._agent_port}/metrics",
            "prices     an example price book, not yours",
        ]

    def _workloads(self, gpus: list[str]) -> list[dict[str, Any]]:
        if gpus:
            self.notes.append(f"GPUs       real: {', '.join(gpus)}")
        else:
            header = json.loads((HERE / "trace.jsonl").read_bytes().split(b"\n", 1)[0])
            self.notes.append(f"GPUs       no real one found; {header['label']}")
        if self._log_file is not None:
            self.notes.append(f"tokens     from {self._log_file}")
            return [{"name": self._log_file.stem, "log": str(self._log_file.resolve()), "gpus": []}]
        if gpus:
            self.notes.append("tokens     none: name a server's log with --log to count its tokens")
            return []
        self.notes.append("tokens     recorded logs of llama-server and vLLM 0.32.0, replayed")
        for name, replay in (("chat", _replay_llamacpp), ("summarize", _replay_vllm)):
            target = self._folder / f"{name}.log"
            threading.Thread(target=self._feed, args=(replay(), target), daemon=True).start()
        return [
            {"name": "chat", "log": f"{self._folder}/chat.log", "gpus": [0, 1], "start": "beginning"},
            {"name": "summarize", "log": f"{self._folder}/summarize.log", "gpus": [2], "start": "beginning"},
        ]

    def _feed(self, replay: Iterator[tuple[float, bytes]], target: Path) -> None:
        with target.open("ab", buffering=0) as file:
            for wait_s, line in replay:
                if self._stop.wait(wait_s):
                    return
                file.write(line)

    def _run(self, name: str, module: str, command: str, *flags: str) -> None:
        arguments = [sys.executable, "-m", module, command]
        for flag in flags:
            arguments += ["--set", flag]
        with (self._folder / f"{name}.out").open("wb") as out:
            self._programs.append(subprocess.Popen(arguments, stdout=out, stderr=out, env=_clean_environment()))

    def _wait_for(self, name: str, url: str) -> None:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s and self._programs[-1].poll() is None:
            try:
                with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - our own loopback address
                    return
            except OSError:
                time.sleep(0.1)
        said = (self._folder / f"{name}.out").read_text(errors="replace")[-2000:]
        raise _NotStarted(f"the {name} did not start; it said:\n{said}")

    def summary(self) -> dict[str, Any] | None:
        try:
            with urllib.request.urlopen(f"{self.url}/v1/summary?window_s={WINDOW_S}", timeout=5) as answer:  # noqa: S310
                found: dict[str, Any] = json.load(answer)
                return found
        except (OSError, ValueError, urllib.error.URLError):
            return None

    def stop(self) -> None:
        self._stop.set()
        for program in reversed(self._programs):
            program.terminate()
        for program in self._programs:
            try:
                program.wait(15)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()


def _show(demo: _Demo, console: Console, duration_s: float) -> dict[str, Any] | None:
    """Draw until the time is over or Ctrl-C; returns the last summary."""
    ends_s = time.monotonic() + duration_s if duration_s > 0 else float("inf")
    latest = None
    try:
        with Live(console=console, auto_refresh=False, transient=not console.is_terminal) as live:
            while time.monotonic() < ends_s:
                latest = demo.summary() or latest
                if latest is not None and console.is_terminal:
                    live.update(summary_tables(latest, ()), refresh=True)
                time.sleep(min(SHOW_EVERY_S, max(0.0, ends_s - time.monotonic())))
    except KeyboardInterrupt:
        console.print("stopping")
    return latest


def _real_gpus() -> list[str]:
    """What NVML finds, asked in a process of its own so that this one loads no driver."""
    call = [sys.executable, "-m", "tokenyield_agent.cli", "doctor", "--format", "json"]
    found = subprocess.run(call, capture_output=True, check=False, env=_clean_environment())
    try:
        findings = json.loads(found.stdout)
    except ValueError:
        return []
    return [f["text"] for f in findings["findings"] if f["about"] == "gpu" and f["level"] != "fault"]


def _clean_environment() -> dict[str, str]:
    """Without the user's own TOKENYIELD_ settings, which are for the real programs."""
    ours = ("TOKENYIELD_AGENT_", "TOKENYIELD_COLLECTOR_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def _replay_llamacpp() -> Iterator[tuple[float, bytes]]:
    """(seconds to wait, line) for ever, at the pace of the log's own clock, slowed down."""
    lines = (HERE / "llamacpp.log").read_bytes().splitlines(keepends=True)
    while True:
        before_s: float | None = None
        for line in lines:
            match = _ELAPSED.match(line)
            at_s = before_s
            if match:
                minutes, seconds, millis, _ = (int(group) for group in match.groups())
                at_s = minutes * 60 + seconds + millis / 1000
            wait_s = 0.0 if before_s is None or at_s is None else max(0.0, at_s - before_s)
            before_s = at_s
            yield min(wait_s * REPLAY_SLOWDOWN, 2.0), line


def _replay_vllm() -> Iterator[tuple[float, bytes]]:
    """(seconds to wait, line) for ever: statistics every 10 s with the present time, answers spread between them."""
    lines = (HERE / "vllm.log").read_bytes().splitlines(keepends=True)
    while True:
        stretch: list[bytes] = []
        for line in lines:
            stretch.append(line)
            if b"throughput: " not in line:
                continue
            for part in stretch:
                stamp = time.strftime("%m-%d %H:%M:%S").encode()
                yield 10.0 / len(stretch), _CLOCK.sub(b"INFO " + stamp + b" ", part)
            stretch = []
