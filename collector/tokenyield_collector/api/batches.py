"""`POST /v1/batches`, of who passed the door: bound, decode, validate, commit, and only then answer.

In: HTTP requests. Out: 200 with `{"accepted": n, "duplicates": m}` after the batches are durable, or a problem.
One commit serves all requests that came within `commit_interval_ms`; one thread writes the ledger.
"""

import asyncio
import contextlib
import time
import zlib
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import NamedTuple

import zstandard
from aiohttp import hdrs, web

from tokenyield_collector.access.auth import caller_of
from tokenyield_collector.config import Settings
from tokenyield_collector.errors import LedgerError
from tokenyield_collector.http.problem import problem
from tokenyield_collector.ledger.base import Ledger, Receipt
from tokenyield_collector.metrics.exposition import Ingest
from tokenyield_collector.steps import Steps
from tokenyield_settings.buckets import Buckets
from tokenyield_wire.codec import Refused, decode_shipment
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR, NS_PER_MS
from tokenyield_wire.window import Fault, Shipment

PACE_BURST_S = 60.0
NODES_MAX = 100_000


class TooLarge(ValueError):
    """The decompressed body is above its bound."""


class UnknownEncoding(ValueError):
    """The Content-Encoding is none of zstd, gzip, identity."""


def decompress(body: bytes, encoding: str, bytes_max: int) -> bytes:
    """Raises `TooLarge`, `UnknownEncoding`, or ValueError for a broken stream. Never holds more than `bytes_max`."""
    if encoding in ("", "identity"):
        unpacked = body
    elif encoding == "gzip":
        unpacker = zlib.decompressobj(wbits=31)
        try:
            unpacked = unpacker.decompress(body, bytes_max + 1)
        except zlib.error as error:
            raise ValueError(f"the gzip stream is broken: {error}") from error
        if not unpacker.eof and len(unpacked) <= bytes_max:
            raise ValueError("the gzip stream ends too early")
    elif encoding == "zstd":
        try:
            with zstandard.ZstdDecompressor().stream_reader(body) as reader:
                unpacked = reader.read(bytes_max + 1)
        except zstandard.ZstdError as error:
            raise ValueError(f"the zstd stream is broken: {error}") from error
    else:
        raise UnknownEncoding(f"Content-Encoding '{encoding[:40]}'; send zstd, gzip or identity")
    if len(unpacked) > bytes_max:
        raise TooLarge(f"more than {bytes_max} bytes after decompression; send fewer batches at once")
    return unpacked


def too_early(shipment: Shipment, limit_ms: int) -> list[Fault]:
    """Batches whose windows end after `limit_ms`: the clock of the agent or of the collector is wrong."""
    wanted = f"an end before {limit_ms} by the collector's clock (clock_skew_max_s); check NTP on both"
    return [
        Fault(f"batches[{i}].end_ms", str(batch.end_ms), wanted)
        for i, batch in enumerate(shipment.batches)
        if batch.end_ms > limit_ms
    ]


def too_old(shipment: Shipment, limit_ms: int) -> list[Fault]:
    """Batches whose hour could not be recomputed with them, because its other windows may be gone."""
    wanted = f"a window that starts at {limit_ms} or later (windows_keep_days)"
    return [
        Fault(f"batches[{i}].start_ms", str(batch.start_ms), wanted)
        for i, batch in enumerate(shipment.batches)
        if batch.start_ms < limit_ms
    ]


class Answer(NamedTuple):
    """A receipt, and the numbers that the ledger lacks of this agent."""

    receipt: Receipt
    missing: list[tuple[int, int]]


