"""No error ends a loop of the collector: it is logged once, shown, and what failed is tried again."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from collector.samples import batch, shipment
from tokenyield_collector.api.health import HealthApi
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.errors import LedgerError
from tokenyield_collector.ingest.committer import Committer
from tokenyield_collector.ingest.stats import IngestStats
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.policy import Policy
from tokenyield_collector.server import Collector
from tokenyield_collector.steps import Steps, lasting


def failing(*errors: Exception | None) -> Callable[[], Awaitable[None]]:
    """A step that raises one after the other, None meaning that it succeeds."""
    left = list(errors)

    async def step() -> None:
        if (error := left.pop(0)) is not None:
            raise error

    return step


def test_a_failure_is_logged_once_for_each_change_of_state(caplog: pytest.LogCaptureFixture) -> None:
    steps = Steps(("refresh",))
    assert steps.problem == "the first refresh has not finished"
    step = failing(ValueError("1"), ValueError("2"), LedgerError("disk"), LedgerError("disk"), None, ValueError("3"))
    caplog.set_level(logging.INFO)

    async def play() -> list[str | None]:
        found = []
        for _ in range(6):
            await steps.attempt("refresh", step)
            found.append(steps.problem)
        return found

    assert asyncio.run(play()) == [
        "refresh failed (ValueError: 1); the log says where",
        "refresh failed (ValueError: 2); the log says where",
        "disk",
        "disk",
        None,
        "refresh failed (ValueError: 3); the log says where",
    ]
    assert [(record.levelname, bool(record.exc_info)) for record in caplog.records] == [
        ("ERROR", True), ("ERROR", False), ("INFO", False), ("ERROR", True),
    ]  # fmt: skip


def test_a_loop_that_ends_by_an_error_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenyield_collector.steps.RESTART_AFTER_S", 0)
    asyncio.run(asyncio.wait_for(lasting(failing(ValueError(), KeyError(), None)), 30))


def recent_batch_ms() -> int:
    now_ms = time.time_ns() // 1_000_000
    return now_ms - now_ms % 15_000 - 15_000


def test_where_authentication_is_required_readyz_does_not_give_the_reason(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("token-of-a-reader may=read\n")
    settings = CollectorSettings(ledger_path="", token_file=str(tmp_path / "tokens"))

    async def play() -> None:
        collector = Collector(settings, ledger, Policy())
        assert collector.problem is not None, "it has not refreshed yet"
        answer = await HealthApi(collector.services).readyz(None)  # type: ignore[arg-type]
        assert (answer.status, answer.text) == (503, "not ready; the log has the reason\n")
        collector.executors.close(lambda: None)
        collector.authenticator.close()

    with closing(DuckDbLedger(":memory:")) as ledger:
        asyncio.run(play())


def test_a_refresh_that_fails_is_tried_again_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = DuckDbLedger(tmp_path / "ledger.duckdb")
    settings = CollectorSettings(ledger_path=str(tmp_path / "ledger.duckdb"), refresh_interval_s=0.01, live_lag_s=0)

    async def play() -> None:
        collector = Collector(settings, ledger, Policy())
        running = asyncio.create_task(collector.run())
        await until(lambda: collector.problem is None)
        whole = collector.refresher.refresh

        def broken(*args: Any) -> Any:
            raise ValueError("apportion takes no negative total")

        monkeypatch.setattr(collector.refresher, "refresh", broken)
        await until(lambda: "ValueError: apportion" in (collector.problem or ""))
        assert "ValueError: apportion" in (await HealthApi(collector.services).readyz(None)).text  # type: ignore[arg-type,operator]
        await asyncio.get_running_loop().run_in_executor(
            collector.executors.writer, ledger.append, [shipment(batch(1, recent_batch_ms()))], 0
        )
        await until(lambda: bool(collector._changed))
        assert not running.done()
        monkeypatch.setattr(collector.refresher, "refresh", whole)
        await until(lambda: collector.problem is None)
        assert collector.view is not None
        assert 100 in collector.view.counters.values(), "the hour that changed while it failed is shown"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        collector.close()

    asyncio.run(play())
    assert sum(bool(record.exc_info) for record in caplog.records) == 1, "logged once"


def test_every_other_step_of_the_loop_may_fail_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = DuckDbLedger(tmp_path / "ledger.duckdb")
    settings = CollectorSettings(ledger_path=str(tmp_path / "ledger.duckdb"), refresh_interval_s=0.01, live_lag_s=0)
    called = []

    def broken(name: str) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            called.append(name)
            raise RuntimeError(name)

        return call

    async def play() -> None:
        collector = Collector(settings, ledger, Policy())
        monkeypatch.setattr("tokenyield_collector.server.RETIRE_EVERY_S", 0.0)
        monkeypatch.setattr("tokenyield_collector.server.RETIRE_AGAIN_S", 0.0)
        for of, name in (
            (collector, "reload"),
            (collector.authenticator, "reread"),
            (collector.refresher, "is_due"),
            (collector.refresher, "retire"),
        ):
            monkeypatch.setattr(of, name, broken(name))
        running = asyncio.create_task(collector.run())
        await until(lambda: all(called.count(name) > 1 for name in ("reload", "reread", "is_due", "retire")))
        assert collector.view is not None, "what can be shown is"
        assert collector.problem == "bringing figures to date failed (RuntimeError: is_due); the log says where"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        collector.close()

    asyncio.run(play())


def test_bases_that_the_ledger_did_not_take_are_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from collector.samples import HOUR_MS, NOON_MS
    from tokenyield_collector.live.refresher import Refresher

    ledger = DuckDbLedger(tmp_path / "ledger.duckdb")
    settings = CollectorSettings(ledger_path="", hours_keep_days=1, windows_keep_days=1)
    refresher = Refresher(settings, ledger, Policy())
    ledger.append([shipment(batch(1, NOON_MS), batch(2, NOON_MS + HOUR_MS))], NOON_MS)
    now_ms = NOON_MS + 25 * HOUR_MS
    before = refresher.refresh(ledger.fold(), now_ms, {}).counters
    with monkeypatch.context() as patched:
        patched.setattr(ledger, "retire", lambda **_: (_ for _ in ()).throw(LedgerError("disk full")))
        with pytest.raises(LedgerError):
            refresher.retire(now_ms)
    assert refresher.refresh([], now_ms, {}).counters == before
    refresher.retire(now_ms)
    assert refresher.refresh([], now_ms, {}).counters == before
    again = Refresher(settings, ledger, Policy())
    assert again.refresh([], now_ms, {}).counters == before, "after a restart too"
    ledger.close()


def test_a_commit_that_fails_is_answered_and_the_next_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = DuckDbLedger(tmp_path / "ledger.duckdb")
    sent = shipment(batch(1, recent_batch_ms()))

    async def play() -> None:
        with ThreadPoolExecutor(1) as writer:
            committer = Committer(
                ledger, writer, CollectorSettings(ledger_path="", commit_interval_ms=1), IngestStats()
            )
            running = asyncio.create_task(committer.run())
            with monkeypatch.context() as patched:
                patched.setattr(ledger, "append", lambda *_: 1 // 0)
                for _ in range(2):
                    with pytest.raises(LedgerError, match="ZeroDivisionError"):
                        await asyncio.wait_for(committer.commit(sent), 30)
                patched.setattr(ledger, "append", lambda *_: [])  # no receipt for what was sent
                with pytest.raises(LedgerError, match="ValueError"):
                    await asyncio.wait_for(committer.commit(sent), 30)
            answer = await asyncio.wait_for(committer.commit(sent), 30)
            assert answer.receipt == (1, 0)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(play())
    assert sum(bool(record.exc_info) for record in caplog.records) == 2, "once for each change of state"
    ledger.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)
