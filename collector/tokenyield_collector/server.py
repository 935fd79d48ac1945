"""The running collector: its parts, wired; the refresh loop, the commits and the HTTP server in one task group.

In: settings. Out: a server until a signal ends it.
"""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

from aiohttp import web

from tokenyield_collector.access.audit import Audit, UnreadableRequests
from tokenyield_collector.access.auth import Authenticator
from tokenyield_collector.access.connections import Connections, Listener
from tokenyield_collector.api.registry import bound_routes
from tokenyield_collector.api.report_queue import ROLL_HOURS_AT_ONCE, ReportQueue
from tokenyield_collector.api.services import Services
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.executors import Executors
from tokenyield_collector.http.problem import errors_as_problems
from tokenyield_collector.http.right import Right
from tokenyield_collector.http.route import Route
from tokenyield_collector.ingest.committer import Committer
from tokenyield_collector.ingest.observed import ObservedIntake
from tokenyield_collector.ingest.stats import IngestStats
from tokenyield_collector.insight.forecast import month_ends
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.ledger_engine import open_ledger
from tokenyield_collector.live.refresher import Refresher
from tokenyield_collector.live.view import View
from tokenyield_collector.policy import Policy, files_changed_at, load_policy
from tokenyield_collector.pull.puller import Puller
from tokenyield_collector.reports.version_check import check_again
from tokenyield_collector.spend.otlp.document import OTLP_PREFIX
from tokenyield_collector.statements.bought import BoughtCosts
from tokenyield_collector.statements.source import OtherCosts
from tokenyield_collector.steps import Steps, lasting
from tokenyield_collector.watch.watcher import FolderWatcher
from tokenyield_settings.loader import SettingsError
from tokenyield_settings.notify import ALIVE, READY, STOPPING, notify, watchdog_s
from tokenyield_wire.units import MS_PER_HOUR, NS_PER_MS

log = logging.getLogger(__name__)

SHUTDOWN_S = 10.0
KEEPALIVE_S = 75.0
"""How long a connection may bring no whole request head; agents send every 15 s."""
RETIRE_EVERY_S, RETIRE_AGAIN_S = 3600.0, 300.0
CLOSE_EVERY_S = 60.0
"""Between two looks at which months are to be closed, or changed; where nothing is, one takes some milliseconds."""
REST_AFTER_REFRESH = 4
"""Times as long as a refresh took, so that it has a fifth of the time at most: of 100,000 GPUs with 30,000 workloads
one takes 2 s of a core, and batches come meanwhile."""
REST_AFTER_ADDING_UP = 19
"""Times as long as the slices of the points of a day took, which others wait for."""
SWITCH_INTERVAL_S = 0.0005
"""How long a thread that computes keeps others waiting for the interpreter. The event loop asks for it many times a
request; at Python's 5 ms a refresh let it have 200 turns a second, and receipts of a big fleet took seconds."""
GC_THRESHOLDS = (100_000, 20, 100)
"""Requests in flight are many and live for a commit interval, so the default of 700 walks them over and over: a sixth
of the collector's time at 2,000 batches a second (bench/ingest.py)."""


_DONE = object()


def _now_ms() -> int:
    return time.time_ns() // NS_PER_MS


