"""The tables of a ClickHouse ledger, in the dialect that servers from 18.16 until now have in common.

`windows` holds one row for each batch, its GPUs, shares, tokens and so on as nested columns. So a batch is written
whole or not at all, which ClickHouse promises of one row and of nothing more; and the same batch written twice, by the
same collector or another, is one row again: ReplacingMergeTree by `IDENTITY`, read with FINAL.

`x_hours` hold the sums of each hour. A recomputed hour replaces the one before it by its `version`, the number of
batches in it: more batches, newer sums. `touched` counts the commits into each hour and `folded` has up to which of
them it was recomputed, so that any collector knows what another left undone.

Roll-ups (rollup.py) are of a *roll*: a number that no other roll of the hour has. Its rows are there before its row in
`rolled_hours` says so (`turn` above 0, with what the reader must know of them), and stay while readers may use them.
So a reader that holds on to the rolls that it found sees one state, though hours are rolled up again meanwhile.
`gpu_groups` and `identities` name what roll-ups refer to by number.

`work_days` and `capacity_days` are the same of a whole day, in one row with its hours side by side: what most of a
month's report is read from. A row in `rolled_days` says of which rolls of its hours a day was made (days.py).

`collectors` are those that are alive: the first of them by name leads.

With a cluster each table `t` of a shard is reached over `t_all`, a Distributed table; a batch always falls to the shard
of its agent, so that both of its copies meet there.
"""

from collections.abc import Iterator

from tokenyield_collector.ledger.clickhouse.client import quoted
from tokenyield_collector.ledger.intake import BatchSender
from tokenyield_collector.ledger.observed import OBSERVED_COLUMNS, OBSERVED_TEXT
from tokenyield_collector.ledger.tables import BATCH_COLUMNS, NULLABLE, TABLES, TEXT, columns_of_batch
from tokenyield_collector.ledger.usage import CAPACITY_SUMS, HELD_TIMES, REPORTED, USAGE_KINDS
from tokenyield_collector.spend.otlp.points import ObservedAmounts, PointKey
from tokenyield_collector.spend.slices import SpendAmounts, SpendFields
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR

SCHEMA_VERSION = 12
IDENTITY = ", ".join([*BatchSender._fields, "seq"])
WINDOW_COLUMNS = [*BATCH_COLUMNS, *(f"{table}.{column}" for table in TABLES for column in columns_of_batch(table))]
OUTCOME_PARTITION_MS = 31 * MS_PER_DAY
"""Of outcomes, spend and names. One insert may fall into 100 partitions, and a year of days may come in one."""
_BY_NODE = "cityHash64(cluster, node)"
_BY_DAY = f"PARTITION BY intDiv(hour_ms, {MS_PER_DAY})"
WORK_NUMBERS = ("gpus", "models", *HELD_TIMES, *USAGE_KINDS, *REPORTED)
"""Columns of `work_hours` beside its keys."""
ROLL_NUMBERS = (
    "work_rows",
    "split_rows",
    "demand_rows",
    "host_rows",
    "latency_rows",
    "beyond_rows",
    "times_max",
    "tokens_max",
    "capacity_max",
)
"""What `rolled_hours` has of a roll: how many rows there are of a kind, and the greatest amounts in them."""
WORK_AMOUNTS = WORK_NUMBERS[2:]
"""What days add up. Of each there is the sum, and as `by_hour` the amounts of the row's `hours`, in no order."""


def by_hour(amount: str) -> str:
    return f"{amount}_by_hour"


def column_type(column: str) -> str:
    if column in TEXT:
        return "String"
    if column == "seq":
        return "UInt64"
    return "Nullable(Int64)" if column in NULLABLE else "Int64"


def _observed_type(column: str) -> str:
    if column in OBSERVED_TEXT:
        return "String"
    return "Nullable(Int64)" if column in ObservedAmounts._fields else "Int64"


def typed(columns: list[str] | tuple[str, ...]) -> str:
    return ", ".join(f"{column} {column_type(column)}" for column in columns)


