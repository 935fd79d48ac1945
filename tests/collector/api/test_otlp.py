"""`POST /otlp/v1/...` against the running collector: what is answered, and what stands in its ledger after a kill."""

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.access.client import bearer, call
from harness import Stack
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.spend.slices import SpendAmounts, SpendSlice
from tokenyield_wire.units import MS_PER_DAY

SENDER, BUYER, AGENT = "otlp-otlp-otlp-otlp-1", "spend-spend-spend-1", "agent-agent-agent-1"
TOKENS = f"{SENDER} name=agents may=otlp\n{BUYER} may=spend\n{AGENT} may=write\n"
FILES = Path(__file__).parents[2] / "fixtures" / "otlp"
JSON, PROTOBUF = "application/json", "application/x-protobuf"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    started = new_stack(tmp_path_factory.mktemp("collector"), body_bytes_max=20_000)
    started.start_collector()
    yield started
    started.kill_all()


def new_stack(folder: Path, **settings: Any) -> Stack:
    (folder / "tokens").write_text(TOKENS)
    return Stack(folder, collector={"token_file": str(folder / "tokens"), **settings})


def post(
    stack: Stack,
    body: Any,
    signal: str = "metrics",
    token: str = SENDER,
    kind: str = JSON,
    prefix: str = "/otlp",
    **more: str,
) -> tuple[int, dict[str, str], bytes]:
    plain = body if isinstance(body, bytes) else json.dumps(body).encode()
    named: dict[str, Any] = {**bearer(token), "Content-Type": kind, **more}
    return call(stack.url, f"{prefix}/v1/{signal}", "POST", plain, **named)


def usage(
    count: int, series: str = "s", at_ns: int | None = None, kind: str = "output", temporality: int = 1
) -> dict[str, Any]:
    point = {"startTimeUnixNano": "5", "timeUnixNano": str(at_ns or time.time_ns()), "asInt": str(count), "attributes": [
        {"key": "type", "value": {"stringValue": kind}}, {"key": "session.id", "value": {"stringValue": series}}]}  # fmt: skip
    data = {"aggregationTemporality": temporality, "isMonotonic": True, "dataPoints": [point]}
    return {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "claude_code.token.usage", "sum": data}]}]}]}


def in_ledger(stack: Stack) -> list[SpendSlice]:
    """Of a collector that ended."""
    ledger = DuckDbLedger(stack.ledger_path)
    try:
        return ledger.spend(0, 2**62)
    finally:
        ledger.close()


def whole(slices: list[SpendSlice]) -> SpendAmounts:
    amounts = SpendAmounts()
    for one in slices:
        for line in one.lines:
            amounts = amounts.plus(line.amounts)
    return amounts


@pytest.mark.parametrize(("kind", "empty"), [(JSON, b"{}"), (PROTOBUF, b"")])
def test_what_is_taken_is_answered_as_otlp_says(stack: Stack, kind: str, empty: bytes) -> None:
    body = b"{}" if kind == JSON else b""
    for signal_name in ("metrics", "logs", "traces"):
        status, headers, answer = post(stack, body, signal_name, kind=kind)
        assert (status, headers["content-type"].partition(";")[0], answer) == (200, kind, empty)
    packed = post(stack, gzip.compress(body), kind=kind, **{"Content-Encoding": "gzip"})
    assert (packed[0], packed[2]) == (200, empty)


def test_points_that_are_refused_are_counted_in_the_answer(stack: Stack) -> None:
    status, _, answer = post(stack, usage(-1))
    assert status == 200
    partial = json.loads(answer)["partialSuccess"]
    assert partial["rejectedDataPoints"] == "1"
    assert "value: expected from 0" in partial["errorMessage"]
    old = (FILES / "otlp_codex_logs.pb").read_bytes()
    old = old.replace((1_795_500_005 * 10**9).to_bytes(8, "little"), (10**18).to_bytes(8, "little"))
    status, _, answer = post(stack, old, "logs", kind=PROTOBUF)
    assert (status, answer[:1]) == (200, b"\x0a"), "of 2001"
    assert b"time: expected one that is still counted" in answer
    metrics = call(stack.url, "/metrics", **bearer(SENDER))
    assert metrics[0] == 403, "a token that may send may read nothing"


