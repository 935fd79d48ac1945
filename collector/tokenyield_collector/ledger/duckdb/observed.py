"""Points of OpenTelemetry senders in a DuckDB ledger. Writing is of the writing thread only."""

from collections.abc import Sequence
from typing import Any

from tokenyield_collector.ledger.duckdb.bulk_insert import make_table
from tokenyield_collector.ledger.duckdb.file import DuckDbFile
from tokenyield_collector.ledger.observed import (
    IS_UNPRICED,
    OBSERVED_COLUMNS,
    OBSERVED_HEAD,
    observed_rows,
    with_totals,
)
from tokenyield_collector.spend.otlp.points import ObservedAmounts, ObservedPoint, PointKey, SeriesState
from tokenyield_collector.spend.otlp.slices import ObservedSum

_HEAD = ", ".join(OBSERVED_HEAD)
_SAME = " AND ".join(f"observed.{name} = came.{name}" for name in PointKey._fields)


def add_observed(file: DuckDbFile, points: Sequence[ObservedPoint], received_ms: int) -> None:
    """See `Ledger.add_observed`."""
    rows = observed_rows(points, received_ms)
    if not rows:
        return
    days = ", ".join(str(day_ms) for day_ms in sorted({point.key.day_ms for point in points}))
    columns = ", ".join(OBSERVED_COLUMNS)
    with file.transaction("cannot be written"):
        make_table(file.connection, "came", OBSERVED_COLUMNS, rows)
        file.connection.execute(
            f"DELETE FROM observed USING came WHERE observed.is_total = 1 AND observed.day_ms IN ({days}) "
            f"AND {_SAME} AND observed.time_ns < came.time_ns"
        )
        file.connection.execute(
            f"INSERT INTO observed ({columns}) SELECT {columns} FROM came WHERE NOT EXISTS "
            f"(SELECT 1 FROM observed WHERE observed.day_ms IN ({days}) AND {_SAME})"
        )
        file.connection.execute("DROP TABLE came")


def observed_states(connection: Any, series: Sequence[str]) -> dict[str, SeriesState]:
    """See `Ledger.observed_states`."""
    if not series:
        return {}
    rows = connection.execute(
        "SELECT series, start_ns, time_ns, total FROM observed WHERE is_total = 1 AND series IN "
        "(SELECT unnest(?)) ORDER BY start_ns, time_ns",
        [list(series)],
    ).fetchall()
    return {name: SeriesState(start_ns, time_ns, total) for name, start_ns, time_ns, total in rows}


def observed_days(connection: Any, first_ms: int) -> dict[int, tuple[int, int]]:
    """See `Ledger.observed_days`."""
    rows = connection.execute(
        "SELECT day_ms, count(*), max(received_ms) FROM observed WHERE day_ms >= ? GROUP BY 1 ORDER BY 1", [first_ms]
    ).fetchall()
    return {day_ms: (count, received_ms) for day_ms, count, received_ms in rows}


def observed_sums(connection: Any, day_ms: int) -> list[ObservedSum]:
    """See `Ledger.observed_sums`."""
    summed = ", ".join(f"sum({name})" for name in ObservedAmounts._fields)
    sums = connection.execute(
        f"SELECT {_HEAD}, {summed} FROM observed WHERE day_ms = ? AND is_total = 0 GROUP BY {_HEAD}, {IS_UNPRICED}",
        [day_ms],
    ).fetchall()
    totals = connection.execute(
        f"SELECT series, start_ns, total, {_HEAD}, {', '.join(ObservedAmounts._fields)} FROM observed "
        "WHERE day_ms = ? AND is_total = 1",
        [day_ms],
    ).fetchall()
    before = connection.execute(
        "SELECT series, start_ns, max(total) FROM observed WHERE is_total = 1 AND day_ms < ? AND series IN "
        "(SELECT series FROM observed WHERE is_total = 1 AND day_ms = ?) GROUP BY 1, 2",
        [day_ms, day_ms],
    ).fetchall()
    return with_totals(sums, totals, {(series, start_ns): total for series, start_ns, total in before})
