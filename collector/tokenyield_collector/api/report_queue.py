"""Reports for HTTP: one at a time, in the reporter's thread.

In: functions that make something with `maker`. Out: what they make. Whatever is written into the ledger for it is
written by the writer's thread, in short turns, so that batches are committed meanwhile.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import TypeVar

from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.errors import TooManyWaiting
from tokenyield_collector.executors import Executors
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.ledger.closed import PeriodCheck, StatementRecord, VersionStore
from tokenyield_collector.ledger.outcomes import OutcomeSlice
from tokenyield_collector.ledger.usage import LedgerUsageReader
from tokenyield_collector.policy import Policy
from tokenyield_collector.reports.closing import MonthClosing
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.statements.source import OtherCosts
from tokenyield_wire.units import NS_PER_MS

Made = TypeVar("Made")

WAITING_MAX = 8
"""Reports made or waiting at once."""
ROLL_HOURS_AT_ONCE = 4
"""Hours rolled up before waiting batches have their turn: at 10,000 GPUs 0.15 s."""


class LedgerForReports:
    """A ledger as a reporting thread may use it: a `reports.closing.ClosableLedger`."""

    def __init__(self, ledger: Ledger, writer: Executor) -> None:
        self._ledger = ledger
        self._writer = writer
        self.versions: VersionStore = VersionsForReports(ledger.versions, writer)

    def first_ms(self) -> int | None:
        return self._ledger.first_ms()

    def usage(self) -> LedgerUsageReader:
        return self._ledger.usage()

    def roll(self) -> None:
        while self._writer.submit(self._ledger.roll, None, ROLL_HOURS_AT_ONCE).result():
            pass

    def revision(self, start_ms: int, end_ms: int) -> str:
        return self._ledger.revision(start_ms, end_ms)

    def outcomes(self, start_ms: int, end_ms: int) -> list[OutcomeSlice]:
        return self._ledger.outcomes(start_ms, end_ms)


class VersionsForReports:
    """A ledger's `VersionStore` as a reporting thread may use it: what writes has its turn in the writer's thread."""

    def __init__(self, store: VersionStore, writer: Executor) -> None:
        self.periods = store.periods
        self.records = store.records
        self.part_counts = store.part_counts
        self.day_part = store.day_part
        self.checks = store.checks
        self._store = store
        self._writer = writer

    def add_record(self, record: StatementRecord) -> None:
        self._writer.submit(self._store.add_record, record).result()

    def add_day(self, digest: str, parts: Sequence[str]) -> None:
        self._writer.submit(self._store.add_day, digest, parts).result()

    def forget_days(self, kept: Collection[str]) -> None:
        self._writer.submit(self._store.forget_days, kept).result()

    def note_check(self, check: PeriodCheck) -> None:
        self._writer.submit(self._store.note_check, check).result()


class ReportQueue:
    """At most `WAITING_MAX` callers at once. `policy` gives the policy of the moment."""

    def __init__(
        self,
        settings: CollectorSettings,
        ledger: Ledger,
        executors: Executors,
        policy: Callable[[], Policy],
        others: Sequence[OtherCosts] = (),
    ) -> None:
        self._settle_ms = settings.live_lag_s * 1000
        self._close_after_ms = settings.close_after_ms
        self._ledger = LedgerForReports(ledger, executors.writer)
        self._reporter = executors.reporter
        self._policy = policy
        self._others = others
        self._waiting = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """For as long as a caller waits. Raises `TooManyWaiting`."""
        if self._waiting >= WAITING_MAX:
            raise TooManyWaiting("too many reports wait already; ask again later")
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    def submit(self, make: Callable[[], Made]) -> "asyncio.Future[Made]":
        """Run `make`, which uses `maker`, in the reporter's thread. Needs a `place`."""
        return asyncio.get_running_loop().run_in_executor(self._reporter, make)

    def closing(self, made_by: str) -> MonthClosing:
        """Of now; for the reporter's thread."""
        return MonthClosing(
            ledger=self._ledger,
            policy=self._policy(),
            now_ms=time.time_ns() // NS_PER_MS,
            close_after_ms=self._close_after_ms,
            made_by=made_by,
            others=self._others,
        )

    def maker(self, teams: Sequence[str] | None) -> ReportMaker:
        """Of now, of what `teams` carry alone (None: all); for the thread of an executor."""
        return ReportMaker(
            ledger=self._ledger,
            policy=self._policy(),
            others=self._others,
            now_ms=time.time_ns() // NS_PER_MS,
            teams=teams,
            settle_ms=self._settle_ms,
            close_after_ms=self._close_after_ms,
        )
