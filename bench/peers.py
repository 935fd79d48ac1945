"""The same facts into our collector, Prometheus, VictoriaMetrics and Pushgateway: samples per second of one core, bytes per sample.

    python bench/peers.py                  200 nodes of 8 GPUs, 60 windows each, each system alone in turn

The facts of `fleet.py`'s nodes are made once. Ours get batches as agents send them. The others get what an exporter
would have shown of the same numbers: counters with their labels, by remote write (snappy, protobuf) into Prometheus and
VictoriaMetrics, as text into Pushgateway. A sample is one number of a batch. Bodies are made beforehand; a server runs on
core 0, the sender on core 1 with one connection a node, each waiting for its answer. What is measured of a server is its
CPU time until the last answer, and its folder after an orderly stop; of Prometheus, which packs after two hours, also
blocks that `promtool tsdb create-blocks-from` makes of the samples of some nodes.

They do not promise the same with their answers: see `durability` in the output.
"""

import argparse
import asyncio
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parent))

import cramjam
from fleet import WINDOW_MS, Agent, Truth
from ingest import cpu_s, rss
from prometheus_bodies import Labels, exposition, openmetrics, write_request

from harness import Stack, free_port, get, wait_until
from real.clickhouse_server import PASSWORD, Server
from tokenyield_collector.ledger.clickhouse.ledger import connect
from tokenyield_wire.codec import encode_shipment
from tokenyield_wire.window import Batch, Shipment

PUSHES = 5
"""Windows of each node into Pushgateway, which checks all that it has with each push: the others get them all."""


class _NoFleet:
    """What an agent of fleet.py wants of its fleet when it only makes windows."""

    def __init__(self) -> None:
        self.truth = Truth()
        self.faults = False


def samples_of(batch: Batch, node: str) -> Iterator[tuple[Labels, int]]:
    """Each number of a batch with its name and labels, sorted by label name as remote write wants it."""

    def labels(name: str, **own: str) -> Labels:
        return tuple(sorted({"__name__": name, "cluster": "c", "node": node, **own}.items()))

    for gpu in batch.gpus:
        for state in ("active", "idle", "unallocated", "unknown"):
            yield labels("gpu_ms_total", gpu=gpu.uuid, model=gpu.model or "", state=state), getattr(gpu, f"{state}_ms")
            energy = getattr(gpu.energy_mj, state)
            yield labels("gpu_energy_mj_total", gpu=gpu.uuid, model=gpu.model or "", state=state), energy
        for name in ("energy_integrated_mj", "energy_missing_ms", "utilization_ms", "memory_used_mib_seconds"):
            yield labels(f"gpu_{name}_total", gpu=gpu.uuid, model=gpu.model or ""), getattr(gpu, name) or 0
        for reason, duration_ms in gpu.throttled_ms.items():
            yield labels("gpu_throttled_ms_total", gpu=gpu.uuid, reason=reason), duration_ms
    for share in batch.shares:
        for name in ("active_ms", "idle_ms", "active_mj", "idle_mj"):
            yield labels(f"workload_{name}_total", gpu=share.gpu_uuid, workload=share.workload), getattr(share, name)
    for workload in batch.workloads:
        for count in workload.tokens:
            for name in ("prompt_computed", "prompt_cached", "completion", "requests"):
                yield (
                    labels(f"{name}_total", workload=workload.key, model=workload.model or ""),
                    getattr(count, name) or 0,
                )


@dataclass
class Load:
    """Bodies by node, in order of time."""

    ours: list[list[bytes]]
    remote_write: list[list[bytes]]
    text: list[list[bytes]]
    openmetrics: str
    samples: int


def made(nodes: int, windows: int) -> Load:
    start_ms = time.time_ns() // 1_000_000 // WINDOW_MS * WINDOW_MS - windows * WINDOW_MS
    load = Load([], [], [], "", 0)
    series: dict[Labels, list[tuple[int, int]]] = {}
    for number in range(nodes):
        agent = Agent(_NoFleet(), number)  # type: ignore[arg-type]
        totals: Counter[Labels] = Counter()
        ours, remote_write, text = [], [], []
        for n in range(windows):
            agent.close_window(start_ms + (n + 1) * WINDOW_MS)
            batch = agent.spool.pop()
            shipment = Shipment(
                schema=1, agent_id=f"agent-{number}", epoch="e", cluster="c", node=f"n{number}", batches=(batch,)
            )
            ours.append(gzip.compress(encode_shipment(shipment), 5))
            shown: dict[Labels, int] = {}
            for labels, value in samples_of(batch, f"n{number}"):
                totals[labels] += value
                shown[labels] = totals[labels]
            load.samples += len(shown)
            remote_write.append(bytes(cramjam.snappy.compress_raw(write_request(shown, batch.end_ms))))
            text.append(exposition(shown))
            if number < 20:
                for labels, value in shown.items():
                    series.setdefault(labels, []).append((value, batch.end_ms))
        load.ours.append(ours)
        load.remote_write.append(remote_write)
        load.text.append(text)
    load.openmetrics = openmetrics(series)
    return load


