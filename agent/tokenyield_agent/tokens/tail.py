"""Following a log file that others write, rotate, copy and truncate.

In: a path and the marks of the last run. Out: blocks of whole lines as bytes, each line exactly once, in order.
Theory: a file is its device, its inode and the checksum of its first bytes (an inode is reused; a beginning is not).
Each open file has an offset, which only ever moves past whole lines that were returned. The marks of all open files are
all that is remembered: given back at start, reading continues where it was, wherever the files have moved meanwhile.

* **Rename rotation**: the path names another file. The old one is still followed, because its writer may not have
  reopened yet, until a newer file has something in it and the old one has not grown for `LINGER_S`. Rotations that
  happened while the agent was down are found beside the path by number.
* **Truncation and copytruncate**: the file is shorter than the offset, or begins differently. What was written since
  the last poll may still be in copies, which are searched for beside the path; then reading starts at 0. A writer that
  does not append leaves a hole of zero bytes in front, which is skipped.
* **A line longer than LINE_BYTES_MAX** is dropped and counted; a half-written line waits for its newline.
"""

import logging
import os
import re
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

log = logging.getLogger(__name__)

LINE_BYTES_MAX = 256 * 1024
"""Also the size of one read: a line this long is a logged prompt, not statistics, and memory stays bounded."""
POLL_BYTES_MAX = 64 * 1024 * 1024
"""Per poll and log, so that one huge backlog does not delay the readings; the rest is read at the next poll."""
HEAD_BYTES_MAX = 1024
LINGER_S = 10.0
SIBLINGS_MAX = 1000
OPEN_FILES_MAX = 16
"""Per log; a log that is rotated this often while its writer never reopens loses its oldest file."""


class FilePosition(NamedTuple):
    """A byte of a file."""

    device: int
    inode: int
    offset: int


class FileMark(msgspec.Struct, frozen=True, kw_only=True):
    """How far one file is read."""

    device: int
    inode: int
    offset: int
    head_length: int
    head_crc: int
    skipping: bool = False


class TailMark(msgspec.Struct, frozen=True, kw_only=True):
    """How far one log is read: its open files, oldest first. Empty when the file did not exist yet."""

    files: tuple[FileMark, ...] = ()


@dataclass(slots=True)
class _OpenFile:
    fd: int
    device: int
    inode: int
    offset: int = 0
    head_length: int = 0
    head_crc: int = 0
    skipping: bool = False
    grown_at_s: float = 0.0


