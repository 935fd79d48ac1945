"""How many durable 8-GPU batches per second one collector takes on one core, and how long an agent waits for its receipt.

The collector runs pinned to core 0; the load comes from this process on another core over keep-alive connections, one
batch a request, gzip, each connection an agent of its own that sends the next batch when it has the receipt (as agents
do). After the run the ledger is opened and the batches in it are compared with the receipts.
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
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from harness import Stack
from tokenyield_wire.codec import encode_shipment
from tokenyield_wire.latency import LATENCY_KINDS, LatencyCount
from tokenyield_wire.window import (
    Batch,
    GpuWindow,
    Shipment,
    StateMillijoules,
    TokenCount,
    Workload,
    WorkloadShare,
)


def latency(chosen: random.Random) -> tuple[LatencyCount, ...]:
    """Of one busy server: requests in six buckets, tokens in five."""
    return tuple(
        LatencyCount(
            kind=kind,
            sum_ms=chosen.randrange(10**5, 10**6),
            counts=(*[0] * 4, *(chosen.randrange(10 ** (4 if kind == "inter_token" else 2)) for _ in range(6))),
        )
        for kind in LATENCY_KINDS
    )


def batch(seq: int, start_ms: int, chosen: random.Random, *, with_latency: bool) -> Batch:
    """A node of 8 busy GPUs and four workloads, with figures of realistic length. Agents report latency once a minute,
    in one of four batches."""
    gpus, shares = [], []
    for i in range(8):
        active_ms = chosen.randrange(9_000, 15_000)
        energy = StateMillijoules(active=chosen.randrange(10**6, 10**7), idle=chosen.randrange(10**5, 10**6))
        gpus.append(
            GpuWindow(
                uuid=f"GPU-{i:08x}-1111-2222-3333-444455556666",
                model="NVIDIA H100 80GB HBM3",
                index=i,
                active_ms=active_ms,
                idle_ms=15_000 - active_ms,
                energy_mj=energy,
                utilization_ms=active_ms,
                memory_used_mib_seconds=chosen.randrange(10**6, 1_200_000),
                throttled_ms={"sw_power_cap": chosen.randrange(15_000)},
                power_mw_max=chosen.randrange(600_000, 700_000),
                temperature_c_max=70,
                memory_total_mib=81_559,
            )
        )
        shares.append(
            WorkloadShare(
                gpu_uuid=gpus[-1].uuid,
                workload=f"chat-{i // 2}",
                split="exclusive",
                active_ms=active_ms,
                idle_ms=15_000 - active_ms,
                active_mj=energy.active,
                idle_mj=energy.idle,
            )
        )
    workloads = tuple(
        Workload(
            key=f"chat-{i}",
            server="vllm",
            place="node",
            model="llama-3.3-70b-instruct",
            tokens=(
                TokenCount(
                    method="count",
                    prompt_computed=chosen.randrange(10**5),
                    prompt_cached=chosen.randrange(10**5),
                    completion=chosen.randrange(10**5),
                    requests=chosen.randrange(1000),
                ),
            ),
            latency=latency(chosen) if with_latency else (),
        )
        for i in range(4)
    )
    return Batch(
        seq=seq,
        start_ms=start_ms,
        end_ms=start_ms + 15_000,
        gpus=tuple(gpus),
        shares=tuple(shares),
        workloads=workloads,
    )


def requests(agents: int, per_agent: int, now_ms: int, *, with_latency: bool) -> list[list[bytes]]:
    """Whole HTTP requests, made beforehand so that making them is not measured."""
    chosen = random.Random(1)
    start_ms = now_ms - now_ms % 15_000 - 15_000
    made = []
    bodies = [batch(1, start_ms, chosen, with_latency=with_latency and i % 4 == 0) for i in range(52)]
    for agent in range(agents):
        mine = []
        for seq in range(1, per_agent + 1):
            template = bodies[(agent + seq) % len(bodies)]
            numbered = Batch(
                seq=seq,
                start_ms=start_ms - (seq % 200) * 15_000 // 15_000 * 15_000,
                end_ms=start_ms - (seq % 200) * 15_000 + 15_000,
                gpus=template.gpus,
                shares=template.shares,
                workloads=template.workloads,
            )
            shipment = Shipment(
                schema=1, agent_id=f"agent-{agent}", epoch="e", cluster="c", node=f"n{agent}", batches=(numbered,)
            )
            body = gzip.compress(encode_shipment(shipment), 1)
            head = f"POST /v1/batches HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
            mine.append(head.encode() + body)
        made.append(mine)
    return made


class Agent(asyncio.Protocol):
    """One keep-alive connection that sends its next request when the last is answered."""

    def __init__(self, mine: list[bytes], latencies_s: list[float], done: asyncio.Event) -> None:
        self._mine = iter(mine)
        self._latencies_s = latencies_s
        self._done = done
        self._got = b""
        self.receipts = 0
        self.refusal = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def start(self, ends_s: float) -> None:
        self._ends_s = ends_s
        self._next()

    def _next(self) -> None:
        request = next(self._mine, None)
        if request is None or time.perf_counter() >= self._ends_s:
            self._transport.close()
            return
        self._sent_s = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._got += data
        if not self._got.endswith(b"}\n"):
            return
        if not self._got.startswith(b"HTTP/1.1 200"):
            self.refusal = self._got
            self._transport.close()
            return
        self._got = b""
        self.receipts += 1
        self._latencies_s.append(time.perf_counter() - self._sent_s)
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        self._done.set()


async def load(port: int, made: list[list[bytes]], seconds: float) -> tuple[list[float], int, float]:
    """Connect all agents, then let them send; the time to connect is not measured."""
    latencies_s: list[float] = []
    agents, events = [], []
    for mine in made:
        event = asyncio.Event()
        agent = Agent(mine, latencies_s, event)
        await asyncio.get_running_loop().create_connection(lambda agent=agent: agent, "127.0.0.1", port)  # type: ignore[misc]
        agents.append(agent)
        events.append(event)
    started_s = time.perf_counter()
    for agent in agents:
        agent.start(started_s + seconds)
    await asyncio.gather(*(event.wait() for event in events))
    if refusals := [agent.refusal for agent in agents if agent.refusal]:
        sys.exit(f"{len(refusals)} agents were refused: {refusals[0].decode(errors='replace')}")
    return latencies_s, sum(agent.receipts for agent in agents), time.perf_counter() - started_s


def run(agents: int, seconds: float, per_agent: int, *, with_latency: bool) -> dict[str, Any]:
    import uvloop

    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder), collector={"refresh_interval_s": 5})
        stack.start_collector()
        assert stack.collector.process is not None
        pid = stack.collector.process.pid
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread), {0})
        os.sched_setaffinity(0, {1})
        made = requests(agents, per_agent, time.time_ns() // 1_000_000, with_latency=with_latency)
        before_s = cpu_s(pid)
        latencies_s, receipts, elapsed_s = uvloop.run(load(stack.port, made, seconds))
        used_s = cpu_s(pid) - before_s
        rss_mib = rss(pid)
        assert stack.collector.terminate() == 0
        ((kept,),) = stack.query("SELECT count(*) FROM batches")
        assert kept == receipts, f"{kept} batches in the ledger, {receipts} receipts"
        ((gpus,),) = stack.query("SELECT count(*) FROM gpu_windows")
        assert gpus == 8 * receipts
        os.sched_setaffinity(0, {0, 1})
    latencies_s.sort()
    return {
        "batches_per_second": round(receipts / elapsed_s),
        "batches": receipts,
        "p50_ms": round(1000 * statistics.median(latencies_s)),
        "p99_ms": round(1000 * latencies_s[int(len(latencies_s) * 0.99)]),
        "max_ms": round(1000 * latencies_s[-1]),
        "collector_cores": round(used_s / elapsed_s, 2),
        "collector_rss_mib": rss_mib,
    }


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return round(int(status.partition("VmRSS:")[2].split()[0]) / 1024, 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=1500)
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--no-latency", action="store_true", help="batches of servers that report no latency")
    arguments = parser.parse_args()
    runs = [
        run(arguments.agents, arguments.seconds, 60, with_latency=not arguments.no_latency)
        for _ in range(arguments.runs)
    ]
    middle = sorted(runs, key=lambda r: r["batches_per_second"])[len(runs) // 2]
    cpu = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").open() if "model name" in line), "")
    print(
        json.dumps(
            {"bench": "ingest", "machine": f"{os.cpu_count()} x {cpu}", "median": middle, "runs": runs}, indent=2
        )
    )
