"""A collector over an old ledger of a big fleet: when it is ready, what it holds in memory, and how long other prices take.

    python bench/ready.py --gpus 10000 --days 400 --folder /var/tmp/old      keeps the ledger there, and takes it again

Three starts: of a ledger without figures to date, until the whole past is computed; again, as every later start is, with
the report of a month; and a third, into which the whole fleet ships while all months are priced again. `cpu_s` is of the
collector's process. Agents, probes and the collector share the machine's cores. Prints JSON.
"""

import argparse
import asyncio
import gzip
import hashlib
import json
import os
import re
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from big_ledger import GPUS_PER_NODE, PRICES, WINDOW_MS, old_fleet
from ingest import cpu_s, rss

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from harness import Program, free_port
from tokenyield_collector.prices.period import month_of
from tokenyield_wire.codec import encode_shipment
from tokenyield_wire.window import Batch, GpuWindow, Shipment, StateMillijoules, TokenCount, Workload, WorkloadShare

FIRST_NUMBER = 10_000_000
"""Of batches: far above those that the ledger has."""
PROBE_EVERY_S = 0.1
MONTH_MS = 31 * 86_400_000
MODELS = ("NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB", "NVIDIA L40S")


class Running:
    """One run of the collector."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        settings = {**settings, "listen": f"127.0.0.1:{port}"}
        self._program = Program("tokenyield_collector.cli", "serve", settings, folder / "collector.out", None)
        self._started_s = time.perf_counter()
        self._program.start_without_waiting()

    @property
    def so_far(self) -> dict[str, float]:
        return {
            "s": round(time.perf_counter() - self._started_s, 2),
            "cpu_s": round(cpu_s(self._pid), 2),
            "rss_mib": rss(self._pid),
        }

    @property
    def _pid(self) -> int:
        process = self._program.process
        assert process is not None
        assert process.poll() is None, self._program.said()[-3000:]
        return process.pid

    def stop(self) -> float:
        """MiB at its peak."""
        status = Path(f"/proc/{self._pid}/status").read_text()
        assert self._program.terminate() == 0, self._program.said()[-3000:]
        return round(int(status.partition("VmHWM:")[2].split()[0]) / 1024)

    def kill(self) -> None:
        self._program.stop_if_running()


async def answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


class History(NamedTuple):
    """What /metrics shows of the past."""

    months: int
    """Left to be computed."""
    is_whole: bool
    cost: float
    """To date."""


async def history(session: aiohttp.ClientSession, url: str) -> History:
    async with session.get(f"{url}/metrics") as answer:
        text = await answer.text()

    def values(family: str) -> list[float]:
        return [float(value) for value in re.findall(rf"^tokenyield_{family} (\S+)$", text, re.MULTILINE)]

    (months,) = values(r'collector_history_left\{of="months"\}')
    is_current, to_date_s = values("collector_to_date_policy_current"), values("collector_to_date_timestamp_seconds")
    return History(
        int(months), months == 0 and is_current == [1] and sum(to_date_s) > 0, sum(values(r"cost_to_date\{.*\}"))
    )


# --- the fleet -------------------------------------------------------------------------------------------------------


def shipment(node: int, number: int, end_ms: int) -> bytes:
    """15 s of a node, as big_ledger.py makes its hours."""
    gpus, shares = [], []
    for i in range(GPUS_PER_NODE):
        uuid = "GPU-" + hashlib.md5(str(node * GPUS_PER_NODE + i).encode(), usedforsecurity=False).hexdigest()
        active_ms, energy = (
            9000 + (node * 31 + number * 17 + i) % 3000,
            StateMillijoules(active=6_000_000, idle=400_000),
        )
        gpus.append(
            GpuWindow(uuid=uuid, model=MODELS[node % 3], index=i, active_ms=active_ms, idle_ms=WINDOW_MS - active_ms,
                      energy_mj=energy, power_mw_max=650_000, temperature_c_max=70)
        )  # fmt: skip
        shares.append(
            WorkloadShare(gpu_uuid=uuid, workload=f"ns{node * 3 % 17}/llm-{node}-0", split="sm", active_ms=active_ms,
                          idle_ms=WINDOW_MS - active_ms, active_mj=energy.active, idle_mj=energy.idle)
        )  # fmt: skip
    served = Workload(
        key=f"ns{node * 3 % 17}/llm-{node}-0", server="vllm", place=f"node-{node}", model="model-1",
        tokens=(TokenCount(method="counter", completion=40_000, prompt_computed=90_000, requests=90),),
    )  # fmt: skip
    batch = Batch(
        seq=number, start_ms=end_ms - WINDOW_MS, end_ms=end_ms, gpus=tuple(gpus), shares=tuple(shares),
        workloads=(served,),
    )  # fmt: skip
    return encode_shipment(
        Shipment(
            schema=1, agent_id=f"agent-{node}", epoch="bench", cluster=f"c{node % 4}", node=f"node-{node}",
            batches=(batch,),
        )
    )  # fmt: skip


class Load:
    """All nodes ship each 15 s, and both probes ask ten times a second. What took how long since the last `taken`."""

    def __init__(self, session: aiohttp.ClientSession, url: str, nodes: int) -> None:
        self._session = session
        self._url = url
        self._nodes = nodes
        self._seconds: dict[str, list[float]] = {}
        self.failed = 0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for node in range(self._nodes):
                tasks.create_task(self._ship(node))
            for probe in ("healthz", "readyz"):
                tasks.create_task(self._probe(probe))

    def taken(self) -> dict[str, Any]:
        seconds, self._seconds = self._seconds, {}
        return {name: spread(sorted(listed)) for name, listed in sorted(seconds.items())} | {"failed": self.failed}

    async def _ship(self, node: int) -> None:
        period_s, number = WINDOW_MS / 1000, FIRST_NUMBER + time.time_ns() // 10**9
        await asyncio.sleep(period_s * node / self._nodes)
        while True:
            number, due_s = number + 1, time.perf_counter() + period_s
            body = gzip.compress(shipment(node, number, time.time_ns() // 10**6 // WINDOW_MS * WINDOW_MS), 1)
            await self._timed("receipts", "POST", "/v1/batches", data=body, headers={"Content-Encoding": "gzip"})
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))

    async def _probe(self, name: str) -> None:
        while True:
            await self._timed(name, "GET", f"/{name}")
            await asyncio.sleep(PROBE_EVERY_S)

    async def _timed(self, name: str, method: str, path: str, **named: Any) -> None:
        started_s = time.perf_counter()
        async with self._session.request(method, self._url + path, **named) as answer:
            await answer.read()
        self._seconds.setdefault(name, []).append(time.perf_counter() - started_s)
        self.failed += answer.status != 200


def spread(seconds: list[float]) -> dict[str, float]:
    def at(part: float) -> float:
        return round(seconds[min(len(seconds) - 1, int(len(seconds) * part))] * 1000, 1)

    return {"count": len(seconds), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": round(seconds[-1] * 1000, 1)}


# --- what is measured ------------------------------------------------------------------------------------------------


async def first_start(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    running = Running(folder, settings)
    try:
        async with aiohttp.ClientSession() as session:
            started = await _started(running, session)
            while not (await history(session, running.url)).is_whole:
                await asyncio.sleep(0.5)
            return started | {"all_months": running.so_far, "peak_mib": running.stop()}
    finally:
        running.kill()


async def later_start(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    running = Running(folder, settings)
    try:
        async with aiohttp.ClientSession() as session:
            started = await _started(running, session)
            before, month = running.so_far, month_of(time.time_ns() // 10**6 - MONTH_MS)
            async with session.get(f"{running.url}/v1/report?period={month}&by=team,model") as answer:
                assert answer.status == 200, await answer.text()
                await answer.read()
            after = running.so_far
            report = {name: round(after[name] - before[name], 2) for name in ("s", "cpu_s")}
            return started | {
                f"report_of_{month}": report | {"rss_mib": after["rss_mib"]},
                "peak_mib": running.stop(),
            }
    finally:
        running.kill()


async def _started(running: Running, session: aiohttp.ClientSession) -> dict[str, Any]:
    async def ready() -> dict[str, float]:
        while not await answers(session, f"{running.url}/readyz"):
            await asyncio.sleep(0.02)
        return running.so_far

    async def taken() -> dict[str, float]:
        body = shipment(0, FIRST_NUMBER + time.time_ns() // 10**9, time.time_ns() // 10**6 // WINDOW_MS * WINDOW_MS)
        while True:
            try:
                async with session.post(f"{running.url}/v1/batches", data=body) as answer:
                    if answer.status == 200:
                        return running.so_far
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.02)

    is_ready, is_taken = await asyncio.gather(ready(), taken())
    return {"ready": is_ready, "first_receipt": is_taken}


async def other_prices(folder: Path, settings: dict[str, Any], nodes: int, quiet_s: float) -> dict[str, Any]:
    running = Running(folder, settings)
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            await _started(running, session)
            load = Load(session, running.url, nodes)
            task = asyncio.create_task(load.run())
            await asyncio.sleep(WINDOW_MS / 1000)  # all nodes have shipped once
            load.taken()
            before = running.so_far
            await asyncio.sleep(quiet_s)
            beside_nothing, begun = load.taken(), running.so_far
            cost = (await history(session, running.url)).cost
            prices = Path(settings["prices_file"])
            prices.write_text(prices.read_text().replace("per_kwh: 0.08", "per_kwh: 0.09"))
            months_s = await _priced_again(session, running, begun["s"], cost)
            done = running.so_far
            priced = {name: round(done[name] - begun[name], 2) for name in ("s", "cpu_s")}
            shipping = (begun["cpu_s"] - before["cpu_s"]) / (begun["s"] - before["s"])
            beside_pricing = load.taken()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return {
                "priced_again": priced | {"rss_mib": done["rss_mib"], "months_done_after_s": months_s},
                "cpu_s_a_second_of_shipping_alone": round(shipping, 3),
                "before": beside_nothing,
                "meanwhile": beside_pricing,
                "peak_mib": running.stop(),
            }
    finally:
        running.kill()


async def _priced_again(
    session: aiohttp.ClientSession, running: Running, since_s: float, cost_before: float
) -> list[float]:
    """When each month was seen to be done, in seconds; /metrics shows it with the next refresh."""
    done_s: list[float] = []
    most = 0
    while True:
        shown = await history(session, running.url)
        most = max(most, shown.months)
        done_s += [round(running.so_far["s"] - since_s, 1)] * (most - shown.months - len(done_s))
        if shown.is_whole and shown.cost != cost_before:
            return done_s
        await asyncio.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=400)
    parser.add_argument("--quiet", type=float, default=30, help="seconds of shipping before prices change")
    parser.add_argument("--folder", type=Path, help="keep the ledger here and take it again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = arguments.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        settings = {"ledger_path": str(folder / "ledger.duckdb"), "prices_file": str(folder / "prices.yaml")}
        if not Path(settings["ledger_path"]).exists():
            with ProcessPoolExecutor(1) as maker:
                maker.submit(old_fleet, folder, arguments.gpus, arguments.days).result()
        Path(settings["prices_file"]).write_text(PRICES)
        measured: dict[str, Any] = {
            "machine": f"{os.cpu_count()} cores, {os.uname().machine}",
            "load_before": os.getloadavg()[0],
            "ledger_bytes": Path(settings["ledger_path"]).stat().st_size,
            "first_start": asyncio.run(first_start(folder, settings)),
            "later_start": asyncio.run(later_start(folder, settings)),
            "other_prices": asyncio.run(
                other_prices(folder, settings, arguments.gpus // GPUS_PER_NODE, arguments.quiet)
            ),
        }
        measured["load_after"] = os.getloadavg()[0]
    print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
