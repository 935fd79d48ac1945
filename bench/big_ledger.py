"""A ledger of a big fleet, written straight into its tables: hours for reports, and windows for what looks at the present."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.duckdb.received import ranges_by_hour
from tokenyield_collector.ledger.duckdb.rollup import check_hours
from tokenyield_collector.live.counted_parts import CountedParts
from tokenyield_collector.live.counters import Counters
from tokenyield_collector.live.counting import COUNTED, Counting
from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.prices.load import load_prices

GPUS_PER_NODE = 8
HOUR_MS = 3_600_000
WEEK_MS = 7 * 24 * HOUR_MS
WINDOW_MS = 15_000
LIVE_WINDOWS = 20
START_MS = 1_790_812_800_000
"""2026-10-01T00:00Z"""
PRICES = """
timezone: Europe/Berlin
facilities:
  main: {pue: 1.3, per_kwh: 0.08, carbon_g_per_kwh: 380, host_watts_per_gpu: 200, per_kw_month: 150, kw_per_gpu: 1.3,
         bands: [{name: peak, days: mon-fri, hours: "07:00-20:00", per_kwh: 0.14}]}
pools:
  - {name: h100, match: {gpu: "*H100*"}, owned: {gpu: 37500, life_years: 4, cost_of_capital: 0.08, count: 3400}}
  - {name: a100, match: {gpu: "*A100*"}, owned: {gpu: 17000, life_years: 4, count: 3400}}
  - {name: l40s, rented: {per_gpu_hour: 1.86}}
