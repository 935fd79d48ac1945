"""Batches on disk that have no receipt yet, and the agent's memory, in one file of records.

In: batches with the state that holds once they are taken. Out: the same batches, oldest first, until acknowledged; and
after a restart, the state. What can go wrong: `OSError` from `append` (disk full), after which nothing was written.

Theory. A record is one window-close: the batches and the *resume state* (log positions, open windows, energy counters)
that is true exactly when these batches are counted. Both stand under one checksum, so after a kill at any point either
both are there or neither: tokens are then read again from the log, never twice into a batch and never into none.

    record = magic "TYS1" | length u32 | crc32 u32 | zlib(JSON SpoolRecord)        little endian

Records stand in segments named by their first sequence number. A new segment appears by rename with its first record
in it, so the newest segment always ends in a whole record or in a torn tail, which is cut off. A record whose checksum
is wrong is passed over, and its batches are counted as lost. A spool is of one epoch, its numbers only grow, and a
segment's lie below the name of the next: whole records of which that does not hold (an old block that a disk gives
back, another spool's file) are passed over too.

The newest record stands in a file of its own as well, `newest`: were it damaged after its batches were shipped, their
numbers would be given to others. The receipt is one record more, `acknowledged`: the last acknowledged number and the
state after it. Lost with its machine's power, it costs a repeated shipment, which the collector recognises by
(agent_id, epoch, seq). Where the record of an acknowledged batch is lost instead, the state after it is still known,
and nothing is counted again.

Batches with a receipt stay for `keep_bytes`, in case that the collector is restored from a backup and asks for them.
"""

import logging
import re
import secrets
import struct
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from tokenyield_agent.shipping.disk import Disk
from tokenyield_wire.window import Batch

log = logging.getLogger(__name__)

_MAGIC = b"TYS1"
_HEAD = struct.Struct("<4sII")
SEGMENT_BYTES_MAX = 1 << 20
"""Small enough that dropping the oldest segment of a full spool gives up little at a time."""
RECORD_BYTES_MAX = 64 << 20
GAPS_MAX = 16
LOST_MAX = 1 << 20
"""Numbers counted as lost at once: half a year of windows. More are no loss but a file that says anything."""
_SEGMENT_NAME = re.compile(r"0\d{19}\.seg")
SENT_AGAIN_AGE_MAX_MS = 2 * 86_400_000
"""Backups are made daily; what is much older, the collector has forgotten by itself."""


class SpoolRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One append. `next_seq` is the number after the last one used when it was written."""

    epoch: str
    next_seq: int
    batches: tuple[Batch, ...]
    resume: msgspec.Raw
    turn: int = 0
    """Which append it was, for records without batches have the numbers of the one before. 0 in spools of before."""


@dataclass(slots=True)
class _Segment:
    path: Path
    size: int
    first_seq: int
    last_seq: int
    last_end_ms: int
    """0 where its records were not read: all of them were acknowledged before this start."""
    is_open: bool = False
    """Records may be added: it is the newest, and was read to its end."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place between two records."""

    first_seq: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Unacknowledged batches, oldest first, where reading goes on after them, and the state after them."""

    epoch: str
    batches: tuple[Batch, ...]
    after: Cursor
    resume: msgspec.Raw


class Spool:
    """Safe for one appending and one shipping thread."""

    def __init__(self, folder: Path, *, bytes_max: int, keep_bytes: int = 0, disk: Disk | None = None) -> None:
        """At most `keep_bytes` of batches that have their receipt stay, of `bytes_max` in all."""
        self._folder = folder
        self._bytes_max = bytes_max
        self._keep_bytes = keep_bytes
        self._disk = disk or Disk()
        self._lock = threading.Lock()
        self.appended = threading.Event()
        self._segments: list[_Segment] = []
        self.counts = {"appended": 0, "acknowledged": 0, "dropped": 0, "corrupt": 0, "torn_tails": 0, "sent_again": 0}
        self.resume: Any = None
        """The newest resume state, as plain values; None in a new spool."""
        self.epoch = ""
        self.next_seq = 1
        self._turn = 0
        self._acknowledged = 0
        self._refused: set[int] = set()
        """Set aside since the start: not to be sent again."""
        self._unanswerable: list[tuple[int, int]] = []
        self._lost: set[int] = set()
        """Counted as lost already."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._cursor = Cursor(1, 0)
        self._load()
        self._cursor = self._find_cursor()

    def append(self, batches: list[Batch], resume: Any) -> None:
        """Write `batches` (numbered from `next_seq`) and `resume` durably. Raises OSError, and then wrote nothing."""
        next_seq = self.next_seq + len(batches)
        state = msgspec.Raw(msgspec.json.encode(resume))
        turn = self._turn + 1
        data = _framed(
            SpoolRecord(epoch=self.epoch, next_seq=next_seq, batches=tuple(batches), resume=state, turn=turn)
        )
        with self._lock:
            self._write(data, batches)
            self._turn = turn
            self.counts["appended"] += len(batches)
            self._keep_beside("newest", data)
            self._drop_beyond_bytes()
        self.appended.set()

    def waiting(self, *, batches_max: int) -> Waiting | None:
        """The oldest unacknowledged batches, at most `batches_max` (at least one record); None when there are none."""
        with self._lock:
            return self._waiting(batches_max)

    def acknowledge(self, waiting: Waiting, *, refused: bool = False) -> None:
        """These batches have their receipt, or were `refused` for good: do not give them again."""
        with self._lock:
            if refused:
                self._refused.update(batch.seq for batch in waiting.batches)
            self._acknowledged = waiting.batches[-1].seq
            self._cursor = waiting.after
            self.counts["acknowledged"] += len(waiting.batches)
            state = waiting.resume
            receipt = SpoolRecord(epoch=waiting.epoch, next_seq=self._acknowledged + 1, batches=(), resume=state)
            self._keep_beside("acknowledged", _framed(receipt))
            self._forget_acknowledged()

    def send_again(self, gaps: Sequence[tuple[int, int]]) -> None:
        """The collector lacks these ranges of numbers, as after it was restored: give those of them again that are
        still here, and not older than `SENT_AGAIN_AGE_MAX_MS`."""
        with self._lock:
            if not self._segments or list(gaps) == self._unanswerable:
                return
            first_here = self._segments[0].first_seq
            lacking = {
                seq
                for first, last in gaps[-GAPS_MAX:]
                for seq in range(max(first, first_here), min(last, self._acknowledged) + 1)
            }
            if not lacking:  # gone long ago, or on their way already: then the same gaps may mean something later
                return
            present = self._ends_of(lacking)
            self._count_lost(lacking - present.keys())
            oldest_ms = max(segment.last_end_ms for segment in self._segments) - SENT_AGAIN_AGE_MAX_MS
            here = [seq for seq, end_ms in present.items() if end_ms >= oldest_ms and seq not in self._refused]
            if not here:
                self._unanswerable = list(gaps)
                return
            log.warning("the collector lacks batches from %d on; ships %d again", here[0], len(here))
            self.counts["sent_again"] += len(here)
            self._acknowledged = here[0] - 1
            self._cursor = self._find_cursor()

    def _ends_of(self, numbers: Set[int]) -> dict[int, int]:
        """Of these batches those that are here -> end of their window (ms)."""
        first, last = min(numbers, default=0), max(numbers, default=-1)
        return {
            batch.seq: batch.end_ms
            for segment in self._segments
            if segment.last_seq >= first and segment.first_seq <= last
            for _, record in self._records_of(segment, 0)
            for batch in record.batches
            if batch.seq in numbers
        }

    def drop_older_than(self, instant_ms: int) -> None:
        """Give up whole segments of batches that ended before `instant_ms`."""
        with self._lock:
            old = [i for i, segment in enumerate(self._segments[:-1]) if 0 < segment.last_end_ms < instant_ms]
            for _ in range(old[-1] + 1 if old else 0):
                if not self._give_up_oldest("its batches are older than spool_age_max_s"):
                    return

    def depth(self) -> tuple[int, int]:
        """(batches without receipt, bytes on disk)."""
        with self._lock:
            return max(0, self.next_seq - 1 - self._acknowledged), sum(s.size for s in self._segments)

    # --- opening -------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        for leftover in self._folder.glob("*.new"):
            self._disk.delete(leftover)
        receipt, newest = self._read_beside("acknowledged"), self._read_beside("newest")
        known = newest or receipt
        self.epoch = known.epoch if known else ""
        if receipt is not None and receipt.epoch != self.epoch:
            receipt = None
        paths = sorted(path for path in self._folder.glob("*.seg") if _SEGMENT_NAME.fullmatch(path.name))
        for i, path in enumerate(paths):
            following = int(paths[i + 1].stem) if i + 1 < len(paths) else None
            if receipt is not None and following is not None and following < receipt.next_seq:
                first_seq = int(path.stem)  # all of it has its receipt
                self._segments.append(_Segment(path, path.stat().st_size, first_seq, following - 1, 0))
                self.next_seq = following
            else:
                self._load_segment(path, receipt, following)
        if newest is not None:
            self._write_again(newest)
        self.epoch = self.epoch or secrets.token_hex(8)
        if receipt is None:
            return
        self._acknowledged = receipt.next_seq - 1
        if self.resume is None or receipt.next_seq > self.next_seq:
            # The record of a batch that has its receipt is lost: go on after it.
            self.next_seq = max(self.next_seq, receipt.next_seq)
            self.resume = msgspec.json.decode(receipt.resume)

    def _read_beside(self, name: str) -> SpoolRecord | None:
        try:
            data = (self._folder / name).read_bytes()
        except OSError:
            return None
        return _decoded(data)

    def _write_again(self, newest: SpoolRecord) -> None:
        """The newest record, where the one in its segment is damaged: its batches may have been shipped already."""
        if self.resume is not None and (newest.next_seq, newest.turn) <= (self.next_seq, self._turn):
            return
        first_seq = _first_seq(newest)
        self._count_lost(range(self.next_seq, first_seq))
        self.next_seq, self._turn = first_seq, newest.turn
        self._write(_framed(newest), newest.batches)
        self.resume = msgspec.json.decode(newest.resume)

    def _load_segment(self, path: Path, receipt: SpoolRecord | None, following: int | None) -> None:
        first_seq, size = int(path.stem), path.stat().st_size
        is_newest = following is None
        segment = _Segment(path, 0 if is_newest else size, first_seq, first_seq - 1, 0, is_newest)
        acknowledged = receipt.next_seq if receipt else 0
        if self._segments:
            self._count_lost(range(max(self.next_seq, acknowledged), first_seq))
        self.next_seq = max(self.next_seq, first_seq)
        for offset, record in _records(path, 0):
            if not self._follows(record, following):
                log.warning("spool segment %s: passes over a record that does not follow the one before", path.name)
                continue
            self._count_lost(range(max(self.next_seq, acknowledged), _first_seq(record)))
            if is_newest:
                segment.size = offset
            segment.last_seq = record.next_seq - 1
            segment.last_end_ms = max(segment.last_end_ms, max((b.end_ms for b in record.batches), default=0))
            self.epoch, self.next_seq, self._turn = record.epoch, record.next_seq, record.turn
            self.resume = msgspec.json.decode(record.resume)
        if segment.size < size:
            self.counts["torn_tails"] += 1
            log.warning("spool segment %s: cut %d bytes of a torn tail", path.name, size - segment.size)
            self._disk.truncate(path, segment.size)
        if segment.size:
            self._segments.append(segment)
        else:
            self._disk.delete(path)

    def _follows(self, record: SpoolRecord, before: int | None) -> bool:
        """Whether it may stand after all that was read so far, in a segment of numbers below `before`."""
        is_later = record.next_seq > self.next_seq or not record.turn or record.turn > self._turn
        is_within = self.next_seq <= _first_seq(record) and (before is None or record.next_seq <= before)
        return self.epoch in ("", record.epoch) and is_later and is_within

    def _count_lost(self, numbers: Iterable[int]) -> None:
        lost = set(islice(numbers, LOST_MAX)) - self._lost
        if lost:
            self._lost |= lost
            self.counts["corrupt"] += len(lost)
            log.error(
                "%d batches from %d on are lost: the spool's files were damaged; check the disk", len(lost), min(lost)
            )

    def _find_cursor(self) -> Cursor:
        for segment in self._segments:
            if segment.last_seq <= self._acknowledged:
                continue
            before = 0
            for offset, record in self._records_of(segment, 0):
                if record.next_seq - 1 > self._acknowledged:
                    return Cursor(segment.first_seq, before)
                before = offset
        newest = self._segments[-1] if self._segments else None
        return Cursor(newest.first_seq, newest.size) if newest else Cursor(1, 0)

    # --- reading (under the lock) --------------------------------------------------------------------------------

    def _waiting(self, batches_max: int) -> Waiting | None:
        found: list[Batch] = []
        last_seq, resume, after = self._acknowledged, msgspec.Raw(b"null"), self._cursor
        for segment in self._segments:
            if segment.first_seq < self._cursor.first_seq:
                continue
            start = self._cursor.offset if segment.first_seq == self._cursor.first_seq else 0
            if start >= segment.size:
                continue
            for offset, record in self._records_of(segment, start):
                if record.next_seq <= last_seq:
                    continue
                fresh = [b for b in record.batches if b.seq > last_seq]
                if found and len(found) + len(fresh) > batches_max:
                    return Waiting(epoch=self.epoch, batches=tuple(found), after=after, resume=resume)
                found += fresh
                last_seq = record.next_seq - 1
                resume, after = record.resume, Cursor(segment.first_seq, offset)
        if not found:
            self._cursor = after
            return None
        return Waiting(epoch=self.epoch, batches=tuple(found), after=after, resume=resume)

    def _records_of(self, segment: _Segment, start: int) -> Iterator[tuple[int, SpoolRecord]]:
        """(offset after it, record) of each that is this spool's and this segment's own, from `start`."""
        for offset, record in _records(segment.path, start):
            if record.epoch == self.epoch and record.next_seq - 1 <= segment.last_seq:
                yield offset, record

    # --- writing (under the lock) --------------------------------------------------------------------------------

    def _write(self, data: bytes, batches: Sequence[Batch]) -> None:
        newest = self._segments[-1] if self._segments else None
        last_end_ms = max((batch.end_ms for batch in batches), default=0)
        if newest is None or not newest.is_open or newest.size + len(data) > SEGMENT_BYTES_MAX:
            self._new_segment(data, last_end_ms)
        else:
            self._disk.append(newest.path, newest.size, data)
            newest.size += len(data)
            newest.last_end_ms = max(newest.last_end_ms, last_end_ms)
        self.next_seq += len(batches)
        self._segments[-1].last_seq = self.next_seq - 1

    def _keep_beside(self, name: str, data: bytes) -> None:
        """Not synced: where it is lost, something is shipped twice, or one damaged record costs one window."""
        try:
            self._disk.replace(self._folder / name, data)
        except OSError as error:
            log.debug("%s is not written: %s", name, error)

    def _new_segment(self, data: bytes, last_end_ms: int) -> None:
        path = self._folder / f"{self.next_seq:020d}.seg"
        self._disk.create(path, data)
        # A segment of nothing but resume states has the name of the next one, and was replaced by it.
        self._segments = [segment for segment in self._segments if segment.path != path]
        if self._cursor.first_seq == self.next_seq:
            self._cursor = Cursor(self.next_seq, 0)
        self._segments.append(_Segment(path, len(data), self.next_seq, self.next_seq - 1, last_end_ms, True))

    def _forget_acknowledged(self) -> None:
        """What has its receipt goes when there is more of it than is to be kept."""
        while len(self._segments) > 1 and self._segments[0].last_seq <= self._acknowledged:
            kept = sum(segment.size for segment in self._segments if segment.last_seq <= self._acknowledged)
            if kept <= self._keep_bytes or not self._delete_oldest():
                return

    def _drop_beyond_bytes(self) -> None:
        while len(self._segments) > 1 and sum(s.size for s in self._segments) > self._bytes_max:
            if not self._give_up_oldest("the spool is full (spool_bytes_max)"):
                return

    def _give_up_oldest(self, why: str) -> bool:
        oldest = self._segments[0]
        if not self._delete_oldest():
            return False
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
        return True

    def _delete_oldest(self) -> bool:
        """False where the disk does not let it go; it is tried again with the next one."""
        oldest = self._segments[0]
        try:
            self._disk.delete(oldest.path)
        except OSError as error:
            log.debug("%s is not deleted: %s", oldest.path, error)
            return False
        self._segments.pop(0)
        if self._cursor.first_seq <= oldest.first_seq:
            self._cursor = Cursor(self._segments[0].first_seq, 0)
        return True


