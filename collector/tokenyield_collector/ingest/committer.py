"""Commits many shipments at once.

In: shipments, each awaited by its request. Out: a receipt for each, after it is durable. One commit serves all
shipments that came within `commit_interval_ms`; one thread writes the ledger. A group that holds a shipment which no
column can store is committed shipment by shipment: that one alone is refused.
"""

import asyncio
import contextlib
import logging
import time
from concurrent.futures import Executor
from functools import partial
from typing import NamedTuple

from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.errors import LedgerError, UnstorableShipment
from tokenyield_collector.ingest.stats import IngestStats
from tokenyield_collector.ledger.base import Ledger, ShipmentReceipt
from tokenyield_collector.steps import Steps
from tokenyield_wire.units import NS_PER_MS
from tokenyield_wire.window import Shipment

log = logging.getLogger(__name__)

TRY_AGAIN_S = 5.0


class CommittedShipment(NamedTuple):
    """A receipt, and the ranges of this agent's batch numbers that the ledger lacks."""

    receipt: ShipmentReceipt
    missing: list[tuple[int, int]]


Answer = CommittedShipment | UnstorableShipment


class ScopedShipment(NamedTuple):
    """A shipment, and the scope of the token that it came with (`Grant.scope`)."""

    shipment: Shipment
    scope: str


class _Waiting(NamedTuple):
    sent: ScopedShipment
    done: asyncio.Future[CommittedShipment]


class Committer:
    """Groups shipments into commits. All methods are called in the event loop."""

    def __init__(self, ledger: Ledger, writer: Executor, settings: CollectorSettings, stats: IngestStats) -> None:
        self._ledger = ledger
        self._writer = writer
        self._settings = settings
        self._stats = stats
        self._waiting: list[_Waiting] = []
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

    async def commit(self, shipment: Shipment, scope: str = "") -> CommittedShipment:
        """Returns when the shipment is durable. Raises `LedgerError`, or `UnstorableShipment` where the same shipment
        will be refused again. `scope`: of the token that it came with (`Grant.scope`)."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(ScopedShipment(shipment, scope), loop.create_future())
        if not self._waiting:
            self._oldest_s = loop.time()
        self._waiting.append(waiting)
        self._waiting_batches += len(shipment.batches)
        self._stats.waiting_batches = self._waiting_batches
        self._wake.set()
        if self._waiting_batches >= self._settings.commit_batches_max:
            self._full.set()
        return await waiting.done

    @property
    def problem(self) -> str | None:
        """Why nothing can be committed at present; None where all is well."""
        return self._steps.problem

    async def run(self) -> None:
        """Commit until cancelled. What came in during a commit has waited already, and is not kept waiting again."""
        loop, interval_s = asyncio.get_running_loop(), self._settings.commit_interval_ms / 1000
        while True:
            await self._next_shipment()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), max(0.0, self._oldest_s + interval_s - loop.time()))
            self._wake.clear()
            self._full.clear()
            group, self._waiting, self._waiting_batches = self._waiting, [], 0
            if not await self._steps.attempt("commit", partial(self._commit_group, group)):
                # The senders keep what has no receipt, and send it again.
                for waiting in group:
                    if not waiting.done.done():
                        waiting.done.set_exception(LedgerError(self._steps.problem or "the commit failed"))
            self._stats.waiting_batches = self._waiting_batches

    async def _next_shipment(self) -> None:
        """While commits fail the ledger is tried meanwhile: a balancer that sees an unready collector sends it none."""
        while self._steps.problem is not None and not self._wake.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), TRY_AGAIN_S)
                return
            await self._steps.attempt("commit", self._try)
        await self._wake.wait()

    async def _try(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._writer, self._ledger.try_writing)

    def _append(self, shipments: list[ScopedShipment]) -> list[Answer]:
        """In the writer's thread. Together, and where that fails for what one of them says, one by one."""
        try:
            return list(self._append_together(shipments))
        except UnstorableShipment as error:
            if len(shipments) == 1:
                shipment = shipments[0].shipment
                log.error("a shipment of %s/%s is refused: %s", shipment.cluster, shipment.node, error)
                return [error]
        return [answer for shipment in shipments for answer in self._append([shipment])]

    def _append_together(self, scoped: list[ScopedShipment]) -> list[CommittedShipment]:
        shipments, scopes = [sent.shipment for sent in scoped], [sent.scope for sent in scoped]
        receipts = self._ledger.append(shipments, time.time_ns() // NS_PER_MS, scopes)
        return [
            CommittedShipment(receipt, self._ledger.missing(shipment))
            for shipment, receipt in zip(shipments, receipts, strict=True)
        ]

    async def _commit_group(self, group: list[_Waiting]) -> None:
        started_s = time.perf_counter()
        shipments = [waiting.sent for waiting in group]
        answers = await asyncio.get_running_loop().run_in_executor(self._writer, self._append, shipments)
        self._stats.commits += 1
        self._stats.commit_seconds += time.perf_counter() - started_s
        for waiting, answer in zip(group, answers, strict=True):
            if isinstance(answer, CommittedShipment):
                self._remember(waiting.sent.shipment)
                self._stats.batches += answer.receipt.accepted
                self._stats.duplicates += answer.receipt.duplicates
            if waiting.done.done():
                continue
            if isinstance(answer, CommittedShipment):
                waiting.done.set_result(answer)
            else:
                waiting.done.set_exception(answer)

    def _remember(self, shipment: Shipment) -> None:
        newest_ms = max((batch.end_ms for batch in shipment.batches), default=0)
        node = (shipment.cluster, shipment.node)
        self.last_seen[node] = max(newest_ms, self.last_seen.get(node, 0))
