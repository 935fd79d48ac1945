"""The tables of a DuckDB ledger, and the way from each schema version to the next."""

from collections.abc import Sequence

from tokenyield_collector.ledger.duckdb.received import RECEIVED_COLUMNS, ranges_by_hour
from tokenyield_collector.ledger.tables import (
    BATCH_COLUMNS,
    DEMAND_KEYS,
    GPU_KEYS,
    LABEL_KEYS,
    LATENCY_KEYS,
    MEASURE_KEYS,
    REASON_KEYS,
    SHARE_KEYS,
    TEXT,
    TOKEN_KEYS,
)
from tokenyield_collector.ledger.usage import CAPACITY_SUMS
from tokenyield_wire.window import REQUEST_KINDS, TOKEN_KINDS

SCHEMA_VERSION = 16


def ddl(name: str, columns: Sequence[str]) -> str:
    typed = (f"{column} {'VARCHAR' if column in TEXT else 'BIGINT'}" for column in columns)
    return f"CREATE TABLE {name} ({', '.join(typed)})"


def _migration_1() -> list[str]:
    statements = [ddl("batches", BATCH_COLUMNS)]
    tables: dict[str, tuple[list[str], list[str]]] = {
        "gpu": (
            GPU_KEYS,
            [*CAPACITY_SUMS, "integrated_mj", "energy_missing_ms", "utilization_ms", "memory_used_mib_seconds"],
        ),
        "reason": (REASON_KEYS, ["duration_ms"]),
        "share": (SHARE_KEYS, ["active_ms", "idle_ms", "active_mj", "idle_mj"]),
        "token": (TOKEN_KEYS, ["prompt_computed", "prompt_cached", "completion", "requests"]),
    }
    for table, (keys, sums) in tables.items():
        statements.append(ddl(f"{table}_windows", [*keys, "start_ms", *sums]))
        statements.append(ddl(f"{table}_hours", ["hour_ms", *keys, *sums]))
    statements.append("CREATE TABLE dirty_hours (hour_ms BIGINT)")
    statements.append(ddl("counter_bases", ["name", "value"]))
    statements.append(ddl("counter_floors", ["name", "value"]))
    return statements


def _migration_2() -> list[str]:
    """Prompts that cannot be split, aborted and failed requests; callers of gateways; labels of workloads."""
    statements = []
    for kind in ("prompt_unsplit", "requests_aborted", "requests_failed"):
        statements += [f"ALTER TABLE token_{span} ADD COLUMN {kind} BIGINT" for span in ("windows", "hours")]
    for table, keys, sums in (
        ("demand", DEMAND_KEYS, [*TOKEN_KINDS, *REQUEST_KINDS]),
        ("label", LABEL_KEYS, ["seen_ms"]),
    ):
        statements.append(ddl(f"{table}_windows", [*keys, "start_ms", *sums]))
        statements.append(ddl(f"{table}_hours", ["hour_ms", *keys, *sums]))
    return statements


def _migration_3() -> list[str]:
    """Roll-ups for reports, labels of nodes, and what reports of closed periods were made of."""
    times, kinds = ["active_ms", "idle_ms", "active_mj", "idle_mj"], [*TOKEN_KINDS, "requests"]
    return [
        "CREATE TABLE gpu_groups (id INTEGER, cluster VARCHAR, node VARCHAR, gpu_model VARCHAR)",
        "CREATE TABLE identities (id INTEGER, cluster VARCHAR, workload VARCHAR, model VARCHAR, labels VARCHAR)",
        _work_hours(["gpus", *times, *kinds, *(f"{kind}_told" for kind in kinds)]),
        _rollup("capacity_hours", ["gpu_group"], CAPACITY_SUMS),
        "CREATE TABLE unrolled_hours (hour_ms BIGINT)",
        "CREATE TABLE rolled_hours (hour_ms BIGINT, facts UBIGINT)",
        "INSERT INTO unrolled_hours SELECT DISTINCT hour_ms FROM gpu_hours",
        "INSERT INTO unrolled_hours SELECT DISTINCT hour_ms FROM token_hours",
        "CREATE TABLE node_labels (cluster VARCHAR, node VARCHAR, labels VARCHAR)",
        "CREATE TABLE statements (period VARCHAR, version BIGINT, facts VARCHAR, prices VARCHAR, attribution VARCHAR, "
        "change VARCHAR)",
    ]


