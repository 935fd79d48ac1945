"""GPUs that several nodes report for the same time: which of them counts in the roll-ups of an hour. SQL.

In: `gpu_hours`, or what another engine has of contested GPUs. Out: `gpu_contested`, a row for each hour of a contested
GPU with the node that counts, and `left_out`, what the others reported.

A GPU is contested in an hour in which several nodes together reported it for longer than the hour is. The node counts
that has reported it for longest without a break of a day; of two that began in one hour, the one that reported more of
that hour. A GPU that moves is not contested: the old node has stopped. Facts alone decide, not their order of arrival,
so late windows may decide otherwise: `changed_hours`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import duckdb

from tokenyield_collector.ledger.duckdb.bulk_insert import insert_rows
from tokenyield_collector.ledger.duckdb.schema import ddl
from tokenyield_collector.ledger.sql import is_one_of
from tokenyield_collector.ledger.usage import CAPACITY_TIMES
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR

OVER_MS_MIN = 60_000
"""By how much the time of a GPU in an hour must be beyond it: a window counts in the hour in which it starts."""
WHOLE_MS = MS_PER_HOUR + OVER_MS_MIN
BREAK_MS = MS_PER_DAY
"""A node that has not reported a GPU for longer has stopped; until then it is still the first."""
SPENT = f"({' + '.join(f'{name}::HUGEINT' for name in CAPACITY_TIMES)})"
"""All time of a GPU in a row of `gpu_hours`. Four times what a column holds is more than 64 bits."""
_HISTORY = ["gpu_uuid", "cluster", "node", "hour_ms", "spent_ms"]
_OWN_HISTORY = (
    f"SELECT gpu_uuid, cluster, node, hour_ms, least(sum({SPENT}), {MS_PER_HOUR})::BIGINT AS spent_ms "
    "FROM gpu_hours SEMI JOIN gpus USING (gpu_uuid) GROUP BY ALL"
)
_PLACE = "hash(cluster, node)"
"""64 bits in place of two texts."""


def decide(connection: Any, hours_ms: Sequence[int]) -> bool:
    """Decide anew who counts in these hours. Returns whether `left_out` has any row."""
    within = f"WHERE {is_one_of(hours_ms)}"
    connection.execute(f"DELETE FROM gpu_contested {within}")
    connection.execute(f"CREATE OR REPLACE TEMP TABLE contested AS {_contested(within)}")
    connection.execute("CREATE OR REPLACE TEMP TABLE left_out (hour_ms BIGINT, gpu_uuid VARCHAR, cluster VARCHAR, "
                       "node VARCHAR)")  # fmt: skip
    if not _has_rows(connection, "contested"):
        return False
    connection.execute(f"INSERT INTO gpu_contested BY NAME {_first('contested')}")
    connection.execute(
        "INSERT INTO left_out SELECT DISTINCT g.hour_ms, g.gpu_uuid, g.cluster, g.node "
        f"FROM (FROM gpu_hours {within}) g JOIN gpu_contested c USING (hour_ms, gpu_uuid) "
        "WHERE g.cluster <> c.cluster OR g.node <> c.node"
    )
    return True


def changed_hours(connection: Any) -> list[int]:
    """Hours in which another node counts than was decided: of one of its GPUs, more is known of hours before."""
    if not _has_rows(connection, "gpu_contested"):
        return []
    rows = connection.execute(
        f"SELECT DISTINCT hour_ms FROM ({_first('gpu_contested')} EXCEPT "
        "SELECT hour_ms, gpu_uuid, cluster, node FROM gpu_contested) ORDER BY 1"
    ).fetchall()
    return [hour_ms for (hour_ms,) in rows]


def first_nodes(
    contested: Sequence[tuple[int, str]], history: Iterable[tuple[str, str, str, int, int]]
) -> list[tuple[int, str, str, str]]:
    """(hour_ms, gpu_uuid, cluster, node) of the node that counts, for each (hour_ms, gpu_uuid) of another ledger. Its
    history has (gpu_uuid, cluster, node, hour_ms, spent_ms) of these GPUs in all hours."""
    with duckdb.connect(":memory:") as connection:
        connection.execute(ddl("contested", ["hour_ms", "gpu_uuid"]))
        connection.execute(ddl("history", _HISTORY))
        insert_rows(connection, "contested", ["hour_ms", "gpu_uuid"], [*contested])
        insert_rows(connection, "history", _HISTORY, [*history])
        rows: list[tuple[int, str, str, str]] = connection.execute(_first("contested", "FROM history")).fetchall()
    return rows


def _contested(within: str) -> str:
    return (
        f"SELECT hour_ms, gpu_uuid FROM gpu_hours {within} GROUP BY ALL "
        f"HAVING min({_PLACE}) <> max({_PLACE}) AND sum({SPENT}) > {WHOLE_MS}"
    )


def _first(contested: str, history: str = "") -> str:
    """SQL of (hour_ms, gpu_uuid, cluster, node) of the first node, for each row of a table."""
    run = "PARTITION BY gpu_uuid, cluster, node"
    return f"""
        WITH gpus AS (SELECT DISTINCT gpu_uuid FROM {contested}),
        hours AS ({history or _OWN_HISTORY}),
        begun AS (
          SELECT *, CASE WHEN hour_ms - lag(hour_ms) OVER ({run} ORDER BY hour_ms) <= {BREAK_MS} THEN 0 ELSE 1 END
                    AS begins
          FROM hours),
        runs AS (SELECT *, sum(begins) OVER ({run} ORDER BY hour_ms) AS run FROM begun),
        since AS (
          SELECT hour_ms, gpu_uuid, cluster, node, min(hour_ms) OVER ({run}, run) AS since_ms,
                 first_value(spent_ms) OVER ({run}, run ORDER BY hour_ms) AS begun_ms
          FROM runs)
        SELECT hour_ms, gpu_uuid, cluster, node FROM since SEMI JOIN {contested} USING (hour_ms, gpu_uuid)
        QUALIFY row_number() OVER (
          PARTITION BY hour_ms, gpu_uuid ORDER BY since_ms, begun_ms DESC, cluster, node) = 1
    """


def _has_rows(connection: Any, table: str) -> bool:
    return connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is not None
