"""Points of OpenTelemetry senders in a ClickHouse ledger: each is one row, and the newest of a key stays."""

from collections.abc import Sequence
from typing import Any

from tokenyield_collector.ledger.clickhouse.client import quoted
from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_collector.ledger.observed import (
    IS_UNPRICED,
    OBSERVED_COLUMNS,
    OBSERVED_HEAD,
    observed_rows,
    with_totals,
)
from tokenyield_collector.spend.otlp.points import ObservedAmounts, ObservedPoint, SeriesState
from tokenyield_collector.spend.otlp.slices import ObservedSum

_HEAD = ", ".join(OBSERVED_HEAD)
SERIES_AT_ONCE = 2_000
"""A query has at most 256 KiB."""


def add_observed(tables: ClickHouseTables, points: Sequence[ObservedPoint], received_ms: int) -> None:
    """See `Ledger.add_observed`."""
    write_observed(tables, observed_rows(points, received_ms))


def write_observed(tables: ClickHouseTables, rows: Sequence[tuple[Any, ...]]) -> None:
    """In the order of `OBSERVED_COLUMNS`."""
    tables.insert_rows("observed", OBSERVED_COLUMNS, rows)


def observed_states(tables: ClickHouseTables, series: Sequence[str]) -> dict[str, SeriesState]:
    """See `Ledger.observed_states`."""
    states: dict[str, SeriesState] = {}
    for i in range(0, len(series), SERIES_AT_ONCE):
        names = ", ".join(quoted(name) for name in series[i : i + SERIES_AT_ONCE])
        rows = tables.rows(
            "SELECT series, start_ns, time_ns, total FROM {observed} FINAL WHERE is_total = 1 "
            f"AND series IN ({names}) ORDER BY start_ns, time_ns"
        )
        states |= {name: SeriesState(int(start), int(time_ns), int(total)) for name, start, time_ns, total in rows}
    return states


def observed_days(tables: ClickHouseTables, first_ms: int) -> dict[int, tuple[int, int]]:
    """See `Ledger.observed_days`."""
    rows = tables.rows(
        "SELECT day_ms, count(), max(received_ms) FROM {observed} WHERE day_ms >= %d GROUP BY day_ms ORDER BY day_ms",
        first_ms,
    )
    return {int(day_ms): (int(count), int(received_ms)) for day_ms, count, received_ms in rows}


def observed_sums(tables: ClickHouseTables, day_ms: int) -> list[ObservedSum]:
    """See `Ledger.observed_sums`."""
    summed = ", ".join(f"sum({name})" for name in ObservedAmounts._fields)
    sums = tables.rows(
        f"SELECT {_HEAD}, {summed} FROM {{observed}} FINAL WHERE day_ms = %d AND is_total = 0 "
        f"GROUP BY {_HEAD}, {IS_UNPRICED}",
        day_ms,
    )
    totals = tables.rows(
        f"SELECT series, start_ns, total, {_HEAD}, {', '.join(ObservedAmounts._fields)} FROM {{observed}} FINAL "
        "WHERE day_ms = %d AND is_total = 1",
        day_ms,
    )
    before = tables.rows(
        "SELECT series, start_ns, max(total) FROM {observed} FINAL WHERE is_total = 1 AND day_ms < %d "
        "AND series GLOBAL IN (SELECT series FROM {observed} WHERE is_total = 1 AND day_ms = %d) "
        "GROUP BY series, start_ns",
        day_ms,
        day_ms,
    )
    return with_totals(sums, totals, {(str(series), int(start_ns)): int(total) for series, start_ns, total in before})