token_prices: [{name: standard, per_million: 3}]
"""


def make_ledger(
    path: Path,
    gpus: int,
    days: int,
    workloads: str = "node",
    *,
    start_ms: int = START_MS,
    live_to_ms: int | None = None,
) -> None:
    """Fill the tables of hours, as if they had been folded, and leave the roll-ups to be made.

    `live_to_ms`: and five minutes of windows up to then, for what looks at the present.
    """
    nodes, hours = gpus // GPUS_PER_NODE, days * 24
    DuckDbLedger(path).close()
    name = {
        "node": "'ns' || (n * 3 + k) % 17 || '/llm-' || n || '-' || k",  # three servers over the GPUs of each node
        "fleet": "'ns' || k || '/llm-' || (n * 3 + k) % 300",  # 300 deployments over the fleet
        "gpu": "'ns' || k || '/llm-' || n || '-' || g || '-' || k",  # three servers of its own on every GPU
    }[workloads]
    with duckdb.connect(str(path)) as connection:
        connection.execute("SET memory_limit = '4GB'")
        connection.execute(
            f"""INSERT INTO share_hours BY NAME
            SELECT {start_ms} + h * {HOUR_MS} AS hour_ms, 'c' || n % 4 AS cluster, 'node-' || n AS node,
              'GPU-' || md5((n * 8 + g)::VARCHAR) AS gpu_uuid,
              CASE n % 3 WHEN 0 THEN 'NVIDIA H100 80GB HBM3' WHEN 1 THEN 'NVIDIA A100-SXM4-80GB' ELSE 'NVIDIA L40S' END
                AS gpu_model,
              {name} AS workload, 'sm' AS split,
              400000 + (n * 31 + h * 17 + g * 7 + k * 3) % 600000 AS active_ms,
              100000 + (n * 11 + h * 3) % 90000 AS idle_ms, 200000000 + n * 1000 + h AS active_mj, 50000000 AS idle_mj
            FROM range({hours}) a(h), range({nodes}) b(n), range({GPUS_PER_NODE}) d(g), range(3) e(k)"""
        )
        connection.execute(
            """INSERT INTO gpu_hours BY NAME
            SELECT hour_ms, cluster, node, gpu_uuid, gpu_model, sum(active_ms) AS active_ms, sum(idle_ms) AS idle_ms,
              3600000 - sum(active_ms) - sum(idle_ms) AS unallocated_ms, 0 AS unknown_ms, sum(active_mj) AS active_mj,
              sum(idle_mj) AS idle_mj, 1000000 AS unallocated_mj, 0 AS unknown_mj, 0 AS integrated_mj,
              0 AS energy_missing_ms
            FROM share_hours GROUP BY ALL ORDER BY hour_ms"""
        )
        connection.execute(
            """INSERT INTO token_hours BY NAME
            SELECT hour_ms, cluster, node, workload, 'vllm' AS server, node AS place,
              'model-' || hash(workload) % 40 AS model, 'counter' AS "method",
              (200000 + hash(workload, hour_ms) % 900000)::BIGINT AS completion, 700000 AS prompt_computed,
              90000 AS prompt_cached, 900 AS requests
            FROM (SELECT DISTINCT hour_ms, cluster, node, workload FROM share_hours) ORDER BY hour_ms"""
        )
        connection.execute(
            """INSERT INTO label_hours BY NAME
            SELECT hour_ms, cluster, node, workload, '{"team":"team-' || hash(workload) % 50 || '"}' AS labels,
              3600000 AS seen_ms FROM token_hours"""
        )
        connection.execute(f"INSERT INTO unrolled_hours SELECT {start_ms} + h * {HOUR_MS} FROM range({hours}) a(h)")
        connection.execute(f"INSERT INTO hour_revisions SELECT {start_ms} + h * {HOUR_MS}, 1 FROM range({hours}) a(h)")
        connection.execute(f"INSERT INTO batches VALUES ('a', 'e', 1, 'c', 'n', {start_ms}, {start_ms} + {HOUR_MS}, 0)")
        if live_to_ms is not None:
            _add_windows(connection, live_to_ms)


def _add_windows(connection: Any, to_ms: int) -> None:
    """What every GPU did in its newest hour, spread over windows; some work half as much again, some report nothing."""
    starts = f"SELECT {to_ms} - (i + 1) * {WINDOW_MS} AS start_ms FROM range({LIVE_WINDOWS}) a(i)"
    pace = "(2 + hash(gpu_uuid) % 3)"
    work = {name: f"({name} * {pace} * {WINDOW_MS} // (2 * {HOUR_MS}))" for name in ("active_ms", "active_mj")}
    idle = {name: f"({name} * {WINDOW_MS} // {HOUR_MS})" for name in ("idle_ms", "idle_mj")}
    held = ", ".join(f"{part}::BIGINT AS {name}" for name, part in (work | idle).items())
    rest = (
        f"({WINDOW_MS} - {work['active_ms']} - {idle['idle_ms']})::BIGINT AS unallocated_ms, 900000 AS unallocated_mj"
    )
    tokens = ", ".join(
        f"{name} * {WINDOW_MS} // {HOUR_MS} AS {name}" for name in ("completion", "prompt_computed", "requests")
    )
    for table, keys, sums, is_reported in (
        (
            "gpu",
            "gpu_uuid, gpu_model",
            f"{held}, {rest}, 0 AS unknown_ms, 0 AS unknown_mj, 0 AS integrated_mj, 0 AS energy_missing_ms",
            "hash(gpu_uuid) % 40",
        ),
        ("share", "gpu_uuid, gpu_model, workload, split", held, "hash(gpu_uuid) % 40"),
        ("token", "workload, server, place, model, method", tokens, "true"),
    ):
        connection.execute(
            f"""INSERT INTO {table}_windows BY NAME SELECT cluster, node, {keys}, start_ms, {sums}
            FROM {table}_hours, ({starts}) WHERE {is_reported} AND hour_ms = (SELECT max(hour_ms) FROM {table}_hours)"""
        )


def old_fleet(folder: Path, gpus: int, days: int, *, batch_days: int = 7) -> dict[str, Any]:
    """A ledger that a collector has kept for so many days, up to today: all weeks are as the first, rolled up and
    counted, and batches of the last `batch_days` are known by their numbers, though not by their windows. Returns the
    collector's settings."""
    day_ms, to_ms = 24 * HOUR_MS, time.time_ns() // 10**6 // WINDOW_MS * WINDOW_MS
    path, prices = folder / "ledger.duckdb", folder / "prices.yaml"
    prices.write_text(PRICES)
    start_ms = to_ms - to_ms % day_ms - days * day_ms
    make_ledger(path, gpus, min(days, 7), start_ms=start_ms)
    ledger = DuckDbLedger(path, threads=os.cpu_count() or 1)
    ledger.roll()
    _count(ledger, load_prices(prices), range(start_ms, start_ms + min(days, 7) * day_ms, HOUR_MS))
    ledger.close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("SET memory_limit = '4GB'")
        connection.execute("DELETE FROM batches")
        for week in range(1, -(-days // 7)):
            _repeat_week(connection, start_ms, week, start_ms + days * day_ms)
            connection.execute("CHECKPOINT")
        connection.execute(
            f"""INSERT INTO batches BY NAME
            SELECT 'agent-' || n AS agent_id, md5(n::VARCHAR) AS epoch, i + 1 AS seq, 'c' || n % 4 AS cluster,
              'node-' || n AS node, start_ms, start_ms + {WINDOW_MS} AS end_ms, start_ms + {2 * WINDOW_MS} AS received_ms
            FROM (SELECT i, {to_ms - batch_days * day_ms} + i * {WINDOW_MS} AS start_ms
                  FROM range({batch_days * day_ms // WINDOW_MS}) a(i)), range({gpus // GPUS_PER_NODE}) b(n)
            ORDER BY i, n"""
        )
        connection.execute(f"INSERT INTO received_hours {ranges_by_hour('true')}")
        _add_windows(connection, to_ms)
    ledger = DuckDbLedger(path)
    _count(
        ledger, load_prices(prices), range(start_ms + (days - 1) * day_ms, start_ms + days * day_ms, HOUR_MS)
    )  # and the sum of all
    ledger.close()
    return {"ledger_path": str(path), "prices_file": str(prices), "live_window_s": 300, "live_grid_s": 15}


def _repeat_week(connection: Any, start_ms: int, week: int, to_ms: int) -> None:
    by_ms = week * WEEK_MS
    within = f"WHERE hour_ms < {min(start_ms + WEEK_MS, to_ms - by_ms)}"
    for table in ("share_hours", "gpu_hours", "token_hours", "label_hours", "work_hours", "capacity_hours",
                  "hour_revisions"):  # fmt: skip
        connection.execute(f"INSERT INTO {table} SELECT * REPLACE (hour_ms + {by_ms} AS hour_ms) FROM {table} {within}")
    check_hours(connection, f"WHERE hour_ms >= {start_ms + by_ms}")
    parts = connection.execute("SELECT name, inputs, content FROM settled_figures").fetchall()
    for name, inputs, content in parts:
        prefix, _, day_ms = name.rpartition("/")
        if int(day_ms) < start_ms + WEEK_MS and int(day_ms) + by_ms < to_ms:
            later = json.dumps([[hour_ms + by_ms, of] for hour_ms, of in json.loads(inputs)], separators=(",", ":"))
            row = [f"{prefix}/{int(day_ms) + by_ms}", later, content]
            connection.execute("INSERT INTO settled_figures (name, inputs, content) VALUES (?, ?, ?)", row)


def _count(ledger: DuckDbLedger, prices: PriceBook, hours_ms: Sequence[int]) -> None:
    """What counters stand at after these hours, each day whole, as a collector keeps it."""
    counters, counting = Counters({}, CountedParts(ledger.figures, 0)), Counting(prices)
    revisions = ledger.hour_revisions()
    for i in range(0, len(hours_ms), 24):
        day = list(hours_ms[i : i + 24])
        counters.update(counting.of_hours(day, ledger.facts_of_hours(day, by_node=False, kinds=COUNTED)), revisions)
        counters.keep({**revisions, day[0] + WEEK_MS: 1})  # a later hour, for the newest days are kept by hour
        counters.write()


def big_fleet(folder: Path, gpus: int, days: int = 2) -> dict[str, Any]:
    """A ledger that ends two minutes from now, so that it is live for a while. Returns the collector's settings."""
    now_ms = time.time_ns() // 10**6
    path, prices = folder / "ledger.duckdb", folder / "prices.yaml"
    start_ms = now_ms - now_ms % HOUR_MS - days * 24 * HOUR_MS
    make_ledger(path, gpus, days, start_ms=start_ms, live_to_ms=now_ms + 120_000)
    ledger = DuckDbLedger(path)
    ledger.roll()
    ledger.close()
    prices.write_text(PRICES)
    return {"ledger_path": str(path), "prices_file": str(prices), "live_window_s": 300, "live_grid_s": 15}
