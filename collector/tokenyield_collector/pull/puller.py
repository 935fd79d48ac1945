"""Pulling on a schedule: each account of spend.yaml has a task of its own; a vendor that is down costs only its own.

In: accounts. Out: slices in the ledger, and how each account stands. What is pulled is what the ledger lacks and the
last week, so nothing has to be remembered over a restart; a kill at any moment leaves whole days. Of several collectors
the one that leads pulls.
"""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from itertools import groupby
from pathlib import Path

from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.errors import LedgerError
from tokenyield_collector.executors import Executors
from tokenyield_collector.ingest.spend_import import people_of
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.ledger.spend import spend_size_faults
from tokenyield_collector.prices.period import day_of
from tokenyield_collector.pull.account import PullAccount
from tokenyield_collector.pull.asking import JITTER, ExchangeThread, PullClock, SystemClock, VendorAsker
from tokenyield_collector.pull.days import days_due, days_missing, days_wanted, spans
from tokenyield_collector.pull.exchange import PullFault
from tokenyield_collector.pull.fetch import People, Pulled
from tokenyield_collector.pull.request import VendorReport
from tokenyield_collector.pull.spend_file import load_accounts, reports_of
from tokenyield_collector.pull.state import PullState
from tokenyield_collector.pull.vendors import load_vendor
from tokenyield_collector.slices import slice_changes
from tokenyield_collector.spend.slices import SpendSlice
from tokenyield_collector.steps import Steps
from tokenyield_settings.loader import SettingsError
from tokenyield_wire.units import MS_PER_DAY

log = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
"""Between two looks at spend.yaml, and at whether this collector leads."""
AGAIN_S = 900.0
"""After a pull that failed, twice as long after each further one, up to `every`."""
ALONE_FAULTS_MAX = 3
"""Of days that are asked for alone because their span could not be used."""


