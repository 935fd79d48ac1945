"""`POST /v1/batches` over a real socket, against the running collector."""

import gzip
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zstandard

from collector.samples import HOUR_MS, batch, shipment
from harness import Stack, get
from tokenyield_wire.codec import encode_shipment


@dataclass
class Answer:
    status: int
    headers: Any
    body: dict[str, Any]


def post(url: str, body: bytes, **headers: str) -> Answer:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"{url}/v1/batches", body, names, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return Answer(answer.status, answer.headers, json.load(answer))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, json.loads(error.read()))


def now_window_ms() -> int:
    """A 15 s window that has just ended, within its hour."""
    now_ms = time.time_ns() // 1_000_000
    return now_ms - now_ms % 15_000 - 15_000


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("collector")
    started = Stack(folder, collector={"body_bytes_max": 20_000, "decompressed_bytes_max": 50_000})
    started.start_collector()
    yield started
    started.kill_all()


def test_agents_retry_later_when_too_many_batches_wait(tmp_path: Path) -> None:
    running = Stack(tmp_path, collector={"queue_batches_max": 1, "commit_interval_ms": 3000})
    running.start_collector()
    try:
        with ThreadPoolExecutor(4) as agents:
            answers = list(agents.map(lambda i: post(running.url, sound(1, agent_id=f"agent-{i}")), range(4)))
        refused = [answer for answer in answers if answer.status == 503]
        assert len(refused) == 3
        assert all(answer.headers["Retry-After"] == "2" for answer in refused)
        assert b'refused_requests_total{reason="overloaded"} 3.0' in get(f"{running.url}/metrics")
        assert post(running.url, sound(1, agent_id="agent-4")).status == 200
    finally:
        running.kill_all()


def sound(seq: int, **names: str) -> bytes:
    return encode_shipment(shipment(batch(seq, now_window_ms()), **names))


NUMBERS = {"epoch": "e1", "first_seq": 1, "last_seq": 1}


def test_a_sound_shipment_has_its_receipt_once(stack: Stack) -> None:
    body = sound(1)
    assert post(stack.url, body).body == {"accepted": 1, "duplicates": 0, **NUMBERS}
    assert post(stack.url, body).body == {"accepted": 0, "duplicates": 1, **NUMBERS}


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("zstd", zstandard.compress), ("identity", bytes)]
)
def test_encodings(stack: Stack, encoding: str, pack: Any) -> None:
    answer = post(stack.url, pack(sound(1, agent_id=encoding)), Content_Encoding=encoding)
    assert (answer.status, answer.body) == (200, {"accepted": 1, "duplicates": 0, **NUMBERS})


def problem(answer: Answer, status: int) -> list[str]:
    """The fields at fault, after checking that the answer is an RFC 9457 problem."""
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert (answer.status, answer.body["status"], answer.body["type"]) == (status, status, "about:blank")
    assert answer.body["title"]
    assert answer.body["detail"]
    return [error["field"] for error in answer.body.get("errors", [])]


def test_an_unsound_batch_names_its_field(stack: Stack) -> None:
    document = json.loads(sound(2))
    document["batches"][0]["gpus"][1]["active_ms"] = -5
    answer = post(stack.url, json.dumps(document).encode())
    assert problem(answer, 422) == ["batches[0].gpus[1].active_ms"]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 422),
        (b"not gzip", {"Content_Encoding": "gzip"}, 400),
        (gzip.compress(b"{}" * 100)[:-20], {"Content_Encoding": "gzip"}, 400),
        (b"not zstd", {"Content_Encoding": "zstd"}, 400),
        (b"x", {"Content_Encoding": "br"}, 415),
        (b"x" * 20_001, {}, 413),
        (gzip.compress(b" " * 60_000), {"Content_Encoding": "gzip"}, 413),
        (zstandard.compress(b" " * 60_000), {"Content_Encoding": "zstd"}, 413),
    ],
    ids=["json", "gzip", "cut gzip", "zstd", "unknown encoding", "large", "large in gzip", "large in zstd"],
)
def test_bodies_that_cannot_be_used(stack: Stack, body: bytes, headers: dict[str, str], status: int) -> None:
    problem(post(stack.url, body, **headers), status)


def test_windows_from_the_future_and_from_long_ago_are_refused(stack: Stack) -> None:
    future = encode_shipment(shipment(batch(7, now_window_ms() + 2 * HOUR_MS)))
    early = post(stack.url, future)
    assert problem(early, 425) == ["batches[0].end_ms"]
    assert early.headers["Retry-After"] == "60", "not refused for good: the agent keeps it"
    past = encode_shipment(shipment(batch(7, now_window_ms() - 8 * 24 * HOUR_MS)))
    assert problem(post(stack.url, past), 422) == ["batches[0].start_ms"]
    late = encode_shipment(shipment(batch(7, now_window_ms() - 6 * 24 * HOUR_MS)))
    assert post(stack.url, late).status == 200


def test_refusals_are_counted(stack: Stack) -> None:
    post(stack.url, b"{")
    assert b'tokenyield_collector_refused_requests_total{reason="unsound"}' in get(f"{stack.url}/metrics")


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/v1/batches", 405), ("/v1/summary?window_s=x", 400)])
def test_other_paths_are_problems_too(stack: Stack, path: str, status: int) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        get(f"{stack.url}{path}")
    with error.value as answer:
        problem(Answer(answer.code, answer.headers, json.loads(answer.read())), status)


def test_tokens(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("old-secret-of-agents\nnew-secret-of-agents\n")
    stack = Stack(tmp_path, collector={"token_file": str(tokens)})
    stack.start_collector()
    try:
        for header, status in (
            ({}, 401),
            ({"Authorization": "Bearer wrong"}, 401),
            ({"Authorization": "Basic old-secret"}, 401),
            ({"Authorization": "Bearer old-secret-of-agents"}, 200),
            ({"Authorization": "bearer new-secret-of-agents"}, 200),
        ):
            answer = post(stack.url, sound(1), **header)
            assert answer.status == status
            assert "secret" not in json.dumps(answer.body)
        assert "secret" not in stack.collector.said()
    finally:
        stack.kill_all()


def test_listening_beyond_loopback_requires_authentication(tmp_path: Path) -> None:
    from tokenyield_collector.cli import main

    check = ["check", "--set", f"ledger_path={tmp_path / 'none.duckdb'}"]
    assert main([*check, "--set", "listen=0.0.0.0:9464"]) == 2
    assert main([*check, "--set", "listen=:9464"]) == 2
    assert main([*check, "--set", "listen=0.0.0.0:9464", "--set", "insecure=true"]) == 0
    assert main([*check, "--set", "listen=[::1]:9464"]) == 0
