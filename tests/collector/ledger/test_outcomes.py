"""Outcomes in a ledger of any engine: a slice (source, day, name) is replaced whole, and never added to."""

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.ledger.engines import Open
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.outcomes import (
    OutcomeSlice,
    SliceKey,
    outcome_findings,
    slices_of,
)
from tokenyield_collector.ledger.verify import verify
from tokenyield_collector.slices import slice_changes, span_of
from tokenyield_wire.units import MS_PER_DAY

DAY_MS = 20_000 * MS_PER_DAY
SEARCH, ADS = '{"team":"search"}', '{"team":"ads"}'


def one(day: int = 0, name: str = "tickets", source: str = "jira", **counts: int) -> OutcomeSlice:
    labels = {"search": SEARCH, "ads": ADS}
    return OutcomeSlice(
        SliceKey(source, DAY_MS + day * MS_PER_DAY, name), tuple(sorted((labels[t], n) for t, n in counts.items()))
    )


def all_of(ledger: object) -> list[OutcomeSlice]:
    return ledger.outcomes(0, DAY_MS * 2)  # type: ignore[attr-defined,no-any-return]


def test_a_slice_replaces_its_own_and_no_other(open_ledger: Open) -> None:
    ledger = open_ledger()
    first = [one(search=5, ads=2), one(1, search=7), one(name="answers", ads=1), one(source="zendesk", ads=9)]
    ledger.replace_outcomes(first, 1)
    ledger.replace_outcomes([one(search=6)], 2)
    after = [one(name="answers", ads=1), one(search=6), one(1, search=7), one(source="zendesk", ads=9)]
    assert all_of(ledger) == after
    ledger.replace_outcomes([one(search=6)], 2)
    ledger.close()
    again = open_ledger()
    assert all_of(again) == after, "the same again changes nothing, and it is durable"
    again.replace_outcomes([one()], 3)
    assert all_of(again) == [item for item in after if item != one(search=6)], "without counts it is gone"
    assert again.outcomes(DAY_MS + MS_PER_DAY, DAY_MS + 2 * MS_PER_DAY) == [one(1, search=7)]
    again.close()


def test_they_go_with_the_last_hour_of_their_day(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.replace_outcomes([one(0, search=1), one(1, search=2)], 1)
    noon_ms = DAY_MS + MS_PER_DAY // 2
    ledger.retire(windows_before_ms=0, hours_before_ms=noon_ms, counter_bases={})
    assert all_of(ledger) == [one(0, search=1), one(1, search=2)]
    ledger.retire(windows_before_ms=0, hours_before_ms=noon_ms + MS_PER_DAY, counter_bases={})
    assert all_of(ledger) == [one(1, search=2)]
    ledger.close()


def test_a_copy_has_them_and_verify_finds_what_is_there_twice(tmp_path: Path) -> None:
    ledger = DuckDbLedger(tmp_path / "a.duckdb")
    ledger.replace_outcomes([one(search=5)], 1)
    ledger.copy_to(tmp_path / "b.duckdb")
    ledger.close()
    copy = DuckDbLedger(tmp_path / "b.duckdb")
    assert all_of(copy) == [one(search=5)]
    assert list(verify(copy)) == []
    assert copy.export().outcomes() == [(one(search=5), 1)], "what migrate moves"
    copy._file.connection.execute("INSERT INTO outcomes SELECT * FROM outcomes")
    (finding,) = verify(copy)
    assert "outcomes: tickets of 2024-10-04 from jira has the same labels more than once" in finding
    copy.close()


@pytest.mark.parametrize("count", [-1, 2**49])
def test_a_count_out_of_bounds_is_a_finding(count: int) -> None:
    assert len(list(outcome_findings([one(search=count)]))) == 1


ROWS = st.lists(
    st.tuples(
        st.builds(
            SliceKey, st.sampled_from("ab"), st.integers(0, 2).map(lambda day: day * MS_PER_DAY), st.sampled_from("xy")
        ),
        st.sampled_from([SEARCH, ADS, "{}"]),
        st.integers(0, 9),
    ),
    max_size=20,
)


@given(ROWS, ROWS, st.randoms())
def test_what_is_imported_last_is_what_is_there(
    before: list[tuple[SliceKey, str, int]],
    rows: list[tuple[SliceKey, str, int]],
    order: object,
) -> None:
    """Whatever the order of the lines; all counts of a slice add up; what is not named stays; a second time is nothing."""
    shuffled = list(rows)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    given_slices = slices_of(rows)
    assert given_slices == slices_of(shuffled)
    assert sum(item.total for item in given_slices) == sum(count for _, _, count in rows)
    stored = {item.key: item for item in slices_of(before)}
    changes = slice_changes(stored.values(), given_slices)
    assert len(changes.added) + len(changes.replaced) + len(changes.unchanged) == len(given_slices)
    stored |= {item.key: item for item in changes.to_write}
    assert all(stored[item.key] == item for item in given_slices)
    assert slice_changes(stored.values(), given_slices).to_write == []
    start_ms, end_ms = span_of(given_slices)
    assert all(start_ms <= item.key.day_ms < end_ms for item in given_slices)


def test_a_slice_is_named_in_words() -> None:
    assert one(search=1).key.text == "tickets of 2024-10-04 from jira"
    assert date(2024, 10, 4).toordinal() - date(1970, 1, 1).toordinal() == 20_000
