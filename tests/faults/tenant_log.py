"""What a tenant of a host may do with the log of their server: each is done at random, beside a log that is counted."""

import os
import random
import socket
from collections.abc import Callable
from pathlib import Path

from hostile import NAMES

SCATTERED_BYTES = 1 << 18
LINE = (
    "0.0 I slot print_timing: id  0 | task {n} | prompt eval time =       4.70 ms /   {p} tokens (    0.03 ms per token)\n"
    "0.0 I slot print_timing: id  0 | task {n} |        eval time =      17.03 ms /     {c} tokens (    4.26 ms per token)\n"
    "0.0 I slot      release: id  0 | task {n} | stop processing: n_tokens = {length}, truncated = 0\n"
)


class TenantLog:
    """A log that a tenant of an honest host owns, beside the one of `w` that is counted."""

    def __init__(self, path: Path, victim: Path, chosen: random.Random) -> None:
        self.path, self._victim, self._chosen = path, victim, chosen
        self._n = 0

    def step(self) -> str | None:
        """The name of the trick, if there is one this time."""
        if self._chosen.random() < 0.7:
            return None
        trick: Callable[[], None] = self._chosen.choice(TRICKS).__get__(self)
        trick()
        return trick.__name__

    def _put(self, make: Callable[[Path], object]) -> None:
        """In the log's place."""
        fresh = self.path.with_name(f"{self.path.name}.new")
        if fresh.is_dir() and not fresh.is_symlink():
            fresh.rmdir()
        fresh.unlink(missing_ok=True)
        make(fresh)
        if self.path.is_dir() and not self.path.is_symlink():
            self.path.rmdir()
        fresh.rename(self.path)

    def link_to_the_victim(self) -> None:
        self._put(lambda fresh: fresh.symlink_to(self._victim))

    def link_to_a_device(self) -> None:
        self._put(lambda fresh: fresh.symlink_to("/dev/zero"))

    def fifo(self) -> None:
        self._put(lambda fresh: os.mkfifo(fresh))

    def device(self) -> None:
        if os.geteuid() == 0:
            self._put(lambda fresh: os.mknod(fresh, 0o20666, os.makedev(1, 5)))

    def folder(self) -> None:
        if not self.path.is_symlink() and self.path.exists() and not self.path.is_dir():
            self.path.unlink()
        if not self.path.exists() and not self.path.is_symlink():
            self.path.mkdir()

    def local_socket(self) -> None:
        def make(fresh: Path) -> None:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(os.path.relpath(fresh))

        self._put(make)

    def gone(self) -> None:
        if self.path.is_dir() and not self.path.is_symlink():
            self.path.rmdir()
        else:
            self.path.unlink(missing_ok=True)

    def truncated(self) -> None:
        if self._is_file():
            os.truncate(self.path, self._chosen.randrange(self.path.stat().st_size + 1))

    def rotated(self) -> None:
        if self._is_file():
            self._n += 1
            self.path.rename(self.path.with_name(f"{self.path.name}.{self._n}"))

    def scattered_bytes(self) -> None:
        self._write(b"x\0" * (SCATTERED_BYTES // 2))

    def a_line_that_grows(self) -> None:
        self._write(b"0.0 I slot print_timing: id  0 | task " * 400)

    def odd_lines(self) -> None:
        text = "".join(
            f"0.0 I slot print_timing: {name} | task 1 | eval time = 1 ms / {10**30} tokens\n" for name in NAMES
        )
        self._write(text.encode())

    def lines(self) -> None:
        self._n += 1
        self._write(LINE.format(n=self._n, p=9, c=self._chosen.choice([1, 2**40, 2**70]), length=9).encode())

    def _is_file(self) -> bool:
        return self.path.is_file() and not self.path.is_symlink()

    def _write(self, content: bytes) -> None:
        if not self._is_file():
            self._put(lambda fresh: fresh.write_bytes(content))
            return
        with self.path.open("ab") as file:
            file.write(content)


TRICKS = tuple(
    getattr(TenantLog, name)
    for name in ("link_to_the_victim", "link_to_a_device", "fifo", "device", "folder", "local_socket", "gone", "truncated",
                 "rotated", "scattered_bytes", "a_line_that_grows", "odd_lines", "lines", "lines", "lines")
)  # fmt: skip
