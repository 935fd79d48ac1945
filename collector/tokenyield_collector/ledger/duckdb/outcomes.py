"""Outcomes in a DuckDB ledger. Writing is of the writing thread only."""

from collections.abc import Sequence
from typing import Any

from tokenyield_collector.ledger.duckdb.file import DuckDbFile
from tokenyield_collector.ledger.outcomes import OutcomeSlice, SliceKey

OUTCOME_COLUMNS = ("source", "day_ms", "name", "labels", "amount", "imported_ms")


def replace_outcomes(file: DuckDbFile, slices: Sequence[OutcomeSlice], imported_ms: int) -> None:
    """See `Ledger.replace_outcomes`."""
    marks = ", ".join("?" for _ in OUTCOME_COLUMNS)
    with file.transaction("cannot be written"):
        for key, counts in slices:
            file.connection.execute("DELETE FROM outcomes WHERE source = ? AND day_ms = ? AND name = ?", list(key))
            rows = [[*key, labels, count, imported_ms] for labels, count in counts]
            if rows:
                file.connection.executemany(f"INSERT INTO outcomes VALUES ({marks})", rows)


def read_outcomes(connection: Any, start_ms: int, end_ms: int) -> list[OutcomeSlice]:
    """See `Ledger.outcomes`."""
    slices: dict[SliceKey, list[tuple[str, int]]] = {}
    rows = connection.execute(
        "SELECT source, day_ms, name, labels, amount FROM outcomes WHERE day_ms >= ? AND day_ms < ? ORDER BY ALL",
        [start_ms, end_ms],
    ).fetchall()
    for source, day_ms, name, labels, amount in rows:
        slices.setdefault(SliceKey(source, day_ms, name), []).append((labels, amount))
    return [OutcomeSlice(key, tuple(counts)) for key, counts in slices.items()]
