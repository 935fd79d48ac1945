"""Batches on disk that have no receipt yet, and the agent's memory, in one file of records.

In: batches with the state that holds once they are taken. Out: the same batches, oldest first, until acknowledged; and
after a restart, the state. What can go wrong: `OSError` from `append` (disk full), after which nothing was written.

Theory. A record is one window-close: the batches and the *resume state* (log positions, open windows, energy counters)
that is true exactly when these batches are counted. Both stand under one checksum, so after a kill at any point either
both are there or neither: tokens are then read again from the log, never twice into a batch and never into none.

    record = magic "TYS1" | length u32 | crc32 u32 | zlib(JSON SpoolRecord)        little endian

Records stand in segments named by their first sequence number. A new segment appears by rename with its first record
in it, so the newest segment always ends in a whole record or in a torn tail, which is cut off. The receipt is a small
file naming the last acknowledged number; lost with its machine's power, it costs a repeated shipment, which the
collector recognises by (agent_id, epoch, seq).
"""

import json
import logging
import os
import secrets
import struct
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tokenyield_wire.window import Batch

log = logging.getLogger(__name__)

_MAGIC = b"TYS1"
_HEAD = struct.Struct("<4sII")
SEGMENT_BYTES_MAX = 1 << 20
"""Small enough that dropping the oldest segment of a full spool gives up little at a time."""
RECORD_BYTES_MAX = 64 << 20


class SpoolRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One append. `next_seq` is the number after the last one used when it was written."""

    epoch: str
    next_seq: int
    batches: tuple[Batch, ...]
    resume: msgspec.Raw


@dataclass(slots=True)
class _Segment:
    path: Path
    size: int
    first_seq: int
    last_seq: int
    last_end_ms: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place between two records."""

    first_seq: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Unacknowledged batches of one epoch, oldest first, and where reading goes on after them."""

    epoch: str
    batches: tuple[Batch, ...]
    after: Cursor


class Spool:
    """Safe for one appending and one shipping thread."""

    def __init__(self, folder: Path, *, bytes_max: int) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self.appended = threading.Event()
        self._segments: list[_Segment] = []
        self.counts = {"appended": 0, "acknowledged": 0, "dropped": 0, "torn_tails": 0, "corrupt_records": 0}
        self.resume: Any = None
        """The newest resume state, as plain values; None in a new spool."""
        self.epoch = secrets.token_hex(8)
        self.next_seq = 1
        self._acknowledged = 0
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._cursor = Cursor(1, 0)
        self._load()
        self._cursor = self._find_cursor()

    def append(self, batches: list[Batch], resume: Any) -> None:
        """Write `batches` (numbered from `next_seq`) and `resume` durably. Raises OSError, and then wrote nothing."""
        next_seq = self.next_seq + len(batches)
        record = SpoolRecord(
            epoch=self.epoch,
            next_seq=next_seq,
            batches=tuple(batches),
            resume=msgspec.Raw(msgspec.json.encode(resume)),
        )
        payload = zlib.compress(msgspec.json.encode(record), 1)
        data = _HEAD.pack(_MAGIC, len(payload), zlib.crc32(payload)) + payload
        last_end_ms = max((batch.end_ms for batch in batches), default=0)
        with self._lock:
            newest = self._segments[-1] if self._segments else None
            if newest is None or newest.size + len(data) > SEGMENT_BYTES_MAX:
                self._new_segment(data, last_end_ms)
            else:
                self._append_to(newest, data)
                newest.last_end_ms = max(newest.last_end_ms, last_end_ms)
            self._segments[-1].last_seq = next_seq - 1
            self.next_seq = next_seq
            self.counts["appended"] += len(batches)
            self._drop_beyond_bytes()
        self.appended.set()

    def waiting(self, *, batches_max: int) -> Waiting | None:
        """The oldest unacknowledged batches, at most `batches_max` (at least one record); None when there are none."""
        with self._lock:
            return self._waiting(batches_max)

    def acknowledge(self, waiting: Waiting) -> None:
        """These batches have their receipt (or were set aside): do not give them again."""
        with self._lock:
            self._acknowledged = waiting.batches[-1].seq
            self._cursor = waiting.after
            self.counts["acknowledged"] += len(waiting.batches)
            _replace(self._folder / "acknowledged.json", {"epoch": waiting.epoch, "seq": self._acknowledged})
            while len(self._segments) > 1 and self._segments[0].last_seq <= self._acknowledged:
                self._delete_oldest()

    def drop_older_than(self, instant_ms: int) -> None:
        """Give up whole segments of batches that ended before `instant_ms`."""
        with self._lock:
            while len(self._segments) > 1 and 0 < self._segments[0].last_end_ms < instant_ms:
                self._give_up_oldest("its batches are older than spool_age_max_s")

    def depth(self) -> tuple[int, int]:
        """(batches without receipt, bytes on disk)."""
        with self._lock:
            return max(0, self.next_seq - 1 - self._acknowledged), sum(s.size for s in self._segments)

    # --- opening -------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        for leftover in self._folder.glob("*.new"):
            leftover.unlink()
        for path in sorted(self._folder.glob("*.seg"), key=lambda p: int(p.stem)):
            self._load_segment(path)
        try:
            receipt = json.loads((self._folder / "acknowledged.json").read_bytes())
            if receipt["epoch"] == self.epoch:
                self._acknowledged = int(receipt["seq"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # no receipt: everything is shipped again, and counted once

    def _load_segment(self, path: Path) -> None:
        first_seq = int(path.stem)
        segment = _Segment(path=path, size=0, first_seq=first_seq, last_seq=first_seq - 1, last_end_ms=0)
        size = path.stat().st_size
        for offset, record in _records(path, 0):
            segment.size = offset
            segment.last_seq = record.next_seq - 1
            segment.last_end_ms = max(segment.last_end_ms, max((b.end_ms for b in record.batches), default=0))
            self.epoch, self.next_seq = record.epoch, record.next_seq
            self.resume = msgspec.json.decode(record.resume)
        if segment.size < size:
            self.counts["torn_tails"] += 1
            log.warning("spool segment %s: cut %d bytes of a torn tail", path.name, size - segment.size)
            os.truncate(path, segment.size)
        if segment.size:
            self._segments.append(segment)
        else:
            path.unlink()

    def _find_cursor(self) -> Cursor:
        for segment in self._segments:
            if segment.last_seq <= self._acknowledged:
                continue
            before = 0
            for offset, record in _records(segment.path, 0):
                if record.next_seq - 1 > self._acknowledged:
                    return Cursor(segment.first_seq, before)
                before = offset
        newest = self._segments[-1] if self._segments else None
        return Cursor(newest.first_seq, newest.size) if newest else Cursor(1, 0)

    # --- reading (under the lock) --------------------------------------------------------------------------------

    def _waiting(self, batches_max: int) -> Waiting | None:
        found: list[Batch] = []
        epoch = ""
        after = self._cursor
        for segment in self._segments:
            if segment.first_seq < self._cursor.first_seq:
                continue
            start = self._cursor.offset if segment.first_seq == self._cursor.first_seq else 0
            if start >= segment.size:
                continue
            for offset, record in _records(segment.path, start):
                if epoch and record.epoch != epoch:
                    break
                fresh = [b for b in record.batches if b.seq > self._acknowledged]
                if found and len(found) + len(fresh) > batches_max:
                    return Waiting(epoch=epoch, batches=tuple(found), after=after)
                found += fresh
                epoch = record.epoch if fresh else epoch
                after = Cursor(segment.first_seq, offset)
        if not found:
            self._cursor = after
            return None
        return Waiting(epoch=epoch, batches=tuple(found), after=after)

    # --- writing (under the lock) --------------------------------------------------------------------------------

    def _new_segment(self, data: bytes, last_end_ms: int) -> None:
        path = self._folder / f"{self.next_seq:020d}.seg"
        fresh = path.with_suffix(".new")
        try:
            with fresh.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(path)
            _fsync_folder(self._folder)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        # A segment of nothing but resume states has the name of the next one, and was replaced by it.
        self._segments = [segment for segment in self._segments if segment.path != path]
        if self._cursor.first_seq == self.next_seq:
            self._cursor = Cursor(self.next_seq, 0)
        self._segments.append(
            _Segment(
                path=path, size=len(data), first_seq=self.next_seq, last_seq=self.next_seq - 1, last_end_ms=last_end_ms
            )
        )

    def _append_to(self, segment: _Segment, data: bytes) -> None:
        try:
            with segment.path.open("r+b") as file:
                file.seek(segment.size)
                file.write(data)
                file.flush()
                os.fdatasync(file.fileno())
        except OSError:
            os.truncate(segment.path, segment.size)
            raise
        segment.size += len(data)

    def _drop_beyond_bytes(self) -> None:
        while len(self._segments) > 1 and sum(s.size for s in self._segments) > self._bytes_max:
            self._give_up_oldest("the spool is full (spool_bytes_max)")

    def _give_up_oldest(self, why: str) -> None:
        oldest = self._segments[0]
        lost = max(0, oldest.last_seq - max(self._acknowledged, oldest.first_seq - 1))
        if lost:
            self.counts["dropped"] += lost
            log.error(
                "gave up %d batches (%d to %d): %s; the collector has not answered for that long",
                lost,
                max(self._acknowledged + 1, oldest.first_seq),
                oldest.last_seq,
                why,
            )
            self._acknowledged = max(self._acknowledged, oldest.last_seq)
        self._delete_oldest()

    def _delete_oldest(self) -> None:
        oldest = self._segments.pop(0)
        oldest.path.unlink(missing_ok=True)
        if self._cursor.first_seq <= oldest.first_seq:
            self._cursor = Cursor(self._segments[0].first_seq, 0)


def _records(path: Path, start: int) -> Any:
    """(offset after it, record) of each whole record from `start`; ends at the first that is torn or corrupt."""
    decoder = msgspec.json.Decoder(SpoolRecord)
    with path.open("rb") as file:
        file.seek(start)
        offset = start
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            magic, length, crc = _HEAD.unpack(head)
            if magic != _MAGIC or length > RECORD_BYTES_MAX:
                return
            payload = file.read(length)
            if len(payload) < length or zlib.crc32(payload) != crc:
                return
            offset += _HEAD.size + length
            yield offset, decoder.decode(zlib.decompress(payload))


def _replace(path: Path, document: dict[str, Any]) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(document))
    fresh.replace(path)


def _fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