@pytest.mark.parametrize(
    ("token", "status"), [(SENDER, 200), (AGENT, 403), (BUYER, 403), ("wrong-wrong-wrong-wrong", 401)]
)
def test_only_a_token_with_that_right_may(stack: Stack, token: str, status: int) -> None:
    assert post(stack, b"{}", token=token)[0] == status


@pytest.mark.parametrize(
    ("body", "kind", "more", "status", "text"),
    [
        pytest.param(b"{", JSON, {}, 400, "found what cannot be read", id="no-json"),
        pytest.param(b'{"resourceMetrics": [1]}', JSON, {}, 400, "resourceMetrics[0]", id="no-object"),
        pytest.param(b"secret", PROTOBUF, {}, 400, "cannot be read", id="no-protobuf"),
        pytest.param(b"{}", "text/plain", {}, 415, "OTEL_EXPORTER_OTLP_PROTOCOL", id="text"),
        pytest.param(b"{}", JSON, {"Content-Encoding": "br"}, 415, "Content-Encoding", id="brotli"),
        pytest.param(b"{}", JSON, {"Content-Encoding": "gzip"}, 400, "cannot be read", id="no-gzip"),
        pytest.param(b" " * 30_000, JSON, {}, 413, "20000 bytes", id="large"),
        pytest.param(
            gzip.compress(b" " * (9 * 2**20)), JSON, {"Content-Encoding": "gzip"}, 413, "after decompression", id="bomb"
        ),
    ],
)
def test_what_cannot_be_used_is_refused(
    stack: Stack, body: bytes, kind: str, more: dict[str, str], status: int, text: str
) -> None:
    answered, _, answer = post(stack, body, kind=kind, **more)
    assert answered == status
    assert text in answer.decode()
    assert b"secret" not in answer


def test_what_was_answered_is_counted_once_after_a_kill_and_nothing_of_a_prompt_is_kept(tmp_path: Path) -> None:
    stack = new_stack(tmp_path, otlp_prefix="/telemetry/otel")
    stack.start_collector()
    sent: list[dict[str, Any]] = []
    now_ns = time.time_ns() // (MS_PER_DAY * 10**6) * MS_PER_DAY * 10**6  # not two days at midnight
    try:
        for i in range(12):
            is_total = i % 2
            body = usage(100 * (i + 1) if is_total else 7, f"s{is_total}", now_ns + i + 1, temporality=1 + is_total)
            assert post(stack, body, prefix="/telemetry/otel")[0] == 200
            sent.append(body)
            if i % 5 == 4:
                stack.collector.kill()
                stack.start_collector()
        for body in sent:
            assert post(stack, body, prefix="/telemetry/otel")[0] == 200
        event = json.loads((FILES / "otlp_claude_code_logs.json").read_text())
        record = event["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
        record["timeUnixNano"] = str(now_ns)
        record["body"] = {"stringValue": "the-secret-prompt"}
        record["attributes"] += [
            {"key": key, "value": {"stringValue": "the-secret-prompt"}} for key in ("prompt", "cwd")
        ]
        assert post(stack, event, "logs", prefix="/telemetry/otel")[0] == 200
        assert stack.collector.terminate() == 0, stack.collector.said()[-3000:]
        said = stack.collector.said()
    finally:
        stack.kill_all()
    slices = in_ledger(stack)
    assert {one.key.grain for one in slices} == {"received:claude-code"}
    assert whole(slices) == SpendAmounts(12, 18400, 5120, None, 6 * 7 + 1200 + 385, None, 1, 20300)
    assert "secret" not in said
    assert b"the-secret-prompt" not in stack.ledger_path.read_bytes()
    assert b"ada@example.com" not in stack.ledger_path.read_bytes(), "the setting `team` keeps nobody"
