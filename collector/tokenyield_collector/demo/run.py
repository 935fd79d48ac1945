"""Run a collector and an agent on this host and show what comes out.

In: how long, which port, perhaps a real log. Out: URLs, a live table, and the last table when it ends.
Real GPUs are read when NVML finds any; else the recorded trace beside this file. What is shown says which.
"""

import json
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from tokenyield_collector.demo.live_table import summary_tables
from tokenyield_collector.demo.programs import (
    HOST,
    START_TIMEOUT_S,
    DemoFailed,
    Programs,
    Stopped,
    StopSignals,
    check_ports,
    clean_environment,
    free_port,
)
from tokenyield_collector.targets.terminal import cell, terminal
from tokenyield_settings.terminal import show

HERE = Path(__file__).parent
SHOW_EVERY_S = 1.0
WINDOW_S = 60
REPLAY_SLOWDOWN = 5.0
"""The recorded llama-server answered 203 requests in 7 s; five times slower is a pace that one can watch."""
_ELAPSED = re.compile(rb"^(\d+)\.(\d\d)\.(\d{3})\.(\d{3}) ")
_CLOCK = re.compile(rb"INFO (\d\d-\d\d \d\d:\d\d:\d\d) ")


def run_demo(*, duration_s: float, port: int | None, log_file: Path | None) -> int:
    """`port`: None takes one that is free. 0 when it ran for its time or was asked to stop, 1 when it could not begin
    or go on. Leaves nothing behind."""
    console = terminal(width=None if sys.stdout.isatty() else 110)
    with (
        StopSignals() as signals,
        tempfile.TemporaryDirectory(prefix="tokenyield-demo-", ignore_cleanup_errors=True) as folder,
    ):
        demo = _Demo(Path(folder), log_file, signals)
        try:
            if port is None:
                port = free_port()
            else:
                check_ports(port)
            demo.start(port)
            for note in demo.notes:
                console.print(cell(note, "dim"))
            _show(demo, console, duration_s)
        except DemoFailed as error:
            for line in f"demo: {error}".split("\n"):
                show(line, is_error=True)
            return 1
        except Stopped:
            with suppress(OSError):  # the terminal may be gone
                console.print("stopping")
        finally:
            signals.ignore()
            demo.stop()
    if demo.latest is not None and not console.is_terminal:
        with suppress(OSError):
            console.print(summary_tables(demo.latest, ()))
    return 0


class _Demo:
    """The two programs and the replay that feeds the recorded logs."""

    def __init__(self, folder: Path, log_file: Path | None, signals: StopSignals) -> None:
        self.url = ""
        self.latest: dict[str, Any] | None = None
        """The last summary."""
        self._folder = folder
        self._log_file = log_file
        self._programs = Programs(folder, signals)
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._stop = threading.Event()
        self.notes: list[str] = []

    def start(self, port: int) -> None:
        """On `port` and the next one."""
        self.url, agent_port = f"http://{HOST}:{port}", port + 1
        gpus = _real_gpus()
        prices = HERE / ("prices_real.yaml" if gpus else "prices.yaml")
        self._programs.start(
            "collector",
            "tokenyield_collector.cli",
            "serve",
            f"listen={HOST}:{port}",
            f"ledger_path={self._folder}/ledger.duckdb",
            f"prices_file={prices}",
            "refresh_interval_s=1",
            "live_lag_s=10",
            "live_grid_s=5",
            f"live_window_s={WINDOW_S}",
        )
        self._wait_until_ready()
        workloads = self._workloads(gpus)
        reader = ["gpu_reader=nvml"] if gpus else ["gpu_reader=trace", f"gpu_trace_file={HERE / 'trace.jsonl'}"]
        self._programs.start(
            "agent",
            "tokenyield_agent.cli",
            "run",
            f"state_dir={self._folder}/agent",
            f"collector_url={self.url}",
            f"status_listen={HOST}:{agent_port}",
            "window_length_s=5",
            "window_settle_s=3",
            f"workloads={json.dumps(workloads)}",
            *reader,
        )
        self.notes += [
            f"collector  {self.url}/ (the page)  {self.url}/v1/summary  {self.url}/metrics",
            f"agent      http://{HOST}:{agent_port}/metrics",
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

    def _wait_until_ready(self) -> None:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            self._programs.check()
            with suppress(OSError), self._opener.open(f"{self.url}/readyz", timeout=2):
                return
            time.sleep(0.1)
        raise DemoFailed(f"the collector was not ready within {START_TIMEOUT_S:.0f} s; is this host busy? Try again")

    def look(self) -> None:
        """Take the present summary. Raises `DemoFailed` where a program has ended."""
        self._programs.check()
        url = f"{self.url}/v1/summary?window_s={WINDOW_S}"
        with suppress(OSError, ValueError), self._opener.open(url, timeout=5) as answer:
            self.latest = json.load(answer)

    def stop(self) -> None:
        self._stop.set()
        self._programs.stop()


def _show(demo: _Demo, console: Console, duration_s: float) -> None:
    """Draw until the time is over."""
    ends_s = time.monotonic() + duration_s if duration_s > 0 else float("inf")
    with Live(console=console, auto_refresh=False, transient=not console.is_terminal) as live:
        while time.monotonic() < ends_s:
            demo.look()
            if demo.latest is not None and console.is_terminal:
                live.update(summary_tables(demo.latest, ()), refresh=True)
            time.sleep(min(SHOW_EVERY_S, max(0.0, ends_s - time.monotonic())))


def _real_gpus() -> list[str]:
    """What NVML finds, asked in a process of its own so that this one loads no driver."""
    call = [sys.executable, "-m", "tokenyield_agent.cli", "doctor", "--format", "json"]
    found = subprocess.run(call, capture_output=True, check=False, env=clean_environment())
    try:
        findings = json.loads(found.stdout)
    except ValueError:
        return []
    return [f["text"] for f in findings["findings"] if f["about"] == "gpu" and f["level"] != "fault"]


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
