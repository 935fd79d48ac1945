"""The roll-ups of `usage.py` in DuckDB: SQL that makes `work_hours` and `capacity_hours` of some hours again.

In: the tables of hours. Out: rows keyed by two dictionaries, `gpu_groups` and `identities`, so that reports join and
group integers: on 21.6 million rows of shares that is what brings a month's report under two seconds
(bench/report.py).
"""

from collections.abc import Sequence
from typing import Any

from tokenyield_collector.ledger.duckdb.live_hours import at_most
from tokenyield_collector.ledger.rows import AMOUNT_MAX, INTEGER_MAX
from tokenyield_collector.ledger.usage import CAPACITY_SUMS
from tokenyield_wire.window import TOKEN_KINDS

KINDS = (*TOKEN_KINDS, "requests")
TIMES = ("active_ms", "idle_ms", "active_mj", "idle_mj")
NOBODY = 0
"""The gpu_group of tokens whose workload held no GPU that is known."""
_WEIGHTS = {"prompt_computed": 10, "prompt_cached": 1, "prompt_unsplit": 10, "completion": 40}
_UNITS = " + ".join(f"{weight} * coalesce({kind}, 0)" for kind, weight in _WEIGHTS.items())

WORK_COLUMNS = ("hour_ms", "gpu_group", "identity", "gpus", *TIMES, *KINDS, *(f"{kind}_told" for kind in KINDS))

TABLES = [
    "CREATE TABLE gpu_groups (id INTEGER, cluster VARCHAR, node VARCHAR, gpu_model VARCHAR)",
    "CREATE TABLE identities (id INTEGER, cluster VARCHAR, workload VARCHAR, model VARCHAR, labels VARCHAR)",
    "CREATE TABLE work_hours (hour_ms BIGINT, gpu_group INTEGER, identity INTEGER, gpus BIGINT, "
    + ", ".join(f"{column} BIGINT" for column in WORK_COLUMNS[4:])
    + ")",
    "CREATE TABLE capacity_hours (hour_ms BIGINT, gpu_group INTEGER, "
    + ", ".join(f"{column} BIGINT" for column in CAPACITY_SUMS)
    + ")",
    "CREATE TABLE unrolled_hours (hour_ms BIGINT)",
    "CREATE TABLE rolled_hours (hour_ms BIGINT, facts UBIGINT)",
]


def part(x: str, lo: str, hi: str, den: str) -> str:
    """The part [lo, hi) of den of a whole; the parts sum to it. NULL where the whole is."""
    return f"({x}::HUGEINT * {hi} // {den} - {x}::HUGEINT * {lo} // {den})::BIGINT"


def roll(connection: Any, hours_ms: Sequence[int]) -> None:
    """Make the roll-ups of these hours again, inside the caller's transaction."""
    within = f"WHERE hour_ms IN ({', '.join(str(int(hour_ms)) for hour_ms in hours_ms)})"
    connection.execute(f"DELETE FROM work_hours {within}")
    connection.execute(f"DELETE FROM capacity_hours {within}")
    connection.execute(
        "INSERT INTO gpu_groups "
        "SELECT row_number() OVER (ORDER BY cluster, node, gpu_model) + (SELECT count(*) FROM gpu_groups), * FROM ("
        f"SELECT DISTINCT cluster, node, gpu_model FROM gpu_hours {within} "
        "EXCEPT SELECT cluster, node, gpu_model FROM gpu_groups)"
    )
    connection.execute(_pieces(within))
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
        f"INSERT INTO capacity_hours SELECT hour_ms, g.id, {sums} FROM gpu_hours "
        f"JOIN gpu_groups g USING (cluster, node, gpu_model) {within} GROUP BY hour_ms, g.id ORDER BY hour_ms, g.id"
    )
    _check(connection, within)


def _check(connection: Any, within: str) -> None:
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