class Tail:
    """Follows one path. `mark` is what `mark()` gave in the last run; without one, `from_end` says where to begin."""

    def __init__(self, path: str, *, mark: TailMark | None = None, from_end: bool = True) -> None:
        self.path = path
        self._folder = os.path.dirname(path) or "."
        self._rotated_name = re.compile(re.escape(os.path.basename(path)) + r"[.-]\d[\d._T-]*$")
        self._files: list[_OpenFile] = []
        self.problem: str | None = None
        self.at = FilePosition(0, 0, 0)
        """Where the block is that `poll` returned last."""
        self.counts = {"bytes": 0, "rotations": 0, "truncations": 0, "lines_too_long": 0, "files_lost": 0}
        if mark is not None:
            self._reopen(mark)
        elif from_end:
            self._open_at_end()

    def poll(self, now_mono_s: float) -> Iterator[bytes]:
        """Blocks of whole lines written since the last poll. Never raises for a file that cannot be read."""
        self._notice_rotation(now_mono_s)
        budget = POLL_BYTES_MAX
        for file in list(self._files):
            if self._was_truncated(file):
                self.counts["truncations"] += 1
                yield from self._rest_of_copies(file)
                file.offset, file.head_length, file.head_crc, file.skipping = 0, 0, 0, False
            self._grow_head(file)
            for block in self._read(file):
                file.grown_at_s = now_mono_s
                budget -= len(block)
                yield block
                if budget <= 0:
                    return
            if self._is_done(file, now_mono_s):
                yield from self._last_line(file)
                os.close(file.fd)
                self._files.remove(file)

    def mark(self) -> TailMark:
        return TailMark(
            files=tuple(
                FileMark(
                    device=f.device,
                    inode=f.inode,
                    offset=f.offset,
                    head_length=f.head_length,
                    head_crc=f.head_crc,
                    skipping=f.skipping,
                )
                for f in self._files
            )
        )

    def files(self) -> set[tuple[int, int]]:
        """(device, inode) of every file being followed: the path's, and rotated ones still written to."""
        return {(file.device, file.inode) for file in self._files}

    def first_bytes(self, length: int) -> bytes:
        """The beginning of the file being followed; empty where there is none."""
        return os.pread(self._files[0].fd, length, 0) if self._files else b""

    def read_again(self, at: FilePosition, length: int) -> bytes | None:
        """What is there, of a file that is being followed; None for another file."""
        for file in self._files:
            if (file.device, file.inode) == (at.device, at.inode):
                return os.pread(file.fd, length, at.offset)
        return None

    def close(self) -> None:
        for file in self._files:
            os.close(file.fd)
        self._files = []

    # --- which files ---------------------------------------------------------------------------------------------

    def _open(self, path: str) -> _OpenFile | None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not block the readings
        except OSError as error:
            self.set_problem(f"{path}: {error.strerror}")
            return None
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            self.set_problem(f"{path}: is not a regular file")
            return None
        if path == self.path:
            self.set_problem(None)
        return _OpenFile(fd=fd, device=status.st_dev, inode=status.st_ino)

    def set_problem(self, problem: str | None) -> None:
        """Log that the file cannot be read, or can be again."""
        if problem != self.problem:  # once per change of state
            if problem:
                log.warning("log=%s cannot be read now: %s; it is followed as soon as it can be", self.path, problem)
            else:
                log.info("log=%s is being followed", self.path)
            self.problem = problem

    def _open_at_end(self) -> None:
        file = self._open(self.path)
        if file is None:
            return
        file.offset = os.fstat(file.fd).st_size
        if file.offset and os.pread(file.fd, 1, file.offset - 1) != b"\n":
            file.skipping = True  # reading begins in the middle of a line
        self._grow_head(file)
        self._files.append(file)

    def _reopen(self, mark: TailMark) -> None:
        """Find the marked files again, here or rotated away, and the rotations in between that were not read."""
        newest_mtime_ns = -1
        for file_mark in mark.files:
            reopened = self._find(file_mark)
            if reopened is None:
                self.counts["files_lost"] += 1
                log.warning("log=%s a file read before is gone; what was written to it since is not counted", self.path)
                continue
            file, mtime_ns = reopened
            file.offset, file.skipping = file_mark.offset, file_mark.skipping
            file.head_length, file.head_crc = file_mark.head_length, file_mark.head_crc
            self._files.append(file)
            newest_mtime_ns = max(newest_mtime_ns, mtime_ns)
        if not mark.files and os.path.exists(self.path) and (newcomer := self._open(self.path)):
            self._grow_head(newcomer)
            self._files.append(newcomer)  # it appeared while the agent was down
        elif self._files:
            self._add_unseen_rotations(newest_mtime_ns)

    def _find(self, mark: FileMark) -> tuple[_OpenFile, int] | None:
        for path in (self.path, *(path for _, path in self._siblings())):
            try:
                status = os.stat(path)
            except OSError:
                continue
            if (status.st_dev, status.st_ino) != (mark.device, mark.inode):
                continue
            file = self._open(path)
            if file is None:
                return None
            # A file that begins differently was truncated in place (poll handles that) unless it is not at the path.
            if path != self.path and _head_crc(file.fd, mark.head_length) != mark.head_crc:
                os.close(file.fd)
                continue
            return file, status.st_mtime_ns
        return None

    def _siblings(self) -> list[tuple[int, str]]:
        """(mtime_ns, path) of uncompressed rotated files beside the path, oldest first."""
        siblings = []
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if self._rotated_name.match(entry.name) and entry.is_file():
                        siblings.append((entry.stat().st_mtime_ns, entry.path))
                        if len(siblings) >= SIBLINGS_MAX:
                            break
        except OSError:
            return []
        return sorted(siblings)

    def _notice_rotation(self, now_mono_s: float) -> None:
        try:
            status = os.stat(self.path)
        except OSError as error:
            if not self._files:
                self.set_problem(f"{self.path}: {error.strerror}")
            return  # between rename and create, or not there yet
        current = self._files[-1] if self._files else None
        if current is not None and (status.st_dev, status.st_ino) == (current.device, current.inode):
            return
        if any((status.st_dev, status.st_ino) == (f.device, f.inode) for f in self._files):
            return
        if current is not None:
            self.counts["rotations"] += 1
            self._add_unseen_rotations(os.fstat(current.fd).st_mtime_ns)
        file = self._open(self.path)
        if file is not None:
            self._files.append(file)
            for older in self._files[:-1]:
                older.grown_at_s = max(older.grown_at_s, now_mono_s)

    def _is_done(self, file: _OpenFile, now_mono_s: float) -> bool:
        newer = self._files[self._files.index(file) + 1 :]
        if len(newer) >= OPEN_FILES_MAX:
            return True
        return any(f.offset for f in newer) and now_mono_s - file.grown_at_s >= LINGER_S

    def _add_unseen_rotations(self, newer_than_ns: int) -> None:
        known = {(f.device, f.inode) for f in self._files}
        for mtime_ns, path in self._siblings():
            if mtime_ns <= newer_than_ns:
                continue
            file = self._open(path)
            if file is None:
                continue
            copied_from = [f for f in self._files if f.head_length and _head_crc(file.fd, f.head_length) == f.head_crc]
            if (file.device, file.inode) in known or copied_from:  # a copytruncate copy is read at the truncation
                os.close(file.fd)
                continue
            self._files.append(file)

    # --- truncation ----------------------------------------------------------------------------------------------

    def _was_truncated(self, file: _OpenFile) -> bool:
        if os.fstat(file.fd).st_size < file.offset:
            return True
        return file.head_length > 0 and _head_crc(file.fd, file.head_length) != file.head_crc

    def _rest_of_copies(self, file: _OpenFile) -> Iterator[bytes]:
        """What was written to a truncated file after the last poll: the rest of the copy that copytruncate made of it
        first, and all of the copies made since, each with a beginning that was never read."""
        if not file.head_length:
            return
        siblings = [path for _, path in self._siblings()]
        for i in range(len(siblings) - 1, -1, -1):
            if self._is_copy(siblings[i], file):
                yield from self._read_copy(siblings[i], file.offset, skipping=file.skipping)
                for newer in siblings[i + 1 :]:
                    yield from self._read_copy(newer, 0, skipping=False)
                return

    def _is_copy(self, path: str, of: _OpenFile) -> bool:
        copy = self._open(path)
        if copy is None:
            return False
        try:
            is_another = (copy.device, copy.inode) != (of.device, of.inode)
            return is_another and _head_crc(copy.fd, of.head_length) == of.head_crc
        finally:
            os.close(copy.fd)

    def _read_copy(self, path: str, offset: int, *, skipping: bool) -> Iterator[bytes]:
        copy = self._open(path)
        if copy is None:
            return
        try:
            if (copy.device, copy.inode) in self.files():
                return
            copy.offset, copy.skipping = offset, skipping
            yield from self._read(copy)
            yield from self._last_line(copy)
        finally:
            os.close(copy.fd)

    def _grow_head(self, file: _OpenFile) -> None:
        if file.head_length < HEAD_BYTES_MAX:
            head = os.pread(file.fd, HEAD_BYTES_MAX, 0)
            if not head.startswith(b"\0"):
                file.head_length, file.head_crc = len(head), zlib.crc32(head)

    # --- bytes ---------------------------------------------------------------------------------------------------

    def _read(self, file: _OpenFile) -> Iterator[bytes]:
        while True:
            data = os.pread(file.fd, LINE_BYTES_MAX, file.offset)
            if not data:
                return
            if data.startswith(b"\0"):
                if not _skip_hole(file, data):
                    return
                continue
            end = data.rfind(b"\n") + 1
            if not end:
                if len(data) < LINE_BYTES_MAX:
                    return  # half-written: wait for its newline
                self.counts["lines_too_long"] += not file.skipping
                file.skipping = True
                file.offset += len(data)
                continue
            start = data.find(b"\n") + 1 if file.skipping else 0
            file.skipping = False
            self.at = FilePosition(file.device, file.inode, file.offset + start)
            file.offset += end
            self.counts["bytes"] += end
            if start < end:
                yield data[start:end] if start or end < len(data) else data

    def _last_line(self, file: _OpenFile) -> Iterator[bytes]:
        """The unfinished line of a file that is not written to any more."""
        rest = os.pread(file.fd, LINE_BYTES_MAX, file.offset)
        if rest and not file.skipping and not rest.startswith(b"\0"):
            self.at = FilePosition(file.device, file.inode, file.offset)
            file.offset += len(rest)
            yield rest + b"\n"


def _head_crc(fd: int, length: int) -> int | None:
    """Checksum of the first `length` bytes; None where the file is shorter."""
    head = os.pread(fd, length, 0)
    return zlib.crc32(head) if len(head) == length else None


def _skip_hole(file: _OpenFile, data: bytes) -> bool:
    """Move past zero bytes; False when nothing but zeros follows."""
    stripped = data.lstrip(b"\0")
    if stripped:
        file.offset += len(data) - len(stripped)
        return True
    try:
        file.offset = max(os.lseek(file.fd, file.offset, os.SEEK_DATA), file.offset + len(data))
    except OSError:  # ENXIO: a hole up to the end of the file
        return False
    return True