def _framed(record: SpoolRecord) -> bytes:
    payload = zlib.compress(msgspec.json.encode(record), 1)
    return _HEAD.pack(_MAGIC, len(payload), zlib.crc32(payload)) + payload


def _first_seq(record: SpoolRecord) -> int:
    return record.next_seq - len(record.batches)


_DECODER = msgspec.json.Decoder(SpoolRecord)


def _decoded(data: bytes) -> SpoolRecord | None:
    """The record that `data` begins with; None where it is torn or damaged."""
    if len(data) < _HEAD.size:
        return None
    magic, length, crc = _HEAD.unpack_from(data)
    payload = data[_HEAD.size : _HEAD.size + length]
    if magic != _MAGIC or length > RECORD_BYTES_MAX or len(payload) < length or zlib.crc32(payload) != crc:
        return None
    try:
        return _DECODER.decode(zlib.decompress(payload))
    except (zlib.error, msgspec.DecodeError):
        return None


def _records(path: Path, start: int) -> Iterator[tuple[int, SpoolRecord]]:
    """(offset after it, record) of each whole record from `start`; passes over what is damaged."""
    with path.open("rb") as file:
        file.seek(start)
        offset = start
        while head := file.read(_HEAD.size):
            length = _HEAD.unpack(head)[1] if len(head) == _HEAD.size else 0
            record = _decoded(head + file.read(length)) if length <= RECORD_BYTES_MAX else None
            if record is None:
                file.seek(offset + 1)
                rest = file.read()
                at = rest.find(_MAGIC)
                if at < 0:
                    return
                offset += 1 + at
                file.seek(offset)
                continue
            offset += _HEAD.size + length
            yield offset, record
