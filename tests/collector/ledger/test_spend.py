"""Slices of spend in a ledger of any engine: replaced whole, never added to, and the same after every way of copying."""

from decimal import Decimal
from pathlib import Path

import pytest

from collector.ledger.engines import Open
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.spend import SPEND_COLUMNS, spend_size_faults
from tokenyield_collector.ledger.verify import verify
from tokenyield_collector.policy import Policy
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.spend.slices import (
    DAY_LINES_MAX,
    EVIDENCE_SOURCE,
    SLICE_LINES_MAX,
    SpendAmounts,
    SpendFields,
    SpendKey,
    SpendLine,
    SpendSlice,
    spend_findings,
)
from tokenyield_collector.statements.bought import BoughtCosts
from tokenyield_wire.units import MS_PER_DAY

DAY_MS = 20_000 * MS_PER_DAY
HOSTILE = "a'; DROP TABLE spend; -- \\ \" %d {x} \u00e9\U0001f600"


def one(day: int = 0, grain: str = "costs", source: str = "openai", **costs: int | None) -> SpendSlice:
    """A line for each model; in the order of a builder."""
    lines = [
        SpendLine(
            SpendFields("openai", model=model, team=HOSTILE), SpendAmounts(fresh=3, requests=None, cost_micro=cost)
        )
        for model, cost in sorted(costs.items())
    ]
    return SpendSlice(SpendKey(source, "default", DAY_MS + day * MS_PER_DAY, grain), "billed", tuple(lines))


def all_of(ledger: Ledger) -> list[SpendSlice]:
    return ledger.spend(0, DAY_MS * 2)


def test_a_slice_replaces_its_own_and_no_other(open_ledger: Open) -> None:
    ledger = open_ledger()
    assert (all_of(ledger), ledger.spend_days(), ledger.spend_revision(0, DAY_MS * 2)) == ([], None, "")
    first = [one(a=5, b=None), one(1, a=-7), one(grain="usage:x", a=1), one(source="x", c=9)]
    ledger.replace_spend(first, 1)
    revision = ledger.spend_revision(DAY_MS, DAY_MS + MS_PER_DAY)
    tomorrow = ledger.spend_revision(DAY_MS + MS_PER_DAY, DAY_MS + 2 * MS_PER_DAY)
    ledger.replace_spend([one(a=6)], 2)
    after = [one(a=6), one(grain="usage:x", a=1), one(1, a=-7), one(source="x", c=9)]
    assert all_of(ledger) == after
    assert ledger.spend_revision(DAY_MS, DAY_MS + MS_PER_DAY) != revision
    assert ledger.spend_revision(DAY_MS + MS_PER_DAY, DAY_MS + 2 * MS_PER_DAY) == tomorrow
    ledger.close()
    again = open_ledger()
    assert all_of(again) == after, "it is durable"
    assert again.spend_days() == (DAY_MS, DAY_MS + MS_PER_DAY)
    assert again.spend_days_of("openai", "default", "costs") == [DAY_MS, DAY_MS + MS_PER_DAY]
    assert again.spend_days_of("openai", "default", HOSTILE) == again.spend_days_of("x", "other", "costs") == []
    again.replace_spend([one()], 3)
    assert all_of(again) == after[1:], "without lines it is gone"
    assert again.spend_days_of("openai", "default", "costs") == [DAY_MS + MS_PER_DAY]
    assert again.spend(DAY_MS + MS_PER_DAY, DAY_MS + 2 * MS_PER_DAY) == [one(1, a=-7)]
    assert list(verify(again)) == []
    again.close()


def test_evidence_is_kept_and_is_no_spend(open_ledger: Open) -> None:
    """It makes neither a new version of a closed month nor a report that begins before the first bill."""
    ledger = open_ledger()
    evidence = one(source=EVIDENCE_SOURCE, grain="squid:1", a=None)
    ledger.replace_spend([evidence], 1)
    assert (all_of(ledger), ledger.spend_days(), ledger.spend_revision(0, DAY_MS * 2)) == ([evidence], None, "")
    ledger.replace_spend([one(1, a=1)], 2)
    revision = ledger.spend_revision(0, DAY_MS * 2)
    ledger.replace_spend([one(source=EVIDENCE_SOURCE, grain="squid:1", b=None)], 3)
    assert ledger.spend_revision(0, DAY_MS * 2) == revision
    assert ledger.spend_days() == (DAY_MS + MS_PER_DAY, DAY_MS + MS_PER_DAY)
    ledger.close()


