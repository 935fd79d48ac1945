"""`report`, `budget`, `rate` and the API, with the collector down, and with it running.

Commands run in this process: a start of Python for each would take three quarters of the time. test_questions.py and
test_command_line.py start them as users do.
"""

import csv
import io
import json
import logging
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from collector.reports.test_reports import PRICE_BOOK, month_into
from harness import free_port, wait_until
from tokenyield_collector.cli import main
from tokenyield_collector.examples import EXAMPLE_FILES

pytestmark = pytest.mark.timeout(1500)
SEARCH = "budgets: [{name: search, match: {team: search}, monthly: 10}]\n"
READY_S = 240.0
"""A start prices a whole month: 13 s of a core, of which a busy machine has little."""
TAKEN_UP_S = 600.0
"""A collector that prices its history again rests for four times as long before it looks at its files again."""


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    month_into(tmp_path / "ledger.duckdb")
    (tmp_path / "prices.yaml").write_text(PRICE_BOOK)
    (tmp_path / "rules.yaml").write_text(SEARCH)
    values = {
        "ledger_path": tmp_path / "ledger.duckdb",
        "prices_file": tmp_path / "prices.yaml",
        "attribution_file": tmp_path / "rules.yaml",
        "listen": f"127.0.0.1:{free_port()}",
        "refresh_interval_s": 0.2,
        "close_after_days": 3660,
    }
    return [part for name, value in values.items() for part in ("--set", f"{name}={value}")]


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("COLUMNS", "160")
    handlers = list(logging.getLogger().handlers)
    yield
    logging.getLogger().handlers[:] = handlers  # a command sets its own, on a standard error that is closed then


def call(*arguments: str, code: int = 0) -> str:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err):
        assert main(list(arguments)) == code, err.buffer.getvalue().decode()
    for text in (out, err):
        text.flush()
    said: bytes = (out if code == 0 else err).buffer.getvalue()
    return said.decode()


def get(url: str, headers: dict[str, str] | None = None) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=120) as answer:
        return answer.read()  # type: ignore[no-any-return]


class Running:
    """A collector until the end of the test."""

    def __init__(self, settings: list[str], folder: Path) -> None:
        self.url = "http://" + next(value for value in settings if value.startswith("listen=")).removeprefix("listen=")
        self.log = folder / "collector.log"
        with self.log.open("wb") as out:
            command = [sys.executable, "-m", "tokenyield_collector.cli", "serve", *settings]
            self.process = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            wait_until(self.is_ready, READY_S, "the collector answers")
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def is_ready(self) -> bool:
        try:
            return get(f"{self.url}/readyz") == b"ok\n"
        except OSError:
            return False

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(120) == 0


def test_a_month_from_the_file_and_from_the_running_collector(settings: list[str], tmp_path: Path) -> None:
    """Nobody has to know whether a collector runs."""
    asked = ("report", "--period", "2026-10", "--by", "team,model", *settings)
    down = {form: call(*asked, "--format", form) for form in ("table", "csv", "json", "html", "focus")}
    running = Running(settings, tmp_path)
    try:
        up = {form: call(*asked, "--format", form) for form in down}
        over_http = get(f"{running.url}/v1/report?period=2026-10&by=team,model&format=csv").decode()
        state = json.loads(call("budget", "--month", "2026-10", "--format", "json", *settings))
        rates = json.loads(get(f"{running.url}/v1/rates"))
        call(*asked, "--format", "focus", "--output", str(tmp_path / "up.csv"))
        call(*asked, "--format", "focus", "--focus-version", "1.4", "--output", str(tmp_path / "up4.csv"))
    finally:
        running.stop()
    assert up == down
    call(*asked, "--format", "focus", "--output", str(tmp_path / "down.csv"))
    call(*asked, "--format", "focus", "--focus-version", "1.4", "--output", str(tmp_path / "down4.csv"))
    written = sorted(path.name for path in tmp_path.glob("down*"))
    assert written == ["down.csv", "down.metadata.json"] + [
        f"down4.{suffix}" for suffix in ("billing-period.csv", "csv", "invoice-detail.csv", "metadata.json")
    ]
    for name in written:
        assert (tmp_path / name.replace("down", "up")).read_bytes() == (tmp_path / name).read_bytes()
    assert (tmp_path / "up.csv").read_text() == down["focus"]
    assert over_http == down["csv"]
    assert sum(float(row["cost"]) for row in csv.DictReader(io.StringIO(over_http))) == pytest.approx(
        json.loads(down["json"])["total"]["cost"]
    )
    (budget,) = state["budgets"]
    assert (budget["name"], budget["state"], budget["month"]) == ("search", "over", "2026-10")
    assert rates["pools"][0]["usd_per_gpu_hour"] > 1
    assert json.loads(call("budget", "--month", "2026-10", "--format", "json", *settings)) == state
    assert "over" in call("budget", "--month", "2026-10", *settings)


