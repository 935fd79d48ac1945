"""A ledger that a collector of schema 15 made goes on as it was (tests/fixtures/README.md says what is in it)."""

import gzip
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from collector.fleet import ms
from collector.ledger.duckdb.test_received_numbers import islands
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.ledger.duckdb import schema
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.duckdb.received import read_received
from tokenyield_collector.live.counted_parts import PREFIX, SUM
from tokenyield_collector.live.kept_months import SHOWN
from tokenyield_collector.live.refresher import Refresher
from tokenyield_collector.live.view import View
from tokenyield_collector.policy import Policy

RECORDED = Path(__file__).parents[3] / "fixtures/ledgers/schema-15.duckdb.gz"
NOW_MS = ms("2026-11-02T00:01")
Rows = list[tuple[Any, ...]]


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("old") / "ledger.duckdb"
    path.write_bytes(gzip.decompress(RECORDED.read_bytes()))
    return path


@pytest.fixture
def path(old: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(old, tmp_path))


def rows_of(path: Path, *selects: str) -> list[Rows]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return [connection.execute(sql).fetchall() for sql in selects]


BATCHES = "SELECT agent_id, epoch, cluster, node, seq FROM batches"
OLD_FIGURES = "SELECT name, inputs, content FROM kept_figures ORDER BY ALL"
FIGURES = "(FROM settled_figures UNION ALL FROM changing_figures) ORDER BY ALL"


def test_all_that_was_received_and_kept_is_there(path: Path) -> None:
    (version,), batches, figures = rows_of(path, "SELECT max(version) FROM schema_version", BATCHES, OLD_FIGURES)
    assert (version, len(batches)) == ((15,), 611)
    numbers: dict[tuple[str, ...], list[int]] = {}
    for *sender, seq in batches:
        numbers.setdefault(tuple(sender), []).append(seq)
    ledger = DuckDbLedger(path)
    assert ledger._hours.dirty, "hours were open when it was killed"
    received = {tuple(sender): known.ranges() for sender, known in read_received(ledger._file.connection).items()}
    assert received == {sender: islands(seqs) for sender, seqs in numbers.items()}
    assert sorted(map(len, received.values())) == [1, 2, 3, 4]
    names = {name: (inputs, content) for name, inputs, content in figures}
    assert ledger.figures.inputs("") == {name: inputs for name, (inputs, _) in names.items()}
    assert ledger.figures.contents(names) == {name: content for name, (_, content) in names.items()}
    ledger.close()  # which writes the open hours down
    ledger = DuckDbLedger(path)
    assert not ledger._hours.dirty
    assert ledger.receipt_differences() == []
    ledger.close()


def refreshed(ledger: DuckDbLedger, policy: Policy) -> View:
    """As a start does, until all is counted."""
    refresher = Refresher(CollectorSettings(ledger_path=""), ledger, policy)
    refresher.refresh(ledger.fold(), NOW_MS, {})
    while refresher.count_some():
        refresher.refresh(ledger.fold(), NOW_MS, {})
    ledger.roll(NOW_MS - 60_000)
    refresher.bring_to_date(NOW_MS)
    return refresher.refresh(ledger.fold(), NOW_MS, {})


def test_counters_and_figures_to_date_go_on_and_are_those_of_the_facts(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, read = Policy(), set[int]()
    ledger = DuckDbLedger(path)
    dirty, whole = set(ledger._hours.dirty), ledger.facts_of_hours

    def noted(hours_ms: Any, **named: Any) -> Any:
        read.update(hours_ms)
        return whole(hours_ms, **named)

    monkeypatch.setattr(ledger, "facts_of_hours", noted)
    kept = refreshed(ledger, policy)
    assert dirty <= read
    assert len(read) < len(ledger.hours()), "closed hours are not counted again"
    ledger.figures.keep([], [SUM, SHOWN, *ledger.figures.inputs(PREFIX), *ledger.figures.inputs(f"{SHOWN}/")])
    assert ledger.figures.inputs("") == {}
    read.clear()
    anew = refreshed(ledger, policy)
    assert read == set(ledger.hours())
    assert kept.counters == anew.counters
    assert kept.to_date.values == anew.to_date.values
    assert sum(value for series, value in anew.counters.items() if series.metric == "requests") == 3 * 611
    ledger.close()


def killed_after(path: Path, statements: int) -> None:
    """A process that opens the ledger, and ends by SIGKILL before the next statement of the upgrade."""

    def some() -> Iterator[str]:
        for number, statement in enumerate(whole):
            if number == statements:
                os.kill(os.getpid(), signal.SIGKILL)
            yield statement
        os.kill(os.getpid(), signal.SIGKILL)

    whole = schema.MIGRATIONS[16]()
    schema.MIGRATIONS[16] = some  # type: ignore[assignment]
    DuckDbLedger(path)


def test_a_kill_in_the_middle_of_the_upgrade_changes_nothing(old: Path, tmp_path: Path) -> None:
    def upgraded(path: Path) -> list[Rows]:
        DuckDbLedger(path)._file.close()
        return rows_of(path, f"{BATCHES} ORDER BY ALL", FIGURES, "FROM received_hours ORDER BY ALL",
                       "FROM dirty_hours ORDER BY ALL", "FROM schema_version ORDER BY ALL")  # fmt: skip

    (before,) = rows_of(old, OLD_FIGURES)
    whole = upgraded(Path(shutil.copy(old, tmp_path / "whole.duckdb")))
    spawned = multiprocessing.get_context("spawn")
    steps = len(schema.MIGRATIONS[16]())
    for statements in (2, steps):
        path = Path(shutil.copy(old, tmp_path / f"killed-{statements}.duckdb"))
        process = spawned.Process(target=killed_after, args=(path, statements))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert rows_of(path, OLD_FIGURES) == [before]
        assert upgraded(path) == whole
