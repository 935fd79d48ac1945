"""The roll-ups of `ledger/usage.py` in DuckDB: SQL that makes `work_hours` and `capacity_hours` of some hours again.

In: the tables of hours. Out: rows keyed by two dictionaries, `gpu_groups` and `identities`, so that reports join and
group integers: on 21.6 million rows of shares that is what brings a month's report under two seconds
(bench/report.py). A GPU that several nodes report counts once (gpu_owners.py).
"""

from collections.abc import Sequence
from typing import Any

from tokenyield_collector.ledger.duckdb.gpu_owners import decide
from tokenyield_collector.ledger.duckdb.live_hours import at_most
from tokenyield_collector.ledger.duckdb.splits import part, shares, span
from tokenyield_collector.ledger.sql import is_one_of
from tokenyield_collector.ledger.tables import AMOUNT_MAX, INTEGER_MAX
from tokenyield_collector.ledger.usage import CAPACITY_SUMS, HELD_TIMES, REPORTED, USAGE_KINDS

NOBODY = 0
"""The gpu_group of tokens whose workload held no GPU that is known."""

WORK_COLUMNS = ("hour_ms", "gpu_group", "identity", "gpus", "models", *HELD_TIMES, *USAGE_KINDS, *REPORTED)
"""A row of `work_hours` has the whole time and energy of a workload on the GPUs of its gpu_group, and the tokens of one
of the workload's `models` there. Readers split the times among these by the price book's token weights, so that the
roll-up depends on facts alone."""


def roll(connection: Any, hours_ms: Sequence[int]) -> None:
    """Make the roll-ups of these hours again, inside the caller's transaction."""
    within = f"WHERE {is_one_of(hours_ms)}"
    counting = " ANTI JOIN left_out USING (hour_ms, gpu_uuid, cluster, node)" if decide(connection, hours_ms) else ""
    connection.execute(f"DELETE FROM work_hours {within}")
    connection.execute(f"DELETE FROM capacity_hours {within}")
    connection.execute(
        "INSERT INTO gpu_groups "
        "SELECT row_number() OVER (ORDER BY cluster, node, gpu_model) + (SELECT count(*) FROM gpu_groups), * FROM ("
        f"SELECT DISTINCT cluster, node, gpu_model FROM gpu_hours {within} "
        "EXCEPT SELECT cluster, node, gpu_model FROM gpu_groups)"
    )
    connection.execute(_pieces(within, counting))
    connection.execute(
        "INSERT INTO identities "
        "SELECT row_number() OVER (ORDER BY cluster, workload, model, labels) + (SELECT count(*) FROM identities), * "
        "FROM (SELECT DISTINCT cluster, workload, model, labels FROM pieces "
        "EXCEPT SELECT cluster, workload, model, labels FROM identities)"
    )
    connection.execute(
        f"INSERT INTO work_hours ({', '.join(WORK_COLUMNS)}) "
        f"SELECT hour_ms, coalesce(g.id, {NOBODY}), i.id, {', '.join(WORK_COLUMNS[3:])} FROM pieces p "
        "JOIN identities i USING (cluster, workload, model, labels) "
        "LEFT JOIN gpu_groups g ON g.cluster = p.cluster AND g.node = p.node AND g.gpu_model = p.gpu_model "
        "ORDER BY hour_ms, i.id"
    )
    connection.execute("DROP TABLE pieces")
    sums = ", ".join(at_most(column, INTEGER_MAX) for column in CAPACITY_SUMS)
    connection.execute(
        f"INSERT INTO capacity_hours (hour_ms, gpu_group, {', '.join(CAPACITY_SUMS)}) "
        f"SELECT hour_ms, g.id, {sums} FROM (FROM gpu_hours{counting}) "
        f"JOIN gpu_groups g USING (cluster, node, gpu_model) {within} GROUP BY hour_ms, g.id ORDER BY hour_ms, g.id"
    )
    check_hours(connection, within)


