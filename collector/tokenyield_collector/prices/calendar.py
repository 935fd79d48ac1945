"""When a price holds: days from which it does, time-of-use bands, local time. Pure.

A price book is dated by local days of its `timezone`. An hour of the ledger is a UTC hour; it belongs to the local day
in which it starts. Time-of-use bands may begin at any quarter of an hour, so an hour is priced as the mean of its four
quarters: that is exact for bands, and right for zones that are 30 or 45 minutes off UTC.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Protocol, TypeVar
from zoneinfo import ZoneInfo

import msgspec

QUARTERS_PER_HOUR = 4
MS_PER_QUARTER = 900_000
_MINUTES_PER_QUARTER = 15
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
ALL_MONTHS = "1-12"
_CLOCK = re.compile(r"(\d{1,2})(?::(\d{2}))?")


class Dated(Protocol):
    """What holds from a local day on; None: since ever."""

    @property
    def from_(self) -> date | None: ...


AnyDated = TypeVar("AnyDated", bound=Dated)


def in_force(entries: Sequence[AnyDated], day: date) -> AnyDated | None:
    """The last of `entries` (in order of their days) that has begun on `day`; None before the first."""
    latest = None
    for entry in entries:
        if entry.from_ is None or entry.from_ <= day:
            latest = entry
    return latest


class TariffBand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times of the week with a tariff of their own. `hours` may go over midnight: each part belongs to its own day."""

    name: str
    per_kwh: Decimal
    hours: str = "00:00-24:00"
    days: str = "mon-sun"
    months: str = ALL_MONTHS

    def faults(self) -> Iterator[str]:
        """What cannot be read, and how to write it."""
        for part, read, expected, example in (
            ("hours", _quarters, "quarters of an hour", "07:00-20:00"),
            ("days", _weekdays, "days of the week", "mon-fri or sat,sun"),
            ("months", _months, "months by number", "6-9 or 12,1,2"),
        ):
            try:
                read(getattr(self, part))
            except ValueError:
                yield f"{part}: expected {expected}, found '{getattr(self, part)}'; write {example}"

    def holds(self, local: datetime) -> bool:
        quarter = local.hour * QUARTERS_PER_HOUR + local.minute // _MINUTES_PER_QUARTER
        return (
            quarter in _quarters(self.hours)
            and local.weekday() in _weekdays(self.days)
            and local.month in _months(self.months)
        )


@lru_cache(maxsize=1024)
def _quarters(text: str) -> frozenset[int]:
    """'07:00-20:00' -> the quarters of the day in it. Raises ValueError."""
    first, _, last = text.partition("-")
    start, end = _quarter(first), _quarter(last)
    if start == end:
        raise ValueError(text)
    return frozenset(range(start, end)) if start < end else frozenset((*range(start, 96), *range(end)))


def _quarter(text: str) -> int:
    clock = _CLOCK.fullmatch(text.strip())
    if clock is None:
        raise ValueError(text)
    minutes = int(clock[1]) * 60 + int(clock[2] or 0)
    if minutes > 24 * 60 or minutes % _MINUTES_PER_QUARTER:
        raise ValueError(text)
    return minutes // _MINUTES_PER_QUARTER


@lru_cache(maxsize=1024)
def _weekdays(text: str) -> frozenset[int]:
    return _cyclic([part.strip().lower().split("-") for part in text.split(",")], list(_DAYS))


@lru_cache(maxsize=1024)
def _months(text: str) -> frozenset[int]:
    names = [str(number) for number in range(1, 13)]
    return frozenset(i + 1 for i in _cyclic([part.strip().split("-") for part in text.split(",")], names))


def _cyclic(spans: list[list[str]], names: list[str]) -> frozenset[int]:
    """Positions of ['mon', 'fri'] or ['sat'] among `names`; a span may go over the end. Raises ValueError."""
    positions: set[int] = set()
    for span in spans:
        if len(span) > 2:
            raise ValueError(span)
        start, end = names.index(span[0].strip()), names.index(span[-1].strip())
        positions.update(range(start, end + 1) if start <= end else (*range(start, len(names)), *range(end + 1)))
    return frozenset(positions)


def local_quarters(hour_ms: int, timezone: str) -> list[datetime]:
    """The local instants at which the four quarters of a UTC hour start; a clock change moves them."""
    zone = ZoneInfo(timezone)
    return [
        datetime.fromtimestamp((hour_ms + i * MS_PER_QUARTER) / 1000, UTC).astimezone(zone)
        for i in range(QUARTERS_PER_HOUR)
    ]
