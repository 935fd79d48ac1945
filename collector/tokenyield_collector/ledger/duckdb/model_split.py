"""How the time of a workload with several models is split among them, when a report is made.

In: `work_hours` of a period, where each model's row has the workload's whole time, and token weights. Out: SQL of the
same rows with each model's part of it.
"""

from collections.abc import Mapping

from tokenyield_collector.ledger.duckdb.query_tables import QueryTables, weighted_tokens
from tokenyield_collector.ledger.duckdb.splits import part, shares, span
from tokenyield_collector.ledger.sql import between
from tokenyield_collector.ledger.usage import HELD_TIMES, REPORTED, USAGE_KINDS


def work_rows(tables: QueryTables, start_ms: int, end_ms: int, weights: Mapping[str, int]) -> str:
    """Rows with `spot`, a number of their own. By the weighted tokens of an hour and cluster; what has one model, as
    nearly all workloads do, is read as it stands."""
    tables.make(
        "t_model_spans",
        f"""
        WITH made AS (
          SELECT hour_ms, cluster, workload, model, identity, sum({weighted_tokens(weights)})::HUGEINT AS units
          FROM work_hours JOIN identities i ON i.id = identity
          WHERE {between("hour_ms", start_ms, end_ms)} AND models > 1 GROUP BY ALL),
        shared AS (SELECT *, {shares("units", "hour_ms, cluster, workload", "model")} FROM made)
        SELECT hour_ms, identity, {span("units")} FROM shared
        """,
    )
    if not tables.rows("SELECT 1 FROM t_model_spans LIMIT 1"):
        return "(SELECT rowid AS spot, * FROM work_hours)"
    keys, tokens = "hour_ms, gpu_group, identity, gpus", ", ".join((*USAGE_KINDS, *REPORTED))
    split = ", ".join(f"{part(name, 'lo', 'hi', 'den')} AS {name}" for name in HELD_TIMES)
    return f"""(
        SELECT rowid AS spot, {keys}, {", ".join(HELD_TIMES)}, {tokens} FROM work_hours WHERE models <= 1
        UNION ALL
        SELECT w.rowid AS spot, {keys}, {split}, {tokens}
        FROM work_hours w JOIN t_model_spans USING (hour_ms, identity) WHERE models > 1)"""
