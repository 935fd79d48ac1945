"""Parameters of a request's query: numbers within bounds, and the period."""

from collections.abc import Mapping

from tokenyield_collector.errors import ParameterError
from tokenyield_collector.http.route import QueryParameter

_DIGITS_MAX = 18


def period_parameter(description: str = "2026-10, 2026-10-05 or A..B") -> QueryParameter:
    return QueryParameter(
        name="period", schema={"type": "string", "maxLength": 40}, description=description, is_required=True
    )


def period_of(query: Mapping[str, str], expected: str = "a period") -> str:
    """Its text, which is checked where it is used. Raises `ParameterError`."""
    if "period" not in query:
        raise ParameterError("period", expected=expected, found="nothing", fix="write period=2026-10")
    return query["period"]


def columns_of(query: Mapping[str, str]) -> list[str]:
    """Those of `by`, which are checked where they are used."""
    return [name.strip() for name in query.get("by", "").split(",") if name.strip()]


def whole_number(query: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    """None where the parameter is not given. Raises `ParameterError`."""
    text = query.get(name)
    if text is None:
        return None
    is_number = text.isascii() and text.isdecimal() and len(text) <= _DIGITS_MAX
    if not is_number or not least <= int(text) <= most:
        raise ParameterError(name, expected=f"a whole number from {least} to {most}", found=f"'{text[:40]}'")
    return int(text)


def number(query: Mapping[str, str], name: str, least: float, most: float) -> float | None:
    """None where the parameter is not given. Raises `ParameterError`."""
    text = query.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise ParameterError(name, expected=f"a number from {least:g} to {most:g}", found=f"'{text[:40]}'")
    return value
