"""GPUs that several nodes report at once, in ClickHouse: which node counts, by the rule of duckdb/gpu_owners.py.

In: `gpu_hours`. Out: (hour, gpu_uuid, cluster, node) of the node that counts. Its servers find the GPUs, and give the
hours of these, which are few; DuckDB's SQL decides, so that the rule exists once.
"""

from collections.abc import Collection, Iterable, Sequence

from tokenyield_collector.ledger.clickhouse.client import quoted
from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_collector.ledger.duckdb.gpu_owners import WHOLE_MS, first_nodes
from tokenyield_collector.ledger.sql import is_one_of
from tokenyield_collector.ledger.usage import CAPACITY_TIMES
from tokenyield_wire.units import MS_PER_HOUR

GPUS_AT_ONCE = 500

Owner = tuple[int, str, str, str]
"""(hour_ms, gpu_uuid, cluster, node)"""


def contested_in(tables: ClickHouseTables, hours_ms: Sequence[int]) -> list[Owner]:
    """Who counts in these hours, of each GPU that is contested in them."""
    place, spent = "sipHash64(cluster, node)", " + ".join(f"toFloat64({name})" for name in CAPACITY_TIMES)
    contested = tables.client.rows(
        f"SELECT hour_ms, gpu_uuid FROM {tables.of('gpu_hours')} FINAL WHERE {is_one_of(hours_ms)} "
        f"GROUP BY hour_ms, gpu_uuid HAVING min({place}) != max({place}) AND sum({spent}) > {WHOLE_MS}"
    )
    return _decided(tables, [(int(hour_ms), str(uuid)) for hour_ms, uuid in contested])


def changed_hours(tables: ClickHouseTables, rolls: Collection[int]) -> list[int]:
    """Hours in which another node counts than in these rolls: of one of its GPUs, more is known of other hours."""
    rows = tables.rows(
        "SELECT hour_ms, roll, gpu_uuid, cluster, node FROM {contested_hours} WHERE hour_ms >= %d",
        tables.retired_before_ms("hours"),
    )
    decided = {(hour_ms, uuid, cluster, node) for hour_ms, roll, uuid, cluster, node in rows if int(roll) in rolls}
    now = _decided(tables, sorted({(hour_ms, uuid) for hour_ms, uuid, _, _ in decided}))
    return sorted({hour_ms for hour_ms, *_ in decided.symmetric_difference(now)})


def _decided(tables: ClickHouseTables, contested: Sequence[tuple[int, str]]) -> list[Owner]:
    return first_nodes(contested, _history(tables, sorted({uuid for _, uuid in contested}))) if contested else []


def _history(tables: ClickHouseTables, uuids: Sequence[str]) -> Iterable[tuple[str, str, str, int, int]]:
    """(gpu_uuid, cluster, node, hour_ms, spent_ms) of all hours. Without FINAL, which is one thread's over all GPUs."""
    times = " + ".join(f"least({name}, {MS_PER_HOUR})" for name in CAPACITY_TIMES)
    spent = f"argMax(least({times}, {MS_PER_HOUR}), version)"
    for i in range(0, len(uuids), GPUS_AT_ONCE):
        named = ", ".join(map(quoted, uuids[i : i + GPUS_AT_ONCE]))
        yield from tables.client.rows(
            f"SELECT gpu_uuid, cluster, node, hour_ms, least(sum(spent), {MS_PER_HOUR}) FROM ("
            f"SELECT gpu_uuid, cluster, node, hour_ms, {spent} AS spent FROM {tables.of('gpu_hours')} "
            f"WHERE gpu_uuid IN ({named}) AND hour_ms >= {tables.retired_before_ms('hours')} "
            "GROUP BY gpu_uuid, cluster, node, gpu_model, hour_ms) GROUP BY gpu_uuid, cluster, node, hour_ms"
        )
