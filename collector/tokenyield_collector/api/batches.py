"""`POST /v1/batches`: bound, decode, check, commit, and only then answer.

In: HTTP requests that passed authentication. Out: 200 with `{"accepted": n, "duplicates": m}` after the batches are
durable, or a problem.
"""

import asyncio
import time
from collections.abc import Callable

from aiohttp import hdrs, web

from tokenyield_collector.access.auth import caller_of
from tokenyield_collector.api.services import Services
from tokenyield_collector.errors import LedgerError, UnstorableShipment
from tokenyield_collector.http.problem import problem
from tokenyield_collector.http.right import Right
from tokenyield_collector.http.route import JSON, BoundRoute, Route
from tokenyield_collector.http.schemas import ReceiptDocument
from tokenyield_collector.ingest.bounds import too_early, too_old
from tokenyield_collector.ingest.committer import CommittedShipment
from tokenyield_collector.ingest.decompress import BodyTooLarge, UnknownEncoding, decompress
from tokenyield_settings.buckets import Buckets
from tokenyield_wire.codec import Refused, decode_shipment
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR, NS_PER_MS
from tokenyield_wire.window import Fault, Shipment

PACE_BURST_S = 60.0
NODES_MAX = 100_000
BATCHES = Route(
    path="/v1/batches",
    method="POST",
    right=Right.WRITE,
    summary="Take in windows of one node. Answered when they are durable; the same batch again is counted once.",
    answers={JSON: ReceiptDocument},
    refusals=(400, 408, 413, 415, 422, 425, 503),
    body=Shipment,
)
ROUTES = (BATCHES,)


def routes(services: Services) -> list[BoundRoute]:
    return [(BATCHES, Receiver(services).handle)]


class _Refusal(Exception):
    """A shipment that is not committed. `reason` is what it is counted as."""

    def __init__(
        self, reason: str, status: int, detail: str, faults: tuple[Fault, ...] = (), retry_after_s: int | None = None
    ) -> None:
        self.reason = reason
        self.status = status
        self.detail = detail
        self.faults = faults
        self.headers = None if retry_after_s is None else {"Retry-After": str(retry_after_s)}


class Receiver:
    """The handler."""

    def __init__(self, services: Services, now_ms: Callable[[], int] = lambda: time.time_ns() // NS_PER_MS) -> None:
        self._settings = services.settings
        self._committer = services.committer
        self._stats = services.ingest
        rate = self._settings.agent_batches_per_s
        self._paces = Buckets(rate, rate * PACE_BURST_S, NODES_MAX)
        self._now_ms = now_ms

    async def handle(self, request: web.Request) -> web.Response:
        try:
            self._check_queue()
            shipment = self._decoded(await self._body(request), request)
            self._check_sender(request, shipment)
            self._check_pace(shipment)
            self._check_time(shipment)
            self._check_queue()  # many bodies may have come in meanwhile
            committed = await self._committed(shipment)
        except _Refusal as refusal:
            self._stats.refused[refusal.reason] += 1
            return problem(refusal.status, refusal.detail, faults=refusal.faults, headers=refusal.headers)
        receipt, missing = committed
        gaps = f',"missing":{[list(gap) for gap in missing]}' if missing else ""
        text = f'{{"accepted":{receipt.accepted},"duplicates":{receipt.duplicates}{gaps}}}\n'
        return web.Response(text=text, content_type=JSON)

    def _check_queue(self) -> None:
        if self._committer.is_full:
            raise _Refusal("overloaded", 503, "too many batches wait; send later", retry_after_s=2)

    async def _body(self, request: web.Request) -> bytes:
        settings = self._settings
        try:
            async with asyncio.timeout(settings.body_wait_s):
                return await request.read()
        except TimeoutError:
            detail = f"the body did not arrive within {settings.body_wait_s} s (body_wait_s)"
            raise _Refusal("slow", 408, detail) from None
        except ConnectionError:  # nobody is there to read this answer
            raise _Refusal("broken_off", 400, "the connection broke off within the body") from None
        except web.HTTPRequestEntityTooLarge:
            detail = f"body: expected at most {settings.body_bytes_max} bytes, found more; send fewer batches at once"
            raise _Refusal("too_large", 413, detail) from None

    def _decoded(self, body: bytes, request: web.Request) -> Shipment:
        encoding = request.headers.get(hdrs.CONTENT_ENCODING, "").lower()
        try:
            return decode_shipment(decompress(body, encoding, self._settings.decompressed_bytes_max))
        except BodyTooLarge as error:
            raise _Refusal("too_large", 413, str(error)) from None
        except UnknownEncoding as error:
            raise _Refusal("encoding", 415, str(error)) from None
        except Refused as error:
            raise _Refusal("unsound", 422, str(error)[:500], error.faults) from None
        except ValueError as error:
            raise _Refusal("unreadable", 400, str(error)) from None

    def _check_sender(self, request: web.Request, shipment: Shipment) -> None:
        caller = caller_of(request)
        if not caller.may_write_for(shipment.cluster, shipment.node):
            detail = f"{caller.name} may not write for cluster {shipment.cluster!r}, node {shipment.node!r}"
            raise _Refusal("not_its_node", 403, detail[:500])

    def _check_pace(self, shipment: Shipment) -> None:
        node = (shipment.cluster, shipment.node)
        if wait_s := self._paces.wait_s(node, time.monotonic(), len(shipment.batches)):
            detail = f"more than {self._settings.agent_batches_per_s:g} batches/s of this node (agent_batches_per_s)"
            raise _Refusal("too_many", 429, detail, retry_after_s=int(wait_s) + 1)

    def _check_time(self, shipment: Shipment) -> None:
        now_ms, settings = self._now_ms(), self._settings
        if faults := too_early(shipment, now_ms + settings.clock_skew_max_s * 1000):
            # Not for good: time passes, and clocks are set right. The agent keeps the batches and sends them again.
            raise _Refusal("too_early", 425, _detail(faults[0]), tuple(faults), retry_after_s=60)
        if faults := too_old(shipment, now_ms - settings.windows_keep_days * MS_PER_DAY + MS_PER_HOUR):
            raise _Refusal("too_old", 422, _detail(faults[0]), tuple(faults))

    async def _committed(self, shipment: Shipment) -> CommittedShipment:
        try:
            return await self._committer.commit(shipment)
        except UnstorableShipment as error:
            raise _Refusal("unstorable", 422, str(error)[:500]) from None
        except LedgerError as error:
            raise _Refusal("ledger", 503, str(error), retry_after_s=5) from None


def _detail(fault: Fault) -> str:
    field, found, expected = fault
    return f"{field}: expected {expected}, found {found}"
