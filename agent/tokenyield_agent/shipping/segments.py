"""The spool's files: segments of records, and two records beside them.

In: a folder as the last run, or what killed it, left it. Out: its segments, and the newest state that can be trusted;
then records are written and read. What can go wrong: `OSError` from `write`, after which nothing was written.

Theory. Segments are named by their first sequence number. A new one appears by rename with its first record in it, so
the newest segment always ends in a whole record or in a torn tail, which is cut off: torn is only what fails its
checksum. A record whose checksum is wrong is passed over, and its batches are counted as lost; what has the right one
and cannot be decoded is set aside. A spool is of one epoch, its numbers only grow, and a segment's are
below the name of the next: whole records of which that does not hold (an old block that a disk gives back, another
spool's file) are passed over too.

The newest record is in a file of its own as well, `newest`: were it damaged after its batches were shipped, their
numbers would be given to others. The receipt is one record more, `acknowledged`: the last acknowledged number and the
state after it. Lost with its machine's power, it costs a repeated shipment, which the collector recognises by
(agent_id, epoch, seq). Where the record of an acknowledged batch is lost instead, the state after it is still known,
and nothing is counted again.
"""

import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from tokenyield_agent.shipping.aside import Aside
from tokenyield_agent.shipping.disk import Disk
from tokenyield_agent.shipping.record import SpoolRecord, Undecodable, decoded, framed, records_in

log = logging.getLogger(__name__)

SEGMENT_BYTES_MAX = 1 << 20
"""Small enough that dropping the oldest segment of a full spool gives up little at a time."""
COUNTED = ("appended", "acknowledged", "dropped", "corrupt", "torn_tails", "sent_again", "unsendable")
LOST_MAX = 1 << 20
"""Numbers counted as lost at once: half a year of windows. More are not a loss but a damaged file."""
_SEGMENT_NAME = re.compile(r"0\d{19}\.seg")


@dataclass(slots=True)
class Segment:
    """One file of records."""

    path: Path
    size: int
    first_seq: int
    last_seq: int
    last_end_ms: int
    """0 where its records were not read: all of them were acknowledged before this start."""
    is_open: bool = False
    """Records may be added: it is the newest, and was read to its end."""


