"""A scrape of the collector of 10,000 GPUs and of an agent with 8: how long, how large, how much a scraper downloads.

The collector serves a ledger of `--days` days (1,250 nodes, three servers on each: 3,750 workloads, of which
`metrics_series_max` keep their name). The agent reads 8 GPUs of the NVML stand-in. Prints
JSON.
"""

import argparse
import gzip
import json
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from big_ledger import big_fleet

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from harness import Stack, wait_until
from nvml.stand_in import Scenario, build, gpu_lines

REFRESH_S = 5


def scrape(url: str, *, zipped: bool) -> tuple[float, int, int]:
    """Seconds, bytes that came, bytes of text."""
    headers = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    if zipped:
        headers["Accept-Encoding"] = "gzip"
    started = time.perf_counter()
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
        body = answer.read()
    seconds = time.perf_counter() - started
    text = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
    return seconds, len(body), len(text)


def measured(url: str, runs: int, *, zipped: bool, apart_s: float = 0.0) -> dict[str, Any]:
    """`apart_s`: so long that every scrape finds a view that nobody has scraped yet."""
    found = []
    for _ in range(runs):
        time.sleep(apart_s)
        found.append(scrape(url, zipped=zipped))
    times = [seconds * 1000 for seconds, _, _ in found]
    return {
        "ms": {name: round(f(times), 1) for name, f in (("median", statistics.median), ("min", min), ("max", max))},
        "bytes": found[-1][1],
        "text_bytes": found[-1][2],
    }


def collector(folder: Path, gpus: int, days: int, runs: int) -> dict[str, Any]:
    settings = {**big_fleet(folder, gpus, days), "refresh_interval_s": REFRESH_S}
    stack = Stack(folder, collector=settings)
    started = time.perf_counter()
    stack.collector.start(f"{stack.url}/healthz")
    try:
        wait_until(lambda: _ready(f"{stack.url}/readyz"), timeout_s=600, what="ready")
        ready_s = time.perf_counter() - started
        url = f"{stack.url}/metrics"
        wait_until(lambda: _booked(url), timeout_s=120, what="booked")
        return {
            "gpus": gpus,
            "days": days,
            "ready_s": round(ready_s, 1),
            "first_scrape_of_a_view": measured(url, runs, zipped=True, apart_s=REFRESH_S + 1.5),
            "another_of_the_same_view": measured(url, runs, zipped=True),
            "plain": measured(url, runs, zipped=False),
        }
    finally:
        stack.kill_all()


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=60):
            return True
    except OSError:
        return False


def _booked(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return b"tokenyield_attributed_cost_to_date{" in answer.read()


def agent(folder: Path, runs: int) -> dict[str, Any]:
    library, scenario = build(folder), Scenario(folder / "scenario.txt")
    scenario.restart([line for gpu in range(8) for line in gpu_lines(gpu)])
    stack = Stack(folder, agent_env=scenario.environment(library))
    try:
        stack.start_agent()
        time.sleep(3)
        return {"gpus": 8, "plain": measured(f"{stack.agent_url}/metrics", runs, zipped=False)}
    finally:
        stack.kill_all()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--runs", type=int, default=15)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        found = {"agent": agent(Path(other), arguments.runs)}
        found["collector"] = collector(Path(folder), arguments.gpus, arguments.days, arguments.runs)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
