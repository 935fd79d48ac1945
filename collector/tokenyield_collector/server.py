"""The collector at work: the ledger's thread, the refresh loop and the HTTP server in one task group.

In: settings. Out: a running server until cancelled. Handlers only translate; what they answer is computed elsewhere.
"""

import asyncio
import contextlib
import gc
import logging
import signal
import ssl
import time
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from tokenyield_collector.attribution import Attribution
from tokenyield_collector.book_files import changed_at, load_books
from tokenyield_collector.books import Books, Stretch, hours_between, keep_books
from tokenyield_collector.config import Settings
from tokenyield_collector.counters import Counters
from tokenyield_collector.ledger.duckdb import DuckDbLedger
from tokenyield_collector.ledger.ledger import Ledger, LedgerError
from tokenyield_collector.metrics import Exposition, Ingest, View
from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.problems import problem
from tokenyield_collector.receive import Committer, Receiver
from tokenyield_collector.reports.api import ROLL_HOURS_AT_ONCE, ReportApi
from tokenyield_collector.summary import encode, summarize
from tokenyield_settings.loader import SettingsError
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR, NS_PER_MS, hour_of_ms

log = logging.getLogger(__name__)

SUMMARY_WINDOW_S_MAX = 86_400
SHUTDOWN_S = 10.0
RETIRE_EVERY_S = 3600.0
HOURS_READ_AT_ONCE = 6
"""Hours of facts in memory at once while counters are brought up to date, at the start all of them."""
GC_THRESHOLDS = (100_000, 20, 100)
"""Requests in flight are many and live for a commit interval, so the default of 700 walks them over and over: a sixth
of the collector's time at 2,000 batches a second (bench/ingest.py)."""


def _now_ms() -> int:
    return time.time_ns() // NS_PER_MS


def live_stretch(now_ms: int, window_s: int, settings: Settings) -> tuple[int, int]:
    """[start, end) of the newest stretch of `window_s` of which all windows should have arrived."""
    end_ms = now_ms - settings.live_lag_s * 1000
    end_ms -= end_ms % (settings.live_grid_s * 1000)
    return end_ms - window_s * 1000, end_ms


