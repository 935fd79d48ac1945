"""A large table of spend added up before it is read: rows that differ in their amounts alone become one.

In: a CSV or Parquet file, and which of its columns a source reads (`SpendTable`). Out: rows for the source's reader,
each with how many rows of the file it is (`ROWS`); or None, where the file has to be read row by row: it lacks a
column, is no table that DuckDB reads, or adds up to too many rows. Sums are exact decimals; a row of which an amount
cannot be added up exactly stays a row of its own.
"""

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenyield_collector.ingest.spend_files import (
    GZIP_MAGIC,
    LINE_BYTES_MAX,
    PARQUET_MAGIC,
    PARQUET_MEMORY,
    plain_value,
)
from tokenyield_collector.spend.format import ROWS, SpendTable

GROUPS_MAX = 500_000
_THREADS = 2
_UTC = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.]\d+)?)?(Z|[+]00(:?00)?)?"
_PATTERN = re.compile(r"[*?\[\]{}]")
"""What DuckDB would read as a pattern of many files."""
_SCALE = 18
"""Decimals in which an amount is looked at; 20 digits are left before them."""


def added_up(file: Path, table: SpendTable) -> list[dict[str, Any]] | None:
    """Raises OSError."""
    import duckdb

    with file.open("rb") as opened:
        head = opened.read(4)
    if head[:2] == GZIP_MAGIC or _PATTERN.search(str(file)):
        return None
    with tempfile.TemporaryDirectory(prefix="tokenyield-spend-") as spill:
        settings: dict[str, Any] = {"threads": _THREADS, "memory_limit": PARQUET_MEMORY, "temp_directory": spill}
        with duckdb.connect(":memory:", config=settings) as connection:
            try:
                reads = _read_parquet(file) if head == PARQUET_MAGIC else _read_csv(file)
                columns = {name for name, *_ in connection.execute(f"DESCRIBE SELECT * FROM {reads}").fetchall()}  # noqa: S608
                if not {*table.required, *table.sums} <= columns:
                    return None
                cursor = connection.execute(_statement(reads, table, columns))
                rows = cursor.fetchmany(GROUPS_MAX + 1)
            except duckdb.Error:
                return None
            names = [column[0] for column in cursor.description or ()]
    if len(rows) > GROUPS_MAX:
        return None
    return [dict(zip(names, map(plain_value, row), strict=True)) for row in rows]


def _statement(reads: str, table: SpendTable, columns: Iterable[str]) -> str:
    """Names of columns are those of a source; what a file may choose is never part of it. Rows that the source leaves
    out become one for each value of the column that says so."""
    column, start = table.only
    names = [name for name in table.names if name in columns]
    kept = f"starts_with({_text(column)}, '{start}')"
    inner = [_quoted(column), f"{kept} AS kept"]
    inner += [f"CASE WHEN {kept} THEN {_read(name, table)} END AS {_quoted(name)}" for name in names]
    outer, grouped = [_quoted(name) for name in (column, *names)], ["kept"]
    adds_up = []
    for i, (name, digits) in enumerate(table.sums.items()):
        text = _text(name)
        inner += [
            f"CASE WHEN {kept} THEN {text} END AS text_{i}",
            f"TRY_CAST({text} AS DECIMAL(38, {_SCALE})) AS value_{i}",
        ]
        least = "true" if name == table.money else f"value_{i} >= 0"
        exact = f"coalesce({least} AND value_{i} = round(value_{i}, {digits}), false)"
        adds_up.append(f"(coalesce(text_{i}, '') = '' OR {exact})")
        grouped.append(f"coalesce(text_{i}, '') = ''")
        alone = f"any_value(text_{i})"
        outer.append(f"CASE WHEN alone IS NULL THEN sum(value_{i})::VARCHAR ELSE {alone} END AS {_quoted(name)}")
    return (
        f"SELECT {', '.join(outer)}, count(*) AS {_quoted(ROWS)} FROM ("  # noqa: S608 - names are those of a source
        f"SELECT *, CASE WHEN NOT kept OR ({' AND '.join(adds_up)}) THEN NULL ELSE uuid() END AS alone FROM ("
        f"SELECT {', '.join(inner)} FROM {reads})) "
        f"GROUP BY {', '.join([*map(_quoted, (column, *names)), *grouped, 'alone'])}"
    )


def _read(name: str, table: SpendTable) -> str:
    """A column; of times in UTC only the day."""
    if name != table.day:
        return _quoted(name)
    text = _text(name)
    return f"CASE WHEN regexp_full_match({text}, '{_UTC}') THEN left({text}, 10) ELSE {text} END"


def _read_csv(file: Path) -> str:
    return (f"read_csv({_literal(file)}, all_varchar = true, header = true, delim = ',', quote = '\"', escape = '\"', "
            f"max_line_size = {LINE_BYTES_MAX}, strict_mode = true, null_padding = false)")  # fmt: skip


def _read_parquet(file: Path) -> str:
    return f"read_parquet({_literal(file)})"


def _literal(file: Path) -> str:
    return "'" + str(file).replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(name: str) -> str:
    return f"{_quoted(name)}::VARCHAR"
