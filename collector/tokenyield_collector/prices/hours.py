"""Over how many hours an amount of a month, a year, a life or a term is spread, so that its hours sum to it. Pure.

Hours are those of the ledger (UTC); one belongs to the local day in which it starts. So a month has 672 to 745 of them,
a year 8760 or 8784, and a fee of a month or an amount of a year is paid exactly once, whatever the calendar does.
"""

from calendar import monthrange
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

_SECONDS_PER_HOUR = 3600
_MONTHS_PER_YEAR = 12
_DAYS_PER_MONTH = Decimal("365.25") / _MONTHS_PER_YEAR


@lru_cache(maxsize=4096)
def hours_between(first: date, end: date, timezone: str) -> int:
    """How many hours start on the days from `first` to before `end`."""
    return _first_hour(end, timezone) - _first_hour(first, timezone)


def _first_hour(day: date, timezone: str) -> int:
    """The first hour (since 1970) that starts on a local day."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone))
    return -(-int(midnight.timestamp()) // _SECONDS_PER_HOUR)


def hours_of_month(day: date, timezone: str) -> int:
    first = day.replace(day=1)
    return hours_between(first, first + timedelta(days=monthrange(day.year, day.month)[1]), timezone)


def hours_of_year(year: int, timezone: str) -> int:
    return hours_between(date(year, 1, 1), date(year + 1, 1, 1), timezone)


def end_of_life(in_service: date, life_years: Decimal) -> date:
    """The first day after the life: whole months on the same day of the month, then days."""
    months = int(life_years * _MONTHS_PER_YEAR)
    years, month = divmod(in_service.month - 1 + months, _MONTHS_PER_YEAR)
    year = in_service.year + years
    day = min(in_service.day, monthrange(year, month + 1)[1])
    days = -int(-(life_years * _MONTHS_PER_YEAR - months) * _DAYS_PER_MONTH // 1)
    return date(year, month + 1, day) + timedelta(days=days)


def hours_per_year_of_life(in_service: date, life_years: Decimal, day: date, timezone: str) -> Decimal:
    """The hours of `day` over which an amount of a year is spread, for what is in service from a day on.

    Each whole calendar year of the life has exactly the amount of a year; what is left of the life has the rest, evenly
    over the hours of its first and last part. So each year sums to its amount, and the life to that of all its years.
    """
    end = end_of_life(in_service, life_years)
    first_year = in_service.year + (in_service != date(in_service.year, 1, 1))
    if first_year <= day.year < end.year:
        return Decimal(hours_of_year(day.year, timezone))
    whole_years = max(0, end.year - first_year)
    hours = hours_between(in_service, end, timezone)
    if whole_years:
        hours -= hours_between(date(first_year, 1, 1), date(end.year, 1, 1), timezone)
    return hours / (life_years - whole_years)
