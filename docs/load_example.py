"""The worked example of docs/load-example.md: what a million tokens cost on the same hardware, by load alone.

`python docs/load_example.py measure` offers a real llama-server (tests/real builds it) requests at several rates, open loop, and
keeps what its answers report in load-example.json. `python docs/load_example.py write` prices these figures with the collector's own
report and writes the page; a test holds page and code together.
"""

import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT / name) for name in ("tests", "agent", "collector")]

from collector.fleet import HOUR_MS, Fleet, Gpu, Held, Server, ms
from tokenyield_collector.prices.load import load_prices

RATES_PER_SECOND = (0.1, 0.5, 1, 2, 5, 10, 20, 40, 80)
SECONDS = 20.0
WARM_S = 2.0
TOKENS = 64
CLIENTS_MAX = 64
PRICES = """\
pools:
  - name: one-gpu
    rented: {per_gpu_hour: 2.50, energy_included: true}
"""


def measure() -> None:
    from real.llama_server import LlamaServer

    loads = []
    with tempfile.TemporaryDirectory() as folder:
        server = LlamaServer(Path(folder), Path(folder) / "server.log")
        try:
            for rate in RATES_PER_SECOND:
                loads.append(offer(server, rate))
                print(loads[-1], file=sys.stderr)
        finally:
            server.kill()
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")
    document = {"machine": f"{os.cpu_count()} cores, {cpu}", "seconds": SECONDS, "max_tokens": TOKENS, "loads": loads}
    (HERE / "load-example.json").write_text(json.dumps(document, indent=2) + "\n")


def offer(server: Any, rate: float) -> dict[str, float]:
    """Requests at `rate` a second whether or not the server keeps up; what was answered within the time."""
    slots, lock = threading.Semaphore(CLIENTS_MAX), threading.Lock()
    state = {"in_flight": 0, "since": 0.0, "busy_s": 0.0, "completion": 0, "requests": 0, "refused": 0}
    start = time.monotonic()
    end = start + SECONDS

    def one(number: int) -> None:
        with lock:
            if state["in_flight"] == 0:
                state["since"] = time.monotonic()
            state["in_flight"] += 1
        try:
            usage = server.complete(f"request {number} at {rate} a second", TOKENS)
        finally:
            now = min(time.monotonic(), end)
            with lock:
                state["in_flight"] -= 1
                if state["in_flight"] == 0:
                    state["busy_s"] += max(0.0, now - state["since"])
            slots.release()
        if time.monotonic() <= end:
            with lock:
                state["completion"] += usage["completion_tokens"]
                state["requests"] += 1

    threads, number = [], 0
    while (due := start + number / rate) < end:
        time.sleep(max(0.0, due - time.monotonic()))
        number += 1
        if not slots.acquire(blocking=False):
            state["refused"] += 1
            continue
        thread = threading.Thread(target=one, args=(number,))
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()
    return {
        "requests_per_second": rate,
        "answered_per_second": round(state["requests"] / SECONDS, 3),
        "refused": state["refused"],
        "completion_tokens_per_second": round(state["completion"] / SECONDS, 2),
        "busy_share": round(min(1.0, state["busy_s"] / SECONDS), 4),
    }


def page() -> str:
    document = json.loads((HERE / "load-example.json").read_text())
    fleet = Fleet()
    loads = document["loads"]
    for hour, load in enumerate(loads):
        busy = round(load["busy_share"] * 60, 4)
        held = Held(workload=f"{load['requests_per_second']:g} requests/s", active_min=busy, idle_min=60 - busy)
        made = Server(
            key=held.workload,
            model="tiny",
            completion=round(load["completion_tokens_per_second"] * 3600),
            requests=round(load["answered_per_second"] * 3600),
        )
        for day in ("2026-10-04", "2026-10-05"):
            fleet.hour(ms(day) + hour * HOUR_MS, [Gpu(held=[held])], [made])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prices.yaml"
        file.write_text(PRICES)
        report = fleet.maker(load_prices(file)).report("2026-10-05", ["workload"])
    rows_of = {row.by["workload"]: row for row in report.rows}
    rows = []
    for load in loads:
        row = rows_of[f"{load['requests_per_second']:g} requests/s"]
        figures = row.figures
        rows.append(
            (
                f"{load['requests_per_second']:g}",
                f"{load['completion_tokens_per_second']:,.1f}",
                f"{load['busy_share']:.1%}",
                f"{figures['cost_per_mtok_direct']:,.2f}",
                f"{figures['cost_per_mtok_allocated']:,.2f}",
                f"{row.parts['under_yield']:,.2f}",
                f"{row.parts['idle']:,.2f}",
            )
        )
    costs = [
        rows_of[f"{load['requests_per_second']:g} requests/s"].figures["cost_per_mtok_allocated"] for load in loads
    ]
    direct = [rows_of[f"{load['requests_per_second']:g} requests/s"].figures["cost_per_mtok_direct"] for load in loads]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"""# What load alone does to the cost of a token

Made by `python docs/load_example.py write`; do not edit.

The paper *Beyond Per-Token Pricing* (Chitral Patil, 2026, [arXiv 2606.11690](https://arxiv.org/abs/2606.11690)) measured $0.21 to
$15.25 per million output tokens on the same H100: 72 times, by model and by how many requests a second were offered; up to 36 times
by load alone. The GPU costs the same in each hour; what changes is how many tokens carry that cost.

The same experiment with our own numbers: a real llama-server with a tiny random model answered requests of up to {document["max_tokens"]} tokens
for {document["seconds"]:g} s at each rate, offered whether or not it kept up ({document["machine"]}). Each row is priced as one hour
of one GPU at $2.50. **The server ran on a CPU, so only the shape is meaningful: the dollars are not those of an H100.**

| offered, requests/s | tokens/s | busy | $/Mtok direct | $/Mtok allocated | under-yield, $ of 2.50 | idle, $ of 2.50 |
|---:|---:|---:|---:|---:|---:|---:|
{table}

From {max(costs):,.2f} down to {min(costs):,.2f} dollars per million tokens: **{max(costs) / min(costs):,.0f} times, by load alone**
(`allocated`, which includes the idle time that the server holds). For the busy time only (`direct`) it is {max(direct) / min(direct):,.1f} times, because
a server that answers one request at a time is busy and below its pace (a GPU, which needs a batch to be full, shows more of it).
That part is `under_yield`: what the busy time cost beyond the best hour's pace, learned from these same hours on two days. No pace is learned from
an hour that is busy for less than half of it, but such an hour is measured against that pace. `idle` is the rest of the hour.

So a calculator that takes utilization as given is wrong by exactly that factor, and so is a comparison of `direct` with an API's
price. `tokenyield-collector report` shows all three bases; `loaded` includes the share of what nobody used.

For your own fleet:

```sh
tokenyield-collector report --period 2026-10 --by workload,day
```
"""


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else "write"
    if what == "measure":
        measure()
    (HERE / "load-example.md").write_text(page())