def _tables() -> Iterator[tuple[str, str, str, str]]:
    """(name, columns, engine, how it falls to shards)"""
    groups = ", ".join(f"{table} Nested({typed(columns_of_batch(table))})" for table in TABLES)
    yield (
        "windows",
        f"{typed(BATCH_COLUMNS)}, {groups}",
        f"ReplacingMergeTree PARTITION BY intDiv(start_ms, {MS_PER_HOUR}) ORDER BY ({IDENTITY})",
        "cityHash64(agent_id)",
    )
    for table, (keys, sums) in TABLES.items():
        yield (
            f"{table}_hours",
            f"hour_ms Int64, {typed([*keys, *sums])}, version UInt64",
            f"ReplacingMergeTree(version) PARTITION BY intDiv(hour_ms, {MS_PER_DAY}) "
            f"ORDER BY (hour_ms, {', '.join(keys)})",
            _BY_NODE,
        )
    yield from _roll_ups()
    yield "touched", "hour_ms Int64, commits UInt64", "SummingMergeTree ORDER BY hour_ms", "hour_ms"
    yield "folded", "hour_ms Int64, commits UInt64", "ReplacingMergeTree(commits) ORDER BY hour_ms", "hour_ms"
    yield (
        "seen_nodes",
        "cluster String, node String, end_ms Int64",
        "ReplacingMergeTree(end_ms) ORDER BY (cluster, node)",
        _BY_NODE,
    )
    yield (
        "node_labels",
        "cluster String, node String, labels String, received_ms Int64",
        "ReplacingMergeTree(received_ms) ORDER BY (cluster, node)",
        _BY_NODE,
    )
    yield (
        "counter_bases",
        "name String, cut_ms Int64, value Int64",
        "ReplacingMergeTree ORDER BY (name, cut_ms)",
        "cityHash64(name)",
    )
    yield "collectors", "id String, seen_ms Int64", "ReplacingMergeTree(seen_ms) ORDER BY id", "cityHash64(id)"
    yield "retired", "what String, before_ms Int64", "ReplacingMergeTree(before_ms) ORDER BY what", "cityHash64(what)"
    yield (
        "statements",
        "period String, version Int64, facts String, prices String, attribution String, change String, content String",
        "ReplacingMergeTree ORDER BY (period, version)",
        "cityHash64(period)",
    )
    yield (
        "closed_days",
        "digest String, part Int64, content String",
        "ReplacingMergeTree ORDER BY (digest, part)",
        "cityHash64(digest)",
    )
    yield (
        "period_checks",
        "period String, inputs String, checked_ms Int64, finding String",
        "ReplacingMergeTree(checked_ms) ORDER BY period",
        "cityHash64(period)",
    )
    yield (
        "kept_figures",
        "name String, inputs String, content String, version UInt64",
        "ReplacingMergeTree(version) ORDER BY name",
        "cityHash64(name)",
    )
    yield (
        "outcomes",
        "source String, day_ms Int64, name String, labels Array(String), amounts Array(Int64), imported_ms Int64, "
        "version UInt64",
        f"ReplacingMergeTree(version) PARTITION BY intDiv(day_ms, {OUTCOME_PARTITION_MS}) "
        "ORDER BY (source, day_ms, name)",
        "cityHash64(source, day_ms, name)",
    )
    amounts = ", ".join(f"{name} Nullable(Int64)" for name in SpendAmounts._fields)
    texts = ", ".join(f"{name} String" for name in SpendFields._fields)
    yield (
        "spend",
        f"source String, account String, day_ms Int64, grain String, layer String, lines Nested({texts}, {amounts}), "
        "imported_ms Int64, version UInt64",
        f"ReplacingMergeTree(version) PARTITION BY intDiv(day_ms, {OUTCOME_PARTITION_MS}) "
        "ORDER BY (source, account, day_ms, grain)",
        "cityHash64(source, account, day_ms, grain)",
    )
    yield (
        "observed",
        ", ".join(f"{name} {_observed_type(name)}" for name in OBSERVED_COLUMNS),
        f"ReplacingMergeTree(time_ns) PARTITION BY intDiv(day_ms, {MS_PER_DAY}) * 2 + is_total "
        f"ORDER BY ({', '.join(PointKey._fields)})",
        "cityHash64(series)",
    )
    yield (
        "quarantined",
        "cluster String, node String, start_ms Int64, source String, reason String, moved_ms Int64, digest String, "
        "content String",
        f"ReplacingMergeTree(moved_ms) PARTITION BY intDiv(start_ms, {MS_PER_DAY}) "
        "ORDER BY (cluster, node, start_ms, source, digest)",
        _BY_NODE,
    )
    yield (
        "workload_names",
        "cluster String, workload String, member_kind String, member String, founder String, since_ms Int64, "
        "seen_ms Int64",
        f"ReplacingMergeTree(seen_ms) PARTITION BY intDiv(seen_ms, {OUTCOME_PARTITION_MS}) "
        "ORDER BY (cluster, workload, member_kind, member)",
        "cityHash64(cluster, workload)",
    )
    yield "schema_version", "version Int64", "ReplacingMergeTree ORDER BY version", "version"