class Collector:
    """The parts of a running collector, wired; and the refresh loop."""

    def __init__(
        self, settings: CollectorSettings, ledger: Ledger, policy: Policy, others: Sequence[OtherCosts] = ()
    ) -> None:
        self.settings = settings
        self.executors = Executors()
        of_days = (*others, BoughtCosts(ledger))
        self.refresher = Refresher(settings, ledger, policy, others, of_days, month_ends)
        self.view: View | None = None
        self.policy_is_fresh = True
        self.audit = Audit()
        ingest = IngestStats()
        self.committer = Committer(ledger, self.executors.writer, settings, ingest)
        self.observed = ObservedIntake(settings, ledger, self.executors.writer, ingest)
        self.authenticator = Authenticator(settings, self.audit, ingest.refused)
        self.authenticator.credentials.prepare()
        self.services = Services(
            settings=settings,
            ledger=ledger,
            executors=self.executors,
            committer=self.committer,
            ingest=ingest,
            observed=self.observed,
            reports=ReportQueue(settings, ledger, self.executors, self._policy, of_days),
            audit=self.audit,
            credentials=self.authenticator.credentials,
            policy=self._policy,
            view=lambda: self.view,
            problem=lambda: self.problem,
            requires_authentication=lambda: self.authenticator.credentials.are_required,
            others=others,
            pulls=lambda: self.puller.states,
            watched=lambda: self.watcher.states,
        )
        self.puller = Puller(settings, ledger, self.executors, lambda: self.view is not None and self._leads)
        self.watcher = FolderWatcher(
            settings, ledger, self.executors, lambda: self.view is not None and self._leads, _now_ms
        )
        self._ledger = ledger
        self._files_changed_at = files_changed_at(settings)
        self._changed: set[int] = set()
        """Hours (start, ms) that changed and are not shown yet."""
        self._retire_at_s = 0.0
        self._of_ledger = asyncio.Lock()
        """Held by the refresh, and by retention, which changes what the refresh reads."""
        self._leads = True
        self._steps = Steps(("refresh",))
        self._upkeep = Steps()
        """Steps without which what is shown is still true: they do not make the collector unready, for then a balancer
        would take it from its agents."""

    def _policy(self) -> Policy:
        return self.refresher.policy

    # --- the refresh loop ----------------------------------------------------------------------------------------

    @property
    def problem(self) -> str | None:
        """What does not work at present; None where all does."""
        return "; ".join(filter(None, (self._steps.problem, self.committer.problem))) or None

    async def run(self) -> None:
        """Refresh and retire until cancelled. A step that fails is tried again in the next round."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(lasting(self._run_past))
            while True:
                started_s = loop.time()
                await self._upkeep.attempt("reading changed prices and rules", self._reload)
                await self._upkeep.attempt("reading changed tokens and certificates", self._reread)
                async with self._of_ledger:
                    await self._steps.attempt("refresh", self._refresh_view)
                took_s = loop.time() - started_s
                await asyncio.sleep(max(self.settings.refresh_interval_s, took_s * REST_AFTER_REFRESH))

    async def _run_past(self) -> None:
        """What is computed of the past beside the refresh, and retention, one after the other."""
        loop = asyncio.get_running_loop()
        self._retire_at_s = loop.time() + RETIRE_EVERY_S
        while True:
            if self.view is not None:
                await self._steps.attempt("bringing figures to date", self._bring_to_date)
                await self._steps.attempt("counting old hours", self._count)
                await self._upkeep.attempt("forecasting the month", self._forecast)
                if self._leads and loop.time() >= self._retire_at_s:
                    async with self._of_ledger:
                        is_done = await self._upkeep.attempt("removing old data", self._retire)
                    self._retire_at_s = loop.time() + (RETIRE_EVERY_S if is_done else RETIRE_AGAIN_S)
            await asyncio.sleep(self.settings.refresh_interval_s)

    async def _reload(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self.executors.reader, self.reload)

    async def _reread(self) -> None:
        self.authenticator.reread()

    async def _refresh_view(self) -> None:
        loop = asyncio.get_running_loop()
        self._leads = await loop.run_in_executor(self.executors.writer, self._ledger.leads)
        self._changed.update(await loop.run_in_executor(self.executors.writer, self._ledger.fold))
        changed = sorted(self._changed)
        view = await loop.run_in_executor(self.executors.reader, self._refresh, changed, self._leads)
        if self._leads:
            await loop.run_in_executor(self.executors.writer, self.refresher.keep)
        self.view = view
        self._changed.difference_update(changed)  # not before: what could not be shown is read again
        for call in self.services.after_refresh:
            call()

    async def close_months(self) -> None:
        """Close months, until cancelled, once there is something to show."""
        steps = Steps()
        while True:
            if self.view is not None and self._leads:
                await steps.attempt("closing months", self._close_months)
            await asyncio.sleep(CLOSE_EVERY_S if self.view is not None else self.settings.refresh_interval_s)

    async def _close_months(self) -> None:
        """A day at a time, so that reports have their turn between them; under one policy, or not at all."""
        loop, closing = asyncio.get_running_loop(), self.services.reports.closing(socket.gethostname())
        days = chain(closing.steps(), check_again(closing.ledger, closing.now_ms, closing.others))
        while closing.policy is self._policy() and await loop.run_in_executor(self.executors.reporter, _advance, days):
            pass

    async def add_up_observed(self) -> None:
        """Make slices of days whose points changed, until cancelled."""
        steps, loop = Steps(), asyncio.get_running_loop()
        while True:
            started_s = loop.time()
            if self._leads:
                await steps.attempt("adding up what OpenTelemetry brought", self.observed.add_up)
            took_s = loop.time() - started_s
            await asyncio.sleep(max(self.settings.refresh_interval_s, took_s * REST_AFTER_ADDING_UP))

    async def _retire(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self.executors.writer, self.refresher.retire, _now_ms())

    async def _bring_to_date(self) -> None:
        """Roll up hours that have closed, some at a time, and bring up to date what is reported of them, a month at a
        time."""
        loop, leads = asyncio.get_running_loop(), self._leads
        if not self.refresher.is_due(_now_ms()):
            return
        closed_ms = _now_ms() - MS_PER_HOUR - self.settings.live_lag_s * 1000
        writer, historian = self.executors.writer, self.executors.historian
        if leads and await loop.run_in_executor(writer, self._ledger.roll, closed_ms, ROLL_HOURS_AT_ONCE):
            return  # hours are left for the next round
        months = self.refresher.steps_to_date(_now_ms())
        is_left = True
        while is_left:
            is_left = await loop.run_in_executor(historian, _advance, months)
            if leads:
                await loop.run_in_executor(writer, self.refresher.keep_to_date)
        before_ms: int | None = closed_ms
        while self._leads and before_ms is not None:  # batches have their turn between two days
            before_ms = await loop.run_in_executor(writer, self._ledger.roll_day, before_ms)

    async def _forecast(self) -> None:
        await asyncio.get_running_loop().run_in_executor(
            self.executors.historian, self.refresher.forecast_month, _now_ms()
        )

    async def _count(self) -> None:
        """A day of the hours that one refresh cannot count, at the first start after an upgrade."""
        await asyncio.get_running_loop().run_in_executor(self.executors.historian, self.refresher.count_some)

    def _refresh(self, changed: list[int], leads: bool) -> View:
        """In the reader's thread, so that commits go on meanwhile."""
        last_seen = dict(self.committer.last_seen)
        if self._ledger.is_shared:
            for node, end_ms in self._ledger.last_seen().items():
                last_seen[node] = max(end_ms, last_seen.get(node, 0))
        view = self.refresher.refresh(changed, _now_ms(), last_seen, leads)
        return replace(view, policy_is_fresh=self.policy_is_fresh, shows_fleet=leads)

    def reload(self) -> None:
        """Take up changed prices and rules. Files with faults are refused, and the policy before them stays."""
        changed_at = files_changed_at(self.settings)
        if changed_at == self._files_changed_at:
            return
        self.policy_is_fresh = False
        try:
            policy = load_policy(self.settings)
        except SettingsError as error:
            self._files_changed_at = changed_at
            for fault in error.faults:
                log.error("not taken up, the prices and rules before it stay: %s", fault)
            return
        if not policy.same_as(self._policy()):
            self.refresher.set_policy(policy)
        self._files_changed_at, self.policy_is_fresh = changed_at, True
        prices = policy.prices
        self.audit.changed("prices and rules", price_book=prices.fingerprint, pools=len(prices.pools))
        log.info("prices and rules taken up, price book %s, %d pools", prices.fingerprint, len(prices.pools))

    # --- the end -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Fold what came last, so that the next reader of the file sees whole hours."""
        self.executors.close(self._close_ledger)
        self.authenticator.close()
        self._ledger.close()

    def _close_ledger(self) -> None:
        self._ledger.fold()
        if self._leads:
            self.observed.add_up_now()
            self.refresher.close()


