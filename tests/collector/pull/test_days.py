"""Which days are due: the last week, and what is missing; in requests of as many days as a vendor takes."""

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tokenyield_collector.pull.days import days_due, days_missing, days_wanted, spans

TODAY = date(2026, 11, 25)


def ago(*days: int) -> set[date]:
    return {TODAY - timedelta(i) for i in days}


def test_what_is_wanted_begins_with_start_or_a_month_ago_and_ends_yesterday() -> None:
    assert days_wanted(TODAY, TODAY - timedelta(3), 400, set()) == sorted(ago(3, 2, 1))
    assert days_wanted(TODAY, None, 400, set()) == sorted(ago(*range(1, 31)))
    assert days_wanted(TODAY, None, 400, ago(1)) == sorted(ago(*range(1, 31))), "a first pull that was killed goes on"
    assert days_wanted(TODAY, None, 400, ago(50)) == sorted(ago(*range(1, 51)))
    assert days_wanted(TODAY, date(2020, 1, 1), 30, set()) == sorted(ago(*range(1, 31))), "no day that is not kept"
    assert days_wanted(TODAY, TODAY + timedelta(9), 400, set()) == []


def test_the_last_week_is_due_again_and_older_days_where_they_are_missing() -> None:
    wanted = sorted(ago(*range(1, 21)))
    known = ago(*range(1, 21)) - ago(3, 12)
    assert set(days_due(wanted, known, TODAY)) == ago(1, 2, 3, 4, 5, 6, 7, 12)
    assert days_missing(wanted, known) == 2


@given(days=st.sets(st.integers(1, 80)), days_max=st.integers(1, 31))
def test_spans_hold_each_day_once_and_no_other(days: set[int], days_max: int) -> None:
    found = list(spans(sorted(ago(*days)), days_max))
    within = [first + timedelta(i) for first, last in found for i in range((last - first).days + 1)]
    assert sorted(within) == sorted(ago(*days))
    assert all((last - first).days < days_max for first, last in found)
    assert found == sorted(found, reverse=True), "the newest first"
