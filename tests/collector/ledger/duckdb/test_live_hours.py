"""The newest hours of a DuckDB ledger, half in memory and half in its file: together they are the windows, always."""

import shutil
import threading
import time
from pathlib import Path

import duckdb
import pytest

from collector.samples import HOUR_MS, NOON_MS, batch, shipment
from tokenyield_collector.ledger.duckdb import hours as duckdb_hours
from tokenyield_collector.ledger.duckdb import live_hours as duckdb_live
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.duckdb.live_hours import LiveHours


def completion(ledger: DuckDbLedger) -> int:
    return sum(row.completion or 0 for row in ledger.facts_of_hours().tokens)


def append(ledger: DuckDbLedger, seq: int, start_ms: int = NOON_MS) -> None:
    ledger.append([shipment(batch(seq, start_ms + 15_000 * (seq % 200)))], NOON_MS)


def test_an_hour_written_down_goes_on_growing(tmp_path: Path) -> None:
    ledger = DuckDbLedger(tmp_path / "ledger")
    for seq in range(1, 7):
        append(ledger, seq)
        assert completion(ledger) == 100 * seq
        assert ledger.fold() == [NOON_MS]
        if seq % 2:
            ledger.roll()
        assert completion(ledger) == 100 * seq
        assert ledger.facts_of_hours([NOON_MS]).gpus[0].active_ms == ledger.facts_between(0, 2**53).gpus[0].active_ms
    ledger.close()
    again = DuckDbLedger(tmp_path / "ledger")
    assert (again.fold(), completion(again)) == ([], 600)
    again.close()


def test_what_a_killed_collector_had_in_memory_is_read_from_the_windows(tmp_path: Path) -> None:
    ledger = DuckDbLedger(tmp_path / "ledger")
    append(ledger, 1)
    ledger.roll()
    append(ledger, 2)
    append(ledger, 3, NOON_MS + HOUR_MS)
    shutil.copytree(tmp_path, tmp_path / "as killed")
    ledger.close()
    again = DuckDbLedger(tmp_path / "as killed" / "ledger")
    append(again, 4)
    assert again.fold() == [NOON_MS, NOON_MS + HOUR_MS]
    assert completion(again) == 400
    again.close()


def test_what_is_added_up_or_written_down_for_want_of_memory_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duckdb_live, "COMPACT_ROWS", 2)
    monkeypatch.setattr(duckdb_hours, "LIVE_ROWS_MAX", 20)
    ledger = DuckDbLedger(tmp_path / "ledger")
    for seq in range(1, 25):
        append(ledger, seq, NOON_MS + seq % 3 * HOUR_MS)
        ledger.fold()
        assert completion(ledger) == 100 * seq
    assert ledger._hours.live.rows < 24
    ledger.close()


@pytest.mark.parametrize("step", ["add", "compact", "forget"])
def test_memory_that_fails_costs_a_reading_of_the_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    ledger = DuckDbLedger(tmp_path / "ledger")
    append(ledger, 1)

    def fail(*_: object) -> None:
        raise duckdb.OutOfMemoryException("could not allocate block")

    with monkeypatch.context() as patched:
        patched.setattr(LiveHours, step, fail)
        append(ledger, 2)
        ledger.roll()
        append(ledger, 3, NOON_MS + HOUR_MS)
        ledger.fold()
        assert completion(ledger) == 300
    append(ledger, 4)
    ledger.fold()
    assert completion(ledger) == 400
    ledger.roll()
    assert completion(ledger) == 400
    ledger.close()


def test_a_reader_sees_an_hour_once_while_it_is_written_down(tmp_path: Path) -> None:
    ledger = DuckDbLedger(tmp_path / "ledger")
    seen: list[int] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.append(completion(ledger))
            time.sleep(0.001)  # lets the writer have the lock between two reads, on a busy machine too

    reader = threading.Thread(target=look)
    append(ledger, 1)
    reader.start()
    for seq in range(2, 150):
        append(ledger, seq)
        ledger.roll()
    done.set()
    reader.join()
    assert len(set(seen)) > 10
    assert seen == sorted(seen), "neither twice nor not at all"
    ledger.close()
