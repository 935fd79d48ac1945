"""A record of the spool, and its frame on disk.

    record = magic "TYS1" | length u32 | crc32 u32 | zlib(JSON SpoolRecord)        little endian

A record whose checksum is wrong is passed over: reading goes on at the next magic.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tokenyield_wire.window import Batch

MAGIC = b"TYS1"
HEAD = struct.Struct("<4sII")
RECORD_BYTES_MAX = 64 << 20


class SpoolRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One append. `next_seq` is the number after the last one used when it was written."""

    epoch: str
    next_seq: int
    batches: tuple[Batch, ...]
    resume: msgspec.Raw
    turn: int = 0
    """Which append it was, for records without batches have the numbers of the one before. 0 in spools of before."""

    @property
    def first_seq(self) -> int:
        """The number of its first batch; `next_seq` where it holds none."""
        return self.next_seq - len(self.batches)


_decoder = msgspec.json.Decoder(SpoolRecord)


def framed(record: SpoolRecord) -> bytes:
    """The bytes of a record, as they are on disk."""
    payload = zlib.compress(msgspec.json.encode(record), 1)
    return HEAD.pack(MAGIC, len(payload), zlib.crc32(payload)) + payload


def decoded(data: bytes) -> SpoolRecord | None:
    """The record that `data` begins with; None where it is torn or damaged."""
    if len(data) < HEAD.size:
        return None
    magic, length, crc = HEAD.unpack_from(data)
    payload = data[HEAD.size : HEAD.size + length]
    if magic != MAGIC or length > RECORD_BYTES_MAX or len(payload) < length or zlib.crc32(payload) != crc:
        return None
    try:
        return _decoder.decode(zlib.decompress(payload))
    except (zlib.error, msgspec.DecodeError):
        return None


def records_in(path: Path, start: int) -> Iterator[tuple[int, SpoolRecord]]:
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