def test_a_line_with_money_and_one_without_stand_beside_each_other(open_ledger: Open) -> None:
    ledger = open_ledger()
    fields = SpendFields("v", session=HOSTILE, person="\u00df", currency="EUR")
    lines = [SpendLine(fields, SpendAmounts(1, 2, 3, 4, 5, 6, 7, -8)), SpendLine(fields, SpendAmounts())]
    kept = SpendSlice(SpendKey("s", HOSTILE, DAY_MS, "g"), "observed", tuple(lines))
    ledger.replace_spend([kept], 1)
    assert all_of(ledger) == [kept]
    ledger.close()


def test_reports_of_any_engine_have_it(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.replace_spend([one(a=5_000_000, b=2_000_001), one(1, a=3_000_000)], 1)
    others = (BoughtCosts(ledger),)
    maker = ReportMaker(ledger=ledger, policy=Policy(), now_ms=DAY_MS + 3 * MS_PER_DAY, others=others)
    report = maker.report("2024-10", ["source", "vendor", "day", "model"])
    costs = {(row.by["day"], row.by["model"]): row.cost for row in report.rows}
    assert costs == {
        ("2024-10-04", "a"): 5, ("2024-10-04", "b"): Decimal("2.000001"), ("2024-10-05", "a"): 3,
    }  # fmt: skip
    assert report.total.figures["tokens"] == 9
    ledger.close()


def test_it_goes_with_the_last_hour_of_its_day(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.replace_spend([one(0, a=1), one(1, a=2), one(-40, a=3)], 1)
    noon_ms = DAY_MS + MS_PER_DAY // 2
    ledger.retire(windows_before_ms=0, hours_before_ms=noon_ms, counter_bases={})
    assert all_of(ledger) == [one(0, a=1), one(1, a=2)]
    ledger.retire(windows_before_ms=0, hours_before_ms=noon_ms + MS_PER_DAY, counter_bases={})
    assert all_of(ledger) == [one(1, a=2)]
    assert ledger.spend_days() == (DAY_MS + MS_PER_DAY, DAY_MS + MS_PER_DAY)
    ledger.close()


def test_a_large_slice_and_many_of_them(open_ledger: Open) -> None:
    ledger = open_ledger()
    large = one(0, "costs", "openai", **{f"m{i:05}": i for i in range(5_000)})
    months = [one(30 * i, "session:" + "x" * (i % 7), a=i) for i in range(90)]
    ledger.replace_spend([large, *months[1:]], 1)
    ledger.replace_spend([large, *months[1:]], 1)
    assert len(all_of(ledger)) == 90
    assert ledger.spend(DAY_MS, DAY_MS + MS_PER_DAY) == [large]
    ledger.close()


def test_a_copy_has_it_and_verify_finds_what_is_there_twice(tmp_path: Path) -> None:
    ledger = DuckDbLedger(tmp_path / "a.duckdb")
    ledger.replace_spend([one(a=5)], 1)
    ledger.copy_to(tmp_path / "b.duckdb")
    ledger.close()
    copy = DuckDbLedger(tmp_path / "b.duckdb")
    columns = copy._file.connection.execute("SELECT column_name FROM (DESCRIBE spend)").fetchall()
    assert [name for (name,) in columns] == list(SPEND_COLUMNS)
    assert all_of(copy) == [one(a=5)]
    assert copy.export().spend() == [(one(a=5), 1)], "what migrate moves"
    copy._file.connection.execute("INSERT INTO spend SELECT * FROM spend")
    (finding,) = verify(copy)
    assert "spend: openai costs, account default, 2024-10-04 has the same line more than once" in finding
    copy.close()


@pytest.mark.parametrize(
    ("amounts", "text"),
    [(SpendAmounts(fresh=-1), "count below 0"), (SpendAmounts(cost_micro=2**49), "money beyond")],
)
def test_what_is_out_of_bounds_is_a_finding(amounts: SpendAmounts, text: str) -> None:
    kept = SpendSlice(SpendKey("s", "a", DAY_MS, "g"), "billed", (SpendLine(SpendFields("v"), amounts),))
    (finding,) = spend_findings([kept])
    assert text in finding


def test_a_slice_and_a_day_that_are_too_large_are_faults() -> None:
    line = SpendLine(SpendFields("v"), SpendAmounts())
    full = [
        SpendSlice(SpendKey("s", "a", DAY_MS, f"g{i}"), "billed", (line,) * SLICE_LINES_MAX)
        for i in range(DAY_LINES_MAX // SLICE_LINES_MAX)
    ]
    assert list(spend_size_faults(full, full)) == []
    over = [full[0]._replace(lines=(line,) * (SLICE_LINES_MAX + 1))]
    assert [(what, found) for what, found, _ in spend_size_faults(full, over)] == [
        ("s g0, account a, 2024-10-04", SLICE_LINES_MAX + 1), ("2024-10-04", DAY_LINES_MAX + 1),
    ]  # fmt: skip
