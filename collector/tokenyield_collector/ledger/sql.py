"""Conditions in SQL that both engines understand. Numbers of our own only: no text from outside gets in here."""

from collections.abc import Iterable

from tokenyield_wire.units import MS_PER_HOUR


def starts_in(start_ms: int, end_ms: int) -> str:
    """Windows that start in [start_ms, end_ms)."""
    return between("start_ms", start_ms, end_ms)


def starts_in_hour(hour_ms: int) -> str:
    return starts_in(hour_ms, hour_ms + MS_PER_HOUR)


def between(column: str, start_ms: int, end_ms: int) -> str:
    return f"{column} >= {int(start_ms)} AND {column} < {int(end_ms)}"


def is_one_of(hours_ms: Iterable[int]) -> str:
    """Rows of these hours; none where none is given."""
    return f"hour_ms IN ({', '.join(str(int(hour_ms)) for hour_ms in hours_ms) or 'NULL'})"
