"""What a DuckDB ledger holds, column by column, for another engine to import.

In: a connection to the ledger. Out: the sums of an hour, and its windows as rows of one batch each, whose GPUs, shares
and so on are lists. Windows come in slices of time, in which they lie beside each other in the file.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from tokenyield_collector.ledger.closed import PeriodCheck, StatementRecord
from tokenyield_collector.ledger.duckdb.outcomes import read_outcomes
from tokenyield_collector.ledger.duckdb.spend import read_spend
from tokenyield_collector.ledger.observed import OBSERVED_COLUMNS
from tokenyield_collector.ledger.outcomes import OutcomeSlice, SliceKey
from tokenyield_collector.ledger.sql import starts_in, starts_in_hour
from tokenyield_collector.ledger.tables import (
    BATCH_COLUMNS,
    INTEGER_MAX,
    NODE_KEYS,
    TABLES,
    columns_of_batch,
    columns_of_hours,
)
from tokenyield_collector.ledger.workload_names import NameUse
from tokenyield_collector.spend.slices import SpendKey, SpendSlice

BATCHES_AT_ONCE = 5_000
"""With 8 GPUs each about 50 MB as Python objects."""
OBSERVED_AT_ONCE = 20_000

ExportedColumns = dict[str, Sequence[Any]]
"""Name -> values; no names where there are no rows."""


class DuckDbExport:
    """Of one ledger. For the calling thread only."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def hour(self, hour_ms: int) -> dict[str, ExportedColumns]:
        """Table -> its sums of this hour, as far as the file holds them (see `roll`)."""
        tables = {}
        for table in TABLES:
            columns = columns_of_hours(table)
            sql = f"SELECT {', '.join(columns)} FROM {table}_hours WHERE hour_ms = {int(hour_ms)}"
            tables[table] = self._columns(columns, sql)
        return tables

    def batches(self, hour_ms: int) -> int:
        """How many have their window in this hour."""
        rows = self._connection.execute(f"SELECT count(*) FROM batches WHERE {starts_in_hour(hour_ms)}").fetchall()
        return int(rows[0][0])

    def windows(self, hour_ms: int) -> Iterator[ExportedColumns]:
        """The hour's batches, some thousand at a time, by `BATCH_COLUMNS` and `table.column`."""
        counts = self._connection.execute(
            f"SELECT start_ms, count(*) FROM batches WHERE {starts_in_hour(hour_ms)} GROUP BY 1 ORDER BY 1"
        ).fetchall()
        first_ms, gathered = hour_ms, 0
        for i, (start_ms, count) in enumerate(counts):
            gathered += count
            if gathered >= BATCHES_AT_ONCE or i == len(counts) - 1:
                yield self._slice(first_ms, start_ms + 1)
                first_ms, gathered = start_ms + 1, 0

    def node_labels(self) -> list[tuple[str, str, str]]:
        """(cluster, node, labels as JSON)."""
        return self._rows("SELECT cluster, node, labels FROM node_labels")

    def last_seen(self) -> list[tuple[str, str, int]]:
        """(cluster, node, end of its newest window in ms)."""
        return self._rows("SELECT cluster, node, max(end_ms) FROM batches GROUP BY ALL")

    def statements(self) -> list[tuple[Any, ...]]:
        """In the order of the fields of `StatementRecord`."""
        return self._rows(f"SELECT {', '.join(StatementRecord._fields)} FROM statements")

    def closed_days(self) -> Iterator[tuple[str, list[str]]]:
        """(digest, parts) of what is kept of closed periods, one day at a time."""
        for (digest,) in self._rows("SELECT DISTINCT digest FROM closed_days ORDER BY 1"):
            sql = "SELECT content FROM closed_days WHERE digest = ? ORDER BY part"
            yield digest, [content for (content,) in self._connection.execute(sql, [digest]).fetchall()]

    def period_checks(self) -> list[PeriodCheck]:
        return [PeriodCheck(*row) for row in self._rows(f"SELECT {', '.join(PeriodCheck._fields)} FROM period_checks")]

    def workload_names(self) -> list[NameUse]:
        return [NameUse(*row) for row in self._rows(f"SELECT {', '.join(NameUse._fields)} FROM workload_names")]

    def outcomes(self) -> list[tuple[OutcomeSlice, int]]:
        """Slices, and when each was imported (ms)."""
        rows = self._rows("SELECT source, day_ms, name, max(imported_ms) FROM outcomes GROUP BY ALL")
        imported = {SliceKey(source, day_ms, name): imported_ms for source, day_ms, name, imported_ms in rows}
        return [(one, imported[one.key]) for one in read_outcomes(self._connection, 0, INTEGER_MAX)]

    def spend(self) -> list[tuple[SpendSlice, int]]:
        """Slices, and when each was imported (ms)."""
        rows = self._rows(f"SELECT {', '.join(SpendKey._fields)}, max(imported_ms) FROM spend GROUP BY ALL")
        imported = {SpendKey(*key): imported_ms for *key, imported_ms in rows}
        return [(one, imported[one.key]) for one in read_spend(self._connection, 0, INTEGER_MAX)]

    def observed(self) -> Iterator[list[tuple[Any, ...]]]:
        """Points in the order of `OBSERVED_COLUMNS`, some thousand at a time."""
        cursor = self._connection.execute(f"SELECT {', '.join(OBSERVED_COLUMNS)} FROM observed")
        while rows := cursor.fetchmany(OBSERVED_AT_ONCE):
            yield rows

    def _rows(self, sql: str) -> list[Any]:
        rows: list[Any] = self._connection.execute(sql).fetchall()
        return rows

    def _slice(self, from_ms: int, before_ms: int) -> ExportedColumns:
        """Of several batches with one node and start the first holds what was stored of them all."""
        within = starts_in(from_ms, before_ms)
        key = ", ".join([*NODE_KEYS, "start_ms"])
        selected, joins = list(BATCH_COLUMNS), []
        for table in TABLES:
            own = columns_of_batch(table)
            lists = ", ".join(f"list({column}) AS {table}_{column}" for column in own)
            joins.append(f"LEFT JOIN (SELECT 1 AS nth, {key}, {lists} FROM {table}_windows WHERE {within} "
                         f"GROUP BY {key}) USING (nth, {key})")  # fmt: skip
            selected += [f"coalesce({table}_{column}, []) AS {table}_{column}" for column in own]
        order = ", ".join(BATCH_COLUMNS[:3])
        picked = f"SELECT *, row_number() OVER (PARTITION BY {key} ORDER BY {order}) AS nth FROM batches WHERE {within}"
        names = [*BATCH_COLUMNS, *(f"{table}.{column}" for table in TABLES for column in columns_of_batch(table))]
        return self._columns(names, f"SELECT {', '.join(selected)} FROM ({picked}) {' '.join(joins)}")

    def _columns(self, names: Sequence[str], sql: str) -> ExportedColumns:
        rows = self._connection.execute(sql).fetchall()
        return dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {}
