"""Roll-ups of days of a ClickHouse ledger: read in place of their hours as long as they are of just these, and only when
they are whole; made by any collector, and removed when nobody needs them."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from collector.ledger.engines import NewPlace, Open, roll_days
from collector.ledger.test_contract_usage import WEIGHTS, since_noon, used
from collector.ledger.whole_hours import whole_hour
from collector.samples import HOUR_MS, NOON_MS
from harness import wait_until
from real.test_clickhouse_rolls import count, killed_after, opened
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.ledger.clickhouse import days, rolls
from tokenyield_collector.ledger.clickhouse.days import DAY_TABLES
from tokenyield_collector.ledger.clickhouse.ledger import ClickHouseLedger
from tokenyield_collector.policy import load_policy
from tokenyield_collector.server import Collector
from tokenyield_wire.units import MS_PER_DAY

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
SPAN = (NOON_MS, NOON_MS + 2 * HOUR_MS)
DAY_MS = NOON_MS - NOON_MS % MS_PER_DAY
INSERTS = 4
"""Of one day."""


@pytest.fixture(params=["clickhouse", "clickhouse_two_shards", "chdb"])
def open_ledger(request: pytest.FixtureRequest) -> Open:
    place: NewPlace = request.getfixturevalue(request.param)
    return place()


def filled(open_ledger: Open) -> tuple[ClickHouseLedger, dict[Any, Any]]:
    """Two hours of two nodes, by hours alone."""
    ledger = opened(open_ledger)
    ledger.append([since_noon(hour, node, gpu=f"GPU-{node}") for hour in (0, 1) for node in ("n1", "n2")], NOON_MS)
    ledger.roll()
    assert count(ledger, "rolled_days") == 0, "no report waits for days"
    return ledger, read(ledger)


def read(ledger: ClickHouseLedger) -> dict[Any, Any]:
    """As it is now: nothing is rolled up for it."""
    usage = ledger.usage()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ledger, "roll", lambda: None)
        patched.setattr(ledger, "roll_day", lambda before_ms: None)
        work = used(ledger)
    return {
        "work": work,
        "reported": usage.reported_ms(*SPAN, lambda group: "p"),
        "best": usage.best_hours(*SPAN, WEIGHTS),
    }


def without_hours(ledger: ClickHouseLedger) -> None:
    for shard in ledger._tables.shards:
        for table in ("work_hours", "capacity_hours"):
            shard.run(f"TRUNCATE TABLE {table}")


def done(ledger: ClickHouseLedger) -> None:
    pending = "SELECT count() FROM system.mutations WHERE database = currentDatabase() AND NOT is_done"
    wait_until(lambda: not any(shard.rows(pending)[0][0] for shard in ledger._tables.shards), what="rows to be deleted")


def test_a_day_is_read_in_place_of_its_hours(open_ledger: Open) -> None:
    ledger, before = filled(open_ledger)
    assert (len(before["work"]), len(before["reported"]), len(before["best"])) == (2, 2, 2)
    assert ledger.roll_day(DAY_MS + MS_PER_DAY - 1) is None, "it has not ended"
    assert roll_days(ledger) == [DAY_MS]
    without_hours(ledger)
    assert read(ledger) == before
    hour = ledger.usage().reported_ms(NOON_MS, NOON_MS + HOUR_MS, lambda group: "p")
    assert hour == {}, "an hour of it is not a day"
    assert roll_days(ledger) == []
    ledger.close()


def test_a_day_of_which_an_hour_changed_is_read_by_hours_until_it_is_made_again(open_ledger: Open) -> None:
    """Whether windows are late, or are sent again with others."""
    ledger, before = filled(open_ledger)
    roll_days(ledger)
    held = ledger.usage()
    reported = held.reported_ms(*SPAN, lambda group: "p")
    late = [since_noon(1, "n3", gpu="GPU-n3"), since_noon(0, "n1", gpu="GPU-n1")]
    ledger.append(late, NOON_MS)
    ledger.roll()
    by_hours = read(ledger)
    assert by_hours != before
    assert by_hours["reported"]["p", NOON_MS + HOUR_MS] > before["reported"]["p", NOON_MS + HOUR_MS]
    assert roll_days(ledger) == [DAY_MS]
    assert count(ledger, "capacity_days") == 5, "of two nodes, and then of three"
    assert read(ledger) == by_hours
    without_hours(ledger)
    assert read(ledger) == by_hours
    assert held.reported_ms(*SPAN, lambda group: "p") == reported, "who reads meanwhile has what there was"
    ledger.close()


@pytest.mark.parametrize("inserts", range(INSERTS))
def test_a_day_that_a_kill_left_half_made_is_never_read(
    clickhouse: NewPlace, monkeypatch: pytest.MonkeyPatch, inserts: int
) -> None:
    """After so many of its inserts: the begin, work, capacity, the end."""
    place = clickhouse()
    ledger, before = filled(place)
    with killed_after(ledger, inserts, monkeypatch):
        ledger.roll_day(DAY_MS + MS_PER_DAY)
        pytest.fail("it was killed")
    assert ledger.usage()._state.days == {}
    assert read(ledger) == before
    ledger.close()
    again = opened(place)
    assert roll_days(again) == [DAY_MS]
    without_hours(again)
    assert read(again) == before
    monkeypatch.setattr(rolls, "KEPT_MS", -HOUR_MS)
    again.retire(windows_before_ms=0, hours_before_ms=0, counter_bases={})
    done(again)
    assert again._tables.rows("SELECT uniqExact(roll) FROM {rolled_days}") == [(1,)], "what was left half made is gone"
    assert count(again, "capacity_days") == count(again, "work_days") == 2
    assert read(again) == before
    again.close()


def test_two_collectors_may_put_the_same_day_together(open_ledger: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """One begins while the other is at it: both days are whole, each row is read once, and one of them goes."""
    ledger, before = filled(open_ledger)
    other, make = opened(open_ledger), days.make_day

    def at_once(*arguments: Any) -> None:
        monkeypatch.setattr(rolls, "make_day", make)
        make(*arguments)
        assert other.roll_day(DAY_MS + MS_PER_DAY) is None, "another one has made it"
        make(*arguments)

    monkeypatch.setattr(rolls, "make_day", at_once)
    assert roll_days(ledger) == [DAY_MS]
    assert count(ledger, "capacity_days") == 4
    assert ledger.usage()._state.days == other.usage()._state.days
    without_hours(ledger)
    assert read(ledger) == read(other) == before
    ledger.retire(windows_before_ms=0, hours_before_ms=0, counter_bases={})
    assert count(ledger, "capacity_days") == 4, "a reader may still have either"
    monkeypatch.setattr(rolls, "KEPT_MS", -HOUR_MS)
    ledger.retire(windows_before_ms=0, hours_before_ms=0, counter_bases={})
    done(ledger)
    assert count(ledger, "capacity_days") == 2
    assert read(ledger) == read(other) == before
    for opened_ledger in (ledger, other):
        opened_ledger.close()


def test_days_retire_with_their_hours(open_ledger: Open) -> None:
    """Of a day some of whose hours are kept, these are read."""
    ledger, _ = filled(open_ledger)
    ledger.append([since_noon(24, "n1")], NOON_MS)
    ledger.roll()
    assert roll_days(ledger) == [DAY_MS + MS_PER_DAY, DAY_MS], "the newest first"
    ledger.retire(windows_before_ms=0, hours_before_ms=NOON_MS + HOUR_MS, counter_bases={})
    assert [*ledger.usage()._state.days] == [DAY_MS + MS_PER_DAY]
    assert {hour_ms for _, hour_ms in read(ledger)["reported"]} == {NOON_MS + HOUR_MS}
    assert roll_days(ledger) == [], "the day loses more hours"
    ledger.retire(windows_before_ms=0, hours_before_ms=DAY_MS + MS_PER_DAY, counter_bases={})
    assert ledger._tables.rows("SELECT DISTINCT first_ms FROM {work_days}") == [(DAY_MS + MS_PER_DAY,)]
    assert ledger._tables.rows("SELECT DISTINCT first_ms FROM {rolled_days}") == [(DAY_MS + MS_PER_DAY,)]
    ledger.close()


def test_a_ledger_of_schema_11_goes_on(open_ledger: Open) -> None:
    """With its hours rolled up: days are put together of these."""
    ledger, before = filled(open_ledger)
    rolled = count(ledger, "rolled_hours")
    for shard in ledger._tables.shards:
        for table in DAY_TABLES:
            shard.run(f"DROP TABLE {table}")
            if ledger._tables.suffix:
                shard.run(f"DROP TABLE {table}_all")
        shard.run("TRUNCATE TABLE schema_version")
    ledger._tables.insert_rows("schema_version", ("version",), [(11,)])
    ledger.close()
    again = opened(open_ledger)
    assert again._tables.rows("SELECT max(version) FROM {schema_version}") == [(12,)]
    assert read(again) == before
    assert roll_days(again) == [DAY_MS]
    assert count(again, "rolled_hours") == rolled, "no hour was rolled up again"
    without_hours(again)
    assert read(again) == before
    again.close()


def test_a_day_of_many_rows_is_put_together_in_parts(open_ledger: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, before = filled(open_ledger)
    monkeypatch.setattr(days, "ROWS_AT_ONCE", 1)
    assert roll_days(ledger) == [DAY_MS]
    without_hours(ledger)
    assert read(ledger) == before
    ledger.close()


def test_the_leading_collector_puts_days_together(clickhouse: NewPlace, tmp_path: Path) -> None:
    """Those that have ended, beside what else it does of the past."""
    ledger = opened(clickhouse())
    today_ms = time.time_ns() // 1_000_000 // MS_PER_DAY * MS_PER_DAY
    days_ms = [today_ms - back * MS_PER_DAY for back in (0, 2, 3)]
    ledger.append([whole_hour(day_ms, "n1") for day_ms in days_ms], today_ms)
    (tmp_path / "prices.yaml").write_text("pools:\n  - {name: all, rented: {per_gpu_hour: 2}}\n")
    settings = CollectorSettings(prices_file=str(tmp_path / "prices.yaml"), live_lag_s=0)

    async def past() -> None:
        collector = Collector(settings, ledger, load_policy(settings))
        try:
            await collector._refresh_view()
            await collector._bring_to_date()
        finally:
            collector.executors.close(lambda: None)
            collector.authenticator.close()

    asyncio.run(past())
    assert [*ledger.usage()._state.days] == days_ms[:0:-1]
    ledger.close()
