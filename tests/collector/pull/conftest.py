"""Stand-ins of the vendors, and a puller with a ledger of its own whose clock the test moves."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from collector.pull.vendors import KEY, Vendors, vendors_on_loopback
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.executors import Executors
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.pull.account import PullAccount
from tokenyield_collector.pull.puller import Puller
from tokenyield_collector.pull.spend_file import load_accounts
from tokenyield_collector.pull.state import PullState
from tokenyield_collector.spend.slices import SpendSlice

TODAY = date(2026, 11, 25)


def ago(days: int) -> date:
    return TODAY - timedelta(days)


class TestClock:
    """Sleeps at once, and says how long it would have."""

    __test__ = False

    def __init__(self) -> None:
        self.ms = int(datetime(TODAY.year, TODAY.month, TODAY.day, 3, tzinfo=UTC).timestamp()) * 1000
        self.slept: list[float] = []

    def now_ms(self) -> int:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.ms += int(seconds * 1000)
        await asyncio.sleep(0.001)

    def next_day(self, days: int = 1) -> None:
        self.ms += days * 86_400_000


class Pulling:
    """A puller over a new ledger; `restart` is what a new process knows: the ledger alone."""

    def __init__(self, folder: Path, vendors: Vendors, **settings: Any) -> None:
        self.folder, self.vendors, self.clock = folder, vendors, TestClock()
        self.key_file = folder / "key"
        self.key_file.write_text(f"{KEY}\n")
        self.settings = CollectorSettings(**{"people": "name", **settings})
        self.ledger = DuckDbLedger(folder / "ledger.duckdb", memory_limit="200MB")
        self.leads = True
        self.executors = Executors()
        self.restart()

    def restart(self) -> None:
        self.puller = Puller(
            self.settings, self.ledger, self.executors, lambda: self.leads, clock=self.clock, jitter=lambda: 0.0
        )

    def account(self, source: str, **fields: Any) -> PullAccount:
        entry = {"name": "main", "source": source, "key_file": str(self.key_file), "base_url": self.vendors.url,
                 "start": "2026-11-15", **fields}  # fmt: skip
        file = self.folder / "spend.yaml"
        file.write_text(json.dumps({"accounts": [entry]}))
        (account,) = load_accounts(file)
        return account

    def pull(self, account: PullAccount) -> PullState:
        asyncio.run(self._pull(account))
        return next(state for state in self.puller.states if state.name == account.name)

    async def _pull(self, account: PullAccount) -> None:
        try:
            await self.puller.pull(account)
        finally:
            self.puller.close()

    @property
    def slices(self) -> list[SpendSlice]:
        return self.ledger.spend(0, 2**42)

    def totals(self) -> dict[tuple[str, int], tuple[int, int]]:
        """(grain, days ago) -> (millionths, tokens)."""
        today_ms = int(datetime(TODAY.year, TODAY.month, TODAY.day, tzinfo=UTC).timestamp()) * 1000
        return {
            (one.key.grain, (today_ms - one.key.day_ms) // 86_400_000): (
                sum(one.cost_micro().values()), one.tokens,
            )
            for one in self.slices
        }  # fmt: skip

    def close(self) -> None:
        self.executors.close(lambda: None)
        self.ledger.close()


@pytest.fixture
def vendors() -> Iterator[Vendors]:
    with vendors_on_loopback() as stand_in:
        yield stand_in


@pytest.fixture
def pulling(tmp_path: Path, vendors: Vendors) -> Iterator[Pulling]:
    own = Pulling(tmp_path, vendors)
    try:
        yield own
    finally:
        own.close()
