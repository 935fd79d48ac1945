"""Slices of spend in a ClickHouse ledger: each is one row, its lines are nested columns, and a later import replaces it
whole (ReplacingMergeTree)."""

import hashlib
from collections.abc import Sequence
from typing import Any

from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_collector.ledger.spend import SPEND_LINE_COLUMNS, slice_of
from tokenyield_collector.spend.slices import EVIDENCE_SOURCE, SpendKey, SpendSlice
from tokenyield_wire.units import MS_PER_DAY

_NESTED = [f"lines.{name}" for name in SPEND_LINE_COLUMNS]
_HEAD = [*SpendKey._fields, "layer"]
_WITHIN = "FROM {spend} FINAL WHERE day_ms >= %d AND day_ms < %d"


def replace_spend(tables: ClickHouseTables, slices: Sequence[SpendSlice], imported_ms: int) -> None:
    """See `Ledger.replace_spend`. Of two imports at once the later one stays; its `version` is above all others."""
    if not slices:
        return
    ((newest,),) = tables.rows("SELECT max(version) FROM {spend}")
    write_spend(tables, [(one, imported_ms) for one in slices], max(imported_ms, int(newest or 0) + 1))


def write_spend(tables: ClickHouseTables, slices: Sequence[tuple[SpendSlice, int]], version: int) -> None:
    """Slices with when they were imported; those that are there with a higher version stay."""
    rows: list[tuple[Any, ...]] = []
    for (key, layer, lines), imported_ms in slices:
        columns = [[*column] for column in zip(*((*fields, *amounts) for fields, amounts in lines), strict=True)]
        rows.append((*key, layer, *(columns or [[] for _ in _NESTED]), imported_ms, version))
    tables.insert_rows("spend", [*_HEAD, *_NESTED, "imported_ms", "version"], rows)


def read_spend(tables: ClickHouseTables, start_ms: int, end_ms: int) -> list[SpendSlice]:
    """See `Ledger.spend`."""
    order = ", ".join(SpendKey._fields)
    rows = tables.rows(
        f"SELECT {', '.join([*_HEAD, *_NESTED])} {_WITHIN} ORDER BY {order}", _kept(tables, start_ms), end_ms
    )
    width = len(_HEAD)
    return [
        slice_of(SpendKey(*row[: width - 1]), row[width - 1], list(zip(*row[width:], strict=True)))
        for row in rows
        if row[width]
    ]


def spend_days(tables: ClickHouseTables) -> tuple[int, int] | None:
    """See `Ledger.spend_days`."""
    ((first_ms, last_ms, count),) = tables.rows(
        "SELECT min(day_ms), max(day_ms), count() FROM {spend} FINAL WHERE day_ms >= %d AND notEmpty(lines.vendor) "
        f"AND source <> '{EVIDENCE_SOURCE}'",
        _kept(tables, 0),
    )
    return (int(first_ms), int(last_ms)) if count else None


def spend_days_of(tables: ClickHouseTables, source: str, account: str, grain: str) -> list[int]:
    """See `Ledger.spend_days_of`."""
    same = " AND ".join(
        f"{name} = unhex('{value.encode().hex()}')"
        for name, value in (("source", source), ("account", account), ("grain", grain))
    )
    rows = tables.rows(
        f"SELECT DISTINCT day_ms FROM {{spend}} FINAL WHERE {same} AND day_ms >= %d AND notEmpty(lines.vendor) "
        "ORDER BY day_ms",
        _kept(tables, 0),
    )
    return [int(day_ms) for (day_ms,) in rows]


def spend_revision(tables: ClickHouseTables, start_ms: int, end_ms: int) -> str:
    """See `Ledger.spend_revision`. Only slices that changed are written, so that a version stands for a content."""
    columns = ", ".join([*SpendKey._fields, "version"])
    rows = tables.rows(
        f"SELECT {columns} {_WITHIN} AND notEmpty(lines.vendor) AND source <> '{EVIDENCE_SOURCE}' ORDER BY {columns}",
        _kept(tables, start_ms),
        end_ms,
    )
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:32] if rows else ""


def _kept(tables: ClickHouseTables, start_ms: int) -> int:
    return max(start_ms, tables.retired_before_ms("hours") - MS_PER_DAY + 1)