class Collector:
    """Everything behind the HTTP handlers."""

    def __init__(
        self, settings: Settings, ledger: Ledger, prices: PriceBook, attribution: Attribution | None = None
    ) -> None:
        self.settings = settings
        self.prices = prices
        self.attribution = attribution or Attribution()
        self.books_are_fresh = True
        self._read_at = changed_at(settings)
        self.ingest = Ingest()
        self._ledger = ledger
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self.committer = Committer(ledger, self._writer, settings, self.ingest)
        self.receiver = Receiver(settings, self.committer, self.ingest)
        self.reports = ReportApi(settings, ledger, self._writer, lambda: (self.prices, self.attribution))
        self._counters = Counters(prices, bases=ledger.counter_bases(), floors=ledger.counter_floors())
        self._all_hours_read = False
        self.view: View | None = None
        self.problem: str | None = "the first refresh has not finished"
        registry = CollectorRegistry()
        registry.register(Exposition(lambda: self.view or View(), self.ingest, settings.metrics_workloads_max))
        self.registry = registry

    # --- the refresh loop ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Refresh and retire until cancelled."""
        loop = asyncio.get_running_loop()
        retire_at_s = loop.time() + RETIRE_EVERY_S
        while True:
            self.reload()
            try:
                changed = await loop.run_in_executor(self._writer, self._ledger.fold)
                self.view = await loop.run_in_executor(self._reader, self._refresh, changed, _now_ms())
                floors = self._counters.floors()
                await loop.run_in_executor(self._writer, self._ledger.set_counter_floors, floors)
                closed_ms = _now_ms() - MS_PER_HOUR - self.settings.live_lag_s * 1000
                await loop.run_in_executor(self._writer, self._ledger.roll, closed_ms, ROLL_HOURS_AT_ONCE)
                if loop.time() >= retire_at_s:
                    retire_at_s = loop.time() + RETIRE_EVERY_S
                    await loop.run_in_executor(self._writer, self._retire, _now_ms())
                self.problem = None
            except LedgerError as error:
                if self.problem != str(error):
                    log.error("%s", error)
                self.problem = str(error)
            await asyncio.sleep(self.settings.refresh_interval_s)

    def reload(self) -> None:
        """Take up a changed price book and changed rules; those that cannot be used are refused, the old ones stay."""
        seen = changed_at(self.settings)
        if seen == self._read_at:
            return
        self._read_at = seen
        try:
            prices, attribution = load_books(self.settings)
        except SettingsError as error:
            self.books_are_fresh = False
            for fault in error.faults:
                log.error("not taken up, the prices and rules before it stay: %s", fault)
            return
        self.books_are_fresh = True
        self.attribution = attribution
        if prices.fingerprint != self.prices.fingerprint:
            # Cost counters start again from the repriced value, see counters.py.
            self.prices = prices
            self._counters = Counters(prices, bases=self._ledger.counter_bases(), floors={})
            self._all_hours_read = False
        log.info("prices and rules taken up, price book %s, %d pools", prices.fingerprint, len(prices.pools))

    def _refresh(self, changed: list[int], now_ms: int) -> View:
        """In the reading thread, so that commits go on meanwhile."""
        as_of_ms = now_ms - self.settings.live_lag_s * 1000
        first_ms, by_node = self._ledger.first_ms(), self.prices.tells_nodes_apart
        wanted = set(self._counters.hours_wanted(changed, first_ms, as_of_ms))
        if not self._all_hours_read and first_ms is not None:
            wanted.update(range(hour_of_ms(first_ms), now_ms + self.settings.clock_skew_max_s * 1000, MS_PER_HOUR))
            self._all_hours_read = True
        hours = sorted(wanted)
        for k in range(0, len(hours), HOURS_READ_AT_ONCE):
            some = hours[k : k + HOURS_READ_AT_ONCE]
            self._counters.update(some, self._ledger.facts_of_hours(some, by_node=by_node), first_ms, as_of_ms)
        counters = self._counters.values()
        start_ms, end_ms = live_stretch(now_ms, self.settings.live_window_s, self.settings)
        start_ms = max(start_ms, first_ms or start_ms)
        live = None
        if first_ms is not None and end_ms > start_ms:
            live = self._books(start_ms, end_ms)
        return View(
            counters=counters,
            workloads=self._counters.workloads(),
            live=live,
            currency=self.prices.currency,
            as_of_ms=end_ms,
            ledger_bytes=self._ledger.size_bytes(),
            books_are_fresh=self.books_are_fresh,
        )

    def _retire(self, now_ms: int) -> None:
        hours_before_ms = now_ms - self.settings.hours_keep_days * MS_PER_DAY
        hours_before_ms -= hours_before_ms % MS_PER_HOUR
        self._ledger.retire(
            windows_before_ms=now_ms - self.settings.windows_keep_days * MS_PER_DAY,
            hours_before_ms=hours_before_ms,
            counter_bases=self._counters.retire(hours_before_ms),
        )

    # --- handlers ------------------------------------------------------------------------------------------------

    async def metrics(self, request: web.Request) -> web.Response:
        encode_metrics, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode_metrics(self.registry), headers={"Content-Type": content_type})

    async def summary(self, request: web.Request) -> web.Response:
        text = request.query.get("window_s", str(self.settings.live_window_s))
        if not text.isdigit() or not 1 <= int(text) <= SUMMARY_WINDOW_S_MAX:
            return problem(400, f"window_s: '{text[:40]}' wants a whole number from 1 to {SUMMARY_WINDOW_S_MAX}")
        document = await asyncio.get_running_loop().run_in_executor(self._reader, self._summarize, int(text))
        return web.Response(body=encode(document), content_type="application/json")

    def _summarize(self, window_s: int) -> dict[str, object]:
        start_ms, end_ms = live_stretch(_now_ms(), window_s, self.settings)
        start_ms = min(max(start_ms, self._ledger.first_ms() or start_ms), end_ms)
        facts = self._ledger.facts_between(start_ms, end_ms, by_node=self.prices.tells_nodes_apart)
        return summarize(facts, self._books(start_ms, end_ms), self.prices)

    def _books(self, start_ms: int, end_ms: int) -> Books:
        """A stretch, priced hour by hour."""
        by_node = self.prices.tells_nodes_apart
        stretches = [
            Stretch(self._ledger.facts_between(start, end, by_node=by_node), start, end - start)
            for start, end in hours_between(start_ms, end_ms)
        ]
        return keep_books(stretches, self.prices)

    async def healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(self, request: web.Request) -> web.Response:
        if self.problem:
            return web.Response(status=503, text=f"{self.problem}\n")
        return web.Response(text="ok\n")

    def close(self) -> None:
        """Fold what came last, so that who reads the file next sees whole hours."""
        self.reports.close()  # before the writer, whom it may wait for
        self._writer.submit(self._ledger.fold)
        self._writer.shutdown()
        self._reader.shutdown()
        self._ledger.close()


@web.middleware
async def _problems(request: web.Request, handler):  # type: ignore[no-untyped-def]
    """Turn what aiohttp answers by itself (404, 405) into problems too."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return problem(error.status, f"{request.method} {request.path[:200]}", headers=headers)


def application(collector: Collector) -> web.Application:
    app = web.Application(client_max_size=collector.settings.body_bytes_max, middlewares=[_problems])
    app.router.add_post("/v1/batches", collector.receiver.handle)
    app.router.add_get("/v1/summary", collector.summary)
    app.router.add_get("/v1/report", collector.reports.report)
    app.router.add_get("/v1/budgets", collector.reports.budgets)
    app.router.add_get("/v1/rates", collector.reports.rates)
    app.router.add_get("/metrics", collector.metrics)
    app.router.add_get("/healthz", collector.healthz)
    app.router.add_get("/readyz", collector.readyz)
    return app


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises `SettingsError`, `LedgerError` or OSError (address in use)."""
    prices, attribution = load_books(settings)
    ledger = DuckDbLedger(settings.ledger_path, memory_limit=settings.ledger_memory)
    collector = Collector(settings, ledger, prices, attribution)
    # Bodies are decompressed by receive.py, which bounds them.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    runner = web.AppRunner(application(collector), access_log=None, auto_decompress=False)
    await runner.setup()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, collector.reload)
    try:
        host, port = settings.address
        site = web.TCPSite(runner, host, port, ssl_context=_tls(settings), shutdown_timeout=SHUTDOWN_S)
        await site.start()
        log.info(
            "collector listens on %s, ledger %s, %d pools", settings.listen, settings.ledger_path, len(prices.pools)
        )
        async with asyncio.TaskGroup() as tasks:
            working = [tasks.create_task(collector.committer.run()), tasks.create_task(collector.run())]
            await stop.wait()
            await runner.cleanup()  # answers what was taken in, which needs the committer
            for task in working:
                task.cancel()
    finally:
        with contextlib.suppress(Exception):
            await runner.cleanup()
        collector.close()
        log.info("collector stopped")


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if not settings.tls_cert_file:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
    return context
