"""What makes one answer is read of one state of the ledger, whatever is committed between two of its queries."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collector.fleet import policy, prices
from collector.samples import HOUR_MS, NOON_MS, batch, shipment
from tokenyield_collector.ledger.clickhouse.facts import READS_MAX
from tokenyield_collector.ledger.clickhouse.ledger import ClickHouseLedger
from tokenyield_collector.ledger.clickhouse.schema import expected_columns
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.facts import Facts
from tokenyield_collector.live.live_view import LiveView, read_live_view
from tokenyield_collector.statements.source import Grain, Span
from tokenyield_collector.statements.statement import fleet_statement

BOOK = "{facilities: {a: {per_kwh: 0.10}}, pools: [{name: p, rented: {per_gpu_hour: 4}}]}"
ONE_MS = NOON_MS + HOUR_MS


class Interrupted:
    """A cursor before each of whose reads `between` happens."""

    def __init__(self, inner: Any, between: Callable[[], None]) -> None:
        self._inner, self._between = inner, between

    def execute(self, sql: str, *rest: Any) -> Any:
        if "SELECT" in sql and not sql.startswith("SELECT 1 FROM dirty_hours"):  # with which the snapshot begins
            self._between()
        data = sys._getframe(1).f_locals.get("data")  # DuckDB finds a table by the name of a variable in its caller
        result = self._inner.execute(sql, *rest)
        del data
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Busy:
    """A ledger of three hours into each of which a batch is committed before every read of an answer."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ledger = DuckDbLedger(path)
        self._seq, self._is_quiet, self._is_rolling = 0, True, False
        self.commit()
        new_cursor = self.ledger._file.new_cursor
        monkeypatch.setattr(self.ledger._file, "new_cursor", lambda: Interrupted(new_cursor(), self._between))

    def commit(self) -> None:
        batches = []
        for hour in range(3):
            self._seq += 1
            batches.append(batch(self._seq, NOON_MS + hour * HOUR_MS + 15_000 * (self._seq % 200)))
        self.ledger.append([shipment(*batches)], NOON_MS)
        self.ledger.fold()

    def _between(self) -> None:
        if not self._is_quiet:
            self._is_quiet = True  # what a commit itself reads is its own business
            self.commit()
            if self._is_rolling:
                self.ledger.roll()
            self._is_quiet = False

    def while_busy(self, read: Callable[[], Any], *, rolling: bool = False) -> Any:
        self._is_quiet, self._is_rolling = False, rolling
        try:
            return read()
        finally:
            self._is_quiet = True


@pytest.fixture
def busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Busy:
    return Busy(tmp_path / "ledger.duckdb", monkeypatch)


def balances(facts: Facts) -> bool:
    """Whether `chat` held of the GPUs what they did, as in every batch."""
    (gpu,), (share,) = facts.gpus, facts.shares
    return (share.active_ms, share.idle_ms, share.active_mj) == (gpu.active_ms, gpu.idle_ms, gpu.active_mj)


def test_a_commit_between_two_reads_of_a_stretch_changes_nothing(busy: Busy, tmp_path: Path) -> None:
    judged_by = policy(prices(tmp_path, BOOK))

    def read() -> LiveView:
        return read_live_view(busy.ledger, judged_by, NOON_MS + 5, ONE_MS + HOUR_MS + 5)

    first, again = busy.while_busy(read), read()
    for view in (first, again):
        assert balances(view.facts)
        held_ms = view.whole.active_ms
        assert held_ms == view.facts.gpus[0].active_ms, "the hours are the whole"
        (row,) = view.workloads
        assert row.sums.active_ms == held_ms
    assert first.facts.gpus[0].active_ms < again.facts.gpus[0].active_ms, "there were commits"
    busy.ledger.close()


def test_a_commit_between_two_reads_of_hours_changes_nothing(busy: Busy) -> None:
    facts = busy.while_busy(lambda: busy.ledger.facts_of_hours([NOON_MS]), rolling=True)
    assert balances(facts)
    busy.ledger.close()


def test_stretches_are_answered_in_the_order_requested(busy: Busy) -> None:
    ledger = busy.ledger
    whole, noon, nothing, one = ledger.facts_of_stretches(
        [(NOON_MS, ONE_MS + HOUR_MS), (NOON_MS, ONE_MS), (5, 5), (ONE_MS, ONE_MS + HOUR_MS)]
    )
    assert noon == ledger.facts_between(NOON_MS, ONE_MS)
    assert one == ledger.facts_between(ONE_MS, ONE_MS + HOUR_MS)
    assert whole.gpus[0].active_ms == noon.gpus[0].active_ms + one.gpus[0].active_ms
    assert (nothing.gpus, ledger.facts_of_stretches([])) == ([], [])
    ledger.close()


