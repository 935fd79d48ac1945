"""Outcomes in a ClickHouse ledger: each slice is one row, which a later import replaces whole (ReplacingMergeTree)."""

from collections.abc import Sequence
from typing import Any

from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_collector.ledger.outcomes import OutcomeSlice, SliceKey
from tokenyield_wire.units import MS_PER_DAY

OUTCOME_COLUMNS = ("source", "day_ms", "name", "labels", "amounts", "imported_ms", "version")


def replace_outcomes(tables: ClickHouseTables, slices: Sequence[OutcomeSlice], imported_ms: int) -> None:
    """See `Ledger.replace_outcomes`. Of two imports at once the later one stays; its `version` is above all others."""
    if not slices:
        return
    ((newest,),) = tables.rows("SELECT max(version) FROM {outcomes}")
    write_outcomes(tables, [(one, imported_ms) for one in slices], max(imported_ms, int(newest or 0) + 1))


def write_outcomes(tables: ClickHouseTables, slices: Sequence[tuple[OutcomeSlice, int]], version: int) -> None:
    """Slices with when they were imported; those that are there with a higher version stay."""
    rows: list[tuple[Any, ...]] = [
        (*key, [labels for labels, _ in counts], [count for _, count in counts], imported_ms, version)
        for (key, counts), imported_ms in slices
    ]
    tables.insert_rows("outcomes", OUTCOME_COLUMNS, rows)


def read_outcomes(tables: ClickHouseTables, start_ms: int, end_ms: int) -> list[OutcomeSlice]:
    """See `Ledger.outcomes`."""
    rows = tables.rows(
        "SELECT source, day_ms, name, labels, amounts FROM {outcomes} FINAL WHERE day_ms >= %d AND day_ms < %d "
        "ORDER BY source, day_ms, name",
        max(start_ms, tables.retired_before_ms("hours") - MS_PER_DAY + 1),
        end_ms,
    )
    return [
        OutcomeSlice(SliceKey(source, day_ms, name), tuple(zip(labels, amounts, strict=True)))
        for source, day_ms, name, labels, amounts in rows
        if labels
    ]
