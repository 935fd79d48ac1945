"""A DuckDB ledger's facts, summed over hours or over any stretch of windows.

In: a connection whose snapshot of the ledger is kept for the whole call, and has each hour in the file or in memory.
Out: records.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from tokenyield_collector.ledger.duckdb.live_hours import all_hours_of
from tokenyield_collector.ledger.facts import FACT_KINDS, FactKind, Facts
from tokenyield_collector.ledger.sql import is_one_of, starts_in


class _Source:
    """Rows to sum: the SQL of a table's rows, a condition, and what stands as their hour."""

    def __init__(
        self, connection: Any, of_table: Callable[[str], str], where: str, hour: str, *, by_node: bool
    ) -> None:
        self._connection = connection
        self._of_table = of_table
        self._where = where
        self._hour = hour
        self._by_node = by_node

    def facts(
        self, node_labels: dict[tuple[str, str], dict[str, str]], kinds: Sequence[FactKind] = FACT_KINDS
    ) -> Facts:
        return Facts(node_labels=node_labels, **{kind.field: self._rows(kind) for kind in kinds})

    def _rows(self, kind: FactKind) -> list[Any]:
        selected = [
            self._hour,
            *("''" if column == "node" and not self._by_node else column for column in kind.columns),
            *(["count(DISTINCT gpu_uuid)"] if kind.counts_gpus else []),
            *(f"sum({column})::HUGEINT" for column in kind.sums),
        ]
        columns = [f"{sql} AS {name}" for sql, name in zip(selected, kind.names, strict=True)]
        sql = f"SELECT {', '.join(columns)} FROM {self._of_table(kind.table)} {self._where} GROUP BY ALL ORDER BY ALL"
        return kind.rows(self._connection.execute(sql).fetchall())


def facts_of_hours(
    connection: Any, hours_ms: Sequence[int] | None, *, by_node: bool, kinds: Sequence[FactKind]
) -> Facts:
    where = "" if hours_ms is None else f"WHERE {is_one_of(hours_ms)}"
    return _Source(connection, all_hours_of, where, "hour_ms", by_node=by_node).facts(_node_labels(connection), kinds)


def facts_of_stretches(connection: Any, stretches: Sequence[tuple[int, int]], *, by_node: bool) -> list[Facts]:
    node_labels, of_windows = _node_labels(connection), "{}_windows".format
    return [
        _Source(connection, of_windows, f"WHERE {starts_in(*stretch)}", "0", by_node=by_node).facts(node_labels)
        for stretch in stretches
    ]


def _node_labels(connection: Any) -> dict[tuple[str, str], dict[str, str]]:
    rows = connection.execute("SELECT cluster, node, labels FROM node_labels").fetchall()
    return {(cluster, node): msgspec.json.decode(labels) for cluster, node, labels in rows}
