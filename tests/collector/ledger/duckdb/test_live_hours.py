"""The newest hours of a DuckDB ledger, half in memory and half in its file: together they are the windows, always."""

import shutil
import threading
import time
from pathlib import Path

import duckdb
import pytest
from msgspec import structs

from collector.samples import HOUR_MS, NOON_MS, batch, shipment
from tokenyield_collector.ledger.duckdb import hours as duckdb_hours
from tokenyield_collector.ledger.duckdb import live_hours as duckdb_live
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.duckdb.live_hours import LiveHours, at_most


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
    for seq in range(2, 1000):
        append(ledger, seq)
        ledger.roll()
        if seq > 10 and len(set(seen)) > 5:
            break
    done.set()
    reader.join()
    assert len(set(seen)) > 5
    assert seen == sorted(seen), "neither twice nor not at all"
    ledger.close()


def test_sums_are_cut_right_where_a_join_finds_nothing() -> None:
    """DuckDB 2.0.1 takes a sum over such a LEFT JOIN for 0: `coalesce(sum(x), 0)` is -64 here, and CASE no better."""
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE t AS SELECT 3600000 * (range % 30) AS h, 2400000 + range * 1000 AS x FROM range(60)"
    )
    connection.execute("CREATE TABLE nothing (h BIGINT)")
    whole = [116_472_000, 29_298_000]
    for most, expected in ((2**63 - 1, whole), (2**48, whole), (10**8, [10**8, whole[1]])):
        rows = connection.execute(
            f"SELECT t.h - t.h % 86400000, {at_most('x', most)}, {at_most('nullif(x, x)', most)} "
            "FROM t LEFT JOIN nothing n ON n.h = t.h WHERE t.h >= 0 AND t.h < 172800000 GROUP BY 1 ORDER BY 1"
        ).fetchall()
        assert [(cut, unknown) for _, cut, unknown in rows] == [(value, None) for value in expected]


def test_work_is_right_where_nothing_was_throttled(tmp_path: Path) -> None:
    """Its query joins what was throttled from the left."""
    ledger = DuckDbLedger(tmp_path / "ledger")
    one = batch(1, NOON_MS)
    calm = structs.replace(
        one, gpus=tuple(structs.replace(gpu, throttled_ms={}, throttled_lost_ms={}, events={}) for gpu in one.gpus)
    )
    ledger.append([shipment(calm)], NOON_MS)
    (work,) = ledger.work_between(NOON_MS, NOON_MS + 60_000, 60_000)
    assert (work.active_ms, work.idle_ms, work.activity_known_ms, work.sm_ms) == (18_000, 8_000, 15_000, 6_000)
    assert (work.throttled_ms, work.throttled_lost_ms) == (0, 0)
    ledger.close()