def _migration_4() -> list[str]:
    """Money is no counter any more: its bases and floors go."""
    return ["DROP TABLE counter_floors", """DELETE FROM counter_bases WHERE name LIKE '["cost"%'"""]


def _migration_5() -> list[str]:
    """What GPUs measure of themselves, parked time, and the load of servers."""
    required = {
        "gpu": ("energy_error_mj", "parked_ms", "parked_mj", "activity_known_ms"),
        "share": ("parked_ms", "parked_mj"),
    }
    optional = {
        "gpu": ("sm_ms", "tensor_ms", "dram_ms", "nvlink_mib", "pcie_mib"),
        "token": ("load_known_ms", "running_request_ms", "waiting_request_ms", "cache_used_ms"),
    }
    statements = []
    for columns, default in ((required, " DEFAULT 0"), (optional, "")):
        for table, names in columns.items():
            for span in ("windows", "hours"):
                statements += [f"ALTER TABLE {table}_{span} ADD COLUMN {name} BIGINT{default}" for name in names]
    statements.append(ddl("measure_windows", [*MEASURE_KEYS, "start_ms", "amount"]))
    statements.append(ddl("measure_hours", ["hour_ms", *MEASURE_KEYS, "amount"]))
    return statements


def _migration_6() -> list[str]:
    """Roll-ups hold the whole time of a workload, which readers split among its models. All hours are made again."""
    times = ["active_ms", "idle_ms", "active_mj", "idle_mj", "parked_ms", "parked_mj"]
    kinds = [*TOKEN_KINDS, "requests"]
    hours = " UNION ".join(
        f"SELECT hour_ms FROM {table}_hours" for table in ("gpu", "share", "token", "demand", "measure")
    )
    return [
        "DROP TABLE work_hours",
        _work_hours(["gpus", "models", *times, *kinds, *(f"{kind}_reported" for kind in kinds)]),
        f"INSERT INTO unrolled_hours {hours}",
    ]


def _migration_7() -> list[str]:
    """How long callers waited, in buckets."""
    sums = ["sum_ms", *(f"bucket_{i:02}" for i in range(21))]
    return [
        ddl("latency_windows", [*LATENCY_KEYS, "start_ms", *sums]),
        ddl("latency_hours", ["hour_ms", *LATENCY_KEYS, *sums]),
    ]


def _migration_8() -> list[str]:
    """Closed periods: the lines of each version by day, and when each period was last compared with the ledger."""
    return [
        "ALTER TABLE statements ADD COLUMN content VARCHAR DEFAULT ''",
        "CREATE TABLE closed_days (digest VARCHAR, part INTEGER, content VARCHAR)",
        "CREATE TABLE period_checks (period VARCHAR, inputs VARCHAR, checked_ms BIGINT, finding VARCHAR)",
    ]


def _migration_9() -> list[str]:
    """Outcomes, by source, day and name."""
    return [
        "CREATE TABLE outcomes (source VARCHAR, day_ms BIGINT, name VARCHAR, labels VARCHAR, amount BIGINT, "
        "imported_ms BIGINT)"
    ]


def _migration_10() -> list[str]:
    """Figures that were computed from the ledger, and a number for each hour that changes with its facts."""
    return [
        "CREATE TABLE kept_figures (name VARCHAR, inputs VARCHAR, content VARCHAR)",
        "CREATE TABLE hour_revisions (hour_ms BIGINT, revision BIGINT)",
        "INSERT INTO hour_revisions SELECT hour_ms, 0 FROM "
        "(SELECT hour_ms FROM rolled_hours UNION SELECT hour_ms FROM unrolled_hours)",
    ]


def _migration_11() -> list[str]:
    """Which node counts where several report one GPU. Hours that may have such GPUs are made again."""
    return [
        "CREATE TABLE gpu_contested (hour_ms BIGINT, gpu_uuid VARCHAR, cluster VARCHAR, node VARCHAR)",
        "CREATE TABLE gpu_history (hour_ms BIGINT, gpu_uuid VARCHAR, cluster VARCHAR, node VARCHAR, spent_ms BIGINT)",
        "INSERT INTO unrolled_hours SELECT DISTINCT hour_ms FROM "
        "(SELECT hour_ms FROM gpu_hours GROUP BY hour_ms, gpu_uuid HAVING count(*) > 1)",
    ]


