"""A record of the spool, and its frame on disk.

    record = magic "TYS1" | length u32 | crc32 u32 | zlib(JSON SpoolRecord)        little endian

Torn or damaged is what has the wrong checksum: it is passed over, and reading goes on at the next magic. What has the
right one was written so. A batch in it that does not decode (another version of the agent wrote it) costs itself.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from tokenyield_wire.window import Batch, faults_of_batch

MAGIC = b"TYS1"
HEAD = struct.Struct("<4sII")
RECORD_BYTES_MAX = 64 << 20


class Undecodable(NamedTuple):
    """A batch, or a whole record, as it was written. `seq`: its number; None of a record."""

    seq: int | None
    data: bytes
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolRecord:
    """One append. `next_seq` is the number after the last one used when it was written."""

    epoch: str
    next_seq: int
    batches: tuple[Batch, ...]
    resume: msgspec.Raw
    turn: int = 0
    """Which append it was, for records without batches have the numbers of the one before. 0 in spools of before."""
    undecodable: tuple[Undecodable, ...] = ()
    """Batches of the record that cannot be shipped."""

    @property
    def first_seq(self) -> int:
        """The number of its first batch; `next_seq` where it holds none."""
        return self.next_seq - len(self.batches) - len(self.undecodable)

    @property
    def last_end_ms(self) -> int:
        """When its newest batch ends; 0 where it holds none."""
        return max((batch.end_ms for batch in self.batches), default=0)


class _Written(msgspec.Struct, frozen=True, kw_only=True):
    """A record as it is on disk."""

    epoch: str
    next_seq: int
    batches: tuple[msgspec.Raw, ...]
    resume: msgspec.Raw
    turn: int = 0


_decoder = msgspec.json.Decoder(_Written)
_batch_decoder = msgspec.json.Decoder(Batch)


def framed(record: SpoolRecord) -> bytes:
    """The bytes of a record, as they are on disk."""
    by_seq = {batch.seq: msgspec.json.encode(batch) for batch in record.batches}
    by_seq |= {batch.seq: batch.data for batch in record.undecodable if batch.seq is not None}
    written = _Written(
        epoch=record.epoch,
        next_seq=record.next_seq,
        batches=tuple(msgspec.Raw(data) for _, data in sorted(by_seq.items())),
        resume=record.resume,
        turn=record.turn,
    )
    payload = zlib.compress(msgspec.json.encode(written), 1)
    return HEAD.pack(MAGIC, len(payload), zlib.crc32(payload)) + payload


def unsendable(batch: Batch) -> Undecodable | None:
    """What no collector would take, by the wire's own rules; None for a batch that is to be written."""
    try:
        data = msgspec.json.encode(batch)
    except (ValueError, TypeError, OverflowError) as error:
        return Undecodable(batch.seq, repr(batch).encode("utf-8", "backslashreplace"), str(error))
    try:
        fault = next(faults_of_batch(_batch_decoder.decode(data), "batch"), None)
    except msgspec.DecodeError as error:
        return Undecodable(batch.seq, data, str(error))
    if fault is None:
        return None
    return Undecodable(batch.seq, data, f"{fault.field}: expected {fault.expected}, found {fault.found}")


def decoded(data: bytes) -> SpoolRecord | Undecodable | None:
    """The record that `data` begins with; None where it is torn or damaged."""
    if len(data) < HEAD.size:
        return None
    magic, length, crc = HEAD.unpack_from(data)
    payload = data[HEAD.size : HEAD.size + length]
    if magic != MAGIC or length > RECORD_BYTES_MAX or len(payload) < length or zlib.crc32(payload) != crc:
        return None
    try:
        written = _decoder.decode(zlib.decompress(payload))
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        return Undecodable(None, payload, f"a record of the spool: {error}")
    batches, undecodable = [], []
    for seq, raw in enumerate(written.batches, written.next_seq - len(written.batches)):
        try:
            batches.append(_batch_decoder.decode(raw))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            undecodable.append(Undecodable(seq, bytes(raw), str(error)))
    return SpoolRecord(
        epoch=written.epoch,
        next_seq=written.next_seq,
        batches=tuple(batches),
        resume=written.resume,
        turn=written.turn,
        undecodable=tuple(undecodable),
    )


def records_in(path: Path, start: int) -> Iterator[tuple[int, SpoolRecord | Undecodable]]:
    """(offset after it, record) of each whole record from `start`; passes over what is damaged. Raises OSError."""
    with path.open("rb") as file:
        file.seek(start)
        offset = start
        while head := file.read(HEAD.size):
            length = HEAD.unpack(head)[1] if len(head) == HEAD.size else 0
            record = decoded(head + file.read(length)) if length <= RECORD_BYTES_MAX else None
            if record is None:
                file.seek(offset + 1)
                rest = file.read()
                at = rest.find(MAGIC)
                if at < 0:
                    return
                offset += 1 + at
                file.seek(offset)
                continue
            offset += HEAD.size + length
            yield offset, record