class Committer:
    """Groups shipments into commits."""

    def __init__(self, ledger: Ledger, executor: Executor, settings: Settings, ingest: Ingest) -> None:
        self._ledger = ledger
        self._executor = executor
        self._settings = settings
        self._ingest = ingest
        self._waiting: list[tuple[Shipment, asyncio.Future[Answer]]] = []
        self._waiting_batches = 0
        self._oldest_s = 0.0
        self._wake = asyncio.Event()
        self._full = asyncio.Event()
        self._steps = Steps()
        self.last_seen = dict(ledger.last_seen())
        """(cluster, node) -> end (ms) of its newest window."""

    @property
    def is_full(self) -> bool:
        return self._waiting_batches >= self._settings.queue_batches_max

    async def commit(self, shipment: Shipment) -> "Answer":
        """Returns when the shipment is durable. Raises `LedgerError`."""
        done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if not self._waiting:
            self._oldest_s = asyncio.get_running_loop().time()
        self._waiting.append((shipment, done))
        self._waiting_batches += len(shipment.batches)
        self._ingest.waiting_batches = self._waiting_batches
        self._wake.set()
        if self._waiting_batches >= self._settings.commit_batches_max:
            self._full.set()
        return await done

    async def run(self) -> None:
        """Commit until cancelled. What came in during a commit has waited already, and is not kept waiting again."""
        loop, interval_s = asyncio.get_running_loop(), self._settings.commit_interval_ms / 1000
        while True:
            await self._wake.wait()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), max(0.0, self._oldest_s + interval_s - loop.time()))
            self._wake.clear()
            self._full.clear()
            group, self._waiting, self._waiting_batches = self._waiting, [], 0
            if not await self._steps.attempt("commit", partial(self._commit_group, group)):
                # The senders keep what has no receipt, and send it again.
                for _, done in group:
                    if not done.done():
                        done.set_exception(LedgerError(self._steps.problem or "the commit failed"))
            self._ingest.waiting_batches = self._waiting_batches

    def _append(self, shipments: list[Shipment]) -> list["Answer"]:
        receipts = self._ledger.append(shipments, time.time_ns() // NS_PER_MS)
        return [
            Answer(receipt, self._ledger.missing(shipment))
            for shipment, receipt in zip(shipments, receipts, strict=True)
        ]

    async def _commit_group(self, group: list[tuple[Shipment, "asyncio.Future[Answer]"]]) -> None:
        started_s = time.perf_counter()
        shipments = [shipment for shipment, _ in group]
        answers = await asyncio.get_running_loop().run_in_executor(self._executor, self._append, shipments)
        self._ingest.commits += 1
        self._ingest.commit_seconds += time.perf_counter() - started_s
        for (shipment, done), answer in zip(group, answers, strict=True):
            self._seen(shipment)
            self._ingest.batches += answer.receipt.accepted
            self._ingest.duplicates += answer.receipt.duplicates
            if not done.done():
                done.set_result(answer)

    def _seen(self, shipment: Shipment) -> None:
        newest_ms = max((batch.end_ms for batch in shipment.batches), default=0)
        node = (shipment.cluster, shipment.node)
        self.last_seen[node] = max(newest_ms, self.last_seen.get(node, 0))


class Receiver:
    """The handler of `POST /v1/batches`."""

    def __init__(
        self, settings: Settings, committer: Committer, ingest: Ingest, now_ms: Callable[[], int] | None = None
    ) -> None:
        self._settings = settings
        self._committer = committer
        self._ingest = ingest
        rate = settings.agent_batches_per_s
        self._paces = Buckets(rate, rate * PACE_BURST_S, NODES_MAX)
        self._now_ms = now_ms or (lambda: time.time_ns() // NS_PER_MS)

    async def handle(self, request: web.Request) -> web.Response:
        if self._committer.is_full:
            return self._refuse_for_now()
        try:
            async with asyncio.timeout(self._settings.body_wait_s):
                body = await request.read()
        except TimeoutError:
            return self._refuse(
                "slow", 408, f"the body did not come within {self._settings.body_wait_s} s (body_wait_s)"
            )
        except ConnectionError:  # nobody is there to hear this
            return self._refuse("broken_off", 400, "the connection broke off within the body")
        except web.HTTPRequestEntityTooLarge:
            detail = f"more than {self._settings.body_bytes_max} bytes; send fewer batches at once"
            return self._refuse("too_large", 413, detail)
        try:
            encoding = request.headers.get(hdrs.CONTENT_ENCODING, "").lower()
            shipment = decode_shipment(decompress(body, encoding, self._settings.decompressed_bytes_max))
        except TooLarge as error:
            return self._refuse("too_large", 413, str(error))
        except UnknownEncoding as error:
            return self._refuse("encoding", 415, str(error))
        except Refused as error:
            return self._refuse("unsound", 422, str(error)[:500], error.faults)
        except ValueError as error:
            return self._refuse("unreadable", 400, str(error))
        if not caller_of(request).may_write_for(shipment.cluster, shipment.node):
            detail = f"{caller_of(request).name} may not write for cluster {shipment.cluster!r}, node {shipment.node!r}"
            return self._refuse("not_its_node", 403, detail[:500])
        node = (shipment.cluster, shipment.node)
        if wait_s := self._paces.wait_s(node, time.monotonic(), len(shipment.batches)):
            detail = f"more than {self._settings.agent_batches_per_s:g} batches/s of this node (agent_batches_per_s)"
            return self._refuse("too_many", 429, detail, headers={"Retry-After": str(int(wait_s) + 1)})
        now_ms = self._now_ms()
        if faults := too_early(shipment, now_ms + self._settings.clock_skew_max_s * 1000):
            # Not for good: time passes, and clocks are mended. The agent keeps the batches and asks again.
            detail, again = f"{faults[0].field}: wanted {faults[0].wanted}", {"Retry-After": "60"}
            return self._refuse("too_early", 425, detail, tuple(faults), headers=again)
        if faults := too_old(shipment, now_ms - self._settings.windows_keep_days * MS_PER_DAY + MS_PER_HOUR):
            return self._refuse("too_old", 422, f"{faults[0].field}: wanted {faults[0].wanted}", tuple(faults))
        if self._committer.is_full:  # many bodies may have come in meanwhile
            return self._refuse_for_now()
        try:
            receipt, missing = await self._committer.commit(shipment)
        except LedgerError as error:
            return self._refuse("ledger", 503, str(error), headers={"Retry-After": "5"})
        gaps = f',"missing":{[list(gap) for gap in missing]}' if missing else ""
        text = f'{{"accepted":{receipt.accepted},"duplicates":{receipt.duplicates}{gaps}}}\n'
        return web.Response(text=text, content_type="application/json")

    def _refuse_for_now(self) -> web.Response:
        return self._refuse("overloaded", 503, "too many batches wait; send later", headers={"Retry-After": "2"})

    def _refuse(
        self,
        reason: str,
        status: int,
        detail: str,
        faults: tuple[Fault, ...] = (),
        headers: dict[str, str] | None = None,
    ) -> web.Response:
        self._ingest.refused[reason] += 1
        return problem(status, detail, faults=faults, headers=headers)
