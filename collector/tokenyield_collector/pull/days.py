"""Which days of a report are to be pulled, and in which requests. Pure.

Vendors restate, so the last week is pulled again each time; of older days those that are missing, whatever the reason:
a first start, an outage, a vendor that was down. A day that was pulled and had no rows is not missing. The present day
(UTC) is not pulled: part of a day would look like a whole one.
"""

from collections.abc import Iterator, Sequence, Set
from datetime import date, timedelta

RESTATED_DAYS = 7
FIRST_DAYS = 30
"""Wanted at least, where spend.yaml names no start."""


def days_wanted(today: date, start: date | None, kept_days: int, known: Set[date]) -> list[date]:
    """All that should be known, in their order. `kept_days`: older ones the ledger or the vendor does not keep."""
    first = start or min({today - timedelta(FIRST_DAYS), *known})
    first = max(first, today - timedelta(kept_days))
    return [first + timedelta(i) for i in range((today - first).days)]


def days_due(wanted: Sequence[date], known: Set[date], today: date) -> list[date]:
    """Those that are missing, and the last week."""
    again = today - timedelta(RESTATED_DAYS)
    return [day for day in wanted if day >= again or day not in known]


def days_missing(wanted: Sequence[date], known: Set[date]) -> int:
    return sum(day not in known for day in wanted)


def spans(days: Sequence[date], days_max: int) -> Iterator[tuple[date, date]]:
    """(first, last) of runs of days that follow each other, the newest first: what is shown most comes first."""
    ordered, i = sorted(days, reverse=True), 0
    while i < len(ordered):
        first = last = ordered[i]
        i += 1
        while i < len(ordered) and ordered[i] == first - timedelta(1) and (last - ordered[i]).days < days_max:
            first = ordered[i]
            i += 1
        yield first, last
