"""Commits of many shipments at once: what one of them says costs that one alone."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from collector.samples import NOON_MS, batch, shipment
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.errors import LedgerError, UnstorableShipment
from tokenyield_collector.ingest.committer import CommittedShipment, Committer
from tokenyield_collector.ingest.stats import IngestStats
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_wire.window import Shipment

NODES = 5


def sound(node: int) -> Shipment:
    return shipment(batch(1, NOON_MS), agent_id=f"agent-{node}", node=f"n{node}")


def impossible(node: int) -> Shipment:
    """More tokens than 64 bits hold. No shipment of the wire comes this far: this is the last line of defence."""
    one = batch(1, NOON_MS, completion=2**70)
    return msgspec.structs.replace(sound(node), batches=(one,))


async def committed_together(
    ledger: DuckDbLedger, stats: IngestStats, shipments: list[Shipment]
) -> list[CommittedShipment | BaseException]:
    with ThreadPoolExecutor(1) as writer:
        committer = Committer(ledger, writer, CollectorSettings(commit_interval_ms=50), stats)
        loop = asyncio.create_task(committer.run())
        answers = await asyncio.gather(*map(committer.commit, shipments), return_exceptions=True)
        loop.cancel()
        with suppress(asyncio.CancelledError):
            await loop
    return answers


def tokens_of(ledger: DuckDbLedger) -> dict[str, int | None]:
    ledger.fold()
    counts = ledger.facts_of_hours([NOON_MS]).tokens
    return {count.node: count.completion for count in counts if count.method == "rate"}


@pytest.mark.parametrize("at", [0, 2, NODES - 1])
def test_a_shipment_that_no_column_holds_is_refused_alone(tmp_path: Path, at: int) -> None:
    ledger, stats = DuckDbLedger(tmp_path / "ledger.duckdb"), IngestStats()
    shipments = [impossible(node) if node == at else sound(node) for node in range(NODES)]
    answers = asyncio.run(committed_together(ledger, stats, shipments))
    assert isinstance(answers[at], UnstorableShipment)
    assert [isinstance(answer, CommittedShipment) for answer in answers] == [node != at for node in range(NODES)]
    assert stats.batches == NODES - 1
    again = asyncio.run(committed_together(ledger, stats, [sound(node) for node in range(NODES)]))
    assert [answer.receipt.accepted for answer in again if isinstance(answer, CommittedShipment)] == [
        int(node == at) for node in range(NODES)
    ]
    assert tokens_of(ledger) == {f"n{node}": 100 for node in range(NODES)}
    ledger.close()


def test_a_ledger_that_cannot_be_written_refuses_all_for_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = DuckDbLedger(tmp_path / "ledger.duckdb")

    def full(*_: object) -> None:
        raise LedgerError("no space left on the device")

    monkeypatch.setattr(ledger, "append", full)
    answers = asyncio.run(committed_together(ledger, IngestStats(), [sound(0), sound(1)]))
    assert [type(answer) for answer in answers] == [LedgerError, LedgerError]
    ledger.close()
