"""The thin reader of /proc that binding needs: who is whose parent, and who writes to a log.

Only processes that hold a GPU, and their ancestors, are looked at: a handful on any host, however many run there.
Answers are kept for `REFRESH_S`, because a server's workers do not change parents from one second to the next.
"""

import os
from collections.abc import Iterable, Set

ANCESTORS_MAX = 32
REFRESH_S = 10.0


class Procfs:
    """Reads under `root` (/proc, or a mounted host's). A process that is gone, or not ours to read, has no answer."""

    def __init__(self, root: str = "/proc") -> None:
        self.root = root
        self._ancestors: dict[int, tuple[int, ...]] = {}
        self._expires_s = 0.0

    def ancestors_of(self, pids: Iterable[int], now_mono_s: float) -> dict[int, tuple[int, ...]]:
        """pid -> its parents, nearest first."""
        if now_mono_s >= self._expires_s:
            self._ancestors = {}
            self._expires_s = now_mono_s + REFRESH_S
        for pid in pids:
            if pid not in self._ancestors:
                self._ancestors[pid] = self._walk(pid)
        return self._ancestors

    def _walk(self, pid: int) -> tuple[int, ...]:
        chain: list[int] = []
        parent = self.parent_of(pid)
        while parent is not None and parent > 0 and len(chain) < ANCESTORS_MAX:
            chain.append(parent)
            parent = self.parent_of(parent)
        return tuple(chain)

    def parent_of(self, pid: int) -> int | None:
        try:
            with open(f"{self.root}/{pid}/stat", "rb") as file:
                # The command may hold spaces and parentheses; what follows the last ')' does not.
                return int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            return None

    def command_of(self, pid: int) -> str:
        """The command line, its words joined by spaces; empty for a kernel thread or a process that is gone."""
        try:
            with open(f"{self.root}/{pid}/cmdline", "rb") as file:
                return file.read(4096).replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except OSError:
            return ""

    def writes_to(self, pid: int, files: Set[tuple[int, int]]) -> bool:
        """Whether `pid` has one of `files` (device, inode) open for writing."""
        try:
            descriptors = os.listdir(f"{self.root}/{pid}/fd")
        except OSError:
            return False
        for descriptor in descriptors[:4096]:
            try:
                found = os.stat(f"{self.root}/{pid}/fd/{descriptor}")
                if (found.st_dev, found.st_ino) in files and self._writable(pid, descriptor):
                    return True
            except OSError:
                continue
        return False

    def _writable(self, pid: int, descriptor: str) -> bool:
        with open(f"{self.root}/{pid}/fdinfo/{descriptor}", "rb") as file:
            for line in file:
                if line.startswith(b"flags:"):
                    return int(line.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY
        return False
