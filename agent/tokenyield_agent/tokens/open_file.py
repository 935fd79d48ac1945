"""One open log file: how far it is read, and its blocks of whole lines.

In: a path. Out: blocks of bytes. A file is recognized by its device, its inode and the checksum of its first bytes (an
inode is reused; a beginning is not). The offset only ever moves past whole lines that were returned.
"""

import math
import os
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from tokenyield_agent.tokens.log_access import LogAccess

LINE_BYTES_MAX = 256 * 1024
"""Also the size of one read: a line this long is a logged prompt, not statistics, and memory stays bounded."""
HEAD_BYTES_MAX = 1024


@dataclass(slots=True)
class ReadBudget:
    """How much may be read of some files now: bytes, and processor time of this thread until `until_s`."""

    bytes_left: int
    until_s: float = math.inf

    @property
    def is_over(self) -> bool:
        return self.bytes_left <= 0 or time.thread_time() >= self.until_s


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


@dataclass(slots=True)
class OpenFile:
    """`open_file` makes one. `counts` is its log's: `bytes` and `lines_too_long` are counted there."""

    fd: int
    device: int
    inode: int
    counts: dict[str, int]
    offset: int = 0
    head_length: int = 0
    head_crc: int = 0
    skipping: bool = False
    """Up to the next newline: reading began within a line, or the line is too long."""
    grown_at_s: float = 0.0
    block_offset: int = 0

    @property
    def identity(self) -> tuple[int, int]:
        return self.device, self.inode

    @property
    def block_at(self) -> FilePosition:
        """Where the block is that was returned last."""
        return FilePosition(self.device, self.inode, self.block_offset)

    def mark(self) -> FileMark:
        return FileMark(
            device=self.device,
            inode=self.inode,
            offset=self.offset,
            head_length=self.head_length,
            head_crc=self.head_crc,
            skipping=self.skipping,
        )

    def continue_from(self, mark: FileMark) -> None:
        self.offset, self.skipping = mark.offset, mark.skipping
        self.head_length, self.head_crc = mark.head_length, mark.head_crc

    def start_over(self) -> None:
        """It was truncated: read it from its beginning."""
        self.offset, self.head_length, self.head_crc, self.skipping = 0, 0, 0, False

    def go_to_end(self) -> None:
        self.offset = os.fstat(self.fd).st_size
        if self.offset and os.pread(self.fd, 1, self.offset - 1) != b"\n":
            self.skipping = True
        self.grow_head()

    def close(self) -> None:
        os.close(self.fd)

    # --- its beginning -----------------------------------------------------------------------------------------------

    def begins_as(self, head_length: int, head_crc: int) -> bool:
        """Whether its first `head_length` bytes have that checksum; not where it is shorter."""
        head = os.pread(self.fd, head_length, 0)
        return len(head) == head_length and zlib.crc32(head) == head_crc

    def was_truncated(self) -> bool:
        if os.fstat(self.fd).st_size < self.offset:
            return True
        return self.head_length > 0 and not self.begins_as(self.head_length, self.head_crc)

    def grow_head(self) -> None:
        if self.head_length < HEAD_BYTES_MAX:
            head = os.pread(self.fd, HEAD_BYTES_MAX, 0)
            if not head.startswith(b"\0"):
                self.head_length, self.head_crc = len(head), zlib.crc32(head)

    # --- its lines ---------------------------------------------------------------------------------------------------

    def blocks(self, budget: ReadBudget) -> Iterator[bytes]:
        """Whole lines from the offset on, as far as the budget reaches: whatever is read is taken from it, lines or
        not."""
        while not budget.is_over:
            data = os.pread(self.fd, LINE_BYTES_MAX, self.offset)
            if not data:
                return
            budget.bytes_left -= len(data)
            if data.startswith(b"\0"):
                if not self._skip_hole(data):
                    return
                continue
            end = data.rfind(b"\n") + 1
            if not end:
                if len(data) < LINE_BYTES_MAX:
                    return  # half-written: wait for its newline
                self.counts["lines_too_long"] += not self.skipping
                self.skipping = True
                self.offset += len(data)
                continue
            start = data.find(b"\n") + 1 if self.skipping else 0
            self.skipping = False
            self.block_offset = self.offset + start
            self.offset += end
            self.counts["bytes"] += end
            if start < end:
                yield data[start:end] if start or end < len(data) else data

    def last_line(self) -> Iterator[bytes]:
        """The unfinished line of a file that is not written to any more."""
        rest = os.pread(self.fd, LINE_BYTES_MAX, self.offset)
        if rest and not self.skipping and not rest.startswith(b"\0"):
            self.block_offset = self.offset
            self.offset += len(rest)
            yield rest + b"\n"

    def _skip_hole(self, data: bytes) -> bool:
        """Move past zero bytes; False when nothing but zeros follows."""
        stripped = data.lstrip(b"\0")
        if stripped:
            self.offset += len(data) - len(stripped)
            return True
        try:
            self.offset = max(os.lseek(self.fd, self.offset, os.SEEK_DATA), self.offset + len(data))
        except OSError:  # ENXIO: a hole up to the end of the file
            return False
        return True


def open_file(path: str, counts: dict[str, int], access: LogAccess) -> OpenFile:
    """Raises OSError, also for what is not a regular file, or may not be followed."""
    fd, status = access.open(path)
    return OpenFile(fd=fd, device=status.st_dev, inode=status.st_ino, counts=counts)