def application(collector: Collector) -> web.Application:
    """Every route of api/, behind authentication."""
    routes: dict[str, Route] = {}
    middlewares = [collector.authenticator.middleware(routes), errors_as_problems]
    app = web.Application(client_max_size=collector.settings.body_bytes_max, middlewares=middlewares)
    app.on_response_prepare.append(collector.authenticator.set_headers)
    for route, handler in bound_routes(collector.services):
        add = app.router.add_get if route.method == "GET" else partial(app.router.add_route, route.method)
        path = route.path
        if route.right == Right.OTLP:
            path = collector.settings.otlp_prefix + path.removeprefix(OTLP_PREFIX)
        resource = add(path, handler).resource
        assert resource is not None
        routes[resource.canonical] = route
    return app


async def serve(settings: CollectorSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises `SettingsError`, `LedgerError` or OSError (address in use)."""
    policy = load_policy(settings)
    ledger = open_ledger(settings)
    collector = Collector(settings, ledger, policy)
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    runner = web.AppRunner(
        application(collector),
        access_log=None,
        auto_decompress=False,  # ingest/decompress.py does it, within a bound
        keepalive_timeout=KEEPALIVE_S,
        shutdown_timeout=SHUTDOWN_S,
    )
    await runner.setup()
    logging.getLogger("aiohttp.server").addFilter(UnreadableRequests(collector.audit))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # Changed files are taken up without it; SIGHUP, sent out of habit, must not end the collector.
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: None)
    try:
        assert runner.server is not None
        connections = Connections(
            runner.server,
            collector.services.ingest.refused,
            connections_max=settings.connections_max,
            address_max=settings.connections_per_address_max,
            unread_s=settings.body_wait_s,
        )
        listener = Listener(connections, settings.address)
        collector.authenticator.context_changed = listener.use
        await listener.start(collector.authenticator.credentials.web.context)
        where = settings.ledger_url or settings.ledger_path
        log.info("collector listens on %s, ledger %s, %d pools", settings.listen, where, len(policy.prices.pools))
        async with asyncio.TaskGroup() as tasks:
            loops = (
                collector.committer.run,
                collector.run,
                collector.close_months,
                collector.add_up_observed,
                collector.puller.run,
                collector.watcher.run,
                _report_alive,
            )
            running = [tasks.create_task(lasting(loop)) for loop in loops]
            notify(READY)
            await stop.wait()
            notify(STOPPING)
            listener.close()
            await runner.cleanup()  # answers the requests that are under way, which needs the committer
            for task in running:
                task.cancel()
    finally:
        with contextlib.suppress(Exception):
            await runner.cleanup()
        collector.close()
        log.info("collector stopped")


def _advance(steps: Iterator[None]) -> bool:
    """Whether there was a step."""
    return next(steps, _DONE) is not _DONE


async def _report_alive() -> None:
    """Report to systemd's watchdog that the event loop turns."""
    while (every_s := watchdog_s()) is not None:
        notify(ALIVE)
        await asyncio.sleep(every_s)