def _of_hours(amounts: tuple[str, ...]) -> str:
    arrays = ", ".join(f"{by_hour(name)} Array(Int64)" for name in amounts)
    return f"hours Array(UInt8), {', '.join(f'{name} Int64' for name in amounts)}, {arrays}"


def _roll_ups() -> Iterator[tuple[str, str, str, str]]:
    def numbers(*columns: str) -> str:
        return ", ".join(f"{column} Int64" for column in columns)

    of_roll = "hour_ms Int64, roll UInt64"
    yield (
        "work_hours",
        f"{of_roll}, gpu_group UInt64, identity UInt64, {numbers(*WORK_NUMBERS)}",
        f"MergeTree {_BY_DAY} ORDER BY (hour_ms, roll, gpu_group, identity)",
        "gpu_group",
    )
    yield (
        "capacity_hours",
        f"{of_roll}, gpu_group UInt64, {numbers(*CAPACITY_SUMS)}",
        f"MergeTree {_BY_DAY} ORDER BY (hour_ms, roll, gpu_group)",
        "gpu_group",
    )
    of_day = "first_ms Int64, roll UInt64, gpu_group UInt64"
    by_first = f"PARTITION BY intDiv(first_ms, {MS_PER_DAY})"
    yield (
        "work_days",
        f"{of_day}, identity UInt64, gpus Int64, {_of_hours(WORK_AMOUNTS)}",
        f"MergeTree {by_first} ORDER BY (first_ms, roll, gpu_group, identity)",
        "gpu_group",
    )
    yield (
        "capacity_days",
        f"{of_day}, reported_ms Array(Int64), {_of_hours(CAPACITY_SUMS)}",
        f"MergeTree {by_first} ORDER BY (first_ms, roll, gpu_group)",
        "gpu_group",
    )
    yield (
        "rolled_days",
        "first_ms Int64, roll UInt64, is_whole UInt8, begun_ms Int64, made_of UInt64",
        f"ReplacingMergeTree(is_whole) {by_first} ORDER BY (first_ms, roll)",
        "first_ms",
    )
    yield (
        "beyond_hours",
        f"{of_roll}, gpu_uuid String, cluster String, node String, gpu_model String, {numbers(*CAPACITY_SUMS)}",
        f"MergeTree {_BY_DAY} ORDER BY (hour_ms, roll, gpu_uuid)",
        _BY_NODE,
    )
    yield (
        "contested_hours",
        f"{of_roll}, gpu_uuid String, cluster String, node String",
        f"MergeTree {_BY_DAY} ORDER BY (hour_ms, roll, gpu_uuid)",
        "cityHash64(gpu_uuid)",
    )
    yield (
        "rolled_hours",
        f"{of_roll}, turn UInt64, begun_ms Int64, commits UInt64, facts UInt64, {numbers(*ROLL_NUMBERS)}",
        f"ReplacingMergeTree(turn) {_BY_DAY} ORDER BY (hour_ms, roll)",
        "hour_ms",
    )
    yield (
        "gpu_groups",
        "id UInt64, cluster String, node String, gpu_model String",
        "ReplacingMergeTree ORDER BY id",
        "id",
    )
    yield (
        "identities",
        "id UInt64, cluster String, workload String, model String, labels String",
        "ReplacingMergeTree ORDER BY id",
        "id",
    )


NAMES = [name for name, _, _, _ in _tables()]


def local_tables() -> list[str]:
    """What every shard has."""
    return [
        f"CREATE TABLE IF NOT EXISTS {name} ({columns}) ENGINE = {engine}" for name, columns, engine, _ in _tables()
    ]


def expected_columns() -> dict[str, dict[str, str]]:
    """Table -> column -> type, of all that can have come with a newer version."""
    windows = {
        f"{table}.{column}": f"Array({column_type(column)})" for table in TABLES for column in columns_of_batch(table)
    }
    hours = {f"{table}_hours": {column: column_type(column) for column in sums} for table, (_, sums) in TABLES.items()}
    return {"windows": windows, **hours, "statements": {"content": "String"}}


def distributed_tables(cluster: str, database: str) -> list[str]:
    """What every server of a cluster has beside them."""
    return [
        f"CREATE TABLE IF NOT EXISTS {name}_all ({columns}) "
        f"ENGINE = Distributed({quoted(cluster)}, {quoted(database)}, {name}, {key})"
        for name, columns, _, key in _tables()
    ]
