"""Batches on disk that have no receipt yet, and the agent's memory, in one file of records.

In: batches with the state that holds once they are taken. Out: the same batches, oldest first, until acknowledged; and
after a restart, the state. What can go wrong: `OSError` from `append` (disk full), after which nothing was written.

Theory. A record is one window-close: the batches and the *resume state* (log positions, open windows, energy counters)
that is true exactly when these batches are counted. Both are under one checksum, so after a kill at any point either
both are there or neither: tokens are then read again from the log, never twice into a batch and never into none.
What a record is on disk: record.py. How records survive kills and damaged disks: segments.py.

Batches with a receipt stay for `keep_bytes`, for a collector that is restored from a backup and lacks them.
"""

import logging
import threading
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tokenyield_agent.shipping.aside import Aside
from tokenyield_agent.shipping.disk import Disk
from tokenyield_agent.shipping.record import SpoolRecord, Undecodable, framed, unsendable
from tokenyield_agent.shipping.segments import SegmentFiles
from tokenyield_wire.window import Batch

log = logging.getLogger(__name__)

GAPS_MAX = 16
SENT_AGAIN_AGE_MAX_MS = 2 * 86_400_000
"""Backups are made daily; what is much older, the collector has forgotten by itself."""


@dataclass(frozen=True, slots=True)
class SpoolPosition:
    """A place between two records."""

    first_seq: int
    """Of its segment."""
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingBatches:
    """Unacknowledged batches, oldest first, where reading goes on after them, and the state after them."""

    epoch: str
    batches: tuple[Batch, ...]
    last_seq: int
    """The last number before `after`: that of the last batch, or of one behind it that was set aside."""
    after: SpoolPosition
    resume: msgspec.Raw


