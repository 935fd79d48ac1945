"""Which batches were received, as a start reads it: block by block, with gaps within, between and at the edges of blocks."""

import random
from pathlib import Path

import duckdb
import pytest

from collector.samples import NOON_MS, batch, shipment
from tokenyield_collector.ledger.duckdb import writer
from tokenyield_collector.ledger.duckdb.file import DuckDbFile
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger

LAST = 26


@pytest.mark.parametrize("seed", range(4))
def test_a_start_knows_every_number_and_no_other(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BLOCK_NUMBERS", 5)
    chosen = random.Random(seed)
    numbers = {node: {n for n in range(1, LAST) if chosen.random() < 0.8} | {1, LAST} for node in ("n1", "n2", "n3")}
    numbers["n1"] = set(range(1, LAST + 1))  # without a gap
    ledger = DuckDbLedger(tmp_path / "ledger.duckdb")
    for node, received in numbers.items():
        of_node = [batch(seq, NOON_MS + seq * 15_000, gpus=1) for seq in sorted(received)]
        ledger.append([shipment(*of_node, node=node, agent_id=node)], NOON_MS)
    before = {node: ledger.missing(shipment(node=node, agent_id=node)) for node in numbers}
    ledger.close()
    ledger = DuckDbLedger(tmp_path / "ledger.duckdb")
    for node, received in numbers.items():
        again = [batch(seq, NOON_MS + seq * 15_000, gpus=1) for seq in range(1, LAST + 1)]
        known = shipment(*(one for one in again if one.seq in received), node=node, agent_id=node)
        assert ledger.append([known], NOON_MS) == [(0, len(received))], "all were there before"
        missing = [n for start, end in ledger.missing(known) for n in range(start, end + 1)]
        assert missing == [n for n in range(1, LAST) if n not in received]
        assert ledger.missing(known) == before[node]
        others = shipment(*(one for one in again if one.seq not in received), node=node, agent_id=node)
        if others.batches:
            assert ledger.append([others], NOON_MS) == [(len(others.batches), 0)], "and these were not"
    ledger.close()


@pytest.mark.parametrize("memory", ["800MB", "100MB", "1GB"])
def test_what_is_read_once_leaves_the_memory_limit_as_it_was(memory: str, tmp_path: Path) -> None:
    file = DuckDbFile(tmp_path / "ledger.duckdb", memory_limit=memory, threads=1)
    ((before,),) = file.rows("SELECT current_setting('memory_limit')")
    ((meanwhile,),) = file.rows_read_once("SELECT current_setting('memory_limit')")
    assert meanwhile == (before if memory == "100MB" else "244.1 MiB"), "less, and never more than was allowed"
    assert file.rows("SELECT current_setting('memory_limit')") == [(before,)]
    with pytest.raises(duckdb.Error):
        file.rows_read_once("SELECT * FROM no_table")
    assert file.rows("SELECT current_setting('memory_limit')") == [(before,)]
    file.close()
