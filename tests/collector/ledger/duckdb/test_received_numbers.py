"""Which batches were received, as a start reads it: ranges by hour, with gaps within, between and at the edges of hours.

`received_hours` must be what the table `batches` says, whatever happened to the ledger; the tests compute that anew.
"""

import os
import random
import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

from collector.samples import HOUR_MS, NOON_MS, batch, shipment
from tokenyield_collector.ledger.duckdb import hours
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.duckdb.received import ranges_by_hour, read_received
from tokenyield_collector.ledger.intake import sender_of
from tokenyield_collector.ledger.quarantine import Impossible
from tokenyield_collector.ledger.verify import verify
from tokenyield_wire.units import hour_of_ms

LAST = 26
OF_HOUR = 5
NODES = ("n1", "n2", "n3")
STEPS = ("send", "send", "fold", "roll", "roll one", "write down", "retire", "move aside", "copy", "restart", "kill")


def of_number(number: int) -> int:
    """Start (ms) of its window: some of an hour each, and every seventh two hours late."""
    return NOON_MS + number // OF_HOUR * HOUR_MS + number * 15_000 - (number % 7 == 0) * 2 * HOUR_MS


def send(ledger: DuckDbLedger, node: str, numbers: Iterable[int]) -> tuple[int, int]:
    """(new, known)."""
    of_node = [batch(number, of_number(number), gpus=1) for number in sorted(numbers)]
    ((accepted, duplicates),) = ledger.append([shipment(*of_node, node=node, agent_id=node)], NOON_MS)
    return accepted, duplicates


def islands(numbers: Iterable[int]) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    for number in sorted(numbers):
        first = ranges.pop()[0] if ranges and ranges[-1][1] == number - 1 else number
        ranges.append((first, number))
    return ranges


def stored(ledger: DuckDbLedger) -> dict[str, set[int]]:
    """Node -> the numbers of its batches that are there."""
    numbers: dict[str, set[int]] = {node: set() for node in NODES}
    for node, seq in ledger._file.rows("SELECT node, seq FROM batches"):
        assert seq not in numbers[node], "counted twice"
        numbers[node].add(seq)
    return numbers


def check_ranges(ledger: DuckDbLedger) -> None:
    dirty = {hour_ms for (hour_ms,) in ledger._file.rows("SELECT hour_ms FROM dirty_hours")}
    assert dirty == ledger._hours.dirty
    numbers: dict[tuple[int, str], set[int]] = defaultdict(set)
    for node, seq, start_ms in ledger._file.rows("SELECT node, seq, start_ms FROM batches"):
        numbers[hour_of_ms(start_ms), node].add(seq)
    expected = [(*key, *span) for key, of_key in numbers.items() if key[0] not in dirty for span in islands(of_key)]
    rows = ledger._file.rows("SELECT hour_ms, node, first_seq, last_seq FROM received_hours")
    assert sorted(row for row in rows if row[0] not in dirty) == sorted(expected)