def test_a_statement_is_of_one_state(busy: Busy, tmp_path: Path) -> None:
    """Capacity and work are read by several queries; were they of two states, what is held would exceed what there is."""
    busy.ledger.roll()

    def totals() -> tuple[int, int, int]:
        statement = fleet_statement(
            busy.ledger.usage(),
            policy(prices(tmp_path, BOOK)),
            Span(NOON_MS, NOON_MS + 3 * HOUR_MS),
            Grain(workload=True, cluster=True),
        )
        lines = list(statement.lines())
        untied = [sums for key, sums in lines if key.carrier.kind == "untied"]
        assert untied == [], "all was held by a workload that is known"
        return tuple(sum(sums.get(name) for _, sums in lines) for name in ("productive_ms", "idle_ms", "completion"))  # type: ignore[return-value]

    before = totals()
    first_read = tuple(
        2 * figure for figure in before
    )  # one commit came before it, and as many after as there are reads
    assert busy.while_busy(totals, rolling=True) == first_read
    assert totals() > first_read
    busy.ledger.close()


def test_a_reader_holds_its_state_and_the_next_has_the_newest(busy: Busy) -> None:
    busy.ledger.roll()
    reader = busy.ledger.usage()
    before = reader.checksum(NOON_MS, ONE_MS)
    busy.commit()
    busy.ledger.roll()
    assert reader.checksum(NOON_MS, ONE_MS) == before
    assert busy.ledger.usage().checksum(NOON_MS, ONE_MS) != before
    del reader
    busy.ledger.close()


def test_bases_are_read_beside_what_is_being_written(tmp_path: Path) -> None:
    """On a cursor of their own: on the writer's they would see a commit half done, and take its results from it."""
    ledger = DuckDbLedger(tmp_path / "ledger.duckdb")
    ledger.retire(windows_before_ms=0, hours_before_ms=0, counter_bases={"tokens": 7})
    ledger._file.connection.execute("BEGIN; DELETE FROM counter_bases")
    assert ledger.counter_bases() == {"tokens": 7}
    ledger._file.connection.execute("ROLLBACK")
    ledger.close()


def test_what_was_committed_is_known_though_the_sums_in_memory_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = DuckDbLedger(tmp_path / "ledger.duckdb")

    def broken(tables: Any) -> None:
        raise TypeError("broken")

    with monkeypatch.context() as patched:
        patched.setattr(ledger._hours.live, "add", broken)
        assert ledger.append([shipment(batch(1, NOON_MS))], NOON_MS) == [(1, 0)]
    assert ledger.append([shipment(batch(1, NOON_MS))], NOON_MS) == [(0, 1)]
    assert ledger.fold() == [NOON_MS]
    assert ledger.facts_of_hours().gpus[0].active_ms == 18_000
    ledger.close()


class FakeClickHouse:
    """As much of a server as opens a ledger. `counts` are how many batches it reports, one after the other."""

    def __init__(self, counts: list[int]) -> None:
        self.queries: list[str] = []
        self._counts = counts

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        self.queries.append(sql)
        if sql.startswith("SELECT count() FROM windows"):
            return [(self._counts.pop(0),)]
        if sql.startswith("DESCRIBE TABLE "):
            return [(column,) for column in expected_columns()[sql.removeprefix("DESCRIBE TABLE ")]]
        if "count()" in sql:
            return [(0, 0)]
        return [(0,)] if "max(" in sql and "GROUP BY" not in sql else []

    def columns(self, sql: str) -> list[Any]:
        return []

    def run(self, sql: str) -> None: ...

    def insert(self, table: str, columns: Any, values: Any) -> None: ...

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("counts", "reads"), [([5, 5], 1), ([5, 6, 6], 2), ([*range(READS_MAX + 1)], READS_MAX)],
    ids=["quiet", "one came", "they come all the time"],
)  # fmt: skip
def test_clickhouse_reads_again_what_changed_and_wholes_last(counts: list[int], reads: int) -> None:
    """It has no snapshot over several queries: nothing in an answer may exceed what is read after it."""
    client = FakeClickHouse(counts)
    ledger = ClickHouseLedger(client, [client], "fake")
    client.queries.clear()
    ledger.facts_of_stretches([(NOON_MS, ONE_MS + HOUR_MS), (NOON_MS, ONE_MS), (ONE_MS, ONE_MS + HOUR_MS)])
    assert counts == []
    order = [
        (table, "hour" if f"start_ms < {ONE_MS + HOUR_MS}" not in sql or f"start_ms >= {ONE_MS}" in sql else "whole")
        for sql in client.queries
        for table in ("share", "gpu")
        if f"ARRAY JOIN {table} AS" in sql
    ]
    once = [("share", "hour"), ("gpu", "hour")] * 2 + [("share", "whole"), ("gpu", "whole")]
    assert order == once * reads
