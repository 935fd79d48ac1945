"""How points of OpenTelemetry senders are kept: their columns, which both engines share, and what a day of them is."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenyield_collector.spend.otlp.points import ObservedAmounts, ObservedPoint, PointKey
from tokenyield_collector.spend.otlp.slices import ObservedSum
from tokenyield_collector.spend.slices import SpendFields

OBSERVED_HEAD = ("account", "sender", "signal", "client", *SpendFields._fields)
OBSERVED_COLUMNS = (
    *PointKey._fields, "time_ns", "total", *OBSERVED_HEAD, *ObservedAmounts._fields, "received_ms",
)  # fmt: skip
OBSERVED_TEXT = ("series", *OBSERVED_HEAD)
IS_UNPRICED = "(signal <> 'metrics' AND cost_nano IS NULL)"
"""Of requests: what has a price never hides what has none. Metrics give money and tokens in points of their own."""
_HEAD = len(OBSERVED_HEAD)
Prior = Mapping[tuple[str, int], int]
"""(series, start_ns) -> what it had counted before a day."""


def observed_rows(points: Iterable[ObservedPoint], received_ms: int) -> list[tuple[Any, ...]]:
    """In the order of `OBSERVED_COLUMNS`; of those with one key the newest."""
    newest: dict[PointKey, ObservedPoint] = {}
    for point in points:
        known = newest.get(point.key)
        if known is None or point.time_ns > known.time_ns:
            newest[point.key] = point
    return [
        (*key, time_ns, total, account, sender, signal, client, *fields, *amounts, received_ms)
        for key, time_ns, total, account, sender, signal, client, fields, amounts in newest.values()
    ]


def observed_sum(row: Sequence[Any]) -> ObservedSum:
    """Of a row of `OBSERVED_HEAD` and amounts."""
    amounts = ObservedAmounts(*(None if count is None else int(count) for count in row[_HEAD:]))
    account, sender, signal, client, *fields = row[:_HEAD]
    return ObservedSum(account, sender, signal, client, SpendFields(*fields), amounts)


def with_totals(sums: Sequence[Sequence[Any]], totals: Sequence[Sequence[Any]], prior: Prior) -> list[ObservedSum]:
    """`sums` of points, and rows of cumulative series: (series, start_ns, total, head, amounts)."""
    result = [observed_sum(row) for row in sums]
    for series, start_ns, total, *row in totals:
        grown = total - prior.get((series, start_ns), 0)
        one = observed_sum(row)
        amounts = ObservedAmounts(*(_of_sign(count, grown) for count in one.amounts))
        result.append(one._replace(amounts=amounts))
    return result


def _of_sign(count: int | None, grown: int) -> int | None:
    """A series counts one thing, which it adds to some counts and takes from others."""
    if not count:
        return count
    return grown if count > 0 else -grown
