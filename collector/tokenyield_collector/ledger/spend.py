"""How slices of spend are kept: their columns, which both engines share, and how large a day may be."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tokenyield_collector.prices.period import day_of
from tokenyield_collector.spend.slices import (
    DAY_LINES_MAX,
    SLICE_LINES_MAX,
    Layer,
    SpendAmounts,
    SpendFields,
    SpendKey,
    SpendLine,
    SpendSlice,
)

SPEND_LINE_COLUMNS = (*SpendFields._fields, *SpendAmounts._fields)
SPEND_COLUMNS = (*SpendKey._fields, "layer", *SPEND_LINE_COLUMNS, "imported_ms")
SPEND_TEXT = ("source", "account", "grain", "layer", *SpendFields._fields)
_FIELDS = len(SpendFields._fields)


def slice_of(key: SpendKey, layer: Layer, rows: Sequence[Sequence[Any]]) -> SpendSlice:
    """Of rows in the order of `SPEND_LINE_COLUMNS`."""
    return SpendSlice(
        key, layer, tuple(SpendLine(SpendFields(*row[:_FIELDS]), SpendAmounts(*row[_FIELDS:])) for row in rows)
    )


def spend_size_faults(stored: Sequence[SpendSlice], given: Sequence[SpendSlice]) -> Iterator[tuple[str, int, str]]:
    """(what, found, expected) of what would make a slice, or a day over all slices, larger than it may be. `stored` has
    the days of `given`."""
    for one in given:
        if len(one.lines) > SLICE_LINES_MAX:
            yield one.key.text, len(one.lines), f"at most {SLICE_LINES_MAX} lines"
    of_day: Counter[int] = Counter()
    for one in ({one.key: one for one in stored} | {one.key: one for one in given}).values():
        of_day[one.key.day_ms] += len(one.lines)
    for day_ms in sorted({one.key.day_ms for one in given}):
        if of_day[day_ms] > DAY_LINES_MAX:
            expected = f"at most {DAY_LINES_MAX} lines of a day, over all sources and accounts; use fewer fields"
            yield day_of(day_ms).isoformat(), of_day[day_ms], expected