class Puller:
    """`leads`: whether this collector pulls at present."""

    def __init__(
        self,
        settings: CollectorSettings,
        ledger: Ledger,
        executors: Executors,
        leads: Callable[[], bool],
        *,
        clock: PullClock | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._executors = executors
        self._leads = leads
        self._clock = clock or SystemClock()
        self._jitter = jitter
        self._thread = ExchangeThread()
        self._requests = VendorAsker(executors.puller, self._clock, self._thread, jitter)
        self._accounts: list[PullAccount] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._states: dict[str, PullState] = {}
        self._pulled: dict[tuple[str, str], set[date]] = defaultdict(set)
        """(account, report) -> days that this process pulled: those without rows are not in the ledger."""
        self._changed_at: tuple[int, int] | None = None

    @property
    def states(self) -> Sequence[PullState]:
        return [*self._states.values()]

    # --- spend.yaml ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled. A file with faults is refused, and the accounts before it stay."""
        if not self._settings.spend_file:
            return
        steps = Steps()
        self._accounts, self._tasks, self._changed_at = [], {}, None
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    await steps.attempt("reading changed spend_file", lambda: self._look(tasks))
                    await self._clock.sleep(LOOK_EVERY_S)
        finally:
            self.close()

    def close(self) -> None:
        """End exchanges that are under way."""
        self._thread.close()

    async def _look(self, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        accounts = await loop.run_in_executor(self._executors.puller, self._read)
        if accounts is None:
            return
        kept = [account for account in self._accounts if account in accounts]
        for account in self._accounts:
            if account not in kept:
                self._tasks.pop(account.name).cancel()
                del self._states[account.name]
        self._accounts = accounts
        for account in accounts:
            if account not in kept:
                for key in [key for key in self._pulled if key[0] == account.name]:
                    del self._pulled[key]
                self._states[account.name] = PullState(name=account.name, source=account.source)
                self._tasks[account.name] = tasks.create_task(self._pull_on(account))
        log.info("spend is pulled of %d accounts", len(accounts))

    def _read(self) -> list[PullAccount] | None:
        """None where the file is as it was, or has faults."""
        file = Path(self._settings.spend_file or "")
        try:
            status = file.stat()
            changed_at = (status.st_mtime_ns, status.st_size)
        except OSError:
            changed_at = (0, 0)
        if changed_at == self._changed_at:
            return None
        self._changed_at = changed_at
        try:
            return load_accounts(file)
        except SettingsError as error:
            for fault in error.faults:
                log.error("not taken up, the accounts before it stay: %s", fault)
            return None

    # --- an account ----------------------------------------------------------------------------------------------

    async def _pull_on(self, account: PullAccount) -> None:
        again_s, steps = AGAIN_S, Steps()
        every_s = float(account.every_s or AGAIN_S)
        while True:
            while not self._leads():
                await self._clock.sleep(LOOK_EVERY_S)
            state = self._states[account.name]
            is_done = await steps.attempt(f"pulling spend of {account.name}", lambda: self.pull(account))
            if is_done and not state.problems:
                again_s = AGAIN_S
                await self._sleep(every_s)
            else:
                await self._sleep(min(again_s, every_s))
                again_s *= 2

    async def _sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds * (1 + JITTER * self._jitter()))

    async def pull(self, account: PullAccount) -> None:
        """All reports of an account, once. What fails is in its state."""
        state = self._states.setdefault(account.name, PullState(name=account.name, source=account.source))
        try:
            people = await asyncio.get_running_loop().run_in_executor(self._executors.puller, people_of, self._settings)
        except (SettingsError, OSError) as error:
            self._problem(state, "people", str(error))
            return
        self._problem(state, "people", None)
        for name, report in reports_of(account).items():
            try:
                await self._pull_report(account, name, report, people, state)
            except PullFault as fault:
                state.refused[fault.reason] += 1
                self._problem(state, name, str(fault))
            else:
                self._problem(state, name, None)
        if not state.problems:
            state.success_at_ms = self._clock.now_ms()

    def _problem(self, state: PullState, report: str, problem: str | None) -> None:
        """Logged once per change."""
        before = state.problems.pop(report, None)
        if problem is not None:
            state.problems[report] = problem
        if problem != before:
            if problem is None:
                log.info("spend of %s, %s: works again", state.name, report)
            else:
                log.error("spend of %s, %s: %s", state.name, report, problem)

    async def _pull_report(
        self, account: PullAccount, name: str, report: VendorReport, people: People, state: PullState
    ) -> None:
        """Raises the last `PullFault`. Days of other spans are pulled all the same where only an answer was wrong."""
        today = day_of(self._clock.now_ms())
        stored = await self._stored_days(account, report)
        kept_days = min(self._settings.hours_keep_days - 1, report.keeps_days or self._settings.hours_keep_days)
        wanted, pulled = days_wanted(today, account.start, kept_days, stored), self._pulled[account.name, name]
        state.missing[name] = days_missing(wanted, stored | pulled)
        due = days_due(wanted, stored | pulled, today)
        failure: PullFault | None = None
        for span in spans(due, report.days_max):
            try:
                await self._pull_span(account, report, span, people, state, pulled)
            except PullFault as fault:
                failure = _of_answer(fault)
                if span[0] != span[1]:
                    failure = await self._pull_alone(account, report, span, people, state, pulled)
            finally:
                state.missing[name] = days_missing(wanted, stored | pulled)
        if failure is not None:
            raise failure

    async def _pull_alone(
        self,
        account: PullAccount,
        report: VendorReport,
        span: tuple[date, date],
        people: People,
        state: PullState,
        pulled: set[date],
    ) -> PullFault | None:
        """A span that cannot be used, day by day, so that one day does not cost the others."""
        days = [date.fromordinal(number) for number in range(span[0].toordinal(), span[1].toordinal() + 1)]
        failures: list[PullFault] = []
        for day in reversed(days):
            try:
                await self._pull_span(account, report, (day, day), people, state, pulled)
            except PullFault as fault:
                failures.append(_of_answer(fault))
                if len(failures) >= ALONE_FAULTS_MAX:
                    break
        return failures[-1] if failures else None

    async def _pull_span(
        self,
        account: PullAccount,
        report: VendorReport,
        span: tuple[date, date],
        people: People,
        state: PullState,
        pulled: set[date],
    ) -> None:
        result = await self._requests.pulled(account, report, span, people)
        loop = asyncio.get_running_loop()
        for day_ms, slices in _by_day(result).items():
            if not self._leads():
                raise PullFault("ledger", "another collector leads now")
            await loop.run_in_executor(self._executors.writer, self._replace, slices)
            pulled.add(day_of(day_ms))
        state.rows += result.rows
        if result.refused:
            state.refused["rows"] += result.refused
            log.warning("spend of %s, %s: %d rows of %s..%s cannot be used: %s", account.name, report.grain,
                        result.refused, *span, "; ".join(result.refusals))  # fmt: skip

    # --- the ledger ----------------------------------------------------------------------------------------------

    async def _stored_days(self, account: PullAccount, report: VendorReport) -> set[date]:
        source = load_vendor(account.source).source
        keys = await asyncio.get_running_loop().run_in_executor(
            self._executors.queries, self._ledger.spend_days_of, source, account.slice_account, report.grain
        )
        return set(map(day_of, keys))

    def _replace(self, slices: Sequence[SpendSlice]) -> None:
        """Of one day, in one transaction."""
        day_ms = slices[0].key.day_ms
        try:
            stored = self._ledger.spend(day_ms, day_ms + MS_PER_DAY)
            for what, found, expected in spend_size_faults(stored, slices):
                raise PullFault("ledger", f"{what}: expected {expected}, found {found}")
            if to_write := slice_changes(stored, slices).to_write:
                self._ledger.replace_spend(to_write, self._clock.now_ms())
        except LedgerError as error:
            raise PullFault("ledger", str(error)) from None


def _of_answer(fault: PullFault) -> PullFault:
    """A fault that other days may not have; raises one that they have, too."""
    if fault.reason not in ("answer", "rows"):
        raise fault
    return fault


def _by_day(result: Pulled) -> Mapping[int, list[SpendSlice]]:
    ordered = sorted(result.slices, key=lambda one: one.key.day_ms)
    return {day_ms: list(own) for day_ms, own in groupby(ordered, lambda one: one.key.day_ms)}