# --- servers -------------------------------------------------------------------------------------------------------------


@contextmanager
def server(call: list[str], ready: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(
            ["taskset", "-c", "0", *call], stdout=out, stderr=out, env={**os.environ, "GOMAXPROCS": "1"}
        )
    try:

        def answers() -> bool:
            try:
                get(ready)
            except OSError:
                return False
            return True

        wait_until(answers, what=f"{call[0]}: {(folder / 'out').read_text()[-2000:]}")
        yield process
        process.terminate()
        process.wait(60)
    finally:
        process.kill()


async def send(port: int, method: str, paths: list[str], headers: str, bodies: list[list[bytes]]) -> float:
    """Seconds until the last answer. One connection a node, one request at a time on it."""

    async def node(path: str, mine: list[bytes]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for body in mine:
            writer.write(
                f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            assert 200 <= status < 300, head + await reader.read(500)
            length = next(
                (
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                ),
                0,
            )
            await reader.readexactly(length)
        writer.close()

    started_s = time.perf_counter()
    await asyncio.gather(*(node(path, mine) for path, mine in zip(paths, bodies, strict=True)))
    return time.perf_counter() - started_s


def measured(pid: int, samples: int, wall_s: float, before_s: float) -> dict[str, Any]:
    used_s = cpu_s(pid) - before_s
    return {
        "samples": samples,
        "samples_per_second_of_one_core": round(samples / used_s),
        "samples_per_second": round(samples / wall_s),
        "rss_mib": round(rss(pid)),
    }


def disk_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def to_collector(load: Load, stack: Stack, *beside: int) -> dict[str, Any]:
    """What a collector takes; the CPU time of the processes `beside` counts as well."""
    stack.start_collector()
    assert stack.collector.process is not None
    pids = (stack.collector.process.pid, *beside)
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread), {0})
    before_s = [cpu_s(pid) for pid in pids]
    paths = ["/v1/batches"] * len(load.ours)
    wall_s = asyncio.run(send(stack.port, "POST", paths, "Content-Encoding: gzip\r\n", load.ours))
    used_s = [round(cpu_s(pid) - before, 2) for pid, before in zip(pids, before_s, strict=True)]
    result = {
        "samples": load.samples,
        "samples_per_second_of_one_core": round(load.samples / sum(used_s)),
        "samples_per_second": round(load.samples / wall_s),
        "rss_mib": round(sum(rss(pid) for pid in pids)),
        "cpu_ms_per_batch": [round(1000 * one / sum(map(len, load.ours)), 3) for one in used_s],
    }
    assert stack.collector.terminate() == 0
    return result


COLLECTOR = {"agent_batches_per_s": 100_000, "refresh_interval_s": 15}


def ours(load: Load, folder: Path) -> dict[str, Any]:
    stack = Stack(folder, collector=COLLECTOR)
    result = to_collector(load, stack)
    result["bytes_per_sample"] = round(stack.ledger_path.stat().st_size / load.samples, 2)
    return result | {
        "version": "this",
        "durability": "the write-ahead log is synced before each answer; each batch once, whatever is repeated",
    }


def ours_on_clickhouse(load: Load, folder: Path) -> dict[str, Any]:
    """Collector and ClickHouse on one core together; the CPU time of each stands in `cpu_ms_per_batch`."""
    port = free_port()
    clickhouse = Server(folder / "clickhouse", [port], port)
    try:
        clickhouse.start()
        assert clickhouse.process is not None
        (folder / "password").write_text(PASSWORD)
        ledger_url = f"clickhouse://default@127.0.0.1:{port}/ledger"
        settings = {**COLLECTOR, "ledger_url": ledger_url, "ledger_password_file": str(folder / "password")}
        result = to_collector(load, Stack(folder, collector=settings), clickhouse.process.pid)
        with closing(connect(clickhouse.address("ledger"), PASSWORD, "")) as ledger:
            ledger._tables.client.run("OPTIMIZE TABLE windows FINAL")
            sql = "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'ledger'"
            result["bytes_per_sample"] = round(int(ledger._tables.client.rows(sql)[0][0]) / load.samples, 2)
    finally:
        clickhouse.kill()
    return result | {
        "version": version("clickhouse-server"),
        "durability": "written by ClickHouse before the answer, not synced; each batch once, whatever is repeated",
    }


REMOTE_WRITE = (
    "Content-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\n"
)


def remote_written(load: Load, folder: Path, port: int, ready: str, call: list[str]) -> dict[str, Any]:
    """What a server takes by remote write; `folder/data` is where it keeps it."""
    with server(call, f"http://127.0.0.1:{port}{ready}", folder) as process:
        before_s = cpu_s(process.pid)
        paths = ["/api/v1/write"] * len(load.remote_write)
        wall_s = asyncio.run(send(port, "POST", paths, REMOTE_WRITE, load.remote_write))
        result = measured(process.pid, load.samples, wall_s, before_s)
    return result | {
        "version": version(call[0]),
        "bytes_per_sample": round(disk_bytes(folder / "data") / load.samples, 2),
    }


def prometheus(load: Load, folder: Path) -> dict[str, Any]:
    port = free_port()
    (folder / "prometheus.yml").write_text("global: {}\n")
    call = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
            "--web.enable-remote-write-receiver", f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
    result = remote_written(load, folder, port, "/-/ready", call)
    (folder / "some.om").write_text(load.openmetrics)
    blocks = folder / "blocks"
    pack = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(folder / "some.om"), str(blocks)]
    subprocess.run(pack, check=True, capture_output=True)
    packed = sum(not line.startswith("#") for line in load.openmetrics.splitlines())
    result["bytes_per_sample_in_blocks"] = round(disk_bytes(blocks) / packed, 2)
    return result | {"durability": "written to its log before the answer, not synced; a repeated sample is dropped"}


