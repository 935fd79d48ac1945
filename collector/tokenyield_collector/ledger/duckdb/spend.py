"""Slices of spend in a DuckDB ledger: a row a line. Writing is of the writing thread only."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from tokenyield_collector.ledger.duckdb.bulk_insert import insert_rows, make_table
from tokenyield_collector.ledger.duckdb.file import DuckDbFile
from tokenyield_collector.ledger.spend import SPEND_COLUMNS, SPEND_LINE_COLUMNS, slice_of
from tokenyield_collector.spend.slices import EVIDENCE_SOURCE, SpendKey, SpendSlice

_KEYS = SpendKey._fields
_COLUMNS = ", ".join((*_KEYS, "layer", *SPEND_LINE_COLUMNS))
_ORDER = ", ".join((*_KEYS, *SPEND_LINE_COLUMNS[: SPEND_LINE_COLUMNS.index("currency") + 1], "cost_micro IS NULL"))


def replace_spend(file: DuckDbFile, slices: Sequence[SpendSlice], imported_ms: int) -> None:
    """See `Ledger.replace_spend`."""
    write_spend(file, [(one, imported_ms) for one in slices])


def write_spend(file: DuckDbFile, slices: Sequence[tuple[SpendSlice, int]]) -> None:
    if not slices:
        return
    rows = [
        (*key, layer, *fields, *amounts, imported_ms)
        for (key, layer, lines), imported_ms in slices
        for fields, amounts in lines
    ]
    with file.transaction("cannot be written"):
        make_table(file.connection, "replaced_spend", _KEYS, [tuple(one.key) for one, _ in slices])
        same = " AND ".join(f"spend.{name} = replaced_spend.{name}" for name in _KEYS)
        file.connection.execute(f"DELETE FROM spend USING replaced_spend WHERE {same}")
        insert_rows(file.connection, "spend", SPEND_COLUMNS, rows)
        file.connection.execute("DROP TABLE replaced_spend")


def read_spend(connection: Any, start_ms: int, end_ms: int) -> list[SpendSlice]:
    """See `Ledger.spend`."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM spend WHERE day_ms >= ? AND day_ms < ? ORDER BY {_ORDER}", [start_ms, end_ms]
    ).fetchall()
    width = len(_KEYS) + 1
    return [
        slice_of(SpendKey(*head[:-1]), head[-1], [row[width:] for row in lines])
        for head, lines in groupby(rows, lambda row: row[:width])
    ]


def spend_days(connection: Any) -> tuple[int, int] | None:
    """See `Ledger.spend_days`."""
    first_ms, last_ms = connection.execute(
        "SELECT min(day_ms), max(day_ms) FROM spend WHERE source <> ?", [EVIDENCE_SOURCE]
    ).fetchone()
    return None if first_ms is None else (first_ms, last_ms)


def spend_days_of(connection: Any, source: str, account: str, grain: str) -> list[int]:
    """See `Ledger.spend_days_of`."""
    rows = connection.execute(
        "SELECT DISTINCT day_ms FROM spend WHERE source = ? AND account = ? AND grain = ? ORDER BY day_ms",
        [source, account, grain],
    ).fetchall()
    return [day_ms for (day_ms,) in rows]


def spend_revision(connection: Any, start_ms: int, end_ms: int) -> str:
    """See `Ledger.spend_revision`."""
    columns = ", ".join(SPEND_COLUMNS[:-1])  # when it was imported makes no difference
    row = connection.execute(
        f"SELECT count(*), bit_xor(hash({columns})) FROM spend WHERE source <> ? AND day_ms >= ? AND day_ms < ?",
        [EVIDENCE_SOURCE, start_ms, end_ms],
    ).fetchone()
    return f"{row[0]}-{row[1]}" if row[0] else ""
