"""What the worst shipments that the bounds allow cost a running collector: its memory, and how long others wait.

Twelve hostile nodes, each with a token of its own and four connections, send for `--seconds` what takes the most memory:
sound batches of callers, events, workloads and GPUs at their bounds, bombs, millions of empty objects, bodies that come
slowly or never end. Meanwhile an honest node ships a batch twice a second, and /healthz is asked twenty times a second.
The bars (issue "Nobody breaks the books"): at most 300 MiB above rest, /healthz p99 below 0.5 s, the honest node exact.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import zstandard

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from collector.samples import batch, shipment
from harness import Stack
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_wire.codec import encode_shipment

NODES, CONNECTIONS = 12, 4
BODY_BYTES_MAX, TEXT_BYTES_MAX = 4 * 2**20, 32 * 2**20
MIB = 2**20


def now_ms() -> int:
    now = time.time_ns() // 10**6
    return now - now % 15_000 - 15_000


def body_of(kind: str, node: str, seq: int) -> bytes:
    """JSON, as large as it may be and no larger."""
    start_ms = now_ms()
    length_ms = 15_000
    plain: dict[str, Any] = {"seq": seq, "start_ms": start_ms, "end_ms": start_ms + length_ms}
    gpu = {"uuid": "G", "idle_ms": length_ms}
    batches: list[dict[str, Any]]
    if kind == "callers":
        demand = [{"gateway": "g", "asker": {"u": f"{seq}-{i}"}} for i in range(16_384)]
        batches = [plain | {"demand": demand}]
    elif kind == "many callers":
        demand = [{"gateway": "g", "model": str(i)} for i in range(16_384)]
        batches = [plain | {"seq": seq + i, "demand": demand} for i in range(40)]
    elif kind == "events":
        gpus = [gpu | {"uuid": f"G{i}", "events": {f"e{k}": 1 for k in range(256)}} for i in range(120)]
        batches = [plain | {"gpus": gpus}]
    elif kind == "workloads":
        tokens = [{"method": method, "completion": 1} for method in ("count", "counter", "rate")]
        workloads = [{"key": str(i), "server": "s", "place": "p", "tokens": tokens} for i in range(4096)]
        batches = [plain | {"workloads": workloads}]
    elif kind == "gpus":
        gpus = [gpu | {"uuid": f"G{i}"} for i in range(1024)]
        batches = [plain | {"seq": seq + i, "gpus": gpus} for i in range(16)]
    elif kind == "zeros":
        return b"0" * (TEXT_BYTES_MAX - 1)
    elif kind == "bomb":
        return b" " * (TEXT_BYTES_MAX * 8)
    elif kind == "empty objects":
        return b'{"batches":[' + b"{}," * (TEXT_BYTES_MAX // 3 - 10) + b"{}]}"
    elif kind == "deep":
        return b'{"a":' * (TEXT_BYTES_MAX // 6) + b"1"
    else:
        batches = [plain | {"seq": seq + i, "demand": [{}] * 16_384} for i in range(200)]
    head = {"schema": 1, "agent_id": node, "epoch": "e", "cluster": "c", "node": node}
    return json.dumps(head | {"batches": batches}, separators=(",", ":")).encode()


KINDS = ("callers", "many callers", "events", "workloads", "gpus", "zeros", "bomb", "empty objects", "deep", "unsound", "slow",
         "endless")  # fmt: skip
SEVERAL = 256


async def hostile(session: aiohttp.ClientSession, url: str, node: str, token: str, stop_s: float, chosen: random.Random,
                  kinds: Sequence[str], bodies: dict[str, bytes], statuses: Counter[str]) -> None:  # fmt: skip
    seq = chosen.randrange(10**6) * 10**6
    headers = {"Authorization": f"Bearer {token}"}
    while time.monotonic() < stop_s:
        kind = chosen.choice(kinds)
        seq += SEVERAL
        try:
            if kind in ("slow", "endless"):
                status = await drip(session, url, headers, stop_s, claimed=kind == "slow")
            else:
                packed = bodies.get(kind)
                if packed is None or kind in ("callers", "events", "workloads", "gpus", "many callers"):
                    text = await asyncio.get_running_loop().run_in_executor(None, body_of, kind, node, seq)
                    packed = zstandard.ZstdCompressor(level=1).compress(text)
                    if kind in ("zeros", "bomb", "empty objects", "deep"):
                        bodies[kind] = packed
                sent = headers | {"Content-Encoding": "zstd"}
                async with session.post(f"{url}/v1/batches", data=packed, headers=sent) as answer:
                    status = answer.status
                    await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            statuses[f"{kind}: {type(error).__name__}"] += 1
            continue
        statuses[f"{kind}: {status}"] += 1
        if status == 429:
            await asyncio.sleep(0.2)  # a hostile client does not obey Retry-After


async def drip(
    session: aiohttp.ClientSession, url: str, headers: dict[str, str], stop_s: float, *, claimed: bool
) -> int:
    async def pieces() -> Any:
        while time.monotonic() < stop_s:
            yield b" " * (10 if claimed else 16_384)
            await asyncio.sleep(0.05)

    sent = headers | ({"Content-Length": str(BODY_BYTES_MAX)} if claimed else {})
    async with session.post(f"{url}/v1/batches", data=pieces(), headers=sent) as answer:
        return answer.status


async def honest(session: aiohttp.ClientSession, url: str, token: str, stop_s: float, waits_s: list[float]) -> int:
    """How many batches have their receipt."""
    seq, taken = int(time.monotonic() * 1000), 0
    while time.monotonic() < stop_s:
        seq += 1
        body = encode_shipment(shipment(batch(seq, now_ms()), agent_id="honest", node="honest", cluster="c"))
        began_s = time.monotonic()
        while True:
            async with session.post(
                f"{url}/v1/batches", data=body, headers={"Authorization": f"Bearer {token}"}
            ) as answer:
                if answer.status == 200:
                    taken += 1
                    break
            await asyncio.sleep(0.2)
        waits_s.append(time.monotonic() - began_s)
        await asyncio.sleep(0.5)
    return taken


async def probe(session: aiohttp.ClientSession, url: str, stop_s: float, waits_s: list[float]) -> None:
    while time.monotonic() < stop_s:
        began_s = time.monotonic()
        async with session.get(f"{url}/healthz") as answer:
            assert answer.status == 200
        waits_s.append(time.monotonic() - began_s)
        await asyncio.sleep(0.05)


def memory_bytes(pid: int, name: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1]) * 1024


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=120))


async def attack(url: str, seconds: float, seed: int, kinds: Sequence[str]) -> Counter[str]:
    """In a process of its own, so that what it takes to lie delays no probe."""
    stop_s = time.monotonic() + seconds
    statuses: Counter[str] = Counter()
    bodies: dict[str, bytes] = {}
    async with session() as own, asyncio.TaskGroup() as tasks:
        for i in range(NODES):
            for k in range(CONNECTIONS):
                chosen = random.Random(seed * 10_000 + i * 100 + k)
                tasks.create_task(
                    hostile(own, url, f"n{i}", f"token-of-node-{i:04}", stop_s, chosen, kinds, bodies, statuses)
                )
    return statuses


async def measure(url: str, pid: int, seconds: float) -> dict[str, Any]:
    stop_s = time.monotonic() + seconds
    probes_s: list[float] = []
    receipts_s: list[float] = []
    async with session() as own, asyncio.TaskGroup() as tasks:
        taken = tasks.create_task(honest(own, url, "token-of-honest-node", stop_s, receipts_s))
        tasks.create_task(probe(own, url, stop_s, probes_s))
    return {
        "peak_rss_mib": memory_bytes(pid, "VmHWM") / MIB,
        "healthz_p50_s": percentile(probes_s, 0.5),
        "healthz_p99_s": percentile(probes_s, 0.99),
        "healthz_max_s": max(probes_s),
        "healthz_answers": len(probes_s),
        "honest_receipts": taken.result(),
        "honest_p99_s": percentile(receipts_s, 0.99),
        "honest_max_s": max(receipts_s),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--attack", metavar="URL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.attack:
        print(
            json.dumps(
                dict(
                    sorted(
                        asyncio.run(
                            attack(arguments.attack, arguments.seconds, arguments.seed, arguments.kinds)
                        ).items()
                    )
                )
            )
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        tokens = Path(folder) / "tokens"
        lines = [f"token-of-node-{i:04} name=n{i} may=write,gateway cluster=c nodes=n{i}" for i in range(NODES)]
        lines.append("token-of-honest-node name=honest may=write,gateway cluster=c nodes=honest")
        tokens.write_text("\n".join(lines) + "\n")
        tokens.chmod(0o600)
        running = Stack(Path(folder), collector={"token_file": str(tokens)})
        running.start_collector()
        try:
            assert running.collector.process is not None
            pid = running.collector.process.pid
            asyncio.run(measure(running.url, pid, 5.0))
            rest = memory_bytes(pid, "VmRSS") / MIB
            flags = [sys.executable, __file__, "--seconds", str(arguments.seconds), "--seed", str(arguments.seed)]
            attacker = subprocess.Popen(
                [*flags, "--attack", running.url, "--kinds", *arguments.kinds], stdout=subprocess.PIPE, text=True
            )
            result = asyncio.run(measure(running.url, pid, arguments.seconds + 2))
            result["answers"] = json.loads(attacker.communicate()[0])
            assert running.collector.terminate() == 0
        finally:
            running.kill_all()
        ledger = DuckDbLedger(running.ledger_path)
        ledger.fold()
        kept = sum(count.completion or 0 for count in ledger.facts_of_hours().tokens if count.node == "honest")
        ledger.close()
    result |= {"rest_rss_mib": rest, "above_rest_mib": result["peak_rss_mib"] - rest, "honest_tokens_kept": kept}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