class SegmentFiles:
    """The files of one spool. Not safe for several threads."""

    def __init__(self, folder: Path, disk: Disk, aside: Aside) -> None:
        """Opens what is there, or makes the folder. Raises OSError."""
        self._folder = folder
        self._disk = disk
        self._aside = aside
        self._set_aside: set[str] = set()
        """Names of what was set aside since the start."""
        self.segments: list[Segment] = []
        """Oldest first."""
        self.counts = dict.fromkeys(COUNTED, 0)
        self.resume: Any = None
        """The newest resume state, as plain values; None in a new spool."""
        self.epoch = ""
        self.next_seq = 1
        self.turn = 0
        self.acknowledged = 0
        """The last number that has its receipt, by the files, at the start."""
        self._lost: set[int] = set()
        """Counted as lost already."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._load()

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in self.segments)

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
                self.segments.append(Segment(path, path.stat().st_size, first_seq, following - 1, 0))
                self.next_seq = following
            else:
                self._load_segment(path, receipt, following)
        if newest is not None:
            self._write_again(newest)
        self.epoch = self.epoch or os.urandom(8).hex()
        if receipt is None:
            return
        self.acknowledged = receipt.next_seq - 1
        if self.resume is None or receipt.next_seq > self.next_seq:
            # The record of a batch that has its receipt is lost: go on after it.
            self.next_seq = max(self.next_seq, receipt.next_seq)
            self.resume = msgspec.json.decode(receipt.resume)

    def _read_beside(self, name: str) -> SpoolRecord | None:
        try:
            data = (self._folder / name).read_bytes()
        except OSError:
            return None
        record = decoded(data)
        if isinstance(record, Undecodable):
            self.set_aside(record, name)
            return None
        return record

    def _write_again(self, newest: SpoolRecord) -> None:
        """The newest record, where the one in its segment is damaged: its batches may have been shipped already."""
        if self.resume is not None and (newest.next_seq, newest.turn) <= (self.next_seq, self.turn):
            return
        self.count_lost(range(self.next_seq, newest.first_seq))
        self.next_seq, self.turn = newest.first_seq, newest.turn
        self.write(framed(newest), newest.next_seq - newest.first_seq, newest.last_end_ms)
        self.resume = msgspec.json.decode(newest.resume)

    def _load_segment(self, path: Path, receipt: SpoolRecord | None, following: int | None) -> None:
        first_seq, size = int(path.stem), path.stat().st_size
        is_newest = following is None
        segment = Segment(path, 0 if is_newest else size, first_seq, first_seq - 1, 0, is_newest)
        acknowledged = receipt.next_seq if receipt else 0
        if self.segments:
            self.count_lost(range(max(self.next_seq, acknowledged), first_seq))
        self.next_seq = max(self.next_seq, first_seq)
        for offset, record in records_in(path, 0):
            if isinstance(record, Undecodable):
                self.set_aside(record, f"{path.stem}-{offset}")
                segment.size = offset if is_newest else size
                continue
            if not self._follows(record, following):
                log.warning("spool segment %s: passes over a record that does not follow the one before", path.name)
                continue
            self.count_lost(range(max(self.next_seq, acknowledged), record.first_seq))
            if is_newest:
                segment.size = offset
            segment.last_seq = record.next_seq - 1
            segment.last_end_ms = max(segment.last_end_ms, record.last_end_ms)
            self.epoch, self.next_seq, self.turn = record.epoch, record.next_seq, record.turn
            self.resume = msgspec.json.decode(record.resume)
        if segment.size < size:
            self.counts["torn_tails"] += 1
            log.warning("spool segment %s: cut %d bytes of a torn tail", path.name, size - segment.size)
            self._disk.truncate(path, segment.size)
        if segment.size:
            self.segments.append(segment)
        else:
            self._disk.delete(path)

    def _follows(self, record: SpoolRecord, before: int | None) -> bool:
        """Whether it may come after all that was read so far, in a segment of numbers below `before`."""
        is_later = record.next_seq > self.next_seq or not record.turn or record.turn > self.turn
        is_within = self.next_seq <= record.first_seq and (before is None or record.next_seq <= before)
        return self.epoch in ("", record.epoch) and is_later and is_within

    def set_aside(self, record: Undecodable, where: str) -> None:
        """What cannot be shipped, each once, however often it is read."""
        name = f"{self.epoch}-{record.seq}.json" if record.seq is not None else f"{where}.record"
        if name not in self._set_aside:
            self._set_aside.add(name)
            self.counts["unsendable"] += 1
            self._aside.keep(name, record.data, record.reason)

    def count_lost(self, numbers: Iterable[int]) -> None:
        """Each number once, however often it is given."""
        lost = set(islice(numbers, LOST_MAX)) - self._lost
        if lost:
            self._lost |= lost
            self.counts["corrupt"] += len(lost)
            log.error(
                "%d batches from %d on are lost: the spool's files were damaged; check the disk", len(lost), min(lost)
            )

    # --- reading and writing -------------------------------------------------------------------------------------

    def records_of(self, segment: Segment, start: int) -> Iterator[tuple[int, SpoolRecord]]:
        """(offset after it, record) of each that is this spool's and this segment's own, from `start`."""
        for offset, record in records_in(segment.path, start):
            if (
                isinstance(record, SpoolRecord)
                and record.epoch == self.epoch
                and record.next_seq - 1 <= segment.last_seq
            ):
                yield offset, record

    def write(self, data: bytes, count: int, last_end_ms: int) -> bool:
        """A framed record of `count` batches; whether it began a new segment. Raises OSError, and wrote nothing."""
        newest = self.segments[-1] if self.segments else None
        is_new = newest is None or not newest.is_open or newest.size + len(data) > SEGMENT_BYTES_MAX
        if newest is None or is_new:
            self._new_segment(data, last_end_ms)
        else:
            self._disk.append(newest.path, newest.size, data)
            newest.size += len(data)
            newest.last_end_ms = max(newest.last_end_ms, last_end_ms)
        self.next_seq += count
        self.segments[-1].last_seq = self.next_seq - 1
        return is_new

    def _new_segment(self, data: bytes, last_end_ms: int) -> None:
        path = self._folder / f"{self.next_seq:020d}.seg"
        self._disk.create(path, data)
        # A segment of nothing but resume states has the name of the next one, and was replaced by it.
        self.segments = [segment for segment in self.segments if segment.path != path]
        self.segments.append(Segment(path, len(data), self.next_seq, self.next_seq - 1, last_end_ms, True))

    def keep_beside(self, name: str, data: bytes) -> None:
        """Not synced: where it is lost, something is shipped twice, or one damaged record costs one window."""
        try:
            self._disk.replace(self._folder / name, data)
        except OSError as error:
            log.debug("%s is not written: %s", name, error)

    def delete_oldest(self) -> bool:
        """False where the disk does not let it go; it is tried again with the next one."""
        oldest = self.segments[0]
        try:
            self._disk.delete(oldest.path)
        except OSError as error:
            log.debug("%s is not deleted: %s", oldest.path, error)
            return False
        self.segments.pop(0)
        return True
