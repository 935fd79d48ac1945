"""Roll-ups of hours of a ClickHouse ledger of before, of a collector that was killed, and those that nobody needs any more."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from collector.ledger.engines import NewPlace, Open
from collector.ledger.test_contract_usage import since_noon, used
from collector.samples import HOUR_MS, NOON_MS
from harness import wait_until
from tokenyield_collector.errors import LedgerError
from tokenyield_collector.ledger.clickhouse import rolls
from tokenyield_collector.ledger.clickhouse.days import DAY_TABLES
from tokenyield_collector.ledger.clickhouse.ledger import ClickHouseLedger

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
TABLES = (*rolls.ROLL_TABLES, *DAY_TABLES, "rolled_hours", "gpu_groups", "identities")
INSERTS = 7
SPAN = (NOON_MS, NOON_MS + 2 * HOUR_MS)


@pytest.fixture(params=["clickhouse", "clickhouse_two_shards"])
def open_ledger(request: pytest.FixtureRequest) -> Open:
    place: NewPlace = request.getfixturevalue(request.param)
    return place()


def opened(open_ledger: Open) -> ClickHouseLedger:
    ledger = open_ledger()
    assert isinstance(ledger, ClickHouseLedger)
    return ledger


def filled(open_ledger: Open) -> tuple[ClickHouseLedger, dict[Any, Any]]:
    """Two hours of two nodes that claim one GPU."""
    ledger = opened(open_ledger)
    ledger.append([since_noon(hour, node) for hour in (0, 1) for node in ("n1", "n2")], NOON_MS)
    return ledger, used(ledger)


def count(ledger: ClickHouseLedger, table: str) -> int:
    ((rows,),) = ledger._tables.rows(f"SELECT count() FROM {{{table}}}")
    return int(rows)


def test_hours_of_a_ledger_of_before_are_rolled_up_once(open_ledger: Open) -> None:
    ledger, before = filled(open_ledger)
    checksum = ledger.usage().checksum(*SPAN)
    for shard in ledger._tables.shards:
        for table in TABLES:
            shard.run(f"DROP TABLE {table}")
            if ledger._tables.suffix:
                shard.run(f"DROP TABLE {table}_all")
        shard.run("TRUNCATE TABLE schema_version")
    ledger.close()
    again = opened(open_ledger)
    assert again.usage().gpu_groups() == []
    assert again.roll(hours_max=1), "one hour is left"
    assert used(again) == before
    assert again.usage().checksum(*SPAN) == checksum
    rows = count(again, "rolled_hours")
    again.roll()
    assert count(again, "rolled_hours") == rows, "nothing changed"
    again.close()


@contextmanager
def killed_after(ledger: ClickHouseLedger, inserts: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is done here ends after so many inserts."""
    left, client = [inserts], ledger._tables.client
    run, insert = client.run, client.insert

    def spend(sql: str) -> None:
        if "INTO" in sql:
            if not left[0]:
                raise LedgerError("killed")
            left[0] -= 1

    def counted_run(sql: str) -> None:
        spend(sql)
        run(sql)

    def counted_insert(table: str, columns: Any, values: Any) -> None:
        spend("INTO")
        insert(table, columns, values)

    with monkeypatch.context() as patched, suppress(LedgerError):
        patched.setattr(client, "run", counted_run)
        patched.setattr(client, "insert", counted_insert)
        yield


@pytest.mark.parametrize("inserts", range(INSERTS + 1))
def test_a_collector_that_is_killed_leaves_no_half_of_a_roll_up(
    clickhouse: NewPlace, monkeypatch: pytest.MonkeyPatch, inserts: int
) -> None:
    """After so many of its inserts."""
    ledger = opened(clickhouse())
    ledger.append([since_noon(0, "n1"), since_noon(0, "n2")], NOON_MS)
    before, checksum = used(ledger), ledger.usage().checksum(*SPAN)
    ledger.append([since_noon(1, "n1")], NOON_MS)
    ledger.fold()
    with killed_after(ledger, inserts, monkeypatch):
        ledger.roll()
    seen = ledger.usage().checksum(*SPAN)
    after = used(ledger)
    if inserts < INSERTS:
        assert seen == checksum, "readers see what there was"
    assert after["w-n1", "llama"]["productive_ms"] == 2 * before["w-n1", "llama"]["productive_ms"]
    assert after["w-n1", "llama"]["completion"] == 2 * before["w-n1", "llama"]["completion"]
    ledger.close()


def test_what_was_replaced_is_removed_when_no_reader_can_need_it(
    open_ledger: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, _ = filled(open_ledger)
    once = {table: count(ledger, table) for table in (*rolls.ROLL_TABLES, "rolled_hours")}
    assert once["contested_hours"] == once["work_hours"] // 2 == 2
    reader = ledger.usage()
    held = dict(reader.reported_ms(*SPAN, lambda group: "p"))
    ledger.append([since_noon(1, "n1", gpu="GPU-1"), since_noon(0, "n3", gpu="GPU-3")], NOON_MS)
    after = used(ledger)
    assert dict(ledger.usage().reported_ms(*SPAN, lambda group: "p")) != held
    assert dict(reader.reported_ms(*SPAN, lambda group: "p")) == held
    ledger.retire(windows_before_ms=0, hours_before_ms=0, counter_bases={})
    for shard in ledger._tables.shards:  # those that were replaced just now are of long ago
        shard.run("INSERT INTO rolled_hours (hour_ms, roll, turn, begun_ms, commits, facts) "
                  "SELECT hour_ms, roll, turn, 0, commits, facts FROM rolled_hours WHERE turn = 1")  # fmt: skip
    ledger.retire(windows_before_ms=0, hours_before_ms=0, counter_bases={})
    assert dict(reader.reported_ms(*SPAN, lambda group: "p")) == held, "a reader may still need it"
    monkeypatch.setattr(rolls, "KEPT_MS", -HOUR_MS)
    ledger.retire(windows_before_ms=0, hours_before_ms=0, counter_bases={})
    pending = "SELECT count() FROM system.mutations WHERE database = currentDatabase() AND NOT is_done"
    shards = ledger._tables.shards
    wait_until(lambda: not any(shard.rows(pending)[0][0] for shard in shards), what="rows to be deleted")
    assert count(ledger, "capacity_hours") == 3, "of n1 in both hours, and of n3"
    assert ledger._tables.rows("SELECT uniqExact(roll) FROM {rolled_hours}") == [(2,)]
    assert used(ledger) == after
    ledger.close()
