"""The running collector closes months by itself; what others do with its ledger makes no version."""

import asyncio
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from collector.reports.test_reports import PRICE_BOOK, month_into
from tokenyield_collector.config import CollectorSettings, load_settings
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.policy import load_policy
from tokenyield_collector.server import Collector, application
from tokenyield_settings.loader import SettingsError

pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")


def call(*arguments: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "tokenyield_collector.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "COLUMNS": "160"})
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def closed_by_a_collector(settings: CollectorSettings, asked: dict[str, str]) -> dict[str, bytes]:
    """What it answers to each of `asked`, after it looked once for months to close."""

    async def play() -> dict[str, bytes]:
        collector = Collector(settings, DuckDbLedger(settings.ledger_path), load_policy(settings))
        async with TestClient(TestServer(application(collector))) as client:
            await collector._close_months()
            answers = {}
            for name, path in asked.items():
                async with client.get(path) as response:
                    assert response.status == 200, await response.text()
                    answers[name] = await response.read()
        collector.close()
        return answers

    return asyncio.run(play())


def test_a_collector_closes_and_others_only_read(tmp_path: Path) -> None:
    book, ledger = tmp_path / "prices.yaml", tmp_path / "ledger.duckdb"
    month_into(ledger)
    book.write_text(PRICE_BOOK)
    settings = CollectorSettings(ledger_path=str(ledger), prices_file=str(book), close_after_days=0)
    flags = ["--set", f"ledger_path={ledger}", "--set", f"prices_file={book}", "--set", "close_after_days=0"]
    report = ["report", "--period", "2026-10", *flags]
    before = json.loads(call(*report, "--format", "json"))
    assert (before["state"], before["version"]) == ("closing", None)
    assert "no version yet" in call(*report, "--versions")
    assert "version: expected a version of 2026-10: none" in call(*report, "--version", "1", code=2)

    url = "/v1/report?period=2026-10&by=team,model&format="
    forms = ("json", "csv", "html", "focus")
    first = closed_by_a_collector(settings, {form: url + form for form in forms})
    assert (json.loads(first["json"])["state"], json.loads(first["json"])["version"]) == ("closed", 1)
    book.write_text(PRICE_BOOK.replace("35040", "70080"))
    asked = {form: f"{url}{form}&version=1" for form in forms}
    asked |= {"versions": "/v1/report/versions?period=2026-10", "diff": "/v1/report/diff?period=2026-10&from=1&to=2"}
    second = closed_by_a_collector(settings, asked)
    assert {form: second[form] for form in forms} == first

    def from_file(*more: str) -> Any:
        return json.loads(call(*report, *more, "--format", "json"), parse_float=Decimal)

    assert from_file("--versions") == json.loads(second["versions"], parse_float=Decimal)
    assert from_file("--diff", "1", "2") == json.loads(second["diff"], parse_float=Decimal)
    moved = from_file("--diff", "1", "2", "--by", "team")
    assert sum(row["difference"]["cost"] for row in moved["rows"]) == moved["total"]["difference"]["cost"] > 0
    assert moved["changes"] == ["version 2: prices: pools.h100.owned.gpu: 35040 -> 70080"]
    assert call(*report, "--by", "team,model", "--format", "csv", "--version", "1").encode() == first["csv"]
    assert "35040 -> 70080" in call(*report, "--diff", "1", "2")

    other = tmp_path / "other.yaml"
    other.write_text(PRICE_BOOK.replace("35040", "1"))
    what_if = from_file("--prices", str(other))
    assert (what_if["state"], what_if["version"]) == ("what-if", None)
    assert what_if["total"]["cost"] < from_file()["total"]["cost"]
    set_otherwise = json.loads(call("report", "--period", "2026-10", "--set", f"ledger_path={ledger}", "--set", f"prices_file={other}",
                                    "--format", "json"))  # fmt: skip
    assert (set_otherwise["state"], set_otherwise["version"]) == ("closed", 2)
    assert "prices: expected nothing with --versions" in call(*report, "--versions", "--prices", str(other), code=2)
    assert [version["version"] for version in from_file("--versions")["versions"]] == [1, 2]


def test_a_month_closes_at_its_end_at_the_earliest() -> None:
    assert load_settings(None, {}, []).close_after_days is None
    with pytest.raises(SettingsError, match="close_after_days: expected 0 to 3660, found -1"):
        load_settings(None, {}, ["close_after_days=-1"])
