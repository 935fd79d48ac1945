"""A fleet of made-up agents against one collector: does it hold, how long do receipts take, and is anything lost or doubled.

    python bench/fleet.py --agents 12500 --seconds 1800        100,000 GPUs for half an hour, with faults
    python bench/fleet.py --growth                             1,000, 10,000 and 100,000 GPUs, two minutes each

Every agent is a seeded state machine: 8 GPUs whose load wanders, a few workloads that come and go, windows of 15 s at a
phase of its own, a spool. It speaks the true wire as the real one does: gzip, a new connection for each shipment, the
oldest first, again until there is a receipt. With `--faults` agents fall silent for minutes and come back with a backlog,
receipts are lost after the commit, requests break off in the middle. The collector runs on core 0, the fleet on core 1;
/metrics is scraped every 15 s. At the end the ledger is compared with what the agents made, to the last token.
"""

import argparse
import asyncio
import gzip
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parent))

from ingest import cpu_s, rss

from harness import Stack
from tokenyield_wire.codec import encode_shipment
from tokenyield_wire.units import MS_PER_DAY
from tokenyield_wire.window import Batch, GpuWindow, Shipment, StateMillijoules, TokenCount, Workload, WorkloadShare

GPUS = 8
WINDOW_MS = 15_000
MODELS = ("llama-3.3-70b-instruct", "qwen3-32b", "gpt-oss-120b", "deepseek-v3.2", "mixtral-8x22b")
PRICES = """facilities: {{main: {{pue: 1.3, per_kwh: 0.08}}}}
pools: [{{name: h100, owned: {{count: {gpus}, gpu: 35040, life_years: 4}}}}]
"""
BACKLOG_MAX = 64
SILENT, LOST_RECEIPT, BROKEN_OFF = 0.0005, 0.002, 0.001
"""Chances at each window, with `--faults`: half of the fleet falls silent once in half an hour's hundred-odd windows."""


