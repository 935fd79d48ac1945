"""Reports over HTTP: `GET /v1/report`, `/v1/budgets`, `/v1/rates`.

One report is made at a time, in a thread of its own; what has to be written into the ledger for it is done by the
writing thread, in short turns, so that batches are committed meanwhile.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web

from tokenyield_collector.access.audit import Audit
from tokenyield_collector.access.auth import caller_of, peer_of
from tokenyield_collector.api.pipe import Pipe
from tokenyield_collector.config import Settings
from tokenyield_collector.errors import CollectorError, LedgerError, ParameterError
from tokenyield_collector.http.problem import problem, problem_of
from tokenyield_collector.ledger.base import Ledger, StatementRecord
from tokenyield_collector.ledger.usage import UsageReader
from tokenyield_collector.live.summary import encode
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.rate_card import rate_document
from tokenyield_collector.reports.focus import TextWriter
from tokenyield_collector.reports.maker import MEDIA_TYPES, ReportMaker, budget_document
from tokenyield_collector.statements.source import CostSource
from tokenyield_wire.units import NS_PER_MS

log = logging.getLogger(__name__)

TOP_DIGITS_MAX = 9
WAITING_MAX = 8
"""Reports made or waiting at once."""
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
    """The handlers. `policy` gives the policy of the moment."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        writer: ThreadPoolExecutor,
        policy: Callable[[], Policy],
        audit: Audit,
        others: Sequence[CostSource] = (),
    ) -> None:
        self._settle_ms = settings.live_lag_s * 1000
        self._audit = audit
        self._waiting = 0
        self._others = others
        self._ledger = ReadingSide(ledger, writer)
        self._policy = policy
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reporter")

    async def report(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/report?period=2026-10&by=team,model&format=json&top=20`; others are columns: `team=ads`."""
        form, by = request.query.get("format", "json"), request.query.get("by", "")
        if form not in MEDIA_TYPES:
            raise ParameterError("format", expected=f"one of {', '.join(MEDIA_TYPES)}", found=f"'{form[:40]}'")
        if "period" not in request.query:
            raise ParameterError("period", expected="a period", found="nothing", fix="write period=2026-10")
        period, columns = request.query["period"], [name.strip() for name in by.split(",") if name.strip()]
        where = {name: value for name, value in request.query.items() if name not in ("period", "by", "format", "top")}
        top = request.query.get("top")
        if top is not None and not (top.isdigit() and len(top) < TOP_DIGITS_MAX):
            raise ParameterError("top", expected="a whole number of rows", found=f"'{top[:40]}'")
        rows = None if top is None else int(top)
        if form == "focus" and not where:
            return await self._streamed(request, lambda out: self._maker().focus(period, out))
        return await self._made(
            request, lambda: self._maker().encode(period, columns, form, where, rows), MEDIA_TYPES[form]
        )

    async def budgets(self, request: web.Request) -> web.Response:
        """`GET /v1/budgets?month=2026-10`"""

        def make() -> bytes:
            maker = self._maker()
            return encode(budget_document(maker.budgets(request.query.get("month")), maker.policy.prices.currency))

        return await self._made(request, make, MEDIA_TYPES["json"])

    async def rates(self, request: web.Request) -> web.Response:
        """`GET /v1/rates`: what a GPU-hour of each pool costs now."""

        def make() -> bytes:
            return encode(rate_document(self._policy().prices, _now_ms()))

        return await self._made(request, make, MEDIA_TYPES["json"])

    async def _made(self, request: web.Request, make: Callable[[], bytes], media_type: str) -> web.Response:
        if self._waiting >= WAITING_MAX:
            return problem(503, "too many reports wait already; ask again later", headers={"Retry-After": "10"})
        self._taken_out(request)
        self._waiting += 1
        try:
            body = await asyncio.get_running_loop().run_in_executor(self._thread, make)
        finally:
            self._waiting -= 1
        return web.Response(body=body, content_type=media_type)

    def _taken_out(self, request: web.Request) -> None:
        if request.path != "/v1/rates":
            columns = ",".join(sorted(request.query))  # names of parameters only: values may name people
            what = f"period={request.query.get('period', '')[:40]} parameters={columns[:100]}"
            self._audit.read(peer=peer_of(request), caller=caller_of(request).name, route=request.path, what=what)

    async def _streamed(self, request: web.Request, make: Callable[[TextWriter], object]) -> web.StreamResponse:
        """What `make` writes, as it does: of a big file only some chunks are in memory."""
        if self._waiting >= WAITING_MAX:
            return problem(503, "too many reports wait already; ask again later", headers={"Retry-After": "10"})
        self._taken_out(request)
        self._waiting += 1
        pipe = Pipe(asyncio.get_running_loop())
        done = asyncio.get_running_loop().run_in_executor(self._thread, pipe.fill, make)
        try:
            chunk = await pipe.next()
            if isinstance(chunk, Exception):
                return problem_of(chunk if isinstance(chunk, CollectorError) else LedgerError(str(chunk)))
            response = web.StreamResponse(headers={"Content-Type": MEDIA_TYPES["focus"]})
            await response.prepare(request)
            while chunk is not None:
                if isinstance(chunk, Exception):
                    log.error("a report ended early: %s", chunk)
                    assert request.transport is not None
                    request.transport.abort()  # so that nobody takes what came for the whole
                    break
                await response.write(chunk)
                chunk = await pipe.next()
        finally:
            await pipe.aclose()
            await done
            self._waiting -= 1
        return response

    def _maker(self) -> ReportMaker:
        return ReportMaker(
            ledger=self._ledger,
            policy=self._policy(),
            others=self._others,
            now_ms=_now_ms(),
            settle_ms=self._settle_ms,
        )

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)


def _now_ms() -> int:
    return time.time_ns() // NS_PER_MS
