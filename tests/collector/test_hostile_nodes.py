"""A node that lies, with a token of its own, against the running collector: what it reports bends nobody else's figures."""

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from collector.api.test_batches import post
from collector.ledger.whole_hours import whole_hour
from collector.samples import HOUR_MS
from harness import Stack
from tokenyield_collector.cli import main
from tokenyield_wire.codec import encode_shipment
from tokenyield_wire.window import Shipment

DAY_MS = 24 * HOUR_MS
NODES = ("n1", "n2", "n3", "liar")
PRICES = "pools: [{name: p, rented: {per_gpu_hour: 4}}]\n"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    tokens, prices = tmp_path / "tokens", tmp_path / "prices.yaml"
    lines = [f"{token_of(node)} may=write cluster=c nodes={node}" for node in NODES]
    lines = [line if line.endswith("=liar") else f"{line} workloads=fleet" for line in lines]
    tokens.write_text("\n".join([*lines, "token-of-a-reader may=read"]))
    tokens.chmod(0o600)
    prices.write_text(PRICES)
    settings = {"token_file": str(tokens), "prices_file": str(prices)}
    started = Stack(tmp_path, collector=settings)
    started.start_collector()
    yield started
    started.kill_all()


def token_of(node: str) -> str:
    return f"token-of-the-node-{node}"


def send(stack: Stack, shipment: Shipment) -> None:
    answer = post(stack.url, encode_shipment(shipment), Authorization=f"Bearer {token_of(shipment.node)}")
    assert answer.status == 200, answer.body


def fetch(stack: Stack, path: str) -> bytes:
    request = urllib.request.Request(stack.url + path, headers={"Authorization": "Bearer token-of-a-reader"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        body: bytes = answer.read()
        return body


def report(stack: Stack, day: str, by: str = "workload") -> dict[str, Any]:
    document: dict[str, Any] = json.loads(fetch(stack, f"/v1/report?period={day}&by={by}&format=json"))
    return document


def yesterday_ms() -> int:
    now_ms = time.time_ns() // 1_000_000
    return now_ms - now_ms % DAY_MS - DAY_MS


def day_of(start_ms: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(start_ms / 1000))


def of_workload(shipment: Shipment, name: str, team: str) -> Shipment:
    """The same time and tokens, of a workload of that name, and with that label."""
    (one,) = shipment.batches
    workloads = tuple(structs.replace(workload, key=name, labels={"team": team}) for workload in one.workloads)
    shares = tuple(structs.replace(share, workload=name) for share in one.shares)
    return structs.replace(shipment, batches=(structs.replace(one, workloads=workloads, shares=shares),))


def under_yield(document: dict[str, Any]) -> dict[str, float]:
    return {row["workload"]: row["cost_under_yield"] for row in document["rows"]}


def test_a_node_that_lies_of_its_pace_bends_nobody_s_yield(stack: Stack) -> None:
    """Three nodes make 100, 90 and 80 tokens a second; a fourth claims a million times as much on as many GPUs."""
    start_ms = yesterday_ms()
    paces = {"n1": 100, "n2": 90, "n3": 80}
    for node, pace in paces.items():
        send(stack, whole_hour(start_ms, node, gpu=f"GPU-{node}", completion=3600 * pace))
    honest = report(stack, day_of(start_ms))
    for hour in range(3):
        send(stack, whole_hour(start_ms + hour * HOUR_MS, "liar", gpu="GPU-liar", completion=3600 * 10**8))
    send(stack, whole_hour(start_ms - DAY_MS, "liar", gpu="GPU-liar", completion=3600 * 10**8))
    bent = report(stack, day_of(start_ms))
    (pace,) = bent["references"]
    assert (pace["completion_tokens_per_second"], pace["nodes"], pace["node"]) == (80, 3, None)
    of_honest = {name: cost for name, cost in under_yield(bent).items() if name != "w-liar"}
    assert of_honest == under_yield(honest)


def test_a_gpu_that_another_node_claims_is_priced_once_for_the_first(stack: Stack, tmp_path: Path,
                                                                     capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """n1 has GPU-1 for two hours, and the liar reports it as its own in the second; what it had of its own stays."""
    start_ms = yesterday_ms()
    for hour in range(2):
        send(stack, whole_hour(start_ms + hour * HOUR_MS, "n1", gpu="GPU-1"))
    before = report(stack, day_of(start_ms))
    send(stack, whole_hour(start_ms + HOUR_MS, "liar", gpu="GPU-1", completion=7200))
    after = report(stack, day_of(start_ms))
    assert after["total"]["cost"] == before["total"]["cost"] == 8
    (gap,) = [gap for gap in after["gaps"] if gap["kind"] == "gpu_contested"]
    assert (gap["subject"], gap["gpu_hours"]) == ("GPU-1 of c/n1, also by c/liar", 1)
    assert after["total"]["tokens"] == before["total"]["tokens"] + 7200, "kept, of no GPU that is known"
    (kept,) = [row for row in after["rows"] if row["workload"] == "w-n1"]
    assert [kept] == [row for row in before["rows"] if row["workload"] == "w-n1"]
    stack.kill_all()
    assert main(["verify", "--ledger", str(stack.ledger_path)]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "the ledger balances" in shown
    assert "GPU of another node: GPU-1 of c/n1, also by c/liar, 1.0 GPU-hours" in shown


def test_a_name_that_another_scope_uses_is_another_workload(stack: Stack, tmp_path: Path,
                                                            capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """`chat` runs on two nodes whose tokens share workloads. The liar claims it, with a label and tokens of its own, and
    earlier hours; and a name as the collector would have made it."""
    start_ms = yesterday_ms() + 2 * HOUR_MS
    for node in ("n1", "n2"):
        send(stack, of_workload(whole_hour(start_ms, node, gpu=f"GPU-{node}"), "chat", "honest"))
    before = report(stack, day_of(start_ms), "workload,team")
    (honest,) = before["rows"]
    assert (honest["workload"], honest["team"], honest["tokens"], honest["cost"]) == ("chat", "honest", 7200, 8)
    for hour, name in enumerate(("chat", "chat", "chat (node liar)", "chat [node liar]"), start=-1):
        lie = whole_hour(start_ms + hour * HOUR_MS, "liar", gpu="GPU-liar", completion=10**9)
        send(stack, of_workload(lie, name, "liar"))
    send(stack, of_workload(whole_hour(start_ms + HOUR_MS, "n3", gpu="GPU-n3"), "chat", "honest"))
    after = report(stack, day_of(start_ms), "workload,team")
    by_name = {row["workload"]: row for row in after["rows"]}
    names = {"chat": 3 * 3600, "chat (node liar)": 2 * 10**9, "chat [node liar]": 2 * 10**9}
    assert {name: row["tokens"] for name, row in by_name.items()} == names
    chat = by_name["chat"]
    assert (chat["team"], chat["cost"], chat["joules_gpu"]) == ("honest", 12, honest["joules_gpu"] * 1.5)
    assert sum(row["cost"] for row in after["rows"]) == after["total"]["cost"] == 28
    (gap,) = [gap for gap in after["gaps"] if gap["kind"] == "workload_foreign"]
    assert (gap["subject"], gap["gpu_hours"], gap["tokens"]) == ("c: chat (node liar)", 2, 2 * 10**9)
    stack.kill_all()
    assert main(["verify", "--ledger", str(stack.ledger_path)]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "the ledger balances" in shown
    assert "c: chat is used by scope fleet, node n1, node n2, node n3 first, and since" in shown
    assert "by scope liar, node liar, whose tokens do not share workloads with it" in shown