def test_a_price_book_is_taken_up_without_restart_and_a_broken_one_is_refused(
    settings: list[str], tmp_path: Path
) -> None:
    running = Running(settings, tmp_path)
    book = tmp_path / "prices.yaml"

    def price() -> Any:
        return json.loads(get(f"{running.url}/v1/rates"))["pools"][0]["parts"]["depreciation"]

    try:
        assert price() == 1
        before = float(json.loads(get(f"{running.url}/v1/report?period=2026-10&by=team"))["total"]["cost"])
        book.write_text(PRICE_BOOK.replace("35040", "70080"))
        wait_until(lambda: price() == 2, TAKEN_UP_S, "the new price holds")
        after = json.loads(get(f"{running.url}/v1/report?period=2026-10&by=team"))
        assert after["total"]["cost"] > before * 1.5
        book.write_text("pools: [{name: h100, owned: {gpu: -1}}]")
        wait_until(lambda: "not taken up" in running.log.read_text(), TAKEN_UP_S, "the broken one is refused")
        assert price() == 2
        wait_until(
            lambda: b"tokenyield_collector_policy_fresh 0.0" in get(f"{running.url}/metrics"),
            TAKEN_UP_S,
            "the metric shows it",
        )
        assert "prices.yaml" in running.log.read_text()
        assert 'event=changed what="prices and rules"' in running.log.read_text()
    finally:
        running.stop()


def test_the_api_refuses_what_it_cannot_make_and_unknown_callers(settings: list[str], tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("a-secret-of-readers\n")
    running = Running([*settings, "--set", f"token_file={tokens}"], tmp_path)
    known = {"Authorization": "Bearer a-secret-of-readers"}
    try:
        for path, headers, code, text in (
            ("report?period=2026-10", {}, 401, "token_file"),
            ("budgets", {"Authorization": "Bearer wrong"}, 401, "token_file"),
            ("report", known, 400, "period: expected"),
            ("report?period=2026-13", known, 400, "write 2026-10"),
            ("report?period=2026-10&by=tem", known, 400, "did you mean 'team'"),
            ("report?period=2026-10&format=pdf", known, 400, "expected one of"),
            ("report?period=2026-10&format=focus&focus_version=1.3", known, 400, "expected one of 1.2, 1.4"),
            ("budgets?month=2026-10-05", known, 400, "expected a month"),
            ("budgets?month=0000-00", known, 400, "expected a month"),
            ("budgets?month=0001-01", known, 400, "expected a month"),
            ("report?period=9999-12", known, 400, "write 2026-10"),
        ):
            with pytest.raises(urllib.error.HTTPError) as error:
                get(f"{running.url}/v1/{path}", headers)
            assert error.value.code == code
            assert text in json.loads(error.value.read())["detail"]
        assert call("report", "--period", "2026-10", *settings, "--set", f"token_file={tokens}", "--format", "csv")
        asked = ("report", "--period", "2026-10", "--collector", running.url, "--format", "csv")
        assert call(*asked, "--token-file", str(tokens))
        (tmp_path / "other").write_text("a-token-of-nobody-else\n")
        assert "401" in call(*asked, "--token-file", str(tmp_path / "other"), code=1)
    finally:
        running.stop()


def test_what_a_user_can_get_wrong(settings: list[str], tmp_path: Path) -> None:
    assert "did you mean 'team'" in call("report", "--period", "2026-10", "--by", "tem", *settings, code=2)
    assert "write 2026-10" in call("report", "--period", "oct", *settings, code=2)
    assert "no ledger at" in call("report", "--period", "2026-10", "--set", f"ledger_path={tmp_path}/none", code=1)
    (tmp_path / "prices.yaml").write_text("pools: [{name: a, owned: {gpu: -1, life_years: 0}}]")
    errors = call("report", "--period", "2026-10", *settings, code=2)
    assert "gpu: expected at least 0, found -1" in errors
    assert "life_years: expected a number greater than 0, at most 100, found 0" in errors
    assert "cannot be reached" in call("report", "--period", "2026-10", "--collector", "http://127.0.0.1:9", code=1)


@pytest.mark.parametrize("name", EXAMPLE_FILES)
def test_examples_are_the_annotated_files(name: str) -> None:
    assert call("example", name) == (Path(__file__).parents[3] / "collector" / name).read_text()


def test_rates_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(PRICE_BOOK)
    document = json.loads(call("rate", "--prices", str(tmp_path / "prices.yaml"), "--format", "json"))
    (pool,) = document["pools"]
    assert pool["name"] == "h100"
    assert pool["usd_per_gpu_hour"] == pytest.approx(sum(pool["parts"].values()))
    table = call("rate", "--prices", str(tmp_path / "prices.yaml"), "--at", "2026-10-05T14:00")
    assert "(35,040 - 0) / (4 y x 8,760 h)" in table
    assert "H100 SXM" in call("rate", "--reference")
    assert "write 2026-11-23" in call("rate", "--prices", str(tmp_path / "prices.yaml"), "--at", "noon", code=2)
    (tmp_path / "euro.yaml").write_text("currency: EUR\npools: [{name: a, rented: {per_gpu_hour: 2}}]")
    (euro,) = json.loads(call("rate", "--prices", str(tmp_path / "euro.yaml"), "--format", "json"))["pools"]
    assert (euro["usd_per_gpu_hour"], euro["per_gpu_hour"]) == (None, 2)
