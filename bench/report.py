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
from big_ledger import PRICES, make_ledger

from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger


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