def _migration_12() -> list[str]:
    """Windows that nobody can have measured, moved aside."""
    return [
        "CREATE TABLE quarantined (cluster VARCHAR, node VARCHAR, start_ms BIGINT, source VARCHAR, reason VARCHAR, "
        "moved_ms BIGINT, digest VARCHAR, content VARCHAR)"
    ]


def _migration_13() -> list[str]:
    """Who uses which name of a workload. Nodes that used one before share it."""
    used = " UNION ALL ".join(
        f"SELECT hour_ms, cluster, node, workload FROM {table}_hours" for table in ("share", "token")
    )
    return [
        "CREATE TABLE workload_names (cluster VARCHAR, workload VARCHAR, member_kind VARCHAR, member VARCHAR, "
        "founder VARCHAR, since_ms BIGINT, seen_ms BIGINT)",
        f"INSERT INTO workload_names SELECT cluster, workload, 'node', node, '', min(min(hour_ms)) OVER "
        f"(PARTITION BY cluster, workload), max(hour_ms) + 3600000 FROM ({used}) "
        f"WHERE hour_ms > (SELECT max(hour_ms) FROM ({used})) - 604800000 GROUP BY cluster, workload, node",
    ]


def _migration_14() -> list[str]:
    """What is bought: slices of spend, a row a line."""
    keys = ("source", "account", "day_ms", "grain", "layer")
    fields = (
        *("vendor", "service", "model", "team", "product", "project", "api_key", "workload", "person", "agent_task"),
        *("session", "currency"),
    )
    amounts = (
        *("fresh", "cache_read", "cache_write", "long_cache_write", "output", "reasoning", "requests", "cost_micro"),
        "imported_ms",
    )
    columns = [f"{name} {'BIGINT' if name == 'day_ms' else 'VARCHAR'}" for name in (*keys, *fields)]
    return [f"CREATE TABLE spend ({', '.join([*columns, *(f'{name} BIGINT' for name in amounts)])})"]


def _migration_15() -> list[str]:
    """What senders of OpenTelemetry report of tokens: a row a point."""
    fields = (
        *("account", "sender", "signal", "client", "vendor", "service", "model", "team", "product", "project"),
        *("api_key", "workload", "person", "agent_task", "session", "currency"),
    )
    amounts = ("fresh", "cache_read", "cache_write", "output", "reasoning", "requests", "cost_nano", "received_ms")
    columns = [
        *("is_total BIGINT", "day_ms BIGINT", "series VARCHAR", "start_ns BIGINT", "point_ns BIGINT"),
        *("time_ns BIGINT", "total BIGINT"),
        *(f"{name} VARCHAR" for name in fields),
        *(f"{name} BIGINT" for name in amounts),
    ]
    return [f"CREATE TABLE observed ({', '.join(columns)})"]


def _migration_16() -> list[str]:
    """Numbers of received batches by hour. Kept figures are stored so that one can be read without the others, and
    those that hardly change apart, for DuckDB writes the whole of a small table again when a row of it changes."""
    columns = "(name VARCHAR, inputs VARCHAR, content VARCHAR USING COMPRESSION uncompressed)"
    return [
        ddl("received_hours", RECEIVED_COLUMNS),
        f"INSERT INTO received_hours {ranges_by_hour('true')}",
        f"CREATE TABLE settled_figures {columns}",
        "INSERT INTO settled_figures FROM kept_figures WHERE starts_with(name, 'counted/day/')",
        f"CREATE TABLE changing_figures {columns}",
        "INSERT INTO changing_figures FROM kept_figures WHERE NOT starts_with(name, 'counted/day/')",
        "DROP TABLE kept_figures",
    ]


def _work_hours(sums: Sequence[str]) -> str:
    return _rollup("work_hours", ["gpu_group", "identity"], sums)


def _rollup(table: str, numbers: Sequence[str], sums: Sequence[str]) -> str:
    columns = ["hour_ms BIGINT", *(f"{name} INTEGER" for name in numbers), *(f"{name} BIGINT" for name in sums)]
    return f"CREATE TABLE {table} ({', '.join(columns)})"


MIGRATIONS = {
    1: _migration_1,
    2: _migration_2,
    3: _migration_3,
    4: _migration_4,
    5: _migration_5,
    6: _migration_6,
    7: _migration_7,
    8: _migration_8,
    9: _migration_9,
    10: _migration_10,
    11: _migration_11,
    12: _migration_12,
    13: _migration_13,
    14: _migration_14,
    15: _migration_15,
    16: _migration_16,
}
"""Schema version -> the statements that lead to it from the one before. Released ones never change."""
