"""`kill -9` while a month is closed: afterwards the version is whole or absent, and the next run makes it.

DuckDB: a real process is killed after each COMMIT; and the write-ahead log is cut anywhere within what the COMMIT wrote,
which is what a kill amid it leaves. ClickHouse is a server, so what a kill
leaves is what was inserted before it: the collector ends before each insert. `TOKENYIELD_FUZZ_EXAMPLES` cuts the log in more places.
"""

import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from collector.fleet import Fleet, Gpu, Held, Server, policy, prices
from collector.fleet import ms as ms_of
from collector.ledger.engines import NewPlace
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.ledger.closed import StatementRecord
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.reports.closing import MonthClosing, named_days
from tokenyield_collector.reports.version_check import verify_versions
from tokenyield_collector.reports.version_content import closed_version

CUTS = int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "1"))
MONTH = "2026-10"
NOW_MS = ms_of("2026-11-20")
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])  # a child is there in milliseconds, with nothing open


def fill(fleet: Fleet) -> None:
    for start in ("2026-10-30T10:00", "2026-10-31T10:00", "2026-10-31T20:00"):
        held = [Held(workload="chat", active_min=40, idle_min=10, active_j=9_000, idle_j=90)]
        fleet.hour(start, [Gpu(held=held)], [Server(key="chat", labels={"team": "search"}, completion=9_000)])


def close(ledger: Ledger, folder: Path, price: int) -> None:
    closing = MonthClosing(
        ledger=ledger,
        policy=policy(prices(folder, f"pools: [{{name: p, rented: {{per_gpu_hour: {price}}}}}]")),
        now_ms=NOW_MS,
        close_after_ms=0,
        made_by="a collector",
    )
    for _ in closing.steps():
        pass