class Spool:
    """Safe for one appending and one shipping thread."""

    def __init__(self, folder: Path, *, bytes_max: int, keep_bytes: int = 0, disk: Disk | None = None) -> None:
        """At most `keep_bytes` of batches that have their receipt stay, of `bytes_max` in all. What can never be
        shipped goes to `rejected` beside the folder. Raises OSError."""
        self._bytes_max = bytes_max
        self._keep_bytes = keep_bytes
        self._lock = threading.Lock()
        self.appended = threading.Event()
        self._refused: set[int] = set()
        """Set aside since the start: not to be sent again."""
        self._unanswerable: list[tuple[int, int]] = []
        self.aside = Aside(folder.with_name("rejected"))
        self._files = SegmentFiles(folder, disk or Disk(), self.aside)
        self.counts = self._files.counts
        self.resume: Any = self._files.resume
        """The state that this start goes on from, as plain values; None in a new spool."""
        self._acknowledged = self._files.acknowledged
        self._position = self._first_unacknowledged()

    @property
    def epoch(self) -> str:
        """Of this spool: its numbers are unique within it."""
        return self._files.epoch

    @property
    def next_seq(self) -> int:
        """The number of the next batch."""
        return self._files.next_seq

    def append(self, batches: list[Batch], resume: Any) -> None:
        """Write `batches` (numbered from `next_seq`) and `resume` durably. A batch that no collector would take is set
        aside, and the numbers close up. Raises OSError, and then wrote nothing; ValueError for a state that is no
        JSON."""
        files = self._files
        sendable = self._sendable(batches)
        turn, next_seq = files.turn + 1, files.next_seq + len(sendable)
        record = SpoolRecord(
            epoch=files.epoch,
            next_seq=next_seq,
            batches=sendable,
            resume=msgspec.Raw(msgspec.json.encode(resume)),
            turn=turn,
        )
        data = framed(record)
        with self._lock:
            if (
                files.write(data, len(sendable), record.last_end_ms)
                and self._position.first_seq == files.segments[-1].first_seq
            ):
                self._position = SpoolPosition(self._position.first_seq, 0)
            files.turn = turn
            self.counts["appended"] += len(sendable)
            files.keep_beside("newest", data)
            self._drop_beyond_bytes()
        self.appended.set()

    def _sendable(self, batches: list[Batch]) -> tuple[Batch, ...]:
        """Those that a collector takes, decoded as it would, numbered from `next_seq`."""
        sendable: list[Batch] = []
        for batch in batches:
            if (unfit := unsendable(batch)) is None:
                sendable.append(msgspec.structs.replace(batch, seq=self.next_seq + len(sendable)))
                continue
            with self._lock:
                self._files.set_aside(unfit._replace(seq=None), f"window-{batch.start_ms}-{batch.end_ms}")
        return tuple(sendable)

    def waiting(self, *, batches_max: int) -> WaitingBatches | None:
        """The oldest unacknowledged batches, at most `batches_max` (at least one record); None when there are none."""
        with self._lock:
            return self._waiting(batches_max)

    def acknowledge(self, waiting: WaitingBatches, *, refused: bool = False) -> None:
        """These batches have their receipt, or were `refused` for good: do not give them again."""
        with self._lock:
            if refused:
                self._refused.update(batch.seq for batch in waiting.batches)
            self._acknowledged = waiting.last_seq
            self._position = waiting.after
            self.counts["acknowledged"] += len(waiting.batches)
            state = waiting.resume
            receipt = SpoolRecord(epoch=waiting.epoch, next_seq=self._acknowledged + 1, batches=(), resume=state)
            self._files.keep_beside("acknowledged", framed(receipt))
            self._forget_acknowledged()

    def send_again(self, gaps: Sequence[tuple[int, int]]) -> None:
        """The collector lacks these ranges of numbers, as after it was restored: give those of them again that are
        still here, and not older than `SENT_AGAIN_AGE_MAX_MS`."""
        with self._lock:
            segments = self._files.segments
            if not segments or list(gaps) == self._unanswerable:
                return
            first_here = segments[0].first_seq
            lacking = {
                seq
                for first, last in gaps[-GAPS_MAX:]
                for seq in range(max(first, first_here), min(last, self._acknowledged) + 1)
            }
            if not lacking:  # gone long ago, or on their way already: then the same gaps may mean something later
                return
            present = self._ends_of(lacking)
            self._files.count_lost(lacking - present.keys() - self._refused)
            oldest_ms = max(segment.last_end_ms for segment in segments) - SENT_AGAIN_AGE_MAX_MS
            here = [seq for seq, end_ms in present.items() if end_ms >= oldest_ms and seq not in self._refused]
            if not here:
                self._unanswerable = list(gaps)
                return
            log.warning("the collector lacks batches from %d on; ships %d again", here[0], len(here))
            self.counts["sent_again"] += len(here)
            self._acknowledged = here[0] - 1
            self._position = self._first_unacknowledged()

    def _ends_of(self, numbers: Set[int]) -> dict[int, int]:
        """Of these batches those that are here -> end of their window (ms)."""
        first, last = min(numbers, default=0), max(numbers, default=-1)
        ends: dict[int, int] = {}
        for segment in self._files.segments:
            if segment.last_seq < first or segment.first_seq > last:
                continue
            for _, record in self._files.records_of(segment, 0):
                ends |= {batch.seq: batch.end_ms for batch in record.batches if batch.seq in numbers}
                self._set_aside(record.undecodable)
        return ends

    def _set_aside(self, batches: Iterable[Undecodable]) -> None:
        for batch in batches:
            if batch.seq is not None and batch.seq not in self._refused:
                self._refused.add(batch.seq)
                self._files.set_aside(batch, "")

    def drop_older_than(self, instant_ms: int) -> None:
        """Give up whole segments of batches that ended before `instant_ms`."""
        with self._lock:
            segments = self._files.segments
            old = [i for i, segment in enumerate(segments[:-1]) if 0 < segment.last_end_ms < instant_ms]
            for _ in range(old[-1] + 1 if old else 0):
                if not self._give_up_oldest("its batches are older than spool_age_max_s"):
                    return

    def set_aside_resume(self, reason: str) -> None:
        """The state of the last run is none that this one can read."""
        with self._lock:
            data = msgspec.json.encode(self.resume)
            self._files.set_aside(Undecodable(None, data, reason), f"state-{self.next_seq}")

    def depth(self) -> tuple[int, int]:
        """(batches without receipt, bytes on disk)."""
        with self._lock:
            return max(0, self._files.next_seq - 1 - self._acknowledged), self._files.size

    # --- reading (under the lock) --------------------------------------------------------------------------------

    def _first_unacknowledged(self) -> SpoolPosition:
        """Before the first record with a batch that has no receipt; else at the end."""
        for segment in self._files.segments:
            if segment.last_seq <= self._acknowledged:
                continue
            before = 0
            for offset, record in self._files.records_of(segment, 0):
                if record.next_seq - 1 > self._acknowledged:
                    return SpoolPosition(segment.first_seq, before)
                before = offset
        newest = self._files.segments[-1] if self._files.segments else None
        return SpoolPosition(newest.first_seq, newest.size) if newest else SpoolPosition(1, 0)

    def _waiting(self, batches_max: int) -> WaitingBatches | None:
        batches: list[Batch] = []
        last_seq, resume, after = self._acknowledged, msgspec.Raw(b"null"), self._position
        for segment in self._files.segments:
            if segment.first_seq < self._position.first_seq:
                continue
            start = self._position.offset if segment.first_seq == self._position.first_seq else 0
            if start >= segment.size:
                continue
            for offset, record in self._files.records_of(segment, start):
                if record.next_seq <= last_seq:
                    continue
                fresh = [batch for batch in record.batches if batch.seq > last_seq]
                if batches and len(batches) + len(fresh) > batches_max:
                    return self._given(batches, last_seq, after, resume)
                self._set_aside(batch for batch in record.undecodable if batch.seq is not None and batch.seq > last_seq)
                batches += fresh
                last_seq = record.next_seq - 1
                resume, after = record.resume, SpoolPosition(segment.first_seq, offset)
        if not batches:
            self._position, self._acknowledged = after, max(self._acknowledged, last_seq)
            return None
        return self._given(batches, last_seq, after, resume)

    def _given(self, batches: list[Batch], last_seq: int, after: SpoolPosition, resume: msgspec.Raw) -> WaitingBatches:
        return WaitingBatches(epoch=self.epoch, batches=tuple(batches), last_seq=last_seq, after=after, resume=resume)

    # --- giving up (under the lock) ------------------------------------------------------------------------------

    def _forget_acknowledged(self) -> None:
        """What has its receipt goes when there is more of it than is to be kept."""
        files = self._files
        while len(files.segments) > 1 and files.segments[0].last_seq <= self._acknowledged:
            kept_bytes = sum(segment.size for segment in files.segments if segment.last_seq <= self._acknowledged)
            if kept_bytes <= self._keep_bytes or not self._delete_oldest():
                return

    def _drop_beyond_bytes(self) -> None:
        while len(self._files.segments) > 1 and self._files.size > self._bytes_max:
            if not self._give_up_oldest("the spool is full (spool_bytes_max)"):
                return

    def _give_up_oldest(self, why: str) -> bool:
        oldest = self._files.segments[0]
        if not self._delete_oldest():
            return False
        first_lost = max(self._acknowledged + 1, oldest.first_seq)
        lost = oldest.last_seq - first_lost + 1
        if lost > 0:
            self.counts["dropped"] += lost
            log.error(
                "gave up %d batches (%d to %d): %s; the collector has not answered for that long",
                lost,
                first_lost,
                oldest.last_seq,
                why,
            )
            self._acknowledged = max(self._acknowledged, oldest.last_seq)
        return True

    def _delete_oldest(self) -> bool:
        oldest = self._files.segments[0]
        if not self._files.delete_oldest():
            return False
        if self._position.first_seq <= oldest.first_seq:
            self._position = SpoolPosition(self._files.segments[0].first_seq, 0)
        return True
