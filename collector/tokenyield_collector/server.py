"""The collector at work: the ledger's thread, the refresh loop and the HTTP server in one task group.

In: settings. Out: a running server until cancelled. Handlers only translate; what they answer is computed elsewhere.
"""

import asyncio
import contextlib
import gc
import logging
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from tokenyield_collector.access.audit import Audit, UnreadableRequests
from tokenyield_collector.access.auth import Authenticator
from tokenyield_collector.access.connections import Connections, Listener
from tokenyield_collector.access.rights import Right
from tokenyield_collector.api.backup import BackupApi
from tokenyield_collector.api.batches import Committer, Receiver
from tokenyield_collector.api.diagnosis import DiagnosisApi
from tokenyield_collector.api.reports import ROLL_HOURS_AT_ONCE, ReportApi
from tokenyield_collector.config import Settings
from tokenyield_collector.errors import ParameterError
from tokenyield_collector.http.problem import errors_as_problems
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.ledger.open import open_ledger
from tokenyield_collector.live.fleet_map import fleet_document
from tokenyield_collector.live.live_view import LiveView, read_live_view
from tokenyield_collector.live.refresher import Refresher, live_stretch
from tokenyield_collector.live.summary import encode, summarize
from tokenyield_collector.live.view import View
from tokenyield_collector.metrics.exposition import Exposition, Ingest, OwnExposition
from tokenyield_collector.policy import Policy, files_changed_at, load_policy
from tokenyield_collector.statements.source import CostSource
from tokenyield_collector.steps import Steps, lasting
from tokenyield_collector.web.page import Page
from tokenyield_settings.loader import SettingsError
from tokenyield_settings.notify import ALIVE, READY, STOPPING, notify, watchdog_s
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR, NS_PER_MS

log = logging.getLogger(__name__)

SUMMARY_WINDOW_S_MAX = 86_400
SHUTDOWN_S = 10.0
KEEPALIVE_S = 75.0
"""How long a connection may bring no whole request head; agents send every 15 s."""
RETIRE_EVERY_S, RETIRE_AGAIN_S = 3600.0, 300.0
OPENMETRICS_END = b"# EOF\n"
REST_AFTER_REFRESH = 4
"""Times as long as a refresh took, so that it has a fifth of the time at most: of 100,000 GPUs with 30,000 workloads
one takes 2 s of a core, and batches come meanwhile."""
SWITCH_INTERVAL_S = 0.0005
"""How long a thread that reckons keeps others waiting for the interpreter. The event loop asks for it many times a
request; at Python's 5 ms a refresh let it have 200 turns a second, and receipts of a big fleet took seconds."""
SCRAPED_LATELY_S = 150.0
"""Two and a half times the longest scrape interval in common use."""
GC_THRESHOLDS = (100_000, 20, 100)
"""Requests in flight are many and live for a commit interval, so the default of 700 walks them over and over: a sixth
of the collector's time at 2,000 batches a second (bench/ingest.py)."""


def _now_ms() -> int:
    return time.time_ns() // NS_PER_MS


@dataclass
class _Exposed:
    """What was last scraped in one content type, of which there are few."""

    encode: Callable[[CollectorRegistry], bytes]
    view: View | None = None
    body: bytes = b""
    scraped_at_s: float = 0.0


