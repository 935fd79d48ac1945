"""Values of a vendor's row, checked: texts, counts, money, days. Pure.

Nothing of a row is trusted because a vendor sent it: each value is bounded, and a row with one that cannot be used is
refused with the field, what was found, and what to do; the other rows of its file are kept.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

from tokenyield_collector.spend.slices import COST_MICRO_MAX, FIELD_CHARS_MAX
from tokenyield_wire.bounded import fitting_name
from tokenyield_wire.units import MS_PER_DAY
from tokenyield_wire.window import COUNT_MAX

PICO_PER_UNIT = 10**12
PICO_PER_MICRO = 10**6
"""Money is read in millionths of millionths, and rounded to millionths only in the sums of a slice."""
_PICO_MAX = COST_MICRO_MAX * PICO_PER_MICRO
_FIRST_DAY_MS = 1_420_070_400_000
"""2015-01-01: before that nobody sold tokens."""
_LAST_DAY_MS = 4_102_444_800_000
"""2100-01-01."""
_DAYS_REMEMBERED = 4096
_PATHS_REMEMBERED = 1024


class UnusableSpend(ValueError):
    """A value that cannot be used."""

    def __init__(self, field: str, *, expected: str, found: str, fix: str = "correct it, or leave the row out") -> None:
        self.field = field
        self._why = f"expected {expected}, found {found[:80]}; {fix}"
        super().__init__(f"{field}: {self._why}")

    def within(self, where: str) -> "UnusableSpend":
        """The same, of a row that is at `where` of its document."""
        moved = UnusableSpend.__new__(UnusableSpend)
        moved.field = f"{where}.{self.field}"
        moved._why = self._why
        ValueError.__init__(moved, f"{moved.field}: {moved._why}")
        return moved


def at(row: Mapping[str, Any], path: str) -> Any:
    """The value at a path with dots; None where there is none."""
    if "." not in path:
        return row.get(path)
    value: Any = row
    for name in _names(path):
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


@lru_cache(_PATHS_REMEMBERED)
def _names(path: str) -> list[str]:
    return path.split(".")


def text(row: Mapping[str, Any], path: str, default: str = "") -> str:
    """A name, made to fit; `default` where there is none."""
    value = at(row, path) if "." in path else row.get(path)  # a call less, of millions
    if type(value) is str:  # by far most are
        return fitting_name(value, FIELD_CHARS_MAX) if value else default
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UnusableSpend(path, expected="a text", found=type(value).__name__)
    return fitting_name(str(value), FIELD_CHARS_MAX)


def count_at(row: Mapping[str, Any], path: str) -> int | None:
    value = at(row, path) if "." in path else row.get(path)
    return value if type(value) is int and 0 <= value <= COUNT_MAX else count(value, path)


def count(value: Any, field: str) -> int | None:
    """A whole number, also as text or as 12.0; None where there is none."""
    if value is None or value == "":
        return None
    if type(value) is int:
        whole = value
    else:
        number = _decimal(value, field, "a whole number")
        if number != number.to_integral_value():
            raise UnusableSpend(field, expected="a whole number", found=str(value))
        whole = int(number)
    if not 0 <= whole <= COUNT_MAX:
        raise UnusableSpend(field, expected=f"a whole number from 0 to {COUNT_MAX}", found=str(value))
    return whole


def money(value: Any, field: str, *, per_unit: int = 1) -> int | None:
    """An amount in picos of the currency; None where there is none. `per_unit`: of what it counts, how many are a unit
    (100: it counts cents). It may be negative: credits and refunds are."""
    if value is None or value == "":
        return None
    number = _decimal(value, field, "an amount of money")
    pico = int((number * PICO_PER_UNIT / per_unit).to_integral_value())
    if abs(pico) > _PICO_MAX:
        raise UnusableSpend(field, expected=f"an amount of at most {COST_MICRO_MAX // 10**6}", found=str(value))
    return pico


def currency(value: Any, field: str) -> str:
    """An ISO 4217 code, in capitals."""
    code = str(value).upper() if isinstance(value, str) else ""
    if len(code) != 3 or not code.isascii() or not code.isalpha():
        raise UnusableSpend(field, expected="a currency such as USD", found=str(value))
    return code


def day_ms(value: Any, field: str) -> int:
    """Start of the UTC day of a text that begins as ISO 8601 (2026-10-05, 2026-10-05T10:00:00Z)."""
    if not isinstance(value, str):
        raise UnusableSpend(field, expected="a day such as 2026-10-05", found=str(value))
    start_ms = _day_of_text(value)
    if start_ms is None:
        raise UnusableSpend(field, expected="a day such as 2026-10-05", found=value)
    return within_days(start_ms, field)


def day_of_unix(value: Any, field: str, *, per_s: int = 1) -> int:
    """Start of the UTC day of seconds since 1970; `per_s` 1000: of milliseconds."""
    moment = count(value, field)
    if moment is None:
        raise UnusableSpend(field, expected="seconds since 1970", found="nothing")
    moment_ms = moment * 1000 // per_s
    return within_days(moment_ms - moment_ms % MS_PER_DAY, field)


def within_days(start_ms: int, field: str) -> int:
    if not _FIRST_DAY_MS <= start_ms < _LAST_DAY_MS:
        raise UnusableSpend(field, expected="a day from 2015 to 2099", found=f"{start_ms} ms")
    return start_ms


@lru_cache(_DAYS_REMEMBERED)
def _day_of_text(value: str) -> int | None:
    """Times with an offset count to the UTC day that they are in; without one they are UTC."""
    try:
        if len(value) <= 10:
            day = date.fromisoformat(value)
            return _ms(datetime(day.year, day.month, day.day, tzinfo=UTC))
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    try:
        moment_ms = _ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except OverflowError:
        return None
    return moment_ms - moment_ms % MS_PER_DAY


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _decimal(value: Any, field: str, expected: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise UnusableSpend(field, expected=expected, found=type(value).__name__)
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise UnusableSpend(field, expected=expected, found=f"'{value}'") from None
    if not number.is_finite() or abs(number.adjusted()) > 30:
        raise UnusableSpend(field, expected=expected, found=f"'{value}'")
    return number
