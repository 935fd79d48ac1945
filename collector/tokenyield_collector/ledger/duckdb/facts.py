"""A DuckDB ledger's facts, summed: over hours, over any stretch of windows, and GPU by GPU.

In: a connection whose snapshot of the ledger is held for the whole call, and has each hour in the file or in memory.
Out: records.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from tokenyield_collector.ledger.base import (
    DemandSums,
    Facts,
    GpuNow,
    GpuSums,
    LabelSums,
    MadeSlot,
    MeasureSums,
    ReasonSums,
    ShareSums,
    TokenSums,
    WorkSlot,
)
from tokenyield_collector.ledger.duckdb.live_hours import DATABASE as LIVE
from tokenyield_collector.ledger.duckdb.live_hours import at_most
from tokenyield_collector.ledger.rows import DEMAND_SUMS, GPU_SUMS, INTEGER_MAX, NODE_KEYS, SHARE_SUMS, TOKEN_SUMS
from tokenyield_wire.units import MS_PER_HOUR, hour_of_ms
from tokenyield_wire.window import TOKEN_KINDS

AnyRow = TypeVar("AnyRow")
_HELD = ("active_ms", "idle_ms", "parked_ms", "active_mj", "idle_mj")
NodeLabels = dict[tuple[str, str], dict[str, str]]


def hours_of(table: str) -> str:
    """All rows of its hours, of which several may be for one hour and key."""
    return f"(FROM {table}_hours UNION ALL BY NAME FROM {LIVE}.{table}_hours)"


def facts_of_hours(connection: Any, hours_ms: Sequence[int] | None, *, by_node: bool) -> Facts:
    where = "" if hours_ms is None else f"WHERE hour_ms IN ({', '.join(map(str, hours_ms)) or 'NULL'})"
    return _facts(connection, "hour_ms", hours_of, where, _node_labels(connection), by_node)


def facts_of_stretches(connection: Any, stretches: Sequence[tuple[int, int]], *, by_node: bool) -> list[Facts]:
    node_labels = _node_labels(connection)
    return [
        _facts(connection, "0", "{}_windows".format, f"WHERE {_starts_in(*stretch)}", node_labels, by_node)
        for stretch in stretches
    ]


def _node_labels(connection: Any) -> NodeLabels:
    rows = connection.execute("SELECT cluster, node, labels FROM node_labels").fetchall()
    return {(cluster, node): msgspec.json.decode(labels) for cluster, node, labels in rows}


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
        gpus=rows(GpuSums, "gpu", (*NODE_KEYS, "gpu_model"), GPU_SUMS, "count(DISTINCT gpu_uuid)"),
        measures=rows(MeasureSums, "measure", (*NODE_KEYS, "kind", "name"), ["amount"]),
        reasons=rows(ReasonSums, "reason", (*NODE_KEYS, "kind", "reason"), ["duration_ms"]),
        shares=rows(ShareSums, "share", (*NODE_KEYS, "gpu_model", "workload"), SHARE_SUMS),
        tokens=rows(TokenSums, "token", (*NODE_KEYS, "workload", "server", "model", "method"), TOKEN_SUMS),
        demand=rows(DemandSums, "demand", (*NODE_KEYS, "gateway", "model", "asker"), DEMAND_SUMS),
        labels=rows(LabelSums, "label", (*NODE_KEYS, "workload", "labels"), ["seen_ms"]),
        node_labels=node_labels,
    )


def gpus(connection: Any, start_ms: int, end_ms: int, known_since_ms: int) -> list[GpuNow]:
    """What every GPU that reported since `known_since_ms` did in [start_ms, end_ms)."""
    place, sums = "cluster, node, gpu_uuid", ("active_ms", "idle_ms", "unallocated_ms", "unknown_ms")
    energy = " + ".join(f"sum({name.removesuffix('_ms')}_mj)" for name in sums)
    where = f"WHERE {_starts_in(start_ms, end_ms)}"
    sql = f"""
        WITH known AS (SELECT {place}, max(gpu_model) AS gpu_model FROM {hours_of("gpu")}
                       WHERE hour_ms >= {hour_of_ms(known_since_ms)} GROUP BY ALL),
             now AS (SELECT {place}, {", ".join(f"{at_most(name, INTEGER_MAX)} AS {name}" for name in sums)},
                            ({energy}) AS energy_mj FROM gpu_windows {where} GROUP BY ALL),
             held AS (SELECT {place}, workload, sum(active_ms + idle_ms) AS held_ms
                      FROM share_windows {where} GROUP BY ALL),
             holder AS (SELECT {place}, arg_max(workload, (held_ms, workload)) AS workload FROM held GROUP BY ALL)
        SELECT {place}, gpu_model, {", ".join(f"coalesce({name}, 0)" for name in (*sums, "energy_mj"))},
               coalesce(workload, '')
        FROM known LEFT JOIN now USING ({place}) LEFT JOIN holder USING ({place}) ORDER BY {place}
        """
    return [GpuNow(*row) for row in connection.execute(sql).fetchall()]


def work(connection: Any, start_ms: int, end_ms: int, step_ms: int) -> list[WorkSlot]:
    """See `Ledger.work_between`."""
    where, at = f"WHERE {_starts_in(start_ms, end_ms)}", "cluster, node, gpu_uuid, start_ms"
    held = "(s.active_ms + s.idle_ms)::DOUBLE / nullif(g.active_ms + g.idle_ms, 0)"

    def part(column: str) -> str:
        return f"sum({column} * {held})::HUGEINT"

    sql = f"""
        WITH lost AS (SELECT {at}, sum(amount) AS lost_ms FROM measure_windows {where} AND kind = 'throttled_lost'
                      GROUP BY ALL),
             held_down AS (SELECT {at}, max(duration_ms) AS throttled_ms FROM reason_windows {where}
                           AND kind = 'throttled' GROUP BY ALL)
        SELECT s.cluster, s.workload, s.gpu_model, s.start_ms - s.start_ms % {int(step_ms)} AS slot,
               count(DISTINCT (s.node, s.gpu_uuid)), {", ".join(at_most(f"s.{name}", INTEGER_MAX) for name in _HELD)},
               coalesce({part("g.activity_known_ms")}, 0), {part("g.sm_ms")}, {part("g.tensor_ms")},
               {part("g.dram_ms")}, coalesce({part("throttled_ms")}, 0), coalesce({part("lost_ms")}, 0)
        FROM (FROM share_windows {where}) s JOIN (FROM gpu_windows {where}) g USING ({at}, gpu_model)
        LEFT JOIN lost USING ({at}) LEFT JOIN held_down USING ({at})
        GROUP BY ALL ORDER BY ALL
        """
    return [WorkSlot(*row) for row in connection.execute(sql).fetchall()]


def made(connection: Any, start_ms: int, end_ms: int, step_ms: int) -> list[MadeSlot]:
    """See `Ledger.made_between`."""
    sums = ", ".join(at_most(name, INTEGER_MAX) for name in MadeSlot._fields[5:])
    sql = (
        f"SELECT cluster, workload, server, model, start_ms - start_ms % {int(step_ms)} AS slot, {sums} "
        f"FROM token_windows WHERE {_starts_in(start_ms, end_ms)} GROUP BY ALL ORDER BY ALL"
    )
    return [MadeSlot(*row) for row in connection.execute(sql).fetchall()]


def last_tokens(connection: Any) -> dict[tuple[str, str], int]:
    """See `Ledger.last_tokens`. The newest hour first, so that windows of one hour alone are looked at."""
    some = " + ".join(f"coalesce({kind}, 0)" for kind in TOKEN_KINDS)
    sql = f"""
        WITH newest AS (SELECT cluster, workload, max(hour_ms) AS hour_ms FROM {hours_of("token")}
                        WHERE {some} > 0 GROUP BY ALL)
        SELECT t.cluster, t.workload, max(start_ms) FROM token_windows t JOIN newest n
        ON t.cluster = n.cluster AND t.workload = n.workload
        AND t.start_ms >= n.hour_ms AND t.start_ms < n.hour_ms + {MS_PER_HOUR}
        WHERE {some} > 0 GROUP BY ALL
        """
    return {(cluster, workload): at_ms for cluster, workload, at_ms in connection.execute(sql).fetchall()}