class Truth:
    """What the fleet made, and how its shipments fared."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()
        self.latencies_s: list[float] = []
        self.answers: Counter[str] = Counter()
        self.waiting = 0
        self.oldest_s = 0.0


class Agent:
    """One node. It ships one request at a time, and rests after one that failed."""

    def __init__(self, fleet: "Fleet", number: int) -> None:
        self.fleet = fleet
        self.chosen = random.Random(number)
        self.number = number
        self.loads = [self.chosen.random() for _ in range(GPUS)]
        self.workloads = self._new_workloads()
        self.seq = 0
        self.spool: list[Batch] = []
        self.silent_windows = 0
        self.attempt = 0
        self.is_busy = False
        """A request is under way, or it rests."""

    # --- what happens on the node ---------------------------------------------------------------------------------

    def _new_workloads(self) -> list[tuple[str, str, int]]:
        """(name, model, GPUs): together at most all GPUs; what is left is unallocated."""
        found, left = [], GPUS
        while left and self.chosen.random() < 0.9:
            count = min(left, self.chosen.choice([1, 2, 4, 8]))
            model = self.chosen.choice(MODELS)
            found.append((f"{model}-{self.chosen.randrange(200)}-{left}", model, count))
            left -= count
        return found

    def close_window(self, end_ms: int) -> None:
        chosen, start_ms = self.chosen, end_ms - WINDOW_MS
        if chosen.random() < 0.002:
            self.workloads = self._new_workloads()
        gpus, shares, works, at = [], [], [], 0
        holders = [name for name, _, count in self.workloads for _ in range(count)]
        for i in range(GPUS):
            self.loads[i] = load = min(1.0, max(0.0, self.loads[i] + chosen.uniform(-0.05, 0.05)))
            held = i < len(holders)
            active_ms = int(load * WINDOW_MS) if held else 0
            idle_ms = WINDOW_MS - active_ms if held else 0
            energy = StateMillijoules(active=active_ms * 640 + chosen.randrange(10_000), idle=idle_ms * 120,
                                      unallocated=0 if held else WINDOW_MS * 70)  # fmt: skip
            uuid = f"GPU-{self.number:08x}-{i:04x}-2222-3333-444455556666"
            gpus.append(
                GpuWindow(uuid=uuid, model="NVIDIA H100 80GB HBM3", index=i, active_ms=active_ms, idle_ms=idle_ms,
                          unallocated_ms=0 if held else WINDOW_MS, energy_mj=energy, utilization_ms=active_ms,
                          memory_used_mib_seconds=1_100_000 if held else 9_000, power_mw_max=690_000, temperature_c_max=66,
                          throttled_ms={"sw_power_cap": active_ms // 9} if load > 0.9 else {}, memory_total_mib=81_559)
            )  # fmt: skip
            if held:
                shares.append(WorkloadShare(gpu_uuid=uuid, workload=holders[i], split="exclusive", active_ms=active_ms,
                                            idle_ms=idle_ms, active_mj=energy.active, idle_mj=energy.idle))  # fmt: skip
            self.fleet.truth.made["active_ms"] += active_ms
        for name, model, count in self.workloads:
            tokens = int(sum(self.loads[at : at + count]) * 20_000)
            at += count
            counted = TokenCount(method="counter", prompt_computed=tokens * 3, prompt_cached=tokens, completion=tokens,
                                 requests=tokens // 400)  # fmt: skip
            works.append(Workload(key=name, server="vllm", place=f"n{self.number}", model=model, tokens=(counted,)))
            self.fleet.truth.made["completion"] += tokens
        self.seq += 1
        self.fleet.truth.made["batches"] += 1
        self.spool.append(
            Batch(
                seq=self.seq,
                start_ms=start_ms,
                end_ms=end_ms,
                gpus=tuple(gpus),
                shares=tuple(shares),
                workloads=tuple(works),
            )
        )

    def tick(self, due_ms: int) -> None:
        """One window of this node's own phase is over."""
        self.close_window(due_ms)
        if self.fleet.faults and not self.silent_windows and self.chosen.random() < SILENT:
            self.silent_windows = self.chosen.randrange(4, 60)
        if self.silent_windows:
            self.silent_windows -= 1
        elif not self.is_busy:
            self.ship()

    # --- shipping -------------------------------------------------------------------------------------------------

    def ship(self) -> None:
        batches = tuple(self.spool[:BACKLOG_MAX])
        self.is_busy = bool(batches)
        if not batches:
            return
        body = gzip.compress(
            encode_shipment(
                Shipment(schema=1, agent_id=f"agent-{self.number}", epoch="e", cluster=f"c{self.number % 4}",
                         node=f"n{self.number}", batches=batches)
            ), 5)  # fmt: skip
        head = f"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
        luck = self.chosen.random() if self.fleet.faults else 1.0
        fate = "receipt lost" if luck < LOST_RECEIPT else "broken off" if luck < LOST_RECEIPT + BROKEN_OFF else ""
        request = Request(self, len(batches), head.encode() + body, fate)
        task = asyncio.get_running_loop().create_task(self._connect(request))
        self.fleet.connecting.add(task)
        task.add_done_callback(self.fleet.connecting.discard)

    async def _connect(self, request: "Request") -> None:
        address = (f"127.{1 + self.number // 60_000}.{self.number // 250 % 240 + 1}.{self.number % 250 + 1}", 0)
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: request, "127.0.0.1", self.fleet.port, local_addr=address
            )
        except OSError as error:
            request.end(type(error).__name__)

    def ended(self, batches: int, why: str) -> None:
        """So many batches have their receipt; or they have not, and why."""
        self.fleet.truth.answers[why or "200"] += 1
        if not why:
            del self.spool[:batches]
            self.attempt = 0
            self.ship()
            return
        self.attempt += 1
        pause_s = self.chosen.random() * min(60.0, 2.0 ** min(self.attempt - 1, 16))  # full jitter, as the real one
        asyncio.get_running_loop().call_later(pause_s, self.ship)