class Collector:
    """Everything behind the HTTP handlers."""

    def __init__(self, settings: Settings, ledger: Ledger, policy: Policy, others: Sequence[CostSource] = ()) -> None:
        self.settings = settings
        self.refresher = Refresher(settings, ledger, policy, others)
        self._others = others
        self.policy_is_fresh = True
        self._read_at = files_changed_at(settings)
        self.ingest = Ingest()
        self._ledger = ledger
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self._asker = ThreadPoolExecutor(1, thread_name_prefix="asker")
        self._exposer = ThreadPoolExecutor(1, thread_name_prefix="exposer")
        self.committer = Committer(ledger, self._writer, settings, self.ingest)
        self.receiver = Receiver(settings, self.committer, self.ingest)
        self.audit = Audit()
        self.authenticator = Authenticator(settings, self.audit, self.ingest.refused)
        self._fleet: tuple[int, bytes] = (-1, b"")
        self._summarized: tuple[View | None, bytes] = (None, b"")
        self.reports = ReportApi(settings, ledger, self._writer, self._policy, self.audit, others)
        self.diagnoses = DiagnosisApi(settings, ledger, self._asker, self._policy)
        self.backups = BackupApi(ledger, settings.ledger_path, self.audit)
        self.connections: Connections | None = None
        self.view: View | None = None
        self._changed: set[int] = set()
        """Hours that changed and are not shown yet."""
        self._retire_at_s = 0.0
        self._leads = True
        self._steps = Steps(("refresh",))
        self._upkeep = Steps()
        """Steps without which what is shown is still true: they do not make the collector unready, for then a balancer
        would take it from its agents."""
        self._own = CollectorRegistry()
        self._own.register(OwnExposition(self.ingest))
        ProcessCollector(registry=self._own)
        self._exposed: dict[str, _Exposed] = {}
        """Content type -> what was last made of it."""

    def _policy(self) -> Policy:
        return self.refresher.policy

    # --- the refresh loop ----------------------------------------------------------------------------------------

    @property
    def problem(self) -> str | None:
        """What does not work at present; None where all does."""
        return self._steps.problem

    async def run(self) -> None:
        """Refresh and retire until cancelled. A step that fails is tried again in the next round."""
        loop = asyncio.get_running_loop()
        self._retire_at_s = loop.time() + RETIRE_EVERY_S
        while True:
            started_s = loop.time()
            await self._upkeep.attempt("reading changed prices and rules", self._reload)
            await self._upkeep.attempt("reading changed tokens and certificates", self._reread)
            if await self._steps.attempt("refresh", self._refresh_view):
                await self._steps.attempt("bringing figures to date", self._bring_to_date)
                if self._leads and loop.time() >= self._retire_at_s:
                    is_done = await self._upkeep.attempt("removing old data", self._retire)
                    self._retire_at_s = loop.time() + (RETIRE_EVERY_S if is_done else RETIRE_AGAIN_S)
            took_s = loop.time() - started_s
            await asyncio.sleep(max(self.settings.refresh_interval_s, took_s * REST_AFTER_REFRESH))

    async def _reload(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._reader, self.reload)

    async def _reread(self) -> None:
        self.authenticator.reread()

    async def _refresh_view(self) -> None:
        loop = asyncio.get_running_loop()
        self._leads = await loop.run_in_executor(self._writer, self._ledger.leads)
        self._changed.update(await loop.run_in_executor(self._writer, self._ledger.fold))
        changed = sorted(self._changed)
        self.view = await loop.run_in_executor(self._reader, self._refresh, changed, self._leads)
        self._changed.difference_update(changed)  # not before: what could not be shown is read again
        self._expose_ahead(loop.time())

    async def _retire(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._writer, self.refresher.retire, _now_ms())

    async def _bring_to_date(self) -> None:
        """Roll up hours that have closed, some at a time, and bring up to date what is reported of them."""
        loop, leads = asyncio.get_running_loop(), self._leads
        if not self.refresher.is_due(_now_ms()):
            return
        closed_ms = _now_ms() - MS_PER_HOUR - self.settings.live_lag_s * 1000
        left = leads and await loop.run_in_executor(self._writer, self._ledger.roll, closed_ms, ROLL_HOURS_AT_ONCE)
        if not left:
            await loop.run_in_executor(self._reader, self.refresher.bring_to_date, _now_ms())

    def _refresh(self, changed: list[int], leads: bool) -> View:
        """In the reading thread, so that commits go on meanwhile."""
        seen = dict(self.committer.last_seen)
        if self._ledger.is_shared:
            for node, end_ms in self._ledger.last_seen().items():
                seen[node] = max(end_ms, seen.get(node, 0))
        view = self.refresher.refresh(changed, _now_ms(), seen)
        return replace(view, policy_is_fresh=self.policy_is_fresh, shows_fleet=leads)

    def reload(self) -> None:
        """Take up a changed price book and changed rules; those that cannot be used are refused, the old ones stay."""
        seen = files_changed_at(self.settings)
        if seen == self._read_at:
            return
        self.policy_is_fresh = False
        try:
            policy = load_policy(self.settings)
        except SettingsError as error:
            self._read_at = seen
            for fault in error.faults:
                log.error("not taken up, the prices and rules before it stay: %s", fault)
            return
        if not policy.same_as(self._policy()):
            self.refresher.set_policy(policy)
        self._read_at, self.policy_is_fresh = seen, True
        prices = policy.prices
        self.audit.changed("prices and rules", price_book=prices.fingerprint, pools=len(prices.pools))
        log.info("prices and rules taken up, price book %s, %d pools", prices.fingerprint, len(prices.pools))

    # --- handlers ------------------------------------------------------------------------------------------------

    async def metrics(self, request: web.Request) -> web.Response:
        encode_metrics, content_type = choose_encoder(request.headers.get("Accept", ""))
        loop = asyncio.get_running_loop()
        exposed = self._exposed.setdefault(content_type, _Exposed(encode_metrics))
        exposed.scraped_at_s = loop.time()
        body = await loop.run_in_executor(self._exposer, self._expose, exposed)
        response = web.Response(body=body, headers={"Content-Type": content_type}, zlib_executor=self._exposer)
        response.enable_compression()
        return response

    def _expose(self, exposed: "_Exposed") -> bytes:
        """The view is put into text once, however many scrape it; what the collector counts of itself every time."""
        view = self.view or View()
        if exposed.view is not view:
            registry = CollectorRegistry()
            registry.register(Exposition(view, self.settings.metrics_workloads_max, self.settings.metrics_groups_max))
            exposed.body = exposed.encode(registry).removesuffix(OPENMETRICS_END)
            exposed.view = view
        return exposed.body + exposed.encode(self._own)

    def _expose_ahead(self, now_s: float) -> None:
        """Put a fresh view into text before the next scrape asks for it, for who has scraped lately."""
        for content_type, exposed in list(self._exposed.items()):
            if now_s - exposed.scraped_at_s > SCRAPED_LATELY_S:
                del self._exposed[content_type]
            else:
                self._exposer.submit(self._expose, exposed)

    async def summary(self, request: web.Request) -> web.Response:
        """`GET /v1/summary`: of the live window as it was refreshed last; `?window_s=3600`: of any other, read anew."""
        text, loop = request.query.get("window_s"), asyncio.get_running_loop()
        if text is not None and (not text.isdigit() or not 1 <= int(text) <= SUMMARY_WINDOW_S_MAX):
            expected = f"a whole number from 1 to {SUMMARY_WINDOW_S_MAX}"
            raise ParameterError("window_s", expected=expected, found=f"'{text[:40]}'")
        view = self.view
        if text is None and view is not None and view.live is not None:
            body = await loop.run_in_executor(self._asker, self._live_summary, view, view.live)
        else:
            window_s = self.settings.live_window_s if text is None else int(text)
            body = await loop.run_in_executor(self._asker, self._read_summary, window_s)
        return self._json(body)

    def _live_summary(self, view: View, live: LiveView) -> bytes:
        """Once for each view, however many ask."""
        if self._summarized[0] is not view:
            self._summarized = view, encode(summarize(live, self._policy().prices))
        return self._summarized[1]

    def _read_summary(self, window_s: int) -> bytes:
        start_ms, end_ms = live_stretch(_now_ms(), window_s, self.settings)
        start_ms = min(max(start_ms, self._ledger.first_ms() or start_ms), end_ms)
        policy = self._policy()
        live = read_live_view(self._ledger, policy, start_ms, end_ms, self._others)
        return encode(summarize(live, policy.prices))

    def _json(self, body: bytes) -> web.Response:
        response = web.Response(body=body, content_type="application/json", zlib_executor=self._exposer)
        response.enable_compression()
        return response

    async def fleet(self, request: web.Request) -> web.Response:
        """`GET /v1/fleet`: what every GPU does, over the live window."""
        return self._json(await asyncio.get_running_loop().run_in_executor(self._asker, self._fleet_now))

    def _fleet_now(self) -> bytes:
        """Once for each step of the live window, however many ask."""
        start_ms, end_ms = live_stretch(_now_ms(), self.settings.live_window_s, self.settings)
        if self._fleet[0] != end_ms:
            gpus = self._ledger.gpus_between(start_ms, end_ms, end_ms - MS_PER_DAY)
            self._fleet = end_ms, encode(fleet_document(gpus, start_ms, end_ms))
        return self._fleet[1]

    async def healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(self, request: web.Request) -> web.Response:
        if self.problem:
            # Probes come without a token, and what a database says may hold paths.
            why = "not ready; the log says why" if self.authenticator.credentials.are_required else self.problem
            return web.Response(status=503, text=f"{why}\n")
        return web.Response(text="ok\n")

    def close(self) -> None:
        """Fold what came last, so that who reads the file next sees whole hours."""
        self.reports.close()  # before the writer, whom it may wait for
        self._writer.submit(self._ledger.fold)
        self._writer.shutdown()
        self._reader.shutdown()
        self._asker.shutdown()
        self._exposer.shutdown()
        self.authenticator.close()
        self._ledger.close()


