"""The period of a report: '2026-10', '2026-10-05' or '2026-10-01..2026-10-15' (last day included), in UTC. Pure."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from tokenyield_collector.errors import ParameterError
from tokenyield_wire.units import MS_PER_DAY

DAYS_MAX = 400
"""Longest period: a year and a month, what the ledger keeps."""
YEARS = (1971, 9000)
"""Beyond them a look back or ahead from a day may have no date."""
_MONTH = re.compile(r"(\d{4})-(\d{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """[start_ms, end_ms), whole UTC days."""

    name: str
    start_ms: int
    end_ms: int

    @property
    def days(self) -> int:
        return (self.end_ms - self.start_ms) // MS_PER_DAY


def parse_period(text: str) -> Period:
    """Raises `ParameterError` for the field `period`."""
    first, separator, last = text.partition("..")
    try:
        if not text.isascii():  # digits of other scripts would be another name of the same period
            raise ValueError
        if month := _MONTH.fullmatch(text):
            start = date(int(month[1]), int(month[2]), 1)
            end = (start + timedelta(days=32)).replace(day=1)
        else:
            start = date.fromisoformat(first)
            end = (date.fromisoformat(last) if separator else start) + timedelta(days=1)
        if not YEARS[0] <= start.year <= end.year <= YEARS[1]:
            raise ValueError
    except (ValueError, OverflowError):
        raise ParameterError(
            "period",
            expected="a month, a day or two days",
            found=f"'{text[:40]}'",
            fix="write 2026-10, 2026-10-05 or 2026-10-01..2026-10-15",
        ) from None
    if not 1 <= (end - start).days <= DAYS_MAX:
        expected = f"1 to {DAYS_MAX} days, the first before the last"
        raise ParameterError("period", expected=expected, found=f"'{text[:40]}'")
    return Period(name=text, start_ms=day_start_ms(start), end_ms=day_start_ms(end))


def months_of(period: Period) -> list[Period]:
    """The calendar months (UTC) that a period touches."""
    months = []
    start_ms = period.start_ms
    while start_ms < period.end_ms:
        months.append(parse_period(month_of(start_ms)))
        start_ms = months[-1].end_ms
    return months


def month_of(instant_ms: int) -> str:
    return datetime.fromtimestamp(instant_ms / 1000, UTC).strftime("%Y-%m")


def months_before(instant_ms: int, count: int) -> list[str]:
    """The names of so many months before the one of an instant, the oldest first."""
    first = day_of(instant_ms).replace(day=1)
    months: list[str] = []
    for _ in range(count):
        first = (first - timedelta(days=1)).replace(day=1)
        months.insert(0, f"{first:%Y-%m}")
    return months


def day_of(instant_ms: int) -> date:
    return datetime.fromtimestamp(instant_ms / 1000, UTC).date()


def iso(instant_ms: int) -> str:
    return datetime.fromtimestamp(instant_ms / 1000, UTC).isoformat().replace("+00:00", "Z")


def day_start_ms(day: date) -> int:
    """Of a UTC day."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000
