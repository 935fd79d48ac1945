"""Both programs tell systemd that they are ready, alive and stopping, as Type=notify with WatchdogSec wants it."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import Stack

WATCHDOG_US = 2_000_000


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket that systemd would listen on."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    listener.settimeout(20)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", str(WATCHDOG_US))
    yield listener
    listener.close()


def until(listener: socket.socket, wanted: str) -> list[str]:
    """What was told up to `wanted`."""
    told: list[str] = []
    while wanted not in told:
        told.append(listener.recv(4096).decode())
    return told


@pytest.mark.parametrize("program", ["agent", "collector"])
def test_what_systemd_is_told(tmp_path: Path, systemd: socket.socket, program: str) -> None:
    stack = Stack(tmp_path, agent={"gpu_reader": "none", "poll_interval_ms": 500})
    try:
        getattr(stack, f"start_{program}")()
        until(systemd, "READY=1")
        for _ in range(2):
            assert set(until(systemd, "WATCHDOG=1")) <= {"WATCHDOG=1", "READY=1"}
        assert getattr(stack, program).terminate() == 0
        until(systemd, "STOPPING=1")
    finally:
        stack.kill_all()
