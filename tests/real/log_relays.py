"""What carries a real server's output on real hosts: the kubelet's CRI files with rotation, and systemd's journal."""

import os
import subprocess
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

CRI_PART_BYTES = 16 * 1024
"""As containerd cuts long lines."""
UNIT = "server.service"
JOURNAL_WRITER = "/lib/systemd/systemd-journal-remote"


class Relay:
    """A thread that hands on what is appended to `source`, line by line."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def line(self, text: bytes) -> None:
        raise NotImplementedError

    def _run(self) -> None:
        with self._source.open("rb") as log:
            rest = b""
            while True:
                stopping = self._stop.is_set()
                *lines, rest = (rest + log.read()).split(b"\n")
                for text in lines:
                    self.line(text)
                if stopping:
                    return
                self._stop.wait(0.05)


class PodLog(Relay):
    """As containerd writes a pod's log and the kubelet rotates it: `0.log` becomes `0.log.20261127-010203`."""

    def __init__(self, source: Path, folder: Path, rotate_every_s: float) -> None:
        super().__init__(source)
        folder.mkdir(parents=True)
        self.path = folder / "0.log"
        self._rotate_every_s = rotate_every_s
        self._rotate_at_s = time.monotonic() + rotate_every_s
        self._out: IO[bytes] = self.path.open("ab", buffering=0)

    def stop(self) -> None:
        super().stop()
        self._out.close()

    def line(self, text: bytes) -> None:
        if time.monotonic() >= self._rotate_at_s:
            self._out.close()
            self.path.rename(self.path.with_name(f"0.log.{_now():%Y%m%d-%H%M%S}"))
            self._out = self.path.open("ab", buffering=0)
            self._rotate_at_s = time.monotonic() + self._rotate_every_s
        at = f"{_now():%Y-%m-%dT%H:%M:%S.%f}000Z stderr".encode()
        while len(text) > CRI_PART_BYTES:
            self._out.write(at + b" P " + text[:CRI_PART_BYTES] + b"\n")
            text = text[CRI_PART_BYTES:]
        self._out.write(at + b" F " + text + b"\n")


def _now() -> datetime:
    return datetime.fromtimestamp(time.time_ns() / 1e9, UTC)


def journal_entry(message: bytes, *, at_us: int, mono_us: int, **fields: str) -> bytes:
    """In the journal's export format (systemd.io/JOURNAL_EXPORT_FORMATS). Empty fields are left out."""
    named = {"__REALTIME_TIMESTAMP": str(at_us), "__MONOTONIC_TIMESTAMP": str(mono_us)}
    named |= {"_BOOT_ID": "ab" * 16, "_MACHINE_ID": "cd" * 16, **fields}
    head = "".join(f"{name}={value}\n" for name, value in named.items() if value)
    return head.encode() + b"MESSAGE\n" + len(message).to_bytes(8, "little") + message + b"\n\n"


class JournalLog(Relay):
    """As journald keeps a unit's output: real journal files, written by systemd-journal-remote."""

    def __init__(self, source: Path, folder: Path) -> None:
        super().__init__(source)
        folder.mkdir(parents=True)
        self.folder = folder
        call = [JOURNAL_WRITER, f"--output={folder}/system.journal", "-"]
        self._writer = subprocess.Popen(call, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def line(self, text: bytes) -> None:
        assert self._writer.stdin is not None
        at_us, mono_us = time.time_ns() // 1000, time.monotonic_ns() // 1000
        pid = str(os.getpid())
        self._writer.stdin.write(journal_entry(text, at_us=at_us, mono_us=mono_us, _SYSTEMD_UNIT=UNIT, _PID=pid))
        self._writer.stdin.flush()

    def stop(self) -> None:
        super().stop()
        assert self._writer.stdin is not None
        self._writer.stdin.close()
        self._writer.wait(30)
