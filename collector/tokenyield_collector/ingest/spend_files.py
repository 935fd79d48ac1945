"""Files of spend become documents: JSON, JSON lines, CSV or Parquet, each also packed with gzip.

In: a file. Out: (where in the file, document), one after the other; a table or log of any size is never in memory as a
whole. A JSON document is, and so has a bound. What a file is, is seen from its first bytes.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from tokenyield_collector.spend.format import FILE_START
from tokenyield_collector.spend.values import UnusableSpend

DOCUMENT_BYTES_MAX = 256 * 2**20
"""Of a JSON document; more rows than fit come as JSON lines or as a table."""
LINE_BYTES_MAX = 16 * 2**20
"""Of a line: coding agents write whole answers into one."""
LOG_LINE_BYTES_MAX = 64 * 2**10
"""Of a line of a server's log."""
CELL_CHARS_MAX = 1024 * 1024
PARQUET_ROWS_AT_ONCE = 10_000
PARQUET_MEMORY = "256MB"
GZIP_MAGIC, PARQUET_MAGIC = b"\x1f\x8b", b"PAR1"
_BOM = b"\xef\xbb\xbf"
# Exact money: what JSON writes as 0.06 is 0.06.
_json = msgspec.json.Decoder(float_hook=Decimal)

Documents = Iterator[tuple[str, Any]]
"""An `UnusableSpend` in the place of a document that cannot be read."""


def documents_of(file: Path, *, is_lines: bool, is_log: bool = False) -> Documents:
    """`is_lines`: JSON in it is lines; `is_log`: text in it is lines, too. Raises OSError."""
    if is_log:
        yield "", FILE_START
    with file.open("rb") as opened:
        head = opened.read(4)
        opened.seek(0)
        if head == PARQUET_MAGIC:
            yield from _parquet(file)
        elif head[:2] == GZIP_MAGIC:
            with gzip.open(opened) as unpacked:
                try:
                    yield from _text(io.BufferedReader(unpacked), is_lines=is_lines, is_log=is_log)
                except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                    yield "", UnusableSpend("file", expected="a whole gzip file", found=str(error), fix="copy it again")
        else:
            yield from _text(opened, is_lines=is_lines, is_log=is_log)


def _text(file: BinaryIO, *, is_lines: bool, is_log: bool) -> Documents:
    first = file.readline(LINE_BYTES_MAX + 1).removeprefix(_BOM)
    while first.isspace():
        first = file.readline(LINE_BYTES_MAX + 1)
    start = first.lstrip()[:1]
    if is_log and start != b"{":
        yield from _log_lines(first, file)
    elif is_log and first.strip() == b"{":  # as kubectl writes it
        yield from _one_document(first, file)
    elif start not in (b"{", b"["):
        yield from _csv(first, file)
    elif is_lines or _is_whole(first):
        yield from _json_lines(first, file)
    else:
        yield from _one_document(first, file)


def _is_whole(line: bytes) -> bool:
    try:
        _json.decode(line)
    except msgspec.DecodeError:
        return False
    return True


def _one_document(first: bytes, file: BinaryIO) -> Documents:
    body = first + file.read(DOCUMENT_BYTES_MAX + 1 - len(first))
    if len(body) > DOCUMENT_BYTES_MAX:
        yield "", UnusableSpend("file", expected=f"a JSON document of at most {DOCUMENT_BYTES_MAX} bytes", found="more",
                                fix="save it as JSON lines, or fewer days at once")  # fmt: skip
        return
    try:
        yield "", _json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        yield "", UnusableSpend("file", expected="JSON", found=f"none that can be read ({error})", fix="save it again")


def _json_lines(first: bytes, file: BinaryIO) -> Documents:
    number, line = 0, first
    while line:
        number += 1
        if len(line) > LINE_BYTES_MAX:
            yield f"line {number}", UnusableSpend("line", expected=f"at most {LINE_BYTES_MAX} bytes", found="more")
            while line and not line.endswith(b"\n"):
                line = file.readline(LINE_BYTES_MAX)
        elif not line.isspace():
            try:
                yield f"line {number}", _json.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                yield f"line {number}", UnusableSpend("line", expected="JSON", found=f"none that can be read ({error})")
        line = file.readline(LINE_BYTES_MAX + 1)


def _log_lines(first: bytes, file: BinaryIO) -> Documents:
    number, line = 0, first
    while line:
        number += 1
        if len(line) > LOG_LINE_BYTES_MAX:
            yield f"line {number}", UnusableSpend("line", expected=f"at most {LOG_LINE_BYTES_MAX} bytes", found="more")
            while line and not line.endswith(b"\n"):
                line = file.readline(LOG_LINE_BYTES_MAX)
        elif not line.isspace():
            yield f"line {number}", line.decode("utf-8", "replace").rstrip("\r\n")
        line = file.readline(LOG_LINE_BYTES_MAX + 1)


def _csv(first: bytes, file: BinaryIO) -> Documents:
    def lines() -> Iterator[str]:
        line = first
        while line:
            yield line.decode("utf-8")
            line = file.readline(LINE_BYTES_MAX + 1)

    reader = csv.reader(lines(), strict=True)
    csv.field_size_limit(CELL_CHARS_MAX)
    header: list[str] | None = None
    while True:
        try:
            cells = next(reader, None)
        except UnicodeDecodeError as error:
            yield f"line {reader.line_num + 1}", UnusableSpend("file", expected="UTF-8", found=f"{error.reason}",
                                                               fix="save the file as UTF-8")  # fmt: skip
            return
        except csv.Error as error:
            yield f"line {reader.line_num}", UnusableSpend("line", expected="a line of CSV", found=str(error))
            continue
        if cells is None:
            return
        if not any(cells):
            continue
        if header is None:
            header = [name.strip() for name in cells]
            if len(set(header)) != len(header):
                yield f"line {reader.line_num}", UnusableSpend("header", expected="each column once",
                                                               found=", ".join(header))  # fmt: skip
                return
        elif len(cells) != len(header):
            yield f"line {reader.line_num}", UnusableSpend("line", expected=f"{len(header)} cells as in the header",
                                                           found=str(len(cells)))  # fmt: skip
        else:
            yield f"line {reader.line_num}", dict(zip(header, cells, strict=True))


def _parquet(file: Path) -> Documents:
    import duckdb

    with duckdb.connect(":memory:", config={"threads": 1, "memory_limit": PARQUET_MEMORY}) as connection:
        try:
            relation = connection.execute("SELECT * FROM read_parquet(?)", [str(file)])
            names = [column[0] for column in relation.description or ()]
            number = 0
            while rows := relation.fetchmany(PARQUET_ROWS_AT_ONCE):
                for row in rows:
                    number += 1
                    yield f"row {number}", dict(zip(names, map(plain_value, row), strict=True))
        except duckdb.Error as error:
            yield "", UnusableSpend("file", expected="a Parquet file", found=str(error), fix="copy it again")


def plain_value(value: Any) -> Any:
    """Times as texts, as other formats have them."""
    return value.isoformat() if hasattr(value, "isoformat") else value
