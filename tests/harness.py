"""Runs the two programs as users do: as processes, on loopback, with settings on the command line."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb

STATE_TIMEOUT_S = 120.0
"""How long to wait for a state before a test fails. Far beyond what a busy machine needs: nothing waits for it to pass."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        body: bytes = answer.read()
        return body


def wait_until(condition: Callable[[], bool], timeout_s: float = STATE_TIMEOUT_S, what: str = "") -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"did not happen within {timeout_s} s: {what}"
        time.sleep(0.05)


def answers(url: str) -> bool:
    """Whether it does, with success."""
    try:
        get(url)
    except OSError:
        return False
    return True


class Program:
    """One of the two programs, which can be killed and started again."""

    def __init__(self, module: str, command: str, flags: dict[str, Any], out: Path, env: dict[str, str] | None) -> None:
        self._call = [sys.executable, "-m", module, command]
        for name, value in flags.items():
            self._call += ["--set", f"{name}={value if isinstance(value, (str, int, float)) else json.dumps(value)}"]
        self.env = env or dict(os.environ)
        """Of the process that `start` makes."""
        self.out = out
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, ready_url: str) -> None:
        self.start_without_waiting()
        wait_until(lambda: self._answers(ready_url), what=f"{ready_url}; it said: {self.said()[-3000:]}")

    def start_without_waiting(self) -> None:
        with self.out.open("ab") as out:
            self.process = subprocess.Popen(self._call, stdout=out, stderr=out, env=self.env)

    def _answers(self, url: str) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.said()[-3000:]
        try:
            get(url)
        except OSError:
            return False
        return True

    def said(self) -> str:
        return self.out.read_text(errors="replace") if self.out.exists() else ""

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def terminate(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(STATE_TIMEOUT_S)

    def stop_if_running(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Stack:
    """A collector and one agent in a folder of their own."""

    def __init__(
        self,
        folder: Path,
        *,
        agent: dict[str, Any] | None = None,
        collector: dict[str, Any] | None = None,
        agent_env: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.port, self.agent_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.agent_url = f"http://127.0.0.1:{self.agent_port}"
        self.ledger_path = folder / "ledger.duckdb"
        self.collector = Program(
            "tokenyield_collector.cli",
            "serve",
            {
                "listen": f"127.0.0.1:{self.port}",
                "ledger_path": str(self.ledger_path),
                "refresh_interval_s": 0.5,
                "live_lag_s": 0,
                "live_grid_s": 1,
                **(collector or {}),
            },
            folder / "collector.out",
            None,
        )
        self.agent = Program(
            "tokenyield_agent.cli",
            "run",
            {
                "state_dir": str(folder / "agent"),
                "collector_url": self.url,
                "status_listen": f"127.0.0.1:{self.agent_port}",
                "window_length_s": 5,
                "window_settle_s": 2,
                **(agent or {}),
            },
            folder / "agent.out",
            agent_env,
        )

    def start_collector(self) -> None:
        self.collector.start(f"{self.url}/readyz")

    def start_agent(self) -> None:
        self.agent.start(f"{self.agent_url}/healthz")

    def stop(self) -> None:
        """Orderly: the agent ships what it has, then the collector closes its ledger."""
        assert self.agent.terminate() == 0, self.agent.said()[-3000:]
        assert self.collector.terminate() == 0, self.collector.said()[-3000:]

    def kill_all(self) -> None:
        self.agent.stop_if_running()
        self.collector.stop_if_running()

    def spool_batches(self) -> int:
        match = re.search(rb"^tokenyield_agent_spool_batches (\S+)", get(f"{self.agent_url}/metrics"), re.MULTILINE)
        assert match is not None
        return int(float(match[1]))

    def counted(self, family: str = "tokenyield_tokens_total", label: str = 'kind="completion"') -> int:
        """The sum of a family of the collector's /metrics over the series with this label."""
        lines = get(f"{self.url}/metrics").decode().splitlines()
        return sum(
            int(float(line.rpartition(" ")[2])) for line in lines if line.startswith(family + "{") and label in line
        )

    def wait_for_tokens(self, completion: int) -> None:
        """Until the collector has counted so many completion tokens."""
        try:
            wait_until(lambda: self.counted() >= completion)
        except AssertionError as missing:
            missing.add_note(
                f"{self.counted()} of {completion} tokens are counted; the agent: {self.agent.said()[-2000:]}"
            )
            raise

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Read the closed ledger's file."""
        with duckdb.connect(str(self.ledger_path), read_only=True) as connection:
            rows: list[tuple[Any, ...]] = connection.execute(sql).fetchall()
            return rows
