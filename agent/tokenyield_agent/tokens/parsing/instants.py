"""The times that servers write before their lines, as Unix seconds. Pure.

Local times are read in this host's zone. A server in a container may write another zone's; that shifts the instant, not
the time between two lines, which is what the counting needs.
"""

import re
from datetime import datetime
from functools import lru_cache

DAY_S = 86_400
_END_S = 253_402_214_400
"""9999-12-31: later ones are not dates in every zone."""


def parse(text: bytes, arrival_s: float) -> float | None:
    """The instant of `text`, in one of the forms that inference servers write; None for any other.

    `2026-11-23T12:00:00.123Z`, `2026-11-23 12:00:00[,.123]`, `11-23 12:00:00` (no year), `11/23/2026-12:00:00`,
    `12:00:00` (no date). What is left out is chosen so that the instant is the latest one not after `arrival_s`.
    """
    head, seconds = text[:-2], text[-2:]
    if (iso := _ISO.match(text)) is not None:
        base = _minute(iso["day"] + b" " + iso["minute"], iso["zone"] == b"Z")
        return None if base is None else base + float(iso["second"].replace(b",", b"."))
    if not seconds.isdigit():
        return None
    if _NO_YEAR.match(text):
        return _yearless(head[:-1], int(arrival_s) // 60) + int(seconds)
    if (american := _AMERICAN.match(text)) is not None:
        base = _minute(american["year"] + b"-" + american["day"].replace(b"/", b"-") + b" " + american["minute"], False)
        return None if base is None else base + int(seconds)
    if (clock := _CLOCK.match(text)) is not None:
        return _of_day(int(clock["hour"]) * 3600 + int(clock["minute"]) * 60 + int(seconds), arrival_s)
    return None


def valid(at_s: float) -> float | None:
    """The same where it is a date of the calendar, else None: lines may hold any number."""
    return float(at_s) if 0 <= at_s < _END_S else None


def last_in(text: bytes, arrival_s: float) -> float | None:
    """The instant of the last time in `text`, which holds whatever was written before a line's words."""
    times = _ANY.findall(text)
    return parse(times[-1], arrival_s) if times else None


_ANY = re.compile(
    rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d{1,9})?Z|(?:(?<!\d)(?:\d{4}-)?\d\d-\d\d )?(?<!\d)\d\d:\d\d:\d\d(?!\d)"
)
_ISO = re.compile(rb"^(?P<day>\d{4}-\d\d-\d\d)[T ](?P<minute>\d\d:\d\d):(?P<second>\d\d(?:[.,]\d{1,9})?)(?P<zone>Z)?$")
_NO_YEAR = re.compile(rb"^\d\d-\d\d \d\d:\d\d:\d\d$")
_AMERICAN = re.compile(rb"^(?P<day>\d\d/\d\d)/(?P<year>\d{4})-(?P<minute>\d\d:\d\d):\d\d$")
_CLOCK = re.compile(rb"^(?P<hour>\d\d):(?P<minute>\d\d):\d\d$")


@lru_cache(maxsize=256)
def _minute(text: bytes, utc: bool) -> float | None:
    try:
        return valid(datetime.fromisoformat(text.decode("ascii") + (":00+00:00" if utc else "")).timestamp())
    except ValueError:
        return None


@lru_cache(maxsize=64)
def _yearless(text: bytes, arrival_minute: int) -> float:
    """Unix seconds of `MM-DD hh:mm`: in the latest year that is not after arrival."""
    arrival_s = arrival_minute * 60.0
    month, day, hour, minute = (int(part) for part in re.split(rb"[- :]", text))
    year = datetime.fromtimestamp(arrival_s).year
    for candidate in range(year + 1, year - 6, -1):
        try:
            at_s = datetime(candidate, month, day, hour, minute).timestamp()
        except ValueError:  # 29 February of another year, or not a date
            continue
        if at_s <= arrival_s + DAY_S:
            return at_s
    return arrival_s


def _of_day(second_of_day: int, arrival_s: float) -> float:
    midnight_s = datetime.fromtimestamp(arrival_s).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    at_s = midnight_s + second_of_day
    return at_s if at_s <= arrival_s + 60 else at_s - DAY_S
