"""Points of OpenTelemetry senders in a ledger of any engine: each once, the newest of a cumulative series, and their sums."""

from pathlib import Path

from collector.ledger.engines import Open
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.observed import OBSERVED_COLUMNS
from tokenyield_collector.spend.otlp.points import ObservedAmounts, ObservedPoint, PointKey, SeriesState
from tokenyield_collector.spend.otlp.slices import ObservedSum
from tokenyield_collector.spend.slices import SpendFields
from tokenyield_wire.units import MS_PER_DAY

DAY_MS = 20_000 * MS_PER_DAY
HOSTILE = "a'; DROP TABLE observed; -- \\ \" %d {x} \u00e9\U0001f600"
FIELDS = SpendFields("openai", model=HOSTILE, team="search")


def delta(
    series: str = "d", at: int = 1, day: int = 0, fresh: int | None = 5, cost: int | None = None
) -> ObservedPoint:
    key = PointKey(0, DAY_MS + day * MS_PER_DAY, series, 0, at)
    return ObservedPoint(key, at, 0, "", "codex", "events", HOSTILE, FIELDS, ObservedAmounts(fresh, cost_nano=cost))


def total(count: int, at: int, day: int = 0, series: str = "t", start: int = 7, sign: int = 1) -> ObservedPoint:
    key = PointKey(1, DAY_MS + day * MS_PER_DAY, series, start, 0)
    amounts = ObservedAmounts(fresh=sign * count, cache_read=count if sign < 0 else None)
    return ObservedPoint(key, at, count, "acme", "gen-ai", "metrics", "c", FIELDS, amounts)


def one(fresh: int | None, cost: int | None = None) -> ObservedSum:
    return ObservedSum("", "codex", "events", HOSTILE, FIELDS, ObservedAmounts(fresh, cost_nano=cost))


def fresh_of(sums: list[ObservedSum]) -> int:
    return sum(one.amounts.fresh or 0 for one in sums)


def test_a_point_counts_once_however_often_it_comes(open_ledger: Open) -> None:
    ledger = open_ledger()
    assert (ledger.observed_days(0), ledger.observed_sums(DAY_MS), ledger.observed_states([])) == ({}, [], {})
    ledger.add_observed([delta(), delta(at=2), delta()], 1)
    ledger.add_observed([delta(at=2), delta("e", fresh=None, cost=10**15), delta("f", day=1)], 2)
    ledger.close()
    again = open_ledger()
    assert sorted(again.observed_sums(DAY_MS), key=repr) == sorted([one(10), one(None, 10**15)], key=repr)
    assert again.observed_sums(DAY_MS + MS_PER_DAY) == [one(5)]
    assert list(again.observed_days(DAY_MS + 1)) == [DAY_MS + MS_PER_DAY]
    again.close()


def test_days_change_with_their_points(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.add_observed([delta(), total(5, 1)], 1)
    before = ledger.observed_days(DAY_MS)
    assert ledger.observed_days(DAY_MS) == before
    ledger.add_observed([total(6, 2)], 2)
    assert ledger.observed_days(DAY_MS) != before
    ledger.close()


def test_a_cumulative_series_counts_what_it_grew_by_on_each_day(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.add_observed([total(10, 1), total(30, 3), total(20, 2)], 1)
    ledger.add_observed([total(25, 2)], 2)
    assert fresh_of(ledger.observed_sums(DAY_MS)) == 30, "the newest, not the last that came"
    ledger.add_observed([total(45, 9, day=3), total(4, 10, day=3, start=8)], 3)
    assert fresh_of(ledger.observed_sums(DAY_MS + 3 * MS_PER_DAY)) == 15 + 4, "with another start it began anew"
    ledger.add_observed([total(40, 8, day=1)], 4)
    assert fresh_of(ledger.observed_sums(DAY_MS + 3 * MS_PER_DAY)) == 5 + 4, "what came late is taken from later days"
    assert ledger.observed_states(["t", "x"]) == {"t": SeriesState(8, 10, 4)}
    ledger.close()


def test_what_is_taken_from_another_count_is_taken_by_its_growth(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.add_observed([total(10, 1, sign=-1), total(16, 2, day=1, sign=-1)], 1)
    (grown,) = ledger.observed_sums(DAY_MS + MS_PER_DAY)
    assert grown.amounts == ObservedAmounts(fresh=-6, cache_read=6)
    ledger.close()


def test_points_go_with_windows_and_cumulative_series_with_hours(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.add_observed([delta(), delta("e", day=1), total(10, 1), total(12, 2, day=1)], 1)
    noon_ms = DAY_MS + MS_PER_DAY // 2
    ledger.retire(windows_before_ms=noon_ms, hours_before_ms=DAY_MS, counter_bases={})
    assert fresh_of(ledger.observed_sums(DAY_MS)) == 15, "a day goes as a whole"
    ledger.retire(windows_before_ms=noon_ms + MS_PER_DAY, hours_before_ms=noon_ms, counter_bases={})
    assert fresh_of(ledger.observed_sums(DAY_MS)) == 10
    assert fresh_of(ledger.observed_sums(DAY_MS + MS_PER_DAY)) == 5 + 2
    ledger.retire(windows_before_ms=noon_ms + MS_PER_DAY, hours_before_ms=noon_ms + MS_PER_DAY, counter_bases={})
    assert list(ledger.observed_days(0)) == [DAY_MS + MS_PER_DAY]
    ledger.close()


def test_many_series(open_ledger: Open) -> None:
    ledger = open_ledger()
    points = [total(i, 1, series=f"{i:032x}") for i in range(1, 5_001)]
    ledger.add_observed(points, 1)
    assert len(ledger.observed_states([point.key.series for point in points])) == 5_000
    assert fresh_of(ledger.observed_sums(DAY_MS)) == 5_000 * 5_001 // 2
    ledger.close()


def test_a_copy_and_an_export_have_all_of_it(tmp_path: Path) -> None:
    ledger = DuckDbLedger(tmp_path / "a.duckdb")
    ledger.add_observed([delta(), total(10, 1)], 1)
    ledger.copy_to(tmp_path / "b.duckdb")
    sums = ledger.observed_sums(DAY_MS)
    ledger.close()
    copy = DuckDbLedger(tmp_path / "b.duckdb")
    columns = copy._file.connection.execute("SELECT column_name FROM (DESCRIBE observed)").fetchall()
    assert [name for (name,) in columns] == list(OBSERVED_COLUMNS)
    assert copy.observed_sums(DAY_MS) == sums
    (rows,) = copy.export().observed()
    assert len(rows) == 2
    copy.close()