def check_hours(connection: Any, within: str) -> None:
    """rolled_hours: a checksum of all that reports read of an hour, whatever the numbers in the dictionaries are."""
    gpus = "(SELECT id, hash(cluster, node, gpu_model) AS h FROM gpu_groups) g"
    work = "(SELECT id, hash(cluster, workload, model, labels) AS h FROM identities) i"
    tables = (
        f"SELECT w.* EXCLUDE (gpu_group, identity), g.h, i.h FROM work_hours w "
        f"JOIN {work} ON i.id = w.identity LEFT JOIN {gpus} ON g.id = w.gpu_group",
        f"SELECT c.* EXCLUDE (gpu_group), g.h FROM capacity_hours c JOIN {gpus} ON g.id = c.gpu_group",
        "SELECT * FROM demand_hours",
        "SELECT * FROM (FROM measure_hours WHERE starts_with(kind, 'host'))",
    )
    hashes = " UNION ALL ".join(f"SELECT hour_ms, hash(t) AS h FROM ({table} {within}) t" for table in tables)
    connection.execute(f"DELETE FROM rolled_hours {within}")
    connection.execute(f"INSERT INTO rolled_hours SELECT hour_ms, bit_xor(h) FROM ({hashes}) GROUP BY hour_ms")


def _pieces(within: str, counting: str) -> str:
    """`counting`: a join that leaves out what is counted for another node."""
    sums = [f"{at_most(kind, AMOUNT_MAX)} AS {kind}" for kind in USAGE_KINDS]
    counts = [f"count({kind}) AS {name}" for kind, name in zip(USAGE_KINDS, REPORTED, strict=True)]
    tokens = ", ".join(f"{part(kind, 'lo', 'hi', 'den')} AS {kind}" for kind in USAGE_KINDS)
    of_workload = "hour_ms, cluster, workload"
    return f"""
        CREATE OR REPLACE TEMP TABLE pieces AS
        WITH held AS (
          SELECT hour_ms, cluster, node, workload, gpu_model, count(DISTINCT gpu_uuid) AS gpus,
                 {", ".join(f"{at_most(x, AMOUNT_MAX)} AS {x}" for x in HELD_TIMES)}
          FROM share_hours{counting} {within} GROUP BY ALL),
        made AS (
          SELECT hour_ms, cluster, workload, model, count(*) OVER (PARTITION BY {of_workload}) AS models,
                 {", ".join((*sums, *counts))}
          FROM token_hours {within} GROUP BY {of_workload}, model),
        labelled AS (
          SELECT hour_ms, cluster, workload, labels, sum(seen_ms) AS seen_ms FROM label_hours {within} GROUP BY ALL),
        labels AS (
          SELECT hour_ms, cluster, workload, arg_max(labels, (seen_ms, labels)) AS labels FROM labelled GROUP BY ALL),
        -- tokens fall to the nodes by the workload's active time; where none was active, to the first
        shared AS (SELECT *, {shares("active_ms", of_workload, "node, gpu_model")} FROM held),
        spans AS (SELECT * EXCLUDE (upto, whole, place), {span("active_ms")} FROM shared),
        everything AS (
          SELECT hour_ms, cluster, node, workload, gpu_model, coalesce(model, '') AS model, gpus, models,
                 {", ".join(HELD_TIMES)}, {tokens}, {", ".join(REPORTED)}
          FROM spans LEFT JOIN made USING (hour_ms, cluster, workload)
          UNION ALL
          SELECT hour_ms, cluster, NULL, workload, NULL, model, 0, models, {", ".join("0" for _ in HELD_TIMES)},
                 {", ".join((*USAGE_KINDS, *REPORTED))}
          FROM made ANTI JOIN held USING (hour_ms, cluster, workload))
        SELECT hour_ms, cluster, node, workload, gpu_model, model, coalesce(labels, '{{}}') AS labels, gpus,
               coalesce(models, 1) AS models, {", ".join(f"coalesce({x}, 0) AS {x}" for x in WORK_COLUMNS[5:])}
        FROM everything LEFT JOIN labels USING (hour_ms, cluster, workload)
    """
