"""Closed means closed: what a version shows never changes, and a new one is made exactly where something changed by a name."""

import csv
import io
from pathlib import Path

import duckdb
import pytest

from collector.fleet import Gpu, close_months, ms, prices
from collector.reports.test_reports import PRICE_BOOK, month
from tokenyield_collector.errors import LedgerError
from tokenyield_collector.reports.version_check import CHECK_EVERY_MS, check_again, verify_versions
from tokenyield_collector.reports.version_content import closed_version

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


def test_verify_finds_what_is_not_as_it_was_closed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.duckdb"
    fleet = month(path)
    maker = close_months(fleet.maker(prices(tmp_path, PRICE_BOOK), now=NOW))
    assert list(verify_versions(fleet.ledger)) == []
    version = closed_version(fleet.ledger.versions.records("2026-10")[0])
    assert version is not None
    entry = version.content.days["2026-10-05"]

    def tampered(statement: str) -> list[str]:
        connection = fleet.ledger._file.connection
        connection.execute("CREATE OR REPLACE TEMP TABLE kept AS FROM closed_days")
        connection.execute(statement)
        findings = list(verify_versions(fleet.ledger))
        connection.execute("DELETE FROM closed_days; INSERT INTO closed_days FROM kept")
        return findings

    where = f"WHERE digest = '{entry.digest}'"
    assert "2026-10, version 1: expected the lines of 2026-10-05 as they were closed, found 1 of 2 parts" in "".join(
        tampered(f"DELETE FROM closed_days {where} AND part = 1")
    )
    assert "damaged" in "".join(tampered(f"UPDATE closed_days SET content = 'nonsense' {where}"))
    other = version.content.days["2026-10-07"].digest
    swapped = (
        f"UPDATE closed_days SET content = (SELECT content FROM closed_days WHERE digest = '{other}' AND part = 0)"
    )
    assert "other content than its digest names" in "".join(tampered(f"{swapped} {where} AND part = 0"))
    assert list(verify_versions(fleet.ledger)) == []
    fleet.ledger._file.connection.execute(f"{swapped} {where} AND part = 0")
    with pytest.raises(LedgerError, match="expected the lines of 2026-10-05 to sum to what was closed"):
        maker.report("2026-10", ["team"])


def test_what_differs_without_a_cause_is_a_finding_and_no_version(tmp_path: Path) -> None:
    fleet = month()
    maker = close_months(fleet.maker(prices(tmp_path, PRICE_BOOK), now=NOW))
    connection = fleet.ledger._file.connection
    connection.execute(
        "UPDATE work_hours SET active_mj = active_mj + 1000000"
    )  # a fault, not a fact: no checksum moves
    connection.execute('UPDATE statements SET content = replace(content, \'"inputs":"\', \'"inputs":"another \')')
    assert "2026-10, version 1: expected the lines of 2026-10-05 as computed again" in "".join(
        verify_versions(fleet.ledger)
    )
    for _ in check_again(fleet.ledger, maker.now_ms + CHECK_EVERY_MS):
        pass
    (finding,) = [note for note in maker.report("2026-10", ["team"]).notes if "does not agree" in note]
    assert "expected the lines of 2026-10-05 as computed again" in finding
    connection.execute("DELETE FROM period_checks")
    close_months(maker)
    (finding,) = [note for note in maker.report("2026-10", ["team"]).notes if "does not agree" in note]
    assert "version 1: computed again it differs on 2026-10-05, 2026-10-06, and nothing changed" in finding
    assert maker.versions("2026-10")["finding"] is not None
    assert len(fleet.ledger.versions.records("2026-10")) == 1


def test_a_late_window_that_no_collector_saw_is_found(tmp_path: Path) -> None:
    fleet = month()
    close_months(fleet.maker(prices(tmp_path, PRICE_BOOK), now=NOW))
    fleet.hour("2026-10-20T10:00", [Gpu(uuid="late")], node="n2")
    fleet.ledger.roll()
    (finding,) = verify_versions(fleet.ledger)
    assert finding.startswith("2026-10, version 1: expected the facts of 2026-10-20 that it was made of, found others")


def test_every_format_says_whether_the_month_is_closed(tmp_path: Path) -> None:
    maker = month().maker(prices(tmp_path, PRICE_BOOK), now=NOW)
    for state, version in (("closing", ""), ("closed", "1")):
        rows = list(csv.DictReader(io.StringIO(maker.encode("2026-10", ["team"], "csv").decode())))
        assert {(row["period_state"], row["period_version"]) for row in rows} == {(state, version)}
        (tmp_path / "r.parquet").write_bytes(maker.encode("2026-10", ["team"], "parquet"))
        with duckdb.connect() as connection:
            metadata = dict(
                connection.execute(f"SELECT key, value FROM parquet_kv_metadata('{tmp_path}/r.parquet')").fetchall()
            )
        assert (metadata[b"state"], metadata[b"version"]) == (state.encode(), version.encode())
        shown = f"({state}, version {version})" if version else f"({state})"
        assert shown in maker.encode("2026-10", ["team"], "table").decode()
        assert shown in maker.encode("2026-10", ["team"], "html").decode()
        close_months(maker)
