"""Reports over HTTP: `GET /v1/report`, `/v1/budgets`, `/v1/rates`, for who carries a token of `token_file`, where set.

One report is made at a time, in a thread of its own; what has to be written into the ledger for it is done by the
writing thread, in short turns, so that batches are committed meanwhile.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from aiohttp import hdrs, web

from tokenyield_collector.attribution import Attribution
from tokenyield_collector.bearer import Tokens
from tokenyield_collector.config import Settings
from tokenyield_collector.ledger.ledger import Ledger, LedgerError, StatementRecord
from tokenyield_collector.ledger.usage import UsageReader
from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.problems import problem
from tokenyield_collector.rate_card import rate_document
from tokenyield_collector.reports.make import DEFAULT_BY, MEDIA_TYPES, ReportMaker, budget_document
from tokenyield_collector.reports.report import ReportError
from tokenyield_collector.summary import encode
from tokenyield_wire.units import NS_PER_MS

ROLL_HOURS_AT_ONCE = 4
"""Hours rolled up before waiting batches have their turn: at 10,000 GPUs 0.15 s."""


class ReadingSide:
    """A ledger as a reporting thread may use it."""

    def __init__(self, ledger: Ledger, writer: ThreadPoolExecutor) -> None:
        self._ledger = ledger
        self._writer = writer

    def first_ms(self) -> int | None:
        return self._ledger.first_ms()

    def usage(self) -> UsageReader:
        return self._ledger.usage()

    def roll(self) -> None:
        while self._writer.submit(self._ledger.roll, None, ROLL_HOURS_AT_ONCE).result():
            pass

    def statements(self, period: str) -> list[StatementRecord]:
        return self._writer.submit(self._ledger.statements, period).result()

    def add_statement(self, record: StatementRecord) -> None:
        self._writer.submit(self._ledger.add_statement, record).result()


class ReportApi:
    """The handlers. `books` gives the price book and the rules of the moment."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        writer: ThreadPoolExecutor,
        books: Callable[[], tuple[PriceBook, Attribution]],
    ) -> None:
        self._settle_ms = settings.live_lag_s * 1000
        self._tokens = Tokens(settings.token_file)
        self._ledger = ReadingSide(ledger, writer)
        self._books = books
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reporter")

    async def report(self, request: web.Request) -> web.Response:
        """`GET /v1/report?period=2026-10&by=team,model&format=json`"""
        form, by = request.query.get("format", "json"), request.query.get("by", DEFAULT_BY)
        if form not in MEDIA_TYPES:
            return problem(400, f"format: '{form[:40]}' is none of {', '.join(MEDIA_TYPES)}")
        if "period" not in request.query:
            return problem(400, "period: is missing; write period=2026-10")
        columns = [name.strip() for name in by.split(",") if name.strip()]

        def make() -> bytes:
            return self._maker().encode(request.query["period"], columns, form)

        return await self._made(request, make, MEDIA_TYPES[form])

    async def budgets(self, request: web.Request) -> web.Response:
        """`GET /v1/budgets?month=2026-10`"""

        def make() -> bytes:
            maker = self._maker()
            return encode(budget_document(maker.budgets(request.query.get("month")), maker.prices.currency))

        return await self._made(request, make, MEDIA_TYPES["json"])

    async def rates(self, request: web.Request) -> web.Response:
        """`GET /v1/rates`: what a GPU-hour of each pool costs now."""

        def make() -> bytes:
            return encode(rate_document(self._books()[0], _now_ms()))

        return await self._made(request, make, MEDIA_TYPES["json"])

    async def _made(self, request: web.Request, make: Callable[[], bytes], media_type: str) -> web.Response:
        if not self._tokens.accept(request.headers.get(hdrs.AUTHORIZATION), time.monotonic()):
            detail = "send Authorization: Bearer TOKEN with a token from the collector's token_file"
            return problem(401, detail, headers={"WWW-Authenticate": "Bearer"})
        try:
            body = await asyncio.get_running_loop().run_in_executor(self._thread, make)
        except ReportError as error:
            return problem(400, str(error))
        except LedgerError as error:
            return problem(503, str(error), headers={"Retry-After": "5"})
        return web.Response(body=body, content_type=media_type)

    def _maker(self) -> ReportMaker:
        prices, attribution = self._books()
        return ReportMaker(
            ledger=self._ledger,
            prices=prices,
            attribution=attribution,
            now_ms=_now_ms(),
            settle_ms=self._settle_ms,
        )

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)


def _now_ms() -> int:
    return time.time_ns() // NS_PER_MS
