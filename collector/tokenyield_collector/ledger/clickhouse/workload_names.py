"""How a ClickHouse ledger keeps who uses which name of a workload; see `ledger/workload_names.py`.

Other collectors write names too. Each reads what the others wrote, of names that it has not used before at once, and of
others within `AGAIN_AFTER_MS`. All of one name is on one shard, and what is written is read at once; replicas need
`insert_quorum` and `select_sequential_consistency` for that.
"""

from collections.abc import Iterator, Sequence

from tokenyield_collector.ledger.clickhouse.client import quoted
from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_collector.ledger.name_conflicts import CONFLICTS_MAX, NameConflict, conflicts_of
from tokenyield_collector.ledger.workload_names import CLAIM, KEPT_MS, NODE, USE_KEY, NameKey, NameUse
from tokenyield_wire.units import MS_PER_HOUR

AGAIN_AFTER_MS = 60_000
LOOK_UP_NAMES = 200
"""In one statement: with the longest names within the 256 kB that a server takes."""
_NEWEST = f"SELECT {USE_KEY}, argMax(founder, seen_ms) AS f, argMax(since_ms, seen_ms) AS s, max(seen_ms) AS m"


def read_uses(tables: ClickHouseTables, keys: Sequence[NameKey]) -> Iterator[NameUse]:
    for i in range(0, len(keys), LOOK_UP_NAMES):
        names = ", ".join(f"({quoted(cluster)}, {quoted(name)})" for cluster, name in keys[i : i + LOOK_UP_NAMES])
        rows = tables.client.rows(  # not `rows` of the tables: senders' names may have any character
            f"{_NEWEST} FROM workload_names{tables.suffix} WHERE (cluster, workload) IN ({names}) GROUP BY {USE_KEY}"
        )
        for cluster, workload, kind, member, founder, since_ms, seen_ms in rows:
            yield NameUse(cluster, workload, kind, member, founder, int(since_ms), int(seen_ms))


def write_uses(tables: ClickHouseTables, uses: Sequence[NameUse]) -> None:
    tables.insert_rows("workload_names", NameUse._fields, uses)


def name_conflicts(tables: ClickHouseTables) -> list[NameConflict]:
    newest = f"{_NEWEST} FROM {{workload_names}} WHERE member_kind != {quoted(CLAIM)} GROUP BY {USE_KEY}"
    names = tables.rows(
        f"SELECT cluster, workload FROM ({newest}) GROUP BY cluster, workload HAVING uniqExact(f) > 1 "
        f"ORDER BY cluster, workload LIMIT {CONFLICTS_MAX}"
    )
    return conflicts_of(read_uses(tables, [(str(cluster), str(name)) for cluster, name in names]))


def take_from_hours(tables: ClickHouseTables) -> None:
    """What a ledger of before has: nodes that used a name lately share it. A second time changes nothing."""
    used = " UNION ALL ".join(
        f"SELECT hour_ms, cluster, node, workload FROM {{{table}_hours}}" for table in ("share", "token")
    )
    ((newest_ms,),) = tables.rows(f"SELECT max(hour_ms) FROM ({used})")
    rows = tables.rows(
        f"SELECT cluster, workload, node, min(hour_ms), max(hour_ms) FROM ({used}) WHERE hour_ms > %d "
        "GROUP BY cluster, workload, node",
        int(newest_ms or 0) - KEPT_MS,
    )
    since: dict[NameKey, int] = {}
    for cluster, workload, _, first_ms, _ in rows:
        since[cluster, workload] = min(int(first_ms), since.get((cluster, workload), int(first_ms)))
    write_uses(
        tables,
        [
            NameUse(cluster, workload, NODE, node, "", since[cluster, workload], int(last_ms) + MS_PER_HOUR)
            for cluster, workload, node, _, last_ms in rows
        ],
    )
