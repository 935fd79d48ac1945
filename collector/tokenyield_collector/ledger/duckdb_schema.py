"""The tables of a DuckDB ledger, and the way from each schema version to the next. Released migrations never change."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tokenyield_collector.ledger.duckdb_rollup import TABLES as ROLLUP_TABLES
from tokenyield_collector.ledger.usage import CAPACITY_SUMS
from tokenyield_wire.window import REQUEST_KINDS, TOKEN_KINDS

SCHEMA_VERSION = 4

GPU_SUMS = [
    *CAPACITY_SUMS,
    "integrated_mj",
    "energy_missing_ms",
    "utilization_ms",
    "memory_used_mib_seconds",
]
SHARE_SUMS = ["active_ms", "idle_ms", "active_mj", "idle_mj"]
TOKEN_SUMS = [*TOKEN_KINDS, *REQUEST_KINDS]

_GPU_KEYS = ["cluster", "node", "gpu_uuid", "gpu_model"]
_REASON_KEYS = ["cluster", "node", "gpu_uuid", "kind", "reason"]
_SHARE_KEYS = ["cluster", "node", "gpu_uuid", "gpu_model", "workload", "split"]
_TOKEN_KEYS = ["cluster", "node", "workload", "server", "place", "model", "method"]

_DEMAND_KEYS = ["cluster", "node", "gateway", "model", "asker"]
_LABEL_KEYS = ["cluster", "node", "workload", "labels"]

TABLES: dict[str, tuple[list[str], list[str]]] = {
    "gpu": (_GPU_KEYS, GPU_SUMS),
    "reason": (_REASON_KEYS, ["duration_ms"]),
    "share": (_SHARE_KEYS, SHARE_SUMS),
    "token": (_TOKEN_KEYS, TOKEN_SUMS),
    "demand": (_DEMAND_KEYS, TOKEN_SUMS),
    "label": (_LABEL_KEYS, ["seen_ms"]),
}
BATCH_COLUMNS = ["agent_id", "epoch", "seq", "cluster", "node", "start_ms", "end_ms", "received_ms"]
TEXT = {
    "agent_id",
    "epoch",
    "cluster",
    "node",
    "gpu_uuid",
    "gpu_model",
    "kind",
    "reason",
    "workload",
    "split",
    "server",
}
TEXT |= {"place", "model", "method", "name", "gateway", "asker", "labels", "real_name"}


class NoCount(NamedTuple):
    """Stands for the tokens of a workload that made none: its row keeps which model the idle server holds."""

    method: str = "none"
    prompt_computed: None = None
    prompt_cached: None = None
    prompt_unsplit: None = None
    completion: None = None
    requests: None = None
    requests_aborted: None = None
    requests_failed: None = None


def ddl(name: str, columns: Sequence[str]) -> str:
    typed = (f"{column} {'VARCHAR' if column in TEXT else 'BIGINT'}" for column in columns)
    return f"CREATE TABLE {name} ({', '.join(typed)})"


def _migration_1() -> list[str]:
    statements = [ddl("batches", BATCH_COLUMNS)]
    tables: dict[str, tuple[list[str], list[str]]] = {
        "gpu": (_GPU_KEYS, GPU_SUMS),
        "reason": (_REASON_KEYS, ["duration_ms"]),
        "share": (_SHARE_KEYS, SHARE_SUMS),
        "token": (_TOKEN_KEYS, ["prompt_computed", "prompt_cached", "completion", "requests"]),
    }
    for table, (keys, sums) in tables.items():
        statements.append(ddl(f"{table}_windows", [*keys, "start_ms", *sums]))
        statements.append(ddl(f"{table}_hours", ["hour_ms", *keys, *sums]))
    statements.append("CREATE TABLE dirty_hours (hour_ms BIGINT)")
    statements.append(ddl("counter_bases", ["name", "value"]))
    statements.append(ddl("counter_floors", ["name", "value"]))
    return statements


def _migration_2() -> list[str]:
    """Prompts that cannot be split, aborted and failed requests; who asked; labels of workloads."""
    statements = []
    for kind in ("prompt_unsplit", "requests_aborted", "requests_failed"):
        statements += [f"ALTER TABLE token_{span} ADD COLUMN {kind} BIGINT" for span in ("windows", "hours")]
    for table, keys, sums in (
        ("demand", _DEMAND_KEYS, [*TOKEN_KINDS, *REQUEST_KINDS]),
        ("label", _LABEL_KEYS, ["seen_ms"]),
    ):
        statements.append(ddl(f"{table}_windows", [*keys, "start_ms", *sums]))
        statements.append(ddl(f"{table}_hours", ["hour_ms", *keys, *sums]))
    return statements


def _migration_3() -> list[str]:
    """Roll-ups for reports, labels of nodes, and what was said of closed periods."""
    return [
        *ROLLUP_TABLES,
        "INSERT INTO unrolled_hours SELECT DISTINCT hour_ms FROM gpu_hours",
        "INSERT INTO unrolled_hours SELECT DISTINCT hour_ms FROM token_hours",
        "CREATE TABLE node_labels (cluster VARCHAR, node VARCHAR, labels VARCHAR)",
        "CREATE TABLE statements (period VARCHAR, version BIGINT, facts VARCHAR, prices VARCHAR, attribution VARCHAR, "
        "change VARCHAR)",
    ]


def _migration_4() -> list[str]:
    """Money is no counter any more: what it was held by goes."""
    return ["DROP TABLE counter_floors", """DELETE FROM counter_bases WHERE name LIKE '["cost"%'"""]


MIGRATIONS = {1: _migration_1, 2: _migration_2, 3: _migration_3, 4: _migration_4}
"""Schema version -> the statements that lead to it from the one before. Released ones never change."""


def insert_rows(connection: Any, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """At least one row, as columns of numpy arrays."""
    data = {c: _array(c, values) for c, values in zip(columns, zip(*rows, strict=True), strict=True)}
    assert data  # DuckDB finds it by this name
    connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM data")


def _array(column: str, values: Sequence[Any]) -> Any:
    if column in TEXT:
        return np.array(values, dtype=object)
    if None in values:
        missing = [value is None for value in values]
        return np.ma.masked_array([value or 0 for value in values], mask=missing, dtype=np.int64)
    return np.array(values, dtype=np.int64)
