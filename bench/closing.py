"""Closing a month of a big fleet: 10,000 GPUs, 30 days of hours, three workloads on each GPU's node.

Measures, each in a process of its own: the first version, a look when nothing changed, the second version after a price
changed, what `verify` does for both, and reports of the closed month. Prints JSON.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from big_ledger import PRICES
from report import prepare, timed

from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.load import load_prices
from tokenyield_collector.reports.closing import MonthClosing
from tokenyield_collector.reports.version_check import verify_versions

NOW_MS = 1_794_700_800_000
"""2026-11-15T00:00Z: October is over and settled."""
MONTH = "2026-10"


def turn(path: Path, prices: Path | None) -> dict[str, Any]:
    """What a collector's turn of closing takes, in all and at most without a pause for others; or of verifying."""
    steps: list[float] = []
    with closing(DuckDbLedger(path)) as ledger:
        started = time.perf_counter()
        if prices is None:
            assert list(verify_versions(ledger)) == []
        else:
            policy = Policy(prices=load_prices(prices))
            month = MonthClosing(ledger=ledger, policy=policy, now_ms=NOW_MS, close_after_ms=0, made_by="bench")
            for _ in month.steps():
                steps.append(time.perf_counter() - started - sum(steps))
        wall = time.perf_counter() - started
        records = ledger.versions.records(MONTH)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "wall_s": round(wall, 1),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "longest_step_s": round(max(steps, default=wall), 2),
        "peak_mib": round(usage.ru_maxrss / 1024),
        "versions": len(records),
        "ledger_mb": round(path.stat().st_size / 1e6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--workloads", choices=("node", "fleet", "gpu"), default="node")
    parser.add_argument("--ledger", type=Path, help="keep it here and take it again, without its versions")
    parser.add_argument(
        "--turn", type=Path, metavar="PRICES", nargs="?", const=False, help="one turn of closing, or of verifying, here"
    )
    arguments = parser.parse_args()
    if arguments.turn is not None:
        print(json.dumps(turn(arguments.ledger, arguments.turn or None)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.ledger or Path(folder) / "ledger.duckdb"
        prices, dearer = Path(folder) / "prices.yaml", Path(folder) / "dearer.yaml"
        prices.write_text(PRICES)
        dearer.write_text(PRICES.replace("1.86", "1.96"))
        with ProcessPoolExecutor(1) as maker:
            maker.submit(prepare, path, arguments.gpus, arguments.days, arguments.workloads).result()
        result = {
            "machine": f"{os.cpu_count()} cores, {os.uname().machine}",
            "gpus": arguments.gpus,
            "days": arguments.days,
        }
        with closing(DuckDbLedger(path)) as ledger:
            for table in ("statements", "closed_days", "period_checks"):
                ledger._file.connection.execute(f"DELETE FROM {table}")
        for name, book in (
            ("first version", [prices]),
            ("nothing changed", [prices]),
            ("a price changed", [dearer]),
            ("verified", []),
        ):
            call = [sys.executable, __file__, "--ledger", path, "--turn", *book]
            result[name] = json.loads(subprocess.check_output(call))
        command = [sys.executable, "-m", "tokenyield_collector.cli"]
        report = [*command, "report", "--period", MONTH, "--format", "json", "--set", f"ledger_path={path}"]
        for columns in ("team,model", "node"):
            wall, rss_kib, _ = timed([*report, "--by", columns])
            result[f"report by {columns}"] = {"wall_s": round(wall, 1), "peak_mib": round(rss_kib / 1024)}
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