class KillingConnection:
    """The writer's connection, until the process is killed before its n-th statement; notes the statements, and how
    long the write-ahead log was before each."""

    def __init__(self, connection: Any, path: Path, at: int) -> None:
        self._connection, self._path, self._left = connection, path, at
        self._log = path.with_suffix(".statements").open("a")

    def execute(self, sql: str, *values: Any) -> Any:
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1
        self._log.write(json.dumps([sql.split(" ", 1)[0], wal_bytes(self._path)]) + "\n")
        self._log.flush()
        return self._connection.execute(sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def wal_bytes(path: Path) -> int:
    wal = wal_of(path)
    return wal.stat().st_size if wal.exists() else 0


def wal_of(path: Path) -> Path:
    return path.with_name(path.name + ".wal")


def close_until(path: Path, price: int, at: int) -> None:
    """In a process of its own: killed before the n-th statement, or at the end."""
    ledger = DuckDbLedger(path)
    ledger.roll()
    ledger._file.connection = KillingConnection(ledger._file.connection, path, at)
    close(ledger, path.parent, price)
    os.kill(os.getpid(), signal.SIGKILL)


def killed(path: Path, price: int, at: int) -> list[tuple[str, int]]:
    """The statements that it came to."""
    process = PROCESSES.Process(target=close_until, args=(path, price, at))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    lines = path.with_suffix(".statements").read_text().splitlines()
    return [(word, wal) for word, wal in map(json.loads, lines)]


def assert_whole_or_absent(ledger: Ledger, expected: Sequence[StatementRecord]) -> None:
    """All but the newest version are there as they were; the newest is as it should be, or not there."""
    records = ledger.versions.records(MONTH)
    assert len(expected) - 1 <= len(records) <= len(expected)
    assert records == list(expected)[: len(records)]
    ledger.roll()
    assert list(verify_versions(ledger)) == []


def assert_made_by_the_next_run(ledger: Ledger, folder: Path, price: int, expected: Sequence[StatementRecord]) -> None:
    close(ledger, folder, price)
    assert ledger.versions.records(MONTH) == list(expected)
    assert list(verify_versions(ledger)) == []
    assert ledger.versions.checks()[MONTH].finding == ""


class Prepared:
    """A DuckDB ledger that is about to close its first month, or to make the second version of it."""

    def __init__(self, folder: Path, version: int) -> None:
        self.folder, self.price = folder, version
        self.path = folder / "ledger.duckdb"
        fleet = Fleet(self.path)
        fill(fleet)
        for price in range(1, version):
            close(fleet.ledger, folder, price)
        fleet.ledger.roll()
        fleet.ledger.close()
        whole = DuckDbLedger(self.copied("whole"))
        close(whole, folder, self.price)
        self.expected = whole.versions.records(MONTH)
        assert len(self.expected) == version
        whole.close()

    def copied(self, name: str) -> Path:
        path = self.folder / name / "ledger.duckdb"
        path.parent.mkdir(exist_ok=True)
        shutil.copy(self.path, path)
        return path

    def check(self, path: Path) -> None:
        ledger = DuckDbLedger(path)
        try:
            assert_whole_or_absent(ledger, self.expected)
            assert_made_by_the_next_run(ledger, path.parent, self.price, self.expected)
            assert ledger.versions.part_counts().keys() == named_days(ledger.versions), "nothing is left over"
        finally:
            ledger.close()


@pytest.mark.parametrize("version", [1, 2])
def test_a_kill_leaves_a_version_whole_or_absent(version: int, tmp_path: Path) -> None:
    """After each COMMIT, and amid it, where only a part of what it writes to the log is there. Nothing else writes, so
    that a kill before any other statement leaves the same file as one after the COMMIT before it."""
    chosen = random.Random(version)
    prepared = Prepared(tmp_path, version)
    statements = killed(prepared.copied("all"), version, 10**6)
    wals = [wal for _, wal in statements] + [wal_bytes(tmp_path / "all" / "ledger.duckdb")]
    writing = [i for i in range(len(statements)) if wals[i + 1] != wals[i]]
    assert {statements[i][0] for i in writing} == {"COMMIT"}
    assert len(writing) >= 4, "days, the record, the check"
    for i in writing:
        cuts = [chosen.randrange(wals[i], wals[i + 1]) for _ in range(CUTS)]
        for bytes_left in (wals[i + 1], *cuts):
            path = prepared.copied(f"{i}-{bytes_left}")
            assert len(killed(path, version, i + 1)) == i + 1
            os.truncate(wal_of(path), bytes_left)
            prepared.check(path)


class Killed(BaseException):
    """The collector is gone; what it had inserted is in the server."""


def kill_before_insert(ledger: Any, at: int) -> None:
    tables, count = ledger.versions._tables, itertools.count()
    insert_rows = tables.insert_rows

    def insert_or_end(*values: Any) -> None:
        if next(count) == at:
            raise Killed
        insert_rows(*values)

    tables.insert_rows = insert_or_end


@pytest.mark.real
def test_a_kill_between_inserts_leaves_a_version_whole_or_absent(chdb: NewPlace, tmp_path: Path) -> None:
    """Of ClickHouse, where a day is several inserts. Each run gets one further than that before it."""
    prepared, open_ledger = Prepared(tmp_path, 2), chdb()
    fleet = Fleet()
    fleet.ledger.close()
    fleet.ledger = open_ledger()  # type: ignore[assignment]
    fill(fleet)
    fleet.ledger.roll()
    fleet.ledger.close()
    for version in (1, 2):
        for at in itertools.count(step=version):
            with closing(open_ledger()) as ledger:
                assert version - 1 <= len(ledger.versions.records(MONTH)) <= version
                assert list(verify_versions(ledger)) == []
                kill_before_insert(ledger, at)
                try:
                    close(ledger, tmp_path, version)
                    break
                except Killed:
                    continue
        assert at > 2 * 2, "two days of two parts, the record, the check"
    with closing(open_ledger()) as ledger:
        records = ledger.versions.records(MONTH)
    assert [digests(record) for record in records] == [digests(record) for record in prepared.expected]


def digests(record: StatementRecord) -> list[str]:
    version = closed_version(record)
    assert version is not None
    return [entry.digest for entry in version.content.days.values()]
