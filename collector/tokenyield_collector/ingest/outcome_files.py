"""Files of outcomes: CSV with a header, or JSON lines. Pure.

In: the bytes of a file. Out: rows, and what was refused, line by line. Columns other than those of outcomes.py are
labels; a first line that begins with a brace makes it JSON lines.
"""

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tokenyield_collector.ingest.outcomes import DEFAULT_SOURCE, AllowedDays, Row, UnusableOutcome, outcome_row

FILE_BYTES_MAX = 64 * 2**20
LINE_CHARS_MAX = 64 * 1024
REFUSALS_KEPT = 1_000
PROGRESS_EVERY = 1_000
_REQUIRED = ("day", "name", "count")


@dataclass
class OutcomeFile:
    """What one file holds. `refused` counts all, `refusals` (line, why) has the first."""

    rows: list[Row] = field(default_factory=list)
    refused: int = 0
    refusals: list[tuple[int, str]] = field(default_factory=list)

    def refuse(self, line: int, why: str) -> None:
        self.refused += 1
        if len(self.refusals) < REFUSALS_KEPT:
            self.refusals.append((line, why))


def read_outcome_file(
    body: bytes, days: AllowedDays, source: str = DEFAULT_SOURCE, progress: Callable[[int], None] = lambda lines: None
) -> OutcomeFile:
    """`source`: of rows that name none. `progress`: lines read so far."""
    read = OutcomeFile()
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        read.refuse(line, f"expected UTF-8, found byte 0x{body[error.start]:02x}; save the file as UTF-8")
        return read
    entries = _json_lines(text, read) if text.lstrip().startswith("{") else _csv_lines(text, read)
    for count, (line, fields) in enumerate(entries, start=1):
        try:
            read.rows.append(outcome_row(fields, days, source))
        except UnusableOutcome as error:
            read.refuse(line, str(error))
        if count % PROGRESS_EVERY == 0:
            progress(line)
    return read


def _json_lines(text: str, read: OutcomeFile) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        if len(line) > LINE_CHARS_MAX:
            read.refuse(number, f"expected at most {LINE_CHARS_MAX} characters, found {len(line)}")
            continue
        try:
            document = msgspec.json.decode(line)
        except msgspec.DecodeError as error:
            read.refuse(number, f"expected a JSON object, found no JSON ({error})")
            continue
        if isinstance(document, dict):
            yield number, document
        else:
            read.refuse(number, f"expected a JSON object, found {type(document).__name__}")


def _csv_lines(text: str, read: OutcomeFile) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            read.refuse(reader.line_num, f"expected a line of CSV, found one that is broken ({error})")
            continue
        if cells is None:
            return
        if not any(cells):
            continue
        if header is None:
            header = [name.strip() for name in cells]
            missing = [name for name in _REQUIRED if name not in header]
            if missing or len(set(header)) != len(header):
                found = ", ".join(header)[:200]
                read.refuse(1, f"expected a header with day, name and count, each column once, found {found}")
                return
        elif len(cells) != len(header):
            read.refuse(reader.line_num, f"expected {len(header)} cells as in the header, found {len(cells)}")
        else:
            yield reader.line_num, dict(zip(header, (cell.strip() for cell in cells), strict=True))
