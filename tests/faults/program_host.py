"""The host of the running programs: a server's log that is rotated, and a disk that fills up."""

import os
import random
import subprocess
import threading
from pathlib import Path

from faults.tenant_log import LINE
from harness import wait_until

DISK_BYTES = 8 << 20


class ServerLog:
    """A llama-server's log, written by a thread of its own."""

    def __init__(self, path: Path, chosen: random.Random) -> None:
        self.path, self._chosen = path, chosen
        self.completion = self._requests = self._rotations = 0
        self._lock = threading.Lock()
        self._is_paused, self._stop = threading.Event(), threading.Event()
        self._is_paused.set()  # until the agent is there: it counts a log that is older than itself from its end
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.03):
            if not self._is_paused.is_set():
                self.write()

    def write(self) -> None:
        with self._lock, self.path.open("a") as file:
            self._requests += 1
            completion = self._chosen.randrange(1, 500)
            self.completion += completion
            file.write(LINE.format(n=self._requests, p=9, c=completion, length=9 + completion - 1))

    def pause(self, is_paused: bool) -> None:
        self._is_paused.set() if is_paused else self._is_paused.clear()
        with self._lock:
            return

    def rotate(self) -> bool:
        """Whether there was one."""
        with self._lock:
            if not self.path.exists():
                return False
            self._rotations += 1
            self.path.rename(self.path.with_name(f"{self.path.name}.{self._rotations}"))
            self.path.touch()
            return True

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


class StateDisk:
    """Where the agent keeps its state: a tmpfs that can be filled and made read-only, or a plain folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.is_own = os.geteuid() == 0 and self._mount(f"size={DISK_BYTES}") == 0
        self.was_hurt = False
        """Full or read-only since the agent was last started: then the spool's second copy of its newest record may be
        missing, and a flipped bit in the first one costs more than is promised."""

    def _mount(self, options: str) -> int:
        call = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)]
        return subprocess.run(call, check=False, capture_output=True).returncode

    def fill(self) -> None:
        self.was_hurt = True
        try:
            with (self.folder / "filler").open("wb", buffering=0) as file:
                while file.write(b"\0" * 65536):
                    pass
        except OSError:  # full, or read-only
            return

    def make_read_only(self) -> bool:
        self.was_hurt = True
        return self._mount("remount,ro") == 0

    def heal(self) -> None:
        if self.is_own:
            wait_until(lambda: self._mount("remount,rw") == 0, what=f"{self.folder} can be written again")
            (self.folder / "filler").unlink(missing_ok=True)

    def unmount(self) -> None:
        if self.is_own:
            subprocess.run(["umount", "-l", str(self.folder)], check=False)
