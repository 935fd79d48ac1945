"""Reports over a big month: 10,000 GPUs, 30 days of hours, three workloads each: 21.6 million rows of shares.

Makes the ledger once (kept beside the results of other runs in the cache folder), rolls it up, and measures what a user
waits for: `report --by team,model` as JSON, and the FOCUS file of the month with the peak memory of the process. Beside it, in
the same run, DuckDB's own group-by over the same rows: the floor for anything that reads them. Prints JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import duckdb

from tokenyield_collector.ledger.duckdb import DuckDbLedger

START_MS = 1_790_812_800_000  # 2026-10-01
HOUR_MS = 3_600_000
GPUS_PER_NODE = 8
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


def make_ledger(path: Path, gpus: int, days: int, workloads: str) -> None:
    """Fill the tables of hours, as if they had been folded, and leave the roll-ups to be made."""
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
            SELECT {START_MS} + h * {HOUR_MS} AS hour_ms, 'c' || n % 4 AS cluster, 'node-' || n AS node,
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
              sum(idle_mj) AS idle_mj, 1000000 AS unallocated_mj, 0 AS unknown_mj
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
        connection.execute(f"INSERT INTO unrolled_hours SELECT {START_MS} + h * {HOUR_MS} FROM range({hours}) a(h)")
        connection.execute(f"INSERT INTO batches VALUES ('a', 'e', 1, 'c', 'n', {START_MS}, {START_MS} + {HOUR_MS}, 0)")


def timed(command: list[str]) -> tuple[float, int, int]:
    """Seconds, peak RSS in KiB and bytes written to standard output, of a process of its own."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        assert status == 0, command
        return wall, usage.ru_maxrss, out.seek(0, os.SEEK_END)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--workloads", choices=("node", "fleet", "gpu"), default="node")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--ledger", type=Path, help="keep it here and take it again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.ledger or Path(folder) / "ledger.duckdb"
        prices = Path(folder) / "prices.yaml"
        prices.write_text(PRICES)
        # In a process of its own: a child's peak memory is at least what its parent held when it was started.
        with ProcessPoolExecutor(1) as maker:
            roll_s = maker.submit(prepare, path, arguments.gpus, arguments.days, arguments.workloads).result()
        print(json.dumps(measure(path, prices, roll_s, arguments), indent=2))


def prepare(path: Path, gpus: int, days: int, workloads: str) -> float:
    """Make the ledger where there is none, and its roll-ups; returns the seconds that those took."""
    if not path.exists():
        make_ledger(path, gpus, days, workloads)
    ledger = DuckDbLedger(path, threads=os.cpu_count() or 1)
    started = time.perf_counter()
    ledger.roll()
    ledger.close()
    return time.perf_counter() - started


def spread(values: list[float]) -> dict[str, float]:
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, 2) for name, value in found.items()}


def measure(path: Path, prices: Path, roll_s: float, arguments: Any) -> dict[str, Any]:
    runs = arguments.runs
    command = [
        sys.executable, "-m", "tokenyield_collector.cli", "report", "--period", "2026-10", "--prices", str(prices),
        "--set", f"ledger_path={path}",
    ]  # fmt: skip
    report = [timed([*command, "--by", "team,model", "--format", "json"]) for _ in range(runs)]
    focus = timed([*command, "--format", "focus"])
    with duckdb.connect(str(path), read_only=True) as connection:
        connection.execute("SET memory_limit = '1GB'")
        rows = connection.execute("SELECT count(*) FROM share_hours").fetchone()
        floor = []
        for _ in range(runs):
            started = time.perf_counter()
            connection.execute(
                "SELECT workload, gpu_model, sum(active_ms), sum(idle_ms), sum(active_mj) FROM share_hours GROUP BY ALL"
            ).fetchall()
            floor.append(time.perf_counter() - started)
    walls = [wall for wall, _, _ in report]
    return {
        "machine": f"{os.cpu_count()} cores, {os.uname().machine}",
        "share_rows": rows[0] if rows else 0,
        "workloads": arguments.workloads,
        "ledger_bytes": path.stat().st_size,
        "roll_up_s": round(roll_s, 2),
        "roll_up_s_per_hour": round(roll_s / (arguments.days * 24), 4),
        "report_by_team_model_s": {
            "median": round(statistics.median(walls), 2),
            "min": round(min(walls), 2),
            "max": round(max(walls), 2),
        },
        "report_peak_mib": round(max(rss for _, rss, _ in report) / 1024),
        "duckdb_group_by_s": {
            "median": round(statistics.median(floor), 2),
            "min": round(min(floor), 2),
            "max": round(max(floor), 2),
        },
        "focus_s": round(focus[0], 1),
        "focus_peak_mib": round(focus[1] / 1024),
        "focus_mb": round(focus[2] / 1e6, 1),
    }


if __name__ == "__main__":
    main()