def _pieces(within: str) -> str:
    kinds = ", ".join(f"{at_most(kind, AMOUNT_MAX)} AS {kind}, count({kind}) AS {kind}_told" for kind in KINDS)
    lo, hi, den = "coalesce(m.lo, 0)", "coalesce(m.hi, 1)", "coalesce(m.den, 1)"  # no tokens: nothing to share
    times = ", ".join(f"{part(f'h.{x}', lo, hi, den)} AS {x}" for x in TIMES)
    tokens = ", ".join(f"{part(kind, 'lo', 'hi', 'den')} AS {kind}, {kind}_told" for kind in KINDS)
    of_workload = "PARTITION BY hour_ms, cluster, workload"
    return f"""
        CREATE OR REPLACE TEMP TABLE pieces AS
        WITH held AS (
          SELECT hour_ms, cluster, node, workload, gpu_model, count(DISTINCT gpu_uuid) AS gpus,
                 {", ".join(f"{at_most(x, AMOUNT_MAX)} AS {x}" for x in TIMES)}
          FROM share_hours {within} GROUP BY ALL),
        made AS (
          SELECT hour_ms, cluster, workload, model, {kinds} FROM token_hours {within} GROUP BY ALL),
        labelled AS (
          SELECT hour_ms, cluster, workload, labels, sum(seen_ms) AS seen_ms FROM label_hours {within} GROUP BY ALL),
        labels AS (
          SELECT hour_ms, cluster, workload, arg_max(labels, (seen_ms, labels)) AS labels FROM labelled GROUP BY ALL),
        weighed AS (SELECT *, ({_UNITS})::HUGEINT AS units FROM made),
        -- 1. models share a workload's time by their tokens; where none made any, the first has it whole
        models AS (
          SELECT *, sum(units) OVER ({of_workload} ORDER BY model) AS upto, sum(units) OVER ({of_workload}) AS whole,
                 row_number() OVER ({of_workload} ORDER BY model) AS place
          FROM weighed),
        spans AS (
          SELECT hour_ms, cluster, workload, model,
                 CASE WHEN whole > 0 THEN upto - units WHEN place = 1 THEN 0 ELSE 1 END AS lo,
                 CASE WHEN whole > 0 THEN upto ELSE 1 END AS hi, CASE WHEN whole > 0 THEN whole ELSE 1 END AS den
          FROM models),
        worked AS (
          SELECT hour_ms, cluster, h.node, workload, h.gpu_model, coalesce(m.model, '') AS model, h.gpus,
                 {times}
          FROM held h LEFT JOIN spans m USING (hour_ms, cluster, workload)),
        -- 2. a model's tokens fall to the nodes by active time; where none was active, to the first
        shared AS (
          SELECT *, sum(active_ms) OVER n AS upto, sum(active_ms) OVER w AS whole, row_number() OVER n AS place
          FROM worked
          WINDOW w AS (PARTITION BY hour_ms, cluster, workload, model),
                 n AS (PARTITION BY hour_ms, cluster, workload, model ORDER BY node, gpu_model)),
        paired AS (
          SELECT s.* EXCLUDE (upto, whole, place), made.* EXCLUDE (hour_ms, cluster, workload, model),
                 CASE WHEN whole > 0 THEN upto - active_ms WHEN place = 1 THEN 0 ELSE 1 END AS lo,
                 CASE WHEN whole > 0 THEN upto ELSE 1 END AS hi, CASE WHEN whole > 0 THEN whole ELSE 1 END AS den
          FROM shared s LEFT JOIN made USING (hour_ms, cluster, workload, model)),
        everything AS (
          SELECT hour_ms, cluster, node, workload, gpu_model, model, gpus, {", ".join(TIMES)}, {tokens} FROM paired
          UNION ALL
          SELECT hour_ms, cluster, NULL, workload, NULL, model, 0, {", ".join("0" for _ in TIMES)},
                 {", ".join(f"{kind}, {kind}_told" for kind in KINDS)}
          FROM made ANTI JOIN held USING (hour_ms, cluster, workload))
        SELECT hour_ms, cluster, node, workload, gpu_model, model, coalesce(labels, '{{}}') AS labels, gpus,
               {", ".join(f"coalesce({x}, 0) AS {x}" for x in WORK_COLUMNS[4:])}
        FROM everything LEFT JOIN labels USING (hour_ms, cluster, workload)
    """
