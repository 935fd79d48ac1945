"""A DuckDB ledger's facts, summed: over hours, over any stretch of windows, and GPU by GPU.

In: a connection to the ledger; for hours one whose snapshot has each of them in the file or in memory. Out: records.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from tokenyield_collector.ledger.duckdb_live import DATABASE as LIVE
from tokenyield_collector.ledger.ledger import (
    DemandSums,
    Facts,
    GpuNow,
    GpuSums,
    LabelSums,
    ShareSums,
    TokenSums,
)
from tokenyield_collector.ledger.tables import NODE_KEYS, SHARE_SUMS, TOKEN_SUMS
from tokenyield_collector.ledger.usage import CAPACITY_SUMS
from tokenyield_wire.units import hour_of_ms

AnyRow = TypeVar("AnyRow")
NodeLabels = Mapping[tuple[str, str], str]


def hours_of(table: str) -> str:
    """All rows of its hours, of which several may be for one hour and key."""
    return f"(FROM {table}_hours UNION ALL BY NAME FROM {LIVE}.{table}_hours)"


def facts_of_hours(connection: Any, hours_ms: Sequence[int] | None, node_labels: NodeLabels, *, by_node: bool) -> Facts:
    where = "" if hours_ms is None else f"WHERE hour_ms IN ({', '.join(map(str, hours_ms)) or 'NULL'})"
    return _facts(connection, "hour_ms", hours_of, where, node_labels, by_node)


def facts_between(connection: Any, start_ms: int, end_ms: int, node_labels: NodeLabels, *, by_node: bool) -> Facts:
    where = f"WHERE {_starts_in(start_ms, end_ms)}"
    return _facts(connection, "0", "{}_windows".format, where, node_labels, by_node)


def _starts_in(start_ms: int, end_ms: int) -> str:
    return f"start_ms >= {int(start_ms)} AND start_ms < {int(end_ms)}"


def _facts(
    connection: Any, hour: str, source: Callable[[str], str], where: str, node_labels: NodeLabels, by_node: bool
) -> Facts:
    def rows(
        record: type[AnyRow], table: str, keys: Sequence[str], sums: Sequence[str], gpus: str = ""
    ) -> list[AnyRow]:
        """`keys` and `sums` are names of columns and of the record's fields; `gpus` counts what its name says."""
        selected = ["''" if key == "node" and not by_node else key for key in keys] + ([gpus] if gpus else [])
        totals = [f"sum({column})::HUGEINT" for column in sums]
        names = ["hour_ms", *keys, *(["gpus"] if gpus else []), *sums]
        columns = [f"{sql} AS {name}" for sql, name in zip([hour, *selected, *totals], names, strict=True)]
        found = connection.execute(
            f"SELECT {', '.join(columns)} FROM {source(table)} {where} GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        return [record(**dict(zip(names, row, strict=True))) for row in found]

    return Facts(
        gpus=rows(GpuSums, "gpu", (*NODE_KEYS, "gpu_model"), CAPACITY_SUMS, "count(DISTINCT gpu_uuid)"),
        shares=rows(ShareSums, "share", (*NODE_KEYS, "gpu_model", "workload"), SHARE_SUMS),
        tokens=rows(TokenSums, "token", (*NODE_KEYS, "workload", "server", "model", "method"), TOKEN_SUMS),
        demand=rows(DemandSums, "demand", (*NODE_KEYS, "gateway", "model", "asker"), TOKEN_SUMS),
        labels=rows(LabelSums, "label", (*NODE_KEYS, "workload", "labels"), ["seen_ms"]),
        node_labels={node: msgspec.json.decode(labels) for node, labels in node_labels.items()},
    )


def gpus(connection: Any, start_ms: int, end_ms: int, known_since_ms: int) -> list[GpuNow]:
    """What every GPU that reported since `known_since_ms` did in [start_ms, end_ms)."""
    place, sums = "cluster, node, gpu_uuid", ("active_ms", "idle_ms", "unallocated_ms", "unknown_ms")
    energy = " + ".join(f"sum({name.removesuffix('_ms')}_mj)" for name in sums)
    where = f"WHERE {_starts_in(start_ms, end_ms)}"
    sql = f"""
        WITH known AS (SELECT {place}, max(gpu_model) AS gpu_model FROM {hours_of("gpu")}
                       WHERE hour_ms >= {hour_of_ms(known_since_ms)} GROUP BY ALL),
             now AS (SELECT {place}, {", ".join(f"sum({name})::BIGINT AS {name}" for name in sums)},
                            ({energy})::BIGINT AS energy_mj FROM gpu_windows {where} GROUP BY ALL),
             held AS (SELECT {place}, workload, sum(active_ms + idle_ms) AS held_ms
                      FROM share_windows {where} GROUP BY ALL),
             holder AS (SELECT {place}, arg_max(workload, (held_ms, workload)) AS workload FROM held GROUP BY ALL)
        SELECT {place}, gpu_model, {", ".join(f"coalesce({name}, 0)" for name in (*sums, "energy_mj"))},
               coalesce(workload, '')
        FROM known LEFT JOIN now USING ({place}) LEFT JOIN holder USING ({place}) ORDER BY {place}
        """
    return [GpuNow(*row) for row in connection.execute(sql).fetchall()]
