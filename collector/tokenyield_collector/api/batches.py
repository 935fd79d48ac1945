"""`POST /v1/batches`: bound, decode, check, commit, and only then answer.

In: HTTP requests that passed authentication. Out: 200 with the receipt of this shipment after its batches are durable,
or a problem.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar, TypeVarTuple

import msgspec
from aiohttp import hdrs, web

from tokenyield_collector.access.auth import caller_of, peer_of
from tokenyield_collector.access.token_file import Grant
from tokenyield_collector.api.body import Refusal, read_body, too_large
from tokenyield_collector.api.services import Services
from tokenyield_collector.config import PART_BYTES_MAX
from tokenyield_collector.errors import LedgerError, UnstorableShipment
from tokenyield_collector.http.right import Right
from tokenyield_collector.http.route import JSON, BoundRoute, Route
from tokenyield_collector.http.schemas import ReceiptDocument
from tokenyield_collector.ingest.bounds import too_early, too_old
from tokenyield_collector.ingest.committer import CommittedShipment
from tokenyield_collector.ingest.decompress import BodyTooLarge, UnknownEncoding, decompress
from tokenyield_collector.ingest.memory import Held, MemoryBudget, OverBudget, weight_bytes
from tokenyield_collector.ingest.unpacking import LargeShipment
from tokenyield_collector.ledger.base import ShipmentReceipt
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
Holder = tuple[str, str]
"""A caller and its address."""
Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


def routes(services: Services) -> list[BoundRoute]:
    return [(BATCHES, Receiver(services).handle)]


SMALL_BYTES = 64 * 2**10
"""Of a body, packed; it has twice that unpacked, and is decoded at once, in less than a millisecond."""
SMALL_MEMORY_BYTES = 2 * 2**20
BODIES_BYTES_MAX = 64 * 2**20
"""Bodies that are read at once, as far as their heads claim: so much of small ones, and so much of large ones."""
SMALL_SHARE_BYTES = 2**20
"""One caller at one address has at most so much of these once half is taken; of large ones one body. Agents behind one
proxy, with one token, are one caller."""
BATCH_BYTES = 128 * 2**10
"""Estimated memory that counts as one batch in the pace of a node, so that a batch of 16,384 callers is not as cheap as
one of four. One of 8 GPUs counts as one."""
REFUSED_PER_S, REFUSED_BURST = 1.0, 60
"""Bodies of one caller at one address that cannot be used; beyond it the next is not read."""
OF_CONTENT = frozenset({"too_large", "encoding", "unsound", "unreadable", "unstorable"})


class Receiver:
    """The handler. Rights, pace and size are checked before a body is read; what is large is unpacked and decoded in a
    thread, part by part, and all that is in memory shares one budget (ingest/memory.py)."""

    def __init__(self, services: Services, now_ms: Callable[[], int] = lambda: time.time_ns() // NS_PER_MS) -> None:
        self._settings = settings = services.settings
        self._committer = services.committer
        self._decoder = services.executors.decoder
        self._stats = services.ingest
        self._paces = Buckets(settings.agent_batches_per_s, settings.agent_batches_per_s * PACE_BURST_S, NODES_MAX)
        self._refusals = Buckets(REFUSED_PER_S, REFUSED_BURST, NODES_MAX)
        large_max = max(BODIES_BYTES_MAX, settings.body_bytes_max)
        self._small_bodies = MemoryBudget(BODIES_BYTES_MAX, SMALL_SHARE_BYTES)
        self._large_bodies = MemoryBudget(large_max, settings.body_bytes_max)
        half = settings.ingest_memory_bytes_max // 2
        self._small_memory = MemoryBudget(half, half * 3 // 4)  # nobody can hold it for longer than a commit takes
        self._large_memory = MemoryBudget(half, half // 2)
        self._now_ms = now_ms

    async def handle(self, request: web.Request) -> web.Response:
        holder = (caller_of(request).name, peer_of(request))
        try:
            self._check_queue()
            self._check_before_body(request, holder)
            receipt = await self._taken(request, holder)
        except Refusal as refusal:
            self._stats.refused[refusal.reason] += 1
            if refusal.reason in OF_CONTENT:
                self._refusals.wait_s(holder, time.monotonic())
            return refusal.answer
        return web.Response(body=msgspec.json.encode(receipt) + b"\n", content_type=JSON)

    # --- before the body -----------------------------------------------------------------------------------------

    def _check_queue(self) -> None:
        if self._committer.is_full:
            raise Refusal("overloaded", 503, "too many batches wait; send later", retry_after_s=2)

    def _check_before_body(self, request: web.Request, holder: Holder) -> None:
        if (request.content_length or 0) > self._settings.body_bytes_max:
            raise too_large(self._settings, "batches")
        now_s, node = time.monotonic(), caller_of(request).only_node
        if wait_s := self._refusals.would_wait_s(holder, now_s):
            detail = "too many shipments of this caller could not be used"
            raise Refusal("too_many", 429, detail, retry_after_s=int(wait_s) + 1)
        if node is not None and (wait_s := self._paces.would_wait_s(node, now_s)):
            raise self._too_fast(wait_s)

    def _too_fast(self, wait_s: float) -> Refusal:
        detail = f"more than {self._settings.agent_batches_per_s:g} batches/s of this node (agent_batches_per_s)"
        return Refusal("too_many", 429, detail, retry_after_s=int(wait_s) + 1)

    # --- the body ------------------------------------------------------------------------------------------------

    async def _taken(self, request: web.Request, holder: Holder) -> ReceiptDocument:
        claimed = request.content_length
        if claimed is None:
            claimed = self._settings.body_bytes_max
        bodies = self._small_bodies if claimed <= SMALL_BYTES else self._large_bodies
        with await self._room(bodies, holder, claimed) as read:
            body = await read_body(request, self._settings, "batches")
            text = self._small_text(body, request)
            if text is not None:
                read.shrink(0)
                return await self._taken_small(text, request, holder)
            amount = self._settings.decompressed_bytes_max + PART_BYTES_MAX
            with await self._room(self._large_memory, holder, amount) as held:
                text = await self._in_thread(_large_text, body, request, self._settings.decompressed_bytes_max)
                del body
                read.shrink(0)
                return await self._taken_large(text, request, held)

    async def _taken_small(self, text: bytes, request: web.Request, holder: Holder) -> ReceiptDocument:
        weight = weight_bytes(text)
        memory = self._small_memory if weight <= SMALL_MEMORY_BYTES else self._large_memory
        with await self._room(memory, holder, weight):
            shipment = _sound(decode_shipment, text)
            self._check_sender(request, shipment)
            self._check_pace(shipment, weight)
            self._check_batches(caller_of(request), shipment)
            self._check_queue()  # many bodies may have come in meanwhile
            committed = await self._committed(shipment, caller_of(request).scope)
            return _receipt(shipment.epoch, shipment.batches[0].seq, shipment.batches[-1].seq, committed)

    async def _taken_large(self, text: bytes, request: web.Request, held: Held) -> ReceiptDocument:
        weight = weight_bytes(text)
        held.shrink(len(text) + min(PART_BYTES_MAX, weight))
        large = await self._in_thread(_sound, LargeShipment, text)
        self._check_sender(request, large.head)
        self._check_pace(large.head, weight)
        await self._in_thread(_sound, large.check, partial(self._check_batches, caller_of(request)))
        accepted = duplicates = 0
        numbers: list[int] = []
        for start, stop in large.bounds:
            self._check_queue()
            part = await self._in_thread(large.head.part, start, stop)
            receipt, missing = await self._committed(part, caller_of(request).scope)
            accepted, duplicates = accepted + receipt.accepted, duplicates + receipt.duplicates
            numbers += [part.batches[0].seq, part.batches[-1].seq]
        committed = CommittedShipment(ShipmentReceipt(accepted, duplicates), missing)
        return _receipt(large.head.epoch, numbers[0], numbers[-1], committed)

    async def _room(self, budget: MemoryBudget, holder: Holder, amount: int) -> Held:
        """`amount` bytes of a budget, as soon as they are free."""
        try:
            if (held := budget.take_now(holder, amount)) is not None:
                return held
            async with asyncio.timeout(self._settings.body_wait_s):
                return await budget.take(holder, amount)
        except TimeoutError:
            raise Refusal("overloaded", 503, "too many large shipments; send later", retry_after_s=5) from None
        except OverBudget:
            detail = f"body: expected less memory than {budget.bytes_max} bytes, found more; send fewer batches at once"
            raise Refusal("too_large", 413, detail) from None

    def _small_text(self, body: bytes, request: web.Request) -> bytes | None:
        """The body unpacked; None where that is not small, and is done in a thread."""
        if len(body) > SMALL_BYTES:
            return None
        try:
            return _unpacked(body, request, min(2 * SMALL_BYTES, self._settings.decompressed_bytes_max))
        except BodyTooLarge:
            return None

    async def _in_thread(self, work: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._decoder, work, *arguments)

    # --- the shipment --------------------------------------------------------------------------------------------

    def _check_sender(self, request: web.Request, shipment: Shipment) -> None:
        caller = caller_of(request)
        if not caller.may_write_for(shipment.cluster, shipment.node):
            detail = f"{caller.name} may not write for cluster {shipment.cluster!r}, node {shipment.node!r}"
            raise Refusal("not_its_node", 403, detail[:500])

    def _check_pace(self, shipment: Shipment, weight: int) -> None:
        node = (shipment.cluster, shipment.node)
        if wait_s := self._paces.wait_s(node, time.monotonic(), max(len(shipment.batches), weight // BATCH_BYTES)):
            raise self._too_fast(wait_s)

    def _check_batches(self, caller: Grant, shipment: Shipment) -> None:
        if Right.GATEWAY not in caller.may and any(batch.demand for batch in shipment.batches):
            detail = (
                f"{caller.name} may not report who asked a gateway; write may=write,gateway in its line of token_file"
            )
            raise Refusal("not_a_gateway", 403, detail)
        self._check_time(shipment)

    def _check_time(self, shipment: Shipment) -> None:
        now_ms, settings = self._now_ms(), self._settings
        if faults := too_early(shipment, now_ms + settings.clock_skew_max_s * 1000):
            # Not for good: time passes, and clocks are set right. The agent keeps the batches and sends them again.
            raise Refusal("too_early", 425, _detail(faults[0]), tuple(faults), retry_after_s=60)
        if faults := too_old(shipment, now_ms - settings.windows_keep_days * MS_PER_DAY + MS_PER_HOUR):
            raise Refusal("too_old", 422, _detail(faults[0]), tuple(faults))

    async def _committed(self, shipment: Shipment, scope: str) -> CommittedShipment:
        try:
            return await self._committer.commit(shipment, scope)
        except UnstorableShipment as error:
            raise Refusal("unstorable", 422, str(error)[:500]) from None
        except LedgerError as error:
            raise Refusal("ledger", 503, str(error), retry_after_s=5) from None


def _receipt(epoch: str, first_seq: int, last_seq: int, committed: CommittedShipment) -> ReceiptDocument:
    receipt, missing = committed
    document = ReceiptDocument(
        accepted=receipt.accepted, duplicates=receipt.duplicates, epoch=epoch, first_seq=first_seq, last_seq=last_seq
    )
    if missing:
        document["missing"] = missing
    return document


def _unpacked(body: bytes, request: web.Request, bytes_max: int) -> bytes:
    """Raises `BodyTooLarge`, `Refusal`."""
    try:
        return decompress(body, request.headers.get(hdrs.CONTENT_ENCODING, "").lower(), bytes_max)
    except UnknownEncoding as error:
        raise Refusal("encoding", 415, str(error)) from None
    except BodyTooLarge:
        raise
    except ValueError as error:
        raise Refusal("unreadable", 400, str(error)) from None


def _large_text(body: bytes, request: web.Request, bytes_max: int) -> bytes:
    try:
        return _unpacked(body, request, bytes_max)
    except BodyTooLarge as error:
        raise Refusal("too_large", 413, str(error)) from None


def _sound(work: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
    """What `work` gives, which decodes."""
    try:
        return work(*arguments)
    except Refused as error:
        raise Refusal("unsound", 422, str(error)[:500], error.faults) from None


def _detail(fault: Fault) -> str:
    field, found, expected = fault
    return f"{field}: expected {expected}, found {found}"
