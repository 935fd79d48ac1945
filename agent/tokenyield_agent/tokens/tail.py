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

import itertools
import logging
import os
import re
from collections.abc import Iterable, Iterator

import msgspec

from tokenyield_agent.tokens.log_access import LogAccess
from tokenyield_agent.tokens.open_file import FileMark, FilePosition, OpenFile, ReadBudget, open_file

log = logging.getLogger(__name__)

POLL_BYTES_MAX = 16 * 1024 * 1024
"""Per poll and log, whatever is in it, so that none delays the readings; the rest is read at the next poll."""
LINGER_S = 10.0
SIBLINGS_MAX = 1000
ENTRIES_MAX = 20_000
"""Of a log's folder that are looked at for rotated files."""
OPEN_FILES_MAX = 16
"""Per log; a log that is rotated this often while its writer never reopens loses its oldest file."""


class TailMark(msgspec.Struct, frozen=True, kw_only=True):
    """How far one log is read: its open files, oldest first. Empty when the file did not exist yet."""

    files: tuple[FileMark, ...] = ()


class Tail:
    """Follows one path. `mark` is what `mark()` gave in the last run; without one, `from_end` says where to begin."""

    def __init__(
        self,
        path: str,
        *,
        mark: TailMark | None = None,
        from_end: bool = True,
        roots: Iterable[str] = (),
        owner: int | None = None,
    ) -> None:
        """`roots`: folders to which links may lead; `owner`: the uid of its writer, where that is known."""
        self.path = path
        self._folder = os.path.dirname(path) or "."
        self._access = LogAccess(self._folder, roots, owner)
        self._rotated_name = re.compile(re.escape(os.path.basename(path)) + r"[.-]\d[\d._T-]*$")
        self._files: list[OpenFile] = []
        self.problem: str | None = None
        self.at = FilePosition(0, 0, 0)
        """Where the block is that `poll` returned last."""
        self.counts = {"bytes": 0, "rotations": 0, "truncations": 0, "lines_too_long": 0, "files_lost": 0}
        if mark is not None:
            self._reopen(mark)
        elif from_end:
            self._open_at_end()

    def poll(self, now_mono_s: float, budget: ReadBudget | None = None) -> Iterator[bytes]:
        """Blocks of whole lines written since the last poll, as far as the budget reaches. Never raises for a file that
        cannot be read."""
        self._notice_rotation(now_mono_s)
        budget = budget or ReadBudget(POLL_BYTES_MAX)
        for file in list(self._files):
            if file.was_truncated():
                self.counts["truncations"] += 1
                yield from self._rest_of_copies(file, budget)
                file.start_over()
            file.grow_head()
            for block in self._blocks(file.blocks(budget), file):
                file.grown_at_s = now_mono_s
                yield block
            if budget.is_over:
                return
            if self._is_done(file, now_mono_s):
                yield from self._blocks(file.last_line(), file)
                file.close()
                self._files.remove(file)

    def mark(self) -> TailMark:
        return TailMark(files=tuple(file.mark() for file in self._files))

    def files(self) -> set[tuple[int, int]]:
        """(device, inode) of every file being followed: the path's, and rotated ones still written to."""
        return {file.identity for file in self._files}

    def first_bytes(self, length: int) -> bytes:
        """The beginning of the file being followed; empty where there is none."""
        return os.pread(self._files[0].fd, length, 0) if self._files else b""

    def read_again(self, at: FilePosition, length: int) -> bytes | None:
        """What is there, of a file that is being followed; None for another file."""
        for file in self._files:
            if file.identity == (at.device, at.inode):
                return os.pread(file.fd, length, at.offset)
        return None

    def close(self) -> None:
        for file in self._files:
            file.close()
        self._files = []

    def _blocks(self, blocks: Iterator[bytes], file: OpenFile) -> Iterator[bytes]:
        """The same, with `at` set to where each is."""
        for block in blocks:
            self.at = file.block_at
            yield block

    # --- which files ---------------------------------------------------------------------------------------------

    def _open(self, path: str) -> OpenFile | None:
        try:
            file = open_file(path, self.counts, self._access)
        except OSError as error:
            self.set_problem(f"{path}: {error.strerror}")
            return None
        if path == self.path:
            self.set_problem(None)
        return file

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
        file.go_to_end()
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
            file.continue_from(file_mark)
            self._files.append(file)
            newest_mtime_ns = max(newest_mtime_ns, mtime_ns)
        if not mark.files and os.path.exists(self.path) and (newcomer := self._open(self.path)):
            newcomer.grow_head()
            self._files.append(newcomer)  # it appeared while the agent was down
        elif self._files:
            self._add_unseen_rotations(newest_mtime_ns)

    def _find(self, mark: FileMark) -> tuple[OpenFile, int] | None:
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
            if path != self.path and not file.begins_as(mark.head_length, mark.head_crc):
                file.close()
                continue
            return file, status.st_mtime_ns
        return None

    def _siblings(self) -> list[tuple[int, str]]:
        """(mtime_ns, path) of uncompressed rotated files beside the path, oldest first."""
        siblings = []
        try:
            with os.scandir(self._folder) as entries:
                for entry in itertools.islice(entries, ENTRIES_MAX):
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
        if current is not None and (status.st_dev, status.st_ino) == current.identity:
            return
        if (status.st_dev, status.st_ino) in self.files():
            return
        file = self._open(self.path)
        if file is None:
            return
        if file.identity in self.files():
            file.close()
            return
        if current is not None:
            self.counts["rotations"] += 1
            self._add_unseen_rotations(os.fstat(current.fd).st_mtime_ns)
        self._files.append(file)
        for older in self._files[:-1]:
            older.grown_at_s = max(older.grown_at_s, now_mono_s)

    def _is_done(self, file: OpenFile, now_mono_s: float) -> bool:
        newer = self._files[self._files.index(file) + 1 :]
        if len(newer) >= OPEN_FILES_MAX:
            return True
        return any(f.offset for f in newer) and now_mono_s - file.grown_at_s >= LINGER_S

    def _add_unseen_rotations(self, newer_than_ns: int) -> None:
        known = self.files()
        for mtime_ns, path in self._siblings():
            if mtime_ns <= newer_than_ns:
                continue
            file = self._open(path)
            if file is None:
                continue
            copied_from = [f for f in self._files if f.head_length and file.begins_as(f.head_length, f.head_crc)]
            if file.identity in known or copied_from:  # a copytruncate copy is read at the truncation
                file.close()
                continue
            self._files.append(file)

    # --- truncation ----------------------------------------------------------------------------------------------

    def _rest_of_copies(self, file: OpenFile, budget: ReadBudget) -> Iterator[bytes]:
        """What was written to a truncated file after the last poll: the rest of the copy that copytruncate made of it
        first, and all of the copies made since, each with a beginning that was never read."""
        if not file.head_length:
            return
        siblings = [path for _, path in self._siblings()]
        for i in range(len(siblings) - 1, -1, -1):
            if self._is_copy(siblings[i], file):
                yield from self._read_copy(siblings[i], file, budget, file.offset, skipping=file.skipping)
                for newer in siblings[i + 1 :]:
                    yield from self._read_copy(newer, file, budget)
                return

    def _is_copy(self, path: str, of: OpenFile) -> bool:
        copy = self._open(path)
        if copy is None:
            return False
        try:
            return copy.identity != of.identity and copy.begins_as(of.head_length, of.head_crc)
        finally:
            copy.close()

    def _read_copy(
        self, path: str, of: OpenFile, budget: ReadBudget, offset: int = 0, *, skipping: bool = False
    ) -> Iterator[bytes]:
        """What the budget does not reach is read at the next polls, before the file itself."""
        copy = self._open(path)
        if copy is None:
            return
        is_done = True
        try:
            if copy.identity in self.files():
                return
            copy.offset, copy.skipping = offset, skipping
            yield from self._blocks(copy.blocks(budget), copy)
            is_done = not budget.is_over
            if is_done:
                yield from self._blocks(copy.last_line(), copy)
            else:
                copy.grow_head()
                self._files.insert(self._files.index(of), copy)
        finally:
            if is_done:
                copy.close()