RIGHTS = {
    "/v1/batches": Right.WRITE,
    "/": Right.PAGE,
    "/assets/{name}": Right.PAGE,
    "/healthz": Right.OPEN,
    "/readyz": Right.OPEN,
}
"""What a route requires; all others require reading."""


def application(collector: Collector) -> web.Application:
    middlewares = [collector.authenticator.middleware(RIGHTS), errors_as_problems]
    app = web.Application(client_max_size=collector.settings.body_bytes_max, middlewares=middlewares)
    app.on_response_prepare.append(collector.authenticator.set_headers)
    app.router.add_post("/v1/batches", collector.receiver.handle)
    app.router.add_get("/v1/summary", collector.summary)
    app.router.add_get("/v1/fleet", collector.fleet)
    app.router.add_get("/v1/diagnosis", collector.diagnoses.handle)
    app.router.add_get("/v1/report", collector.reports.report)
    app.router.add_get("/v1/budgets", collector.reports.budgets)
    app.router.add_get("/v1/rates", collector.reports.rates)
    app.router.add_get("/v1/backup", collector.backups.handle)
    app.router.add_get("/metrics", collector.metrics)
    page = Page()
    app.router.add_get("/", page.index)
    app.router.add_get("/assets/{name:.+}", page.asset)
    app.router.add_get("/healthz", collector.healthz)
    app.router.add_get("/readyz", collector.readyz)
    return app


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises `SettingsError`, `LedgerError` or OSError (address in use)."""
    policy = load_policy(settings)
    ledger = open_ledger(settings)
    collector = Collector(settings, ledger, policy)
    # Bodies are decompressed by receive.py, which bounds them.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    runner = web.AppRunner(
        application(collector),
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=KEEPALIVE_S,
        shutdown_timeout=SHUTDOWN_S,
    )
    await runner.setup()
    logging.getLogger("aiohttp.server").addFilter(UnreadableRequests(collector.audit))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # Changed prices and rules are taken up by themselves; who sends SIGHUP out of habit shall not end the collector.
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: None)
    try:
        assert runner.server is not None
        collector.connections = Connections(runner.server, settings.connections_max, settings.body_wait_s)
        listener = Listener(collector.connections, settings.address)
        collector.authenticator.context_changed = listener.use
        await listener.start(collector.authenticator.credentials.web.context)
        where = settings.ledger_url or settings.ledger_path
        log.info("collector listens on %s, ledger %s, %d pools", settings.listen, where, len(policy.prices.pools))
        async with asyncio.TaskGroup() as tasks:
            running = (collector.committer.run, collector.run, _say_alive)
            working = [tasks.create_task(lasting(each)) for each in running]
            notify(READY)
            await stop.wait()
            notify(STOPPING)
            listener.close()
            await runner.cleanup()  # answers what was taken in, which needs the committer
            for task in working:
                task.cancel()
    finally:
        with contextlib.suppress(Exception):
            await runner.cleanup()
        collector.close()
        log.info("collector stopped")


async def _say_alive() -> None:
    """Tells systemd's watchdog that the event loop turns."""
    while (every_s := watchdog_s()) is not None:
        notify(ALIVE)
        await asyncio.sleep(every_s)
