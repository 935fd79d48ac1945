"""Rows by day into rows of the whole period, where a `UsageQuery` asks for that (`undated`).

In: rows in the order of their days. Out: the same, in which those of a segment that is undated are one for each key, of
the period's first day; work of dated groups stays by day. They are in memory until the last row: few keys, for nobody
asks so for what is by node and day.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tokenyield_collector.ledger.clickhouse.divided import added
from tokenyield_collector.ledger.usage import CapacityRow, UsageQuery, UsageRows, WorkRow
from tokenyield_wire.units import MS_PER_DAY


def of_period(rows: UsageRows, query: UsageQuery) -> UsageRows:
    """The rows as the query wants them."""
    if not query.undated:
        return rows
    are_dated: dict[int, bool] = {}

    def is_dated(row: WorkRow) -> bool:
        if row.group not in are_dated:
            are_dated[row.group] = query.is_dated(row.group)
        return are_dated[row.group]

    return UsageRows(
        _summed(rows.work, query, is_dated, WorkRow),
        _summed(rows.capacity, query, lambda _: False, CapacityRow),
    )


def _summed(
    rows: Iterable[Any], query: UsageQuery, is_dated: Callable[[Any], bool], row_of: Callable[..., Any]
) -> Iterator[Any]:
    first_ms = query.start_ms - query.start_ms % MS_PER_DAY
    sums: dict[tuple[Any, ...], tuple[int, ...]] = {}
    for one in rows:
        is_whole = one.segment in query.undated.get(one.chain, ()) and not is_dated(one)
        key = (first_ms if is_whole else one.day_ms, *one[1:-1])
        known = sums.get(key)
        sums[key] = tuple(one.sums) if known is None else tuple(map(added, known, one.sums))
    return iter([row_of(*key, sums[key]) for key in sorted(sums)])
