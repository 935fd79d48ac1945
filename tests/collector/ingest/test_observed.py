"""What OpenTelemetry senders report sums to what they counted: through resets, repeats, any order, and restarts."""

import asyncio
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.errors import LedgerError
from tokenyield_collector.ingest import observed
from tokenyield_collector.ingest.observed import FullDay, ObservedIntake
from tokenyield_collector.ingest.stats import IngestStats
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.spend.otlp.points import ObservedAmounts, ObservedPoint, PointKey
from tokenyield_collector.spend.slices import SpendFields
from tokenyield_wire.units import MS_PER_DAY

DAY_MS = 20_000 * MS_PER_DAY
NS_PER_DAY = MS_PER_DAY * 10**6
NOW_MS = DAY_MS + 3 * MS_PER_DAY


def point(time_ns: int, count: int, *, is_total: bool, series: str = "s", start_ns: int = 0) -> ObservedPoint:
    day_ms = time_ns // NS_PER_DAY * MS_PER_DAY
    key = PointKey(int(is_total), day_ms, series, start_ns, 0 if is_total else time_ns)
    fields, amounts = SpendFields("openai", model=series), ObservedAmounts(output=count)
    return ObservedPoint(key, time_ns, count if is_total else 0, "", "codex", "metrics", "c", fields, amounts)


class Place:
    """A ledger file, and the intake of the collector that has it open."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "ledger.duckdb"
        self.writer = ThreadPoolExecutor(1)
        self.open()

    def open(self) -> None:
        self.stats = IngestStats()
        self.ledger = DuckDbLedger(self._path)
        settings = CollectorSettings(ledger_path=str(self._path))
        self.intake = ObservedIntake(settings, self.ledger, self.writer, self.stats, lambda: NOW_MS)

    def restart(self) -> None:
        self.ledger.close()
        self.open()

    def output(self, *days: int) -> int:
        self.intake.add_up_now()
        within = [DAY_MS + day * MS_PER_DAY for day in days] or [DAY_MS]
        slices = self.ledger.spend(within[0], within[-1] + MS_PER_DAY)
        return sum(line.amounts.output or 0 for one in slices for line in one.lines)

    def close(self) -> None:
        self.ledger.close()
        self.writer.shutdown()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    opened = Place(tmp_path)
    yield opened
    opened.close()


def ns(day: int, second: int) -> int:
    return DAY_MS * 10**6 + day * NS_PER_DAY + second * 10**9


def test_a_series_that_falls_without_a_new_start_began_anew(place: Place) -> None:
    place.intake.store([point(ns(0, 1), 50, is_total=True)])
    place.intake.store([point(ns(0, 2), 8, is_total=True), point(ns(0, 3), 9, is_total=True)])
    assert place.output() == 59
    place.restart()
    place.intake.store([point(ns(0, 4), 12, is_total=True), point(ns(1, 1), 20, is_total=True)])
    assert (place.output(), place.output(0, 1)) == (62, 70), "after a restart it goes on where it was"
    place.intake.store([point(ns(0, 1) + 5, 55, is_total=True)])
    assert place.output(0, 1) == 70, "from before the reset: too late"
    assert place.stats.points["metrics", "late"] == 1


def test_what_comes_late_moves_between_days_and_sums_stay(place: Place) -> None:
    place.intake.store([point(ns(0, 1), 10, is_total=True), point(ns(2, 1), 100, is_total=True)])
    assert (place.output(0), place.output(1), place.output(2)) == (10, 0, 90)
    place.intake.store([point(ns(1, 1), 60, is_total=True)])
    assert (place.output(0), place.output(1), place.output(2)) == (10, 50, 40)


class Truth(NamedTuple):
    points: list[ObservedPoint]
    output: int


def sender(random: random.Random, series: str) -> Truth:
    """A process that restarts now and then, of either temporality, for two days."""
    is_total, counted, output, time_ns = random.random() < 0.5, 0, 0, ns(0, random.randrange(1000))
    start_ns, points = time_ns, []
    for _ in range(random.randrange(1, 25)):
        if random.random() < 0.15:
            start_ns, counted = time_ns, 0
        before_ns, time_ns = time_ns, time_ns + random.randrange(1, NS_PER_DAY // 12)
        grown = random.choice((0, 1, 7, 1000))
        counted, output = counted + grown, output + grown
        if is_total:  # as reading.py does: another start is another series
            points.append(point(time_ns, counted, is_total=True, series=f"{series}-{start_ns}", start_ns=start_ns))
        else:
            points.append(point(time_ns, grown, is_total=False, series=series, start_ns=before_ns))
    return Truth(points, output)


@pytest.mark.parametrize("seed", range(6))
def test_sums_are_what_senders_counted(place: Place, seed: int) -> None:
    chance = random.Random(seed)
    truths = [sender(chance, f"s{i}") for i in range(8)]
    sent = [one for truth in truths for one in truth.points]
    sent += chance.sample(sent, len(sent) // 3)
    chance.shuffle(sent)
    while sent:
        count = chance.randrange(1, 40)
        part, sent = sent[:count], sent[count:]
        place.intake.store(part)
        if chance.random() < 0.3:
            place.intake.add_up_now()
        if chance.random() < 0.2:
            place.restart()
    assert place.output(0, 1, 2, 3) == sum(truth.output for truth in truths)


def test_what_did_not_change_is_not_written_again(place: Place) -> None:
    place.intake.store([point(ns(0, 1), 10, is_total=False)])
    place.intake.add_up_now()
    revision = place.ledger.spend_revision(0, DAY_MS * 2)
    place.restart()
    place.intake.store([point(ns(0, 1), 10, is_total=False)])
    assert place.output() == 10
    assert place.ledger.spend_revision(0, DAY_MS * 2) == revision


def test_requests_that_wait_are_committed_together_and_each_hears_of_a_fault(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def send() -> list[BaseException | None]:
        adding = (place.intake.add([point(ns(0, i + 1), 1, is_total=False)]) for i in range(20))
        return await asyncio.gather(*adding, return_exceptions=True)

    assert asyncio.run(send()) == [None] * 20
    assert place.output() == 20

    def fail(points: object, received_ms: int) -> None:
        raise LedgerError("the disk is full")

    monkeypatch.setattr(place.ledger, "add_observed", fail)
    assert {str(error) for error in asyncio.run(send())} == {"the disk is full"}


def test_a_day_has_room_for_so_many_points(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observed, "DAY_POINTS_MAX", 2)
    place.intake.store([point(ns(0, i), 1, is_total=False) for i in range(1, 3)])
    place.intake.add_up_now()
    with pytest.raises(FullDay, match="at most 2 points of one day"):
        place.intake.store([point(ns(0, 3), 1, is_total=False)])
    place.intake.store([point(ns(1, 3), 1, is_total=False)])
    assert place.output(0, 1) == 3