class Walk:
    """A ledger to which anything may happen, and what it must know."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.chosen = random.Random(seed)
        self._folder = folder
        self._lives = 0
        self.ledger = DuckDbLedger(folder / "ledger.duckdb")
        self.known: dict[str, set[int]] = {node: set() for node in NODES}
        """Since the last start: the batches that were there then, and those that came."""

    def step(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        ledger, hour_ms = self.ledger, NOON_MS + self.chosen.randrange(-2, 3) * HOUR_MS
        match name:
            case "send":
                self._send(self.chosen.choice(NODES))
            case "fold":
                ledger.fold()
            case "roll":
                ledger.roll(self.chosen.choice([None, hour_ms]))
            case "roll one":
                ledger.roll(hours_max=1)
            case "write down":
                with monkeypatch.context() as patch:
                    patch.setattr(hours, "LIVE_ROWS_MAX", 0)
                    ledger.fold()
            case "retire":
                ledger.retire(windows_before_ms=hour_ms + 60_000, hours_before_ms=0, counter_bases={})
            case "move aside":
                self._move_aside()
            case "copy":
                self._lives += 1
                path = self._folder / f"copy-{self._lives}.duckdb"
                ledger.copy_to(path)
                ledger.close()
                self._open(path)
            case "restart":
                ledger.close()
                self._open(ledger._file.path)
            case "kill":
                self._kill()

    def _send(self, node: str) -> None:
        numbers = {n for n in range(1, self.chosen.randint(1, LAST) + 1) if self.chosen.random() < 0.6} | {1}
        fresh = numbers - self.known[node]
        assert send(self.ledger, node, numbers) == (len(fresh), len(numbers) - len(fresh))
        self.known[node] |= numbers

    def _move_aside(self) -> None:
        """One window, or one that is not there: its batch stays known, and its hour is made again."""
        number, node = self.chosen.randint(1, LAST), self.chosen.choice(NODES)
        self.ledger.quarantine([Impossible("c", node, of_number(number), "windows", "a test")], NOON_MS)

    def _kill(self) -> None:
        """What a kill leaves on the disk goes on in another place."""
        path = self.ledger._file.path
        self._lives += 1
        folder = self._folder / f"killed-{self._lives}"
        folder.mkdir()
        for file in (path, path.with_name(path.name + ".wal")):
            if file.exists():
                shutil.copy(file, folder)
        self.ledger.close()
        self._open(folder / path.name)

    def _open(self, path: Path) -> None:
        self.ledger = DuckDbLedger(path)
        self.known = stored(self.ledger)
        read = read_received(self.ledger._file.connection)
        assert {sender.node: numbers.ranges() for sender, numbers in read.items()} == {
            node: islands(numbers) for node, numbers in self.known.items() if numbers
        }


@pytest.mark.parametrize("seed", range(int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "3"))))
def test_a_start_knows_every_number_and_no_other(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = Walk(seed, tmp_path)
    for _ in range(12):
        walk.step(walk.chosen.choice(STEPS), monkeypatch)
        check_ranges(walk.ledger)
    walk.step(walk.chosen.choice(("copy", "restart", "kill")), monkeypatch)
    ledger = walk.ledger
    for node in NODES:
        known = walk.known[node]
        assert send(ledger, node, known) == (0, len(known)), "all were there before"
        missing = [
            n for start, end in ledger.missing(shipment(node=node, agent_id=node)) for n in range(start, end + 1)
        ]
        if known and not ledger._writer._is_new:
            assert missing == [n for n in range(1, max(known)) if n not in known]
        others = set(range(1, LAST + 1)) - known
        assert send(ledger, node, others) == (len(others), 0), "and these were not"
    ledger.roll(hours_max=3)
    assert ledger.receipt_differences() == []
    check_ranges(ledger)
    ledger.close()


def test_numbers_are_kept_as_long_as_their_windows(tmp_path: Path) -> None:
    path = tmp_path / "ledger.duckdb"
    ledger = DuckDbLedger(path)
    numbers = set(range(1, LAST + 1))
    send(ledger, "n1", numbers)
    ledger.roll()
    send(ledger, "n1", {LAST + 7})  # its hour grows again
    ledger.retire(windows_before_ms=NOON_MS + 2 * HOUR_MS, hours_before_ms=0, counter_bases={})
    ledger.close()
    ledger = DuckDbLedger(path)
    numbers.add(LAST + 7)
    kept = {n for n in numbers if of_number(n) >= NOON_MS + 2 * HOUR_MS}
    assert kept, numbers - kept
    assert send(ledger, "n1", numbers) == (len(numbers - kept), len(kept))
    ledger.close()


def test_many_open_hours_apart_need_little_memory(tmp_path: Path) -> None:
    """As after a quarantine that was killed before its hours were made again: every second hour of months is open."""
    path = tmp_path / "ledger.duckdb"
    ledger = DuckDbLedger(path)
    rows = f"'a', 'e1', 'c', 'n1', i + 1, i * {HOUR_MS // 4}, (i + 1) * {HOUR_MS // 4}"
    ledger._file.connection.execute(
        f"INSERT INTO batches (agent_id, epoch, cluster, node, seq, start_ms, end_ms) SELECT {rows} FROM range(1200) r(i)"
    )
    ledger._file.connection.execute(f"INSERT INTO received_hours {ranges_by_hour('true')}")
    ledger._file.connection.execute(f"INSERT INTO dirty_hours SELECT range * {2 * HOUR_MS} FROM range(150)")
    ledger._file.close()
    ledger = DuckDbLedger(path, memory_limit="60MB")
    assert read_received(ledger._file.connection)[sender_of(shipment(node="n1", agent_id="a"))].ranges() == [(1, 1200)]
    ledger._file.close()


def test_verify_names_what_is_listed_otherwise_than_it_is(tmp_path: Path) -> None:
    ledger = DuckDbLedger(tmp_path / "ledger.duckdb")
    send(ledger, "n1", {1, 2, 3, 4, 5, 6})
    ledger.roll()
    change = ledger._file.connection.execute
    change(f"DELETE FROM received_hours WHERE hour_ms = {NOON_MS}")
    change(f"INSERT INTO received_hours VALUES ({NOON_MS - 9 * HOUR_MS}, 'n2', 'e1', 'c', 'n2', 7, 9)")
    assert list(verify(ledger)) == [
        "c/n2: batches 7 to 9 of the hour 2026-11-23T03:00:00Z are listed as received, but not there",
        "c/n1: batches 1 to 4 of the hour 2026-11-23T12:00:00Z are there, but not listed as received",
    ]
    ledger.close()
