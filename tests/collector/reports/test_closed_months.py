"""Closed means closed: what a version shows never changes, and a new one is made exactly where something changed by a name."""

from pathlib import Path

import pytest

from collector.fleet import Gpu, close_months, ms, prices
from collector.reports.test_reports import PRICE_BOOK, month

NOW = "2026-11-20"
"""October is over, November is not."""
FORMATS = ["table", "csv", "json", "parquet", "html", "focus", "focus-metadata"]


def test_a_month_is_closed_once_and_gives_the_same(tmp_path: Path) -> None:
    fleet = month()
    maker = fleet.maker(prices(tmp_path, PRICE_BOOK), now=NOW)
    before = maker.report("2026-10", ["team", "model"])
    assert (before.state, before.version) == ("closing", None)
    close_months(maker)
    after = maker.report("2026-10", ["team", "model"])
    assert (after.state, after.version) == ("closed", 1)
    assert after.rows == before.rows
    assert after.waterfall == before.waterfall
    assert after.total == before.total
    assert after.days == before.days
    assert after.references == before.references
    close_months(maker)
    assert len(fleet.ledger.versions.records("2026-10")) == 1
    fine = maker.report("2026-10", ["workload", "node", "day"])
    assert fine.total.cost == before.total.cost
    hours = maker.report("2026-10", ["hour"])
    assert (hours.state, hours.total.cost) == ("closed", before.total.cost)
    day = maker.report("2026-10-05", ["hour"])
    assert (day.state, day.version, day.total.cost) == ("closed", 1, maker.report("2026-10-05", ["team"]).total.cost)
    assert sum(row.cost for row in maker.report("2026-10-05..2026-10-06", ["team"]).rows) <= before.total.cost


@pytest.mark.parametrize("form", FORMATS)
def test_a_version_is_the_same_to_the_byte_whatever_comes_later(form: str, tmp_path: Path) -> None:
    fleet = month()
    maker = close_months(fleet.maker(prices(tmp_path, PRICE_BOOK), now=NOW))
    by = ["team", "workload", "day"]
    first = maker.encode("2026-10", by, form)
    dearer = prices(tmp_path, PRICE_BOOK.replace("35040", "70080"))
    second_maker = close_months(fleet.maker(dearer, now=NOW))
    second = second_maker.encode("2026-10", by, form)
    assert second != first
    fleet.hour("2026-10-20T10:00", [Gpu(uuid="late")], node="n2")
    close_months(second_maker)
    fleet.ledger.retire(windows_before_ms=ms("2027-01-01"), hours_before_ms=ms("2027-01-01"), counter_bases={})
    close_months(fleet.maker(prices(tmp_path, "pools: []"), now=NOW))
    assert [record.version for record in fleet.ledger.versions.records("2026-10")] == [1, 2, 3]
    assert second_maker.encode("2026-10", by, form, version=1) == first
    assert second_maker.encode("2026-10", by, form, version=2) == second
    assert second_maker.report("2026-10", by).total.cost > 0