def victoria_metrics(load: Load, folder: Path) -> dict[str, Any]:
    port = free_port()
    call = [
        "victoria-metrics",
        f"-storageDataPath={folder}/data",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-retentionPeriod=1",
    ]
    return remote_written(load, folder, port, "/health", call) | {
        "durability": "in memory at the answer, on disk within seconds"
    }


def pushgateway(load: Load, folder: Path) -> dict[str, Any]:
    port = free_port()
    call = ["prometheus-pushgateway", f"--web.listen-address=127.0.0.1:{port}", f"--persistence.file={folder}/pushed"]
    with server(call, f"http://127.0.0.1:{port}/-/ready", folder) as process:
        before_s = cpu_s(process.pid)
        paths = [f"/metrics/job/tokenyield/node/n{number}" for number in range(len(load.text))]
        some = [mine[:PUSHES] for mine in load.text]
        wall_s = asyncio.run(send(port, "PUT", paths, "", some))
        samples = sum(body.count(b"\n") for mine in some for body in mine)
        result = measured(process.pid, samples, wall_s, before_s)
    return result | {
        "version": version("prometheus-pushgateway"),
        "bytes_per_sample": None,
        "durability": "in memory; a file every 5 minutes; only the newest value of each series is kept",
    }


def version(package: str) -> str:
    call = ["dpkg-query", "-W", "-f=${Version}", package]
    return subprocess.run(call, capture_output=True, text=True, check=False).stdout


SYSTEMS = {
    "tokenyield": ours,
    "clickhouse-server": ours_on_clickhouse,
    "prometheus": prometheus,
    "victoria-metrics": victoria_metrics,
    "prometheus-pushgateway": pushgateway,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--windows", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {1})
    load = made(arguments.nodes, arguments.windows)
    rounds: dict[str, list[dict[str, Any]]] = {}
    for _ in range(arguments.rounds):
        for name, measure in SYSTEMS.items():
            if name != "tokenyield" and not shutil.which(name):
                rounds[name] = [{"missing": f"apt-get install {name}"}]
                continue
            with tempfile.TemporaryDirectory() as folder:
                rounds.setdefault(name, []).append(measure(load, Path(folder)))
            print(f"{name}: {rounds[name][-1]}", file=sys.stderr)
    results = {name: summary(found) for name, found in rounds.items()}
    cpu = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").open() if "model name" in line), "")
    print(json.dumps({"bench": "peers", "machine": f"{os.cpu_count()} x {cpu}", "results": results}, indent=2))


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The median round, and the spread of what it is about."""
    key = "samples_per_second_of_one_core"
    if key not in found[0]:
        return found[0]
    ordered = sorted(found, key=lambda one: one[key])
    return {**ordered[len(ordered) // 2], "spread": [ordered[0][key], ordered[-1][key]]}


if __name__ == "__main__":
    main()
