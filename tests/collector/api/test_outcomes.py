"""`POST /v1/outcomes` and `import outcomes`, against the running collector and with it down."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.access.client import bearer, call
from harness import Stack

OUTCOMES, AGENT, READER = "outcomes-outcomes-1", "agent-agent-agent-1", "reader-reader-reader"
TOKENS = f"{OUTCOMES} name=helpdesk may=outcomes\n{AGENT} name=dc1 may=write\n{READER} name=g may=read\n"
TODAY = time.strftime("%Y-%m-%d", time.gmtime())


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("collector")
    (folder / "tokens").write_text(TOKENS)
    started = Stack(folder, collector={"token_file": str(folder / "tokens"), "body_bytes_max": 20_000})
    started.start_collector()
    yield started
    started.kill_all()


def post(stack: Stack, document: Any, token: str = OUTCOMES, path: str = "/v1/outcomes") -> tuple[int, Any]:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    status, _, answer = call(stack.url, path, "POST", body, **bearer(token))
    return status, json.loads(answer)


def one(**fields: Any) -> dict[str, Any]:
    return {"outcomes": [{"day": TODAY, "name": "tickets", "count": 3, "labels": {"team": "search"}, **fields}]}


def receipt(status_and_body: tuple[int, Any]) -> tuple[int, int, int]:
    status, body = status_and_body
    assert status == 200, body
    return body["added"], body["replaced"], body["unchanged"]


def test_the_same_again_changes_nothing_and_another_count_replaces(stack: Stack) -> None:
    assert receipt(post(stack, one(source="a"), path="/v1/outcomes?dry_run=true")) == (1, 0, 0)
    assert receipt(post(stack, one(source="a"))) == (1, 0, 0), "the dry run changed nothing"
    assert receipt(post(stack, one(source="a"))) == (0, 0, 1)
    status, body = post(stack, one(source="a", count=5))
    assert (status, body["replaced"]) == (200, 1)
    assert body["changes"] == [{"slice": f"tickets of {TODAY} from a", "before": 3, "after": 5}]
    assert receipt(post(stack, one(source="a", count=5))) == (0, 0, 1)


@pytest.mark.parametrize(
    ("token", "status"), [(OUTCOMES, 200), (AGENT, 403), (READER, 403), ("wrong-wrong-wrong-wrong", 401)]
)
def test_only_a_token_with_that_right_may(stack: Stack, token: str, status: int) -> None:
    assert post(stack, one(source=f"right-{status}"), token)[0] == status
    lines = [line for line in stack.collector.said().splitlines() if "audit: event=" in line]
    assert ("event=wrote" if status == 200 else f"status={status}") in lines[-1]


def test_an_outcome_token_may_nothing_else(stack: Stack) -> None:
    assert call(stack.url, "/v1/summary", **bearer(OUTCOMES))[0] == 403
    assert call(stack.url, "/v1/batches", "POST", b"{}", **bearer(OUTCOMES))[0] == 403


@pytest.mark.parametrize(
    ("document", "status", "text"),
    [
        (b"{", 400, "expected JSON"),
        ([1], 422, "outcomes"),
        ({"outcomes": {}}, 422, "expected"),
        ({"outcomes": [1]}, 422, "outcomes[0]"),
        ({"outcomes": [{"day": "2000-01-01", "name": "tickets", "count": 1}]}, 422, "outcomes[0].day"),
        ({"outcomes": [{"day": TODAY, "name": "tickets", "count": -1}]}, 422, "outcomes[0].count"),
        (b" " * 30_000, 413, "20000 bytes"),
    ],
)
def test_what_is_refused_changes_nothing(stack: Stack, document: Any, status: int, text: str) -> None:
    found, body = post(stack, document)
    assert (found, text in json.dumps(body)) == (status, True), body


def test_one_bad_count_keeps_the_others_out(stack: Stack) -> None:
    good = one(source="all-or-nothing")["outcomes"][0]
    assert post(stack, {"outcomes": [good, {**good, "count": "x"}]})[0] == 422
    assert receipt(post(stack, {"outcomes": [good]})) == (1, 0, 0)


# --- the command ----------------------------------------------------------------------------------------------------


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "tokenyield_collector.cli", "import", "outcomes", *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


def test_through_the_collector_that_has_the_ledger_open(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(f"day,name,count,team\n{TODAY},answers,3,search\n{TODAY},answers,4,ads\n")
    token = tmp_path / "token"
    token.write_text(f"{READER}\n{OUTCOMES} may=outcomes\n")
    flags = [str(file), "--collector", stack.url, "--token-file", str(token)]
    dry = command(*flags, "--dry-run")
    assert (dry.returncode, "1 new, 0 replaced, 0 unchanged" in dry.stdout) == (0, True), dry.stderr
    first, second = command(*flags), command(*flags)
    assert "7 answers in 1 slices (source, day, name): 1 new, 0 replaced, 0 unchanged" in first.stdout, first.stderr
    assert "0 new, 0 replaced, 1 unchanged" in second.stdout
    token.write_text(f"{READER} may=read\n")
    refused = command(*flags)
    assert refused.returncode == 2
    assert "expected a token with may=outcomes" in refused.stderr


def test_into_a_ledger_that_nobody_has_open(tmp_path: Path) -> None:
    from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger

    ledger = tmp_path / "ledger.duckdb"
    DuckDbLedger(ledger).close()
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.csv"
    good.write_text('{"day": "2026-10-05", "name": "tickets", "count": 3, "team": "search"}\n')
    bad.write_text("day,name,count,team\n2026-10-05,answers,3,search\n2026-10-05,answers,x,ads\n")
    same = tmp_path / "same.jsonl"
    same.write_bytes(good.read_bytes())
    flags = ["--ledger", str(ledger), "--source", "jira"]
    done = command(str(good), str(same), str(bad), *flags)
    assert done.returncode == 1
    assert f"{same}: the same as a file before it, and read once" in done.stdout
    assert f"{bad}:3: count: expected a whole number from 0 to" in done.stderr
    assert f"{bad}: not imported" in done.stderr
    opened = DuckDbLedger(ledger)
    assert [one.key.name for one in opened.outcomes(0, 2**60)] == ["tickets"], (
        "a file with a refused line changes nothing"
    )
    assert [one.total for one in opened.outcomes(0, 2**60)] == [3], "the same content twice counts once"
    opened.close()
    assert command(str(bad), *flags, "--skip-refused").returncode == 1
    good.write_text('{"day": "2026-10-05", "name": "tickets", "count": 2, "team": "search"}\n')
    assert "replaced: tickets of 2026-10-05 from jira: 3 -> 2" in command(str(good), *flags).stdout
    missing = command(str(tmp_path / "none.csv"), *flags)
    assert (missing.returncode, "No such file" in missing.stderr) == (1, True)
