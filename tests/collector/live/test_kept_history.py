"""A start goes on from what the ledger keeps: counters never go back, figures to date are there at once and are right."""

import asyncio
import os
import random
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from collector.fleet import Fleet, Gpu, Held, Server, ms, policy, prices
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.ledger.duckdb.figures import DuckDbFigures
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.kept import KeptFigure
from tokenyield_collector.live import refresher as refreshing
from tokenyield_collector.live.counted_parts import PREFIX, SUM
from tokenyield_collector.live.kept_months import SHOWN, MonthToDate
from tokenyield_collector.live.refresher import Refresher
from tokenyield_collector.live.series import Series
from tokenyield_collector.live.to_date import ToDate
from tokenyield_collector.live.view import View
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.period import iso
from tokenyield_collector.steps import Steps
from tokenyield_wire.units import MS_PER_HOUR

START_MS = ms("2026-10-28T20:00")
SETTINGS = CollectorSettings(ledger_path="")
BOOK = "pools: [{name: %s, rented: {per_gpu_hour: %d, count: 3}}]\nfacilities: {}\n"


@dataclass
class World:
    """A ledger in a file, and a collector's refresher that may die at any moment."""

    path: Path
    policies: Sequence[Policy]
    hours: int = 0
    chosen: int = 0
    fleet: Fleet = field(init=False)
    refresher: Refresher = field(init=False)
    view: View = field(init=False)

    def __post_init__(self) -> None:
        self.fleet = Fleet(self.path)
        self.refresher = Refresher(SETTINGS, self.fleet.ledger, self.policies[self.chosen])

    @property
    def now_ms(self) -> int:
        return START_MS + self.hours * MS_PER_HOUR + 90_000

    def add(self, hour: int, name: str, minutes: int = 30) -> None:
        held = [Held(workload=name, active_min=minutes, idle_min=10, active_j=1000, idle_j=100)]
        server = Server(key=name, model=f"model-{name}", completion=1000 + minutes, requests=3)
        gpu = Gpu(uuid=f"GPU-{name}", held=held)
        self.fleet.hour(START_MS + hour * MS_PER_HOUR, [gpu], [server], node=name)

    def refresh(self) -> View:
        """As the collector does: what is counted is kept before it is shown."""
        self.view = self.refresher.refresh(self.fleet.ledger.fold(), self.now_ms, {})
        self.refresher.keep()
        return self.view

    def to_date(self) -> View:
        self.refresh()
        self.fleet.ledger.roll(self.now_ms - MS_PER_HOUR)
        if self.refresher.is_due(self.now_ms):
            self.refresher.bring_to_date(self.now_ms)
        return self.refresh()

    def restart(self) -> None:
        """As after kill -9: nothing that was in memory is written."""
        self.fleet.ledger._file.close()
        self.fleet.ledger = DuckDbLedger(self.path)
        self.refresher = Refresher(SETTINGS, self.fleet.ledger, self.policies[self.chosen])


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of 30 hours, as killed."""
    path = tmp_path_factory.mktemp("filled") / "ledger.duckdb"
    world = World(path, [Policy()])
    for hour in range(30):
        world.add(hour, "chat")
    world.fleet.ledger._file.checkpoint()
    world.fleet.ledger._file.close()
    return path


@pytest.fixture
def world(tmp_path: Path, filled: Path) -> World:
    path = Path(shutil.copy(filled, tmp_path))
    books = [policy(prices(tmp_path, BOOK % args)) for args in (("old", 4), ("new", 1))]
    world = World(path, books, hours=30)
    world.fleet._seq = 1000
    return world


def settle(world: World) -> View:
    """All hours written down, counted, and what is to date computed and kept."""
    world.to_date()
    return world.refresh()


def hours_read(world: World, monkeypatch: pytest.MonkeyPatch) -> set[int]:
    read: set[int] = set()
    whole = world.fleet.ledger.facts_of_hours

    def noted(hours_ms: Any, **named: Any) -> Any:
        read.update(hours_ms)
        return whole(hours_ms, **named)

    monkeypatch.setattr(world.fleet.ledger, "facts_of_hours", noted)
    return read


def test_a_restart_reads_no_closed_hour_and_computes_no_month(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = settle(world)
    world.restart()
    read = hours_read(world, monkeypatch)
    monkeypatch.setattr(world.refresher._to_date, "_compute", lambda start_ms, end_ms: pytest.fail("computed again"))
    after = world.refresh()
    assert after.counters == before.counters
    assert after.names == before.names
    assert after.to_date.values == before.to_date.values
    assert len(read) <= 2, "those that may still grow"
    assert world.to_date().to_date == before.to_date


def test_late_windows_are_counted_once_and_cost_their_month(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(world)
    world.restart()
    world.refresh()
    read = hours_read(world, monkeypatch)
    world.add(1, "late")
    after = world.refresh()
    assert after.counters[Series("requests", ("c", "late", "model-late", "answered"))] == 3
    assert after.counters[Series("requests", ("c", "chat", "model-chat", "answered"))] == 30 * 3
    assert START_MS + MS_PER_HOUR in read
    assert len(read) <= 2 + 4, "its day as far as the ledger has it, and what still grows"
    world.restart()
    assert world.refresh().counters == after.counters, "killed before it was kept"


@pytest.mark.parametrize("damage", ["gone", "other parts", "unreadable"])
def test_a_sum_that_is_not_of_the_parts_is_made_again(world: World, damage: str) -> None:
    before, figures = settle(world), world.fleet.ledger.figures
    if damage == "gone":
        figures.keep([], [SUM])
    else:
        inputs = "others" if damage == "other parts" else figures.inputs(SUM)[SUM]
        figures.keep([KeptFigure(SUM, inputs, "damaged")])
    world.restart()
    assert world.refresh().counters == before.counters


def test_other_prices_are_applied_while_the_old_figures_stay(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.hours = 110  # into November
    world.add(109, "chat")
    before = settle(world)
    world.chosen = 1
    world.refresher.set_policy(world.policies[1])
    meanwhile = world.refresh()
    assert meanwhile.to_date == before.to_date
    assert not meanwhile.history.policy_is_current
    assert meanwhile.counters == before.counters, "what was counted stays where it was counted"
    next(world.refresher.steps_to_date(world.now_ms))
    world.refresher.keep_to_date()
    world.restart()  # killed with one month done, the newest
    names_read: list[str] = []
    contents = DuckDbFigures.contents

    def noted_contents(self: DuckDbFigures, names: Collection[str]) -> dict[str, str]:
        names_read.extend(names)
        return contents(self, names)

    monkeypatch.setattr(DuckDbFigures, "contents", noted_contents)
    assert world.refresh().to_date == before.to_date, "the old figures are shown, and marked"
    assert [name for name in names_read if name.startswith(SHOWN)] == [SHOWN], "one, however many months there are"
    assert not world.view.history.policy_is_current
    spans: list[tuple[int, int]] = []
    compute = world.refresher._to_date._compute

    def noted(start_ms: int, end_ms: int) -> MonthToDate:
        spans.append((start_ms, end_ms))
        return compute(start_ms, end_ms)

    monkeypatch.setattr(world.refresher._to_date, "_compute", noted)
    after = world.to_date()
    assert [start_ms for start_ms, _ in spans] == [START_MS], "November is there already"
    assert after.history.policy_is_current
    assert sum(money(after)) * 4 == sum(money(before))
    assert all(
        name.startswith("to date/" + after.to_date.policy) for name in world.fleet.ledger.figures.inputs("to date/")
    )


def money(view: View) -> list[int]:
    return [value for series, value in view.to_date.values.items() if series.metric == "cost"]


def test_more_hours_than_one_refresh_counts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first start after an upgrade: no counter is shown before all are counted."""
    whole, figures = world.refresh().counters, world.fleet.ledger.figures
    figures.keep([], [SUM, *figures.inputs(PREFIX)])
    monkeypatch.setattr(refreshing, "HOURS_COUNTED_AT_ONCE", 5)
    world.restart()
    view = world.refresh()
    assert (view.counters, view.history.hours_to_count) == ({}, 30)
    while world.refresher.count_some():  # a day, which the next refresh takes up
        assert view.counters == {}
        view = world.refresh()
    assert view.counters == whole
    assert world.view.history.hours_to_count == 0


