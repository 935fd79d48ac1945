"""The running collector pulls, shows how it stands, and is killed in the middle of it; `pull NAME` beside it."""

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from collector.pull.rows import anthropic_cost
from collector.pull.vendors import KEY, Refusal, Vendors
from harness import Stack, get, wait_until
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger

TODAY = date(*time.gmtime()[:3])
DAYS = 60


@pytest.fixture
def stack(tmp_path: Path, vendors: Vendors) -> Iterator[Stack]:
    (tmp_path / "key").write_text(KEY)
    account = {"name": "main", "source": "anthropic", "key_file": str(tmp_path / "key"), "base_url": vendors.url,
               "start": f"{TODAY - timedelta(DAYS)}", "reports": ["analytics_cost"]}  # fmt: skip
    (tmp_path / "spend.yaml").write_text(json.dumps({"accounts": [account]}))
    started = Stack(tmp_path, collector={"spend_file": str(tmp_path / "spend.yaml")})
    yield started
    started.kill_all()


def metric(stack: Stack, name: str, labels: str = 'account="main"') -> float | None:
    found = re.search(rf"^tokenyield_spend_pull_{name}{{{labels}}} (\S+)$", get(f"{stack.url}/metrics").decode(), re.M)
    return float(found[1]) if found else None


def days_in(stack: Stack) -> dict[int, int]:
    """Days ago -> millionths."""
    ledger = DuckDbLedger(stack.ledger_path)
    try:
        today_ms = (TODAY - date(1970, 1, 1)).days * 86_400_000
        return {(today_ms - one.key.day_ms) // 86_400_000: one.cost_micro()["USD"] for one in ledger.spend(0, 2**42)}
    finally:
        ledger.close()


def test_killed_in_a_pull_it_has_whole_days_and_goes_on(stack: Stack, vendors: Vendors) -> None:
    """Requests have 31 days, pages two rows of three a day: the kill falls into the middle of a day of the second
    request."""
    for i in range(1, DAYS + 1):
        vendors.rows["analytics/cost", TODAY - timedelta(i)] = [anthropic_cost(f"{i}.5")] * 3
    whole = {i: 3 * (i * 10_000 + 5_000) for i in range(1, DAYS + 1)}
    is_there, goes_on = threading.Event(), threading.Event()

    def stops(path: str) -> None:
        if vendors.asked[path] == 70:
            is_there.set()
            goes_on.wait()

    vendors.before = stops
    stack.start_collector()
    assert is_there.wait(120)
    wait_until(lambda: metric(stack, "missing_days") == DAYS - 31, what="the days of the first request are written")
    stack.collector.kill()
    goes_on.set()
    assert days_in(stack) == {i: micro for i, micro in whole.items() if i <= 31}
    stack.start_collector()
    wait_until(lambda: metric(stack, "missing_days") == 0)
    assert metric(stack, "failing") == 0
    stack.collector.terminate()
    assert days_in(stack) == whole


def test_it_shows_how_each_account_stands_and_ends_while_a_vendor_hangs(stack: Stack, vendors: Vendors) -> None:
    vendors.before = lambda path: (_ for _ in ()).throw(Refusal(401))
    stack.start_collector()
    wait_until(lambda: metric(stack, "failing") == 1)
    assert metric(stack, "refusals_total", 'account="main",reason="key"') == 1
    assert metric(stack, "missing_days") == DAYS
    assert metric(stack, "success_timestamp_seconds") is None
    assert "the key is refused (HTTP 401)" in stack.collector.said()
    hangs, goes_on = threading.Event(), threading.Event()

    def hang(path: str) -> None:
        hangs.set()
        goes_on.wait()

    vendors.before = hang
    spend = stack.folder / "spend.yaml"
    spend.write_text(spend.read_text().replace('"main"', '"other"'))
    assert hangs.wait(120)
    assert stack.collector.terminate() == 0
    goes_on.set()
    assert KEY not in stack.collector.said()


def test_a_key_is_tried_beside_the_running_collector(stack: Stack, vendors: Vendors) -> None:
    vendors.rows["analytics/cost", TODAY - timedelta(2)] = [anthropic_cost("150")]
    stack.start_collector()
    wait_until(lambda: metric(stack, "missing_days") == 0)
    vendors.rows["analytics/cost", TODAY - timedelta(2)] = [anthropic_cost("160")]
    pull = [sys.executable, "-m", "tokenyield_collector.cli", "pull", "main", "--days", "3", "--collector", stack.url,
            "--set", f"spend_file={stack.folder}/spend.yaml"]  # fmt: skip

    def ran(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*pull, *more], capture_output=True, text=True, check=False)

    dry = ran("--dry-run")
    assert (dry.returncode, dry.stderr.strip()) == (0, "dry run: nothing was changed")
    day = TODAY - timedelta(2)
    assert f"replaced: anthropic analytics_cost, account default, {day}: 1.500000 USD -> 1.600000 USD" in dry.stdout
    assert "replaced" in ran().stdout
    assert "0 new, 0 replaced" in ran().stdout
    (stack.folder / "key").write_text("sk-wrong")
    refused = ran()
    assert refused.returncode == 1
    assert "analytics_cost: the key is refused (HTTP 401); check key_file" in refused.stderr
    stack.collector.terminate()
    assert days_in(stack) == {2: 1_600_000}