class Request(asyncio.Protocol):
    """One shipment on a connection of its own, and its fate, decided before. It ends once."""

    def __init__(self, agent: Agent, batches: int, data: bytes, fate: str) -> None:
        self._agent, self._batches, self._data, self._fate = agent, batches, data, fate
        self._got = b""
        self._has_ended = False
        self._sent_s = time.perf_counter()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if self._fate == "broken off":
            transport.write(self._data[: len(self._data) // 2])
            transport.abort()
            return
        transport.write(self._data)

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, _, body = self._got.partition(b"\r\n\r\n")
        if not body.endswith(b"}\n") and b"problem+json" not in head:
            return
        status = head.split(b" ", 2)[1].decode()
        why = self._fate or ("" if status == "200" else status)
        if not why and not self._has_ended:
            self._agent.fleet.truth.latencies_s.append(time.perf_counter() - self._sent_s)
        self._transport.close()
        self.end(why)

    def connection_lost(self, error: Exception | None) -> None:
        self.end(self._fate or "closed")

    def end(self, why: str) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._agent.ended(self._batches, why)


class Fleet:
    """All agents in one event loop."""

    def __init__(self, port: int, agents: int, *, faults: bool, every_s: float) -> None:
        self.port, self.faults, self.every_s = port, faults, every_s
        self.truth = Truth()
        self.connecting: set[asyncio.Task[None]] = set()
        self.agents = [Agent(self, number) for number in range(agents)]

    async def run(self, seconds: float, sample: Any) -> None:
        loop = asyncio.get_running_loop()
        started_s, stop = loop.time(), asyncio.Event()
        windows = int(seconds / self.every_s)
        ahead_ms = windows * (WINDOW_MS - int(1000 * self.every_s))  # faster than time: the windows end at about now
        start_ms = (time.time_ns() // 1_000_000 - ahead_ms) // WINDOW_MS * WINDOW_MS - WINDOW_MS

        def tick(agent: Agent, n: int, phase_s: float) -> None:
            agent.tick(start_ms + (n + 1) * WINDOW_MS)
            if n + 1 < windows:
                loop.call_at(started_s + phase_s + (n + 1) * self.every_s, tick, agent, n + 1, phase_s)

        for agent in self.agents:
            phase_s = agent.chosen.random() * self.every_s
            loop.call_at(started_s + phase_s, tick, agent, 0, phase_s)
        sampling = loop.create_task(sample(stop))
        await asyncio.sleep(seconds + self.every_s)
        self.faults = False
        for agent in self.agents:  # who is silent comes back, so that the books can be compared
            agent.silent_windows = 0
            if not agent.is_busy:
                agent.ship()
        while any(agent.spool for agent in self.agents):
            await asyncio.sleep(0.5)
        stop.set()
        await sampling


def run(agents: int, seconds: float, *, faults: bool, every_s: float) -> dict[str, Any]:
    import uvloop

    with tempfile.TemporaryDirectory(dir=os.environ.get("FLEET_FOLDER")) as folder:
        prices = Path(folder, "prices.yaml")
        prices.write_text(PRICES.format(gpus=agents * GPUS))
        stack = Stack(
            Path(folder),
            collector={"refresh_interval_s": 5, "live_lag_s": 45, "live_grid_s": 15, "prices_file": str(prices)},
        )
        stack.start_collector()
        assert stack.collector.process is not None
        pid = stack.collector.process.pid
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread), {0})
        os.sched_setaffinity(0, {1})
        fleet = Fleet(stack.port, agents, faults=faults, every_s=every_s)
        samples: list[dict[str, float]] = []
        scrapes_s: list[float] = []

        async def sample(stop: asyncio.Event) -> None:
            loop, used_s, at_s = asyncio.get_running_loop(), cpu_s(pid), time.perf_counter()
            while not stop.is_set():
                await asyncio.sleep(15)
                now_s, now_used_s = time.perf_counter(), cpu_s(pid)
                samples.append({"cores": round((now_used_s - used_s) / (now_s - at_s), 3), "rss_mib": rss(pid)})
                used_s, at_s = now_used_s, now_s
                scrapes_s.append(await loop.run_in_executor(None, timed, f"{stack.url}/metrics"))
                if sys.stderr.isatty():
                    print(
                        f"\r{len(samples) * 15} s, {samples[-1]}, {dict(fleet.truth.answers)}", end="", file=sys.stderr
                    )

        started_s = time.perf_counter()
        uvloop.run(fleet.run(seconds, sample))
        elapsed_s = time.perf_counter() - started_s
        month = time.strftime("%Y-%m", time.gmtime())
        reports_s = [timed(f"{stack.url}/v1/report?period={month}&by=team,model") for _ in range(5)]
        assert stack.collector.terminate() == 0, stack.collector.said()[-2000:]
        size = sum(file.stat().st_size for file in Path(folder).glob("ledger.duckdb*"))
        ((batches, distinct),) = stack.query("SELECT count(*), count(DISTINCT (agent_id, seq)) FROM batches")
        ((active_ms,),) = stack.query("SELECT sum(active_ms)::BIGINT FROM gpu_hours")
        ((completion,),) = stack.query("SELECT sum(completion)::BIGINT FROM token_hours")
        os.sched_setaffinity(0, set(range(os.cpu_count() or 1)))
    truth = fleet.truth
    kept = {"batches": batches, "active_ms": active_ms, "completion": completion}
    assert batches == distinct, f"{batches - distinct} batches are there twice"
    assert kept == dict(truth.made), f"in the ledger {kept}, made {dict(truth.made)}"
    steady = samples[2:] or samples
    latencies_s = sorted(truth.latencies_s)
    return {
        "agents": agents,
        "gpus": agents * GPUS,
        "seconds": round(elapsed_s),
        "batches": batches,
        "batches_per_second": round(agents / every_s),
        "lost": truth.made["batches"] - distinct,
        "doubled": batches - distinct,
        "receipt_p50_ms": round(1000 * statistics.median(latencies_s)),
        "receipt_p99_ms": round(1000 * latencies_s[int(len(latencies_s) * 0.99)]),
        "receipt_max_ms": round(1000 * latencies_s[-1]),
        "answers": dict(truth.answers),
        "collector_cores_mean": round(statistics.mean(s["cores"] for s in steady), 3),
        "collector_cores_max": max(s["cores"] for s in steady),
        "collector_rss_mib_max": max(s["rss_mib"] for s in samples),
        "collector_rss_mib_by_minute": [round(s["rss_mib"]) for s in samples[3::4]],
        "scrape_median_ms": round(1000 * statistics.median(scrapes_s)),
        "scrape_max_ms": round(1000 * max(scrapes_s)),
        "report_median_ms": round(1000 * statistics.median(reports_s)),
        "report_max_ms": round(1000 * max(reports_s)),
        "ledger_bytes_per_batch": round(size / batches),
        "ledger_bytes_per_gpu_day": round(size / batches * MS_PER_DAY / WINDOW_MS / GPUS),
        "cpu_ms_per_batch": round(1000 * statistics.mean(s["cores"] for s in steady) * every_s / agents, 3),
    }


def timed(url: str) -> float:
    """Seconds until the whole answer is here."""
    import urllib.request

    started_s = time.perf_counter()
    request = urllib.request.Request(url, headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()
    return time.perf_counter() - started_s


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=12_500)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument(
        "--every", type=float, default=15.0, help="seconds between windows of one agent; less is more load"
    )
    parser.add_argument("--no-faults", action="store_true")
    parser.add_argument("--growth", action="store_true", help="1,000, 10,000 and 100,000 GPUs")
    arguments = parser.parse_args()
    sizes = [125, 1250, 12_500] if arguments.growth else [arguments.agents]
    results = [run(size, arguments.seconds, faults=not arguments.no_faults, every_s=arguments.every) for size in sizes]
    cpu = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").open() if "model name" in line), "")
    print(json.dumps({"bench": "fleet", "machine": f"{os.cpu_count()} x {cpu}", "results": results}, indent=2))