@pytest.mark.parametrize("seed", range(int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "2"))))
def test_whatever_happens_no_counter_goes_back(tmp_path: Path, seed: int) -> None:
    """Windows, late ones, refreshes, writing down, keeping, other prices and kills in any order."""
    drawn = random.Random(seed)
    books = [policy(prices(tmp_path, BOOK % args)) for args in (("old", 4), ("new", 1))]
    world = World(tmp_path / "ledger.duckdb", books)
    shown: dict[Series, int] = {}
    for number in range(40):
        match drawn.choice(["add", "add", "late", "roll", "kill", "unkept", "stop", "prices", "to date"]):
            case "add":
                world.hours += drawn.choice([1, 1, 7])
                world.add(world.hours - 1, f"w{number}")
            case "late" if world.hours:
                world.add(drawn.randrange(world.hours), f"w{number}")
            case "roll":
                world.fleet.ledger.roll(world.now_ms - MS_PER_HOUR)
            case "unkept":
                world.refresher.refresh(world.fleet.ledger.fold(), world.now_ms, {})
                world.restart()
            case "stop":
                world.refresh()
                world.refresher.close()
                world.chosen = 1 - world.chosen
                world.restart()
            case "kill":
                world.restart()
            case "prices":
                world.chosen = 1 - world.chosen
                world.refresher.set_policy(world.policies[world.chosen])
            case "to date" if world.hours:
                world.to_date()
        counters = world.refresh().counters
        back = {s: (value, counters.get(s)) for s, value in shown.items() if counters.get(s, 0) < value}
        assert not back, number
        shown = dict(counters)
    facts = world.fleet.ledger.facts_of_hours()
    gpu_ms = sum(value for series, value in shown.items() if series.metric == "gpu_ms")
    assert gpu_ms == sum(g.active_ms + g.idle_ms + g.unallocated_ms + g.unknown_ms for g in facts.gpus)
    requests = sum(value for series, value in shown.items() if series.metric == "requests")
    assert requests == sum(row.requests or 0 for row in facts.tokens)
    kept = world.to_date().to_date.values
    fresh = ToDate(world.refresher._to_date._compute, {})
    fresh.bring_up_to(world.fleet.ledger.first_ms() or 0, world.refresher._known_ms(world.now_ms))
    assert kept == fresh.values()


def test_a_refresh_that_fails_names_the_hour(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, bad_ms = world.fleet.ledger.facts_of_hours, START_MS + 7 * MS_PER_HOUR

    def read(hours_ms: Any, **named: Any) -> Any:
        if bad_ms in hours_ms:
            raise ValueError("impossible")
        return whole(hours_ms, **named)

    monkeypatch.setattr(world.fleet.ledger, "facts_of_hours", read)
    steps = Steps()

    async def refresh() -> None:
        world.refresh()

    assert not asyncio.run(steps.attempt("refresh", refresh))
    assert steps.problem == (
        f"refresh failed (ValueError: impossible) in the hour {iso(bad_ms)}; `tokenyield-collector verify` checks it; "
        "the log says where"
    )
