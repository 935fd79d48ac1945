"""Slices of spend day by day, a few days in memory at once."""

from collections.abc import Iterator
from itertools import groupby
from typing import Protocol

from tokenyield_collector.spend.slices import SpendSlice
from tokenyield_wire.units import MS_PER_DAY

DAYS_AT_ONCE = 7


class SpendReader(Protocol):
    """The part of a `Ledger` that is needed."""

    def spend(self, start_ms: int, end_ms: int) -> list[SpendSlice]: ...


def spend_days(ledger: SpendReader, start_ms: int, end_ms: int) -> Iterator[tuple[int, list[SpendSlice]]]:
    """(day, its slices) of each day that has any, in order."""
    for first_ms in range(start_ms, end_ms, DAYS_AT_ONCE * MS_PER_DAY):
        slices = ledger.spend(first_ms, min(first_ms + DAYS_AT_ONCE * MS_PER_DAY, end_ms))
        for day_ms, of_day in groupby(sorted(slices, key=_day_of), _day_of):
            yield day_ms, list(of_day)


def _day_of(one: SpendSlice) -> int:
    return one.key.day_ms
