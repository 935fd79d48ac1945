"""The worst bodies that a node's token allows, against the running collector: they cost their sender.

`bench/hostile_ingest.py` sends them for longer, from twelve nodes, and measures.
"""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import zstandard

from collector.api.test_batches import now_window_ms, post
from collector.samples import batch, shipment
from harness import Stack, get
from tokenyield_collector.config import CollectorSettings
from tokenyield_wire.codec import encode_shipment

MIB = 2**20
TEXT_BYTES_MAX = CollectorSettings.decompressed_bytes_max
HOSTILE, HONEST = "token-of-a-hostile-node", "token-of-an-honest-node"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("hostile")
    tokens = folder / "tokens"
    tokens.write_text(f"{HOSTILE} may=write,gateway nodes=gpu-1\n{HONEST} may=write,gateway nodes=gpu-2\n")
    tokens.chmod(0o600)
    started = Stack(folder, collector={"token_file": str(tokens)})
    started.start_collector()
    yield started
    started.kill_all()


def send(stack: Stack, text: bytes, token: str = HOSTILE) -> Any:
    packed = zstandard.ZstdCompressor(level=1).compress(text)
    return post(stack.url, packed, Authorization=f"Bearer {token}", Content_Encoding="zstd")


def lie(seq: int, count: int = 1, **of_batch: Any) -> bytes:
    """A shipment of `count` batches with the same lists."""
    start_ms = now_window_ms()
    one = {"start_ms": start_ms, "end_ms": start_ms + 15_000, **of_batch}
    batches = [{"seq": seq + i, **one} for i in range(count)]
    names = {"agent_id": "liar", "epoch": "e", "cluster": "c", "node": "gpu-1"}
    return json.dumps({"schema": 1, **names, "batches": batches}, separators=(",", ":")).encode()


def callers(count: int) -> list[dict[str, Any]]:
    return [{"gateway": "g", "model": str(i)} for i in range(count)]


BODIES = {
    "callers at their bound": (lie(1, demand=callers(16_384)), 200),
    "many batches of callers": (lie(1000, 4, demand=callers(16_384)), 200),
    "more batches of callers": (lie(2000, 40, demand=callers(16_384)), 422),
    "labels at their bound": (
        lie(3000, demand=[{"gateway": "g", "asker": {f"a{k}": str(i) for k in range(16)}} for i in range(16_384)]),
        422,
    ),
    "millions of empty batches": (b'{"batches":[' + b"{}," * (TEXT_BYTES_MAX // 3 - 10) + b"{}]}", 422),
    "millions of names within each other": (b'{"a":' * (TEXT_BYTES_MAX // 6), 422),
    "a bomb": (b" " * (TEXT_BYTES_MAX + 1), 413),
    "one long number": (b"1" * (TEXT_BYTES_MAX - 1), 422),
}


def memory_bytes(stack: Stack, name: str) -> int:
    assert stack.collector.process is not None
    status = Path(f"/proc/{stack.collector.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1]) * 1024


def test_the_worst_bodies_take_bounded_memory_and_hold_up_nobody(stack: Stack) -> None:
    honest = encode_shipment(shipment(batch(1, now_window_ms()), agent_id="honest", node="gpu-2"))
    assert send(stack, honest, HONEST).body["accepted"] == 1
    rest = memory_bytes(stack, "VmRSS")
    with ThreadPoolExecutor(len(BODIES)) as hostile:
        answers = {name: hostile.submit(send, stack, text) for name, (text, _) in BODIES.items()}
        for seq in range(2, 12):
            assert get(f"{stack.url}/healthz")
            one = encode_shipment(shipment(batch(seq, now_window_ms()), agent_id="honest", node="gpu-2"))
            assert send(stack, one, HONEST).body["accepted"] == 1
        statuses = {name: answer.result().status for name, answer in answers.items()}
    assert statuses == {name: status for name, (_, status) in BODIES.items()}
    assert memory_bytes(stack, "VmHWM") - rest < 300 * MIB


def test_a_caller_whose_bodies_cannot_be_used_is_not_read_for_ever(stack: Stack) -> None:
    deadline_s = time.monotonic() + 60
    statuses = []
    while 429 not in statuses and time.monotonic() < deadline_s:
        statuses.append(send(stack, b"no JSON").status)
    assert statuses[-1] == 429
    assert set(statuses[:-1]) == {422}
    honest = encode_shipment(shipment(batch(100, now_window_ms()), agent_id="honest", node="gpu-2"))
    assert send(stack, honest, HONEST).status == 200


def test_a_node_beyond_its_pace_is_refused_before_its_body_is_read(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{HOSTILE} may=write,gateway cluster=c nodes=gpu-1\n")
    tokens.chmod(0o600)
    running = Stack(tmp_path, collector={"token_file": str(tokens), "agent_batches_per_s": 0.01})
    running.start_collector()
    try:
        assert send(running, lie(1)).status == 200  # the burst is less than one batch, and one passes
        before = send(running, b"what this is nobody looks at")
        assert before.status == 429
        assert "agent_batches_per_s" in before.body["detail"]
        large = post(running.url, b"", Authorization=f"Bearer {HOSTILE}", Content_Length=str(5 * MIB))
        assert large.status == 413
    finally:
        running.kill_all()
