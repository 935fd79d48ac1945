"""`POST /v1/spend` and `import SOURCE`, against the running collector."""

import gzip
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.access.client import bearer, call
from harness import Stack, wait_until

BUYER, AGENT, READER = "spend-spend-spend-1", "agent-agent-agent-1", "reader-reader-reader"
TOKENS = f"{BUYER} name=finance may=spend\n{AGENT} name=dc1 may=write\n{READER} name=g may=read\n"
TODAY = time.strftime("%Y-%m-%d", time.gmtime())


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("collector")
    (folder / "tokens").write_text(TOKENS)
    started = Stack(folder, collector={"token_file": str(folder / "tokens"), "body_bytes_max": 20_000})
    started.start_collector()
    yield started
    started.kill_all()


def post(stack: Stack, document: Any, token: str = BUYER, query: str = "", **headers: str) -> tuple[int, Any]:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    named: dict[str, Any] = {**bearer(token), **headers}
    status, _, answer = call(stack.url, f"/v1/spend{query}", "POST", body, **named)
    return status, json.loads(answer)


def one(source: str = "openai", **fields: Any) -> dict[str, Any]:
    line = {"vendor": "openai", "model": "gpt", "cost_micro": 5, **fields}
    return {"slices": [{"source": source, "account": "a", "day": TODAY, "grain": "costs", "layer": "billed",
                        "lines": [line]}]}  # fmt: skip


def receipt(status_and_body: tuple[int, Any]) -> tuple[int, int, int]:
    status, body = status_and_body
    assert status == 200, body
    return body["added"], body["replaced"], body["unchanged"]


def test_the_same_again_changes_nothing_and_other_amounts_replace(stack: Stack) -> None:
    assert receipt(post(stack, one("a"), query="?dry_run=true")) == (1, 0, 0)
    assert receipt(post(stack, one("a"))) == (1, 0, 0), "the dry run changed nothing"
    assert receipt(post(stack, one("a"))) == (0, 0, 1)
    status, body = post(
        stack, gzip.compress(json.dumps(one("a", cost_micro=7)).encode()), **{"Content-Encoding": "gzip"}
    )
    assert (status, body["replaced"]) == (200, 1)
    assert body["changes"] == [
        {"slice": f"a costs, account a, {TODAY}", "before": "0.000005 USD", "after": "0.000007 USD"}
    ]


def test_a_person_is_kept_as_the_collectors_own_setting_allows(stack: Stack) -> None:
    assert receipt(post(stack, one("p", person="ada@example.com"))) == (1, 0, 0)
    assert receipt(post(stack, one("p", person="bob@example.com"))) == (0, 0, 1), "the setting `team` keeps nobody"


@pytest.mark.parametrize(
    ("token", "status"), [(BUYER, 200), (AGENT, 403), (READER, 403), ("wrong-wrong-wrong-wrong", 401)]
)
def test_only_a_token_with_that_right_may(stack: Stack, token: str, status: int) -> None:
    assert post(stack, one(f"right-{status}"), token)[0] == status
    lines = [line for line in stack.collector.said().splitlines() if "audit: event=" in line]
    assert ("event=wrote" if status == 200 else f"status={status}") in lines[-1]


def test_a_spend_token_may_nothing_else(stack: Stack) -> None:
    assert call(stack.url, "/v1/summary", **bearer(BUYER))[0] == 403
    assert call(stack.url, "/v1/outcomes", "POST", b"{}", **bearer(BUYER))[0] == 403


@pytest.mark.parametrize(
    ("document", "status", "text"),
    [
        (b"{", 400, "expected JSON"),
        ([1], 422, "`object`"),
        ({"slices": [1]}, 422, "slices[0]"),
        ({"slices": one()["slices"] * 2}, 422, "each slice once"),
        (one(cost_micro=2**49), 422, "slices[0].lines[0].cost_micro"),
        (one(output=-1), 422, ".output"),
        (one(prompt="secret"), 422, "unknown field `prompt`"),
        (one(vendor=""), 422, ".vendor"),
        ({"slices": [{**one()["slices"][0], "day": "2001-01-01"}]}, 422, "the ledger keeps no other"),
        ({"slices": [{**one()["slices"][0], "layer": "guessed"}]}, 422, ".layer"),
        (b" " * 30_000, 413, "20000 bytes"),
    ],
)
def test_what_cannot_be_used_is_named(stack: Stack, document: Any, status: int, text: str) -> None:
    answered, body = post(stack, document)
    assert answered == status
    assert text in json.dumps(body)


def test_the_summary_shows_the_month_beside_the_fleet(stack: Stack) -> None:
    line = {"vendor": "mistral", "model": "nobody-knows", "cost_micro": 1_234_567, "output": 3, "requests": 2}
    unpriced = {"vendor": "mistral", "model": "nobody-knows", "output": 5}
    document = {"slices": [
        {"source": "csv", "account": account, "day": TODAY, "grain": layer, "layer": layer, "lines": [one_line]}
        for account, layer, one_line in (("s", "billed", line), ("t", "reported", unpriced))
    ]}  # fmt: skip
    assert receipt(post(stack, document)) == (2, 0, 0)

    def shown() -> list[dict[str, Any]]:
        _, _, answer = call(stack.url, "/v1/summary", **bearer(READER))
        return [row for row in json.loads(answer)["bought"] if row["vendor"] == "mistral"]

    wait_until(lambda: bool(shown()))
    (row,) = shown()
    assert row == {"month": TODAY[:7], "vendor": "mistral", "cost": 1.234567, "cost_not_observed": 1.234567,
                   "tokens": 8, "requests": 2, "price_missing_tokens": 5}  # fmt: skip
    _, _, answer = call(stack.url, "/v1/summary", **bearer(READER))
    named = [(gap["kind"], gap["subject"], gap["tokens"]) for gap in json.loads(answer)["gaps_to_date"]]
    assert ("bought_unpriced", "mistral nobody-knows", 5) in named


def test_the_command_brings_it_to_the_running_collector(stack: Stack, tmp_path: Path) -> None:
    bucket = {"start_time": time.time_ns() // 10**9, "results": [
        {"object": "organization.costs.result", "amount": {"value": 0.5, "currency": "usd"}, "line_item": f"m{i}, input_tokens"}
        for i in range(2000)
    ]}  # fmt: skip
    file = tmp_path / "costs.json"
    file.write_text(json.dumps({"data": [bucket]}))
    token = tmp_path / "token"
    token.write_text(f"{READER} may=read\n{BUYER} may=spend\n")
    line = [sys.executable, "-m", "tokenyield_collector.cli", "import", "openai", str(file), "--collector", stack.url]
    for expected in ("1 new, 0 replaced, 0 unchanged", "0 new, 0 replaced, 1 unchanged"):
        done = subprocess.run([*line, "--token-file", str(token)], capture_output=True, text=True, check=False)
        assert (done.returncode, expected in done.stdout) == (0, True), done.stderr
    token.write_text(f"{READER} may=read\n")
    refused = subprocess.run([*line, "--token-file", str(token)], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "expected a token with may=spend" in refused.stderr
