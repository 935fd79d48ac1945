"""How impossible windows of a DuckDB ledger are found and moved aside; see `ledger/quarantine.py`."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from tokenyield_collector.ledger.duckdb.bulk_insert import insert_rows
from tokenyield_collector.ledger.duckdb.file import DuckDbFile
from tokenyield_collector.ledger.duckdb.hours import DuckDbHours
from tokenyield_collector.ledger.quarantine import (
    BATCHLESS_REASON,
    KEY_COLUMNS,
    LENGTH_REASON,
    SPAN_REASON,
    STATES_MS,
    WINDOW_KEY,
    Impossible,
    QuarantinedRows,
    WindowSource,
    findings,
    impossible_hours,
    impossible_together,
    impossible_windows,
    quarantined_rows,
)
from tokenyield_collector.ledger.sql import starts_in_hour
from tokenyield_collector.ledger.tables import TABLES
from tokenyield_wire.units import MS_PER_HOUR, hour_of_ms

WINDOWS_AT_ONCE = 200


def _wide(column: str) -> str:
    return f"({column})::HUGEINT"


_SOURCE = WindowSource(of_table=lambda table: f"{table}_windows", prefix="", wide=_wide)


def impossible(file: DuckDbFile, hour_ms: int) -> list[Impossible]:
    """See `Ledger.impossible`."""
    within = starts_in_hour(hour_ms)
    counts = file.rows(f"SELECT {KEY_COLUMNS}, count(*) FROM batches WHERE {within} GROUP BY ALL")
    found = findings(file.rows, _SOURCE, within, {tuple(key): n for *key, n in counts if n > 1}) if counts else {}
    for window, reason in _misfits(file, within):
        found.setdefault(window, reason)
    if found:
        return impossible_windows(found)
    if not counts:
        return impossible_hours(file.rows, lambda table: f"{table}_hours", hour_ms)
    return impossible_together(file.rows, _SOURCE, within, counts)


def _misfits(file: DuckDbFile, within: str) -> Iterator[tuple[tuple[str, str, int], str]]:
    """Windows of which something does not fit its batch, and why."""
    beyond = f"end_ms <= start_ms OR end_ms > (start_ms // {MS_PER_HOUR} + 1) * {MS_PER_HOUR}"
    too_long = f"SELECT {KEY_COLUMNS} FROM batches WHERE {within} AND ({beyond})"
    is_some_too_long = bool(file.rows(f"{too_long} LIMIT 1"))
    for table in TABLES:
        of_table = f"SELECT DISTINCT {KEY_COLUMNS} FROM {table}_windows"
        for window in file.rows(f"{of_table} ANTI JOIN batches USING ({KEY_COLUMNS}) WHERE {within}"):
            yield window, BATCHLESS_REASON
        if is_some_too_long:
            for window in file.rows(f"{of_table} SEMI JOIN ({too_long}) USING ({KEY_COLUMNS}) WHERE {within}"):
                yield window, SPAN_REASON
    states = " + ".join(_wide(f"w.{name}") for name in STATES_MS)
    same = " AND ".join(f"w.{name} = b.{name}" for name in WINDOW_KEY)
    for window in file.rows(
        f"SELECT DISTINCT {', '.join(f'w.{name}' for name in WINDOW_KEY)} FROM (FROM gpu_windows WHERE {within}) w "
        f"ANTI JOIN batches b ON {same} AND {states} = b.end_ms - b.start_ms"
    ):
        yield window, LENGTH_REASON


def quarantine(file: DuckDbFile, hours: DuckDbHours, found: Sequence[Impossible], moved_ms: int) -> None:
    """See `Ledger.quarantine`."""
    windows, whole_hours = ([one for one in found if one.span == span] for span in ("windows", "hours"))
    of_windows = sorted({hour_of_ms(one.start_ms) for one in windows})
    with file.transaction("cannot move its windows aside"):
        for rows in (windows, whole_hours):
            for i in range(0, len(rows), WINDOWS_AT_ONCE):
                _move(file, rows[i : i + WINDOWS_AT_ONCE], moved_ms)
        hours.recompute(of_windows)
        hours.mark_changed(sorted({one.start_ms for one in whole_hours}))
    hours.forget_live(of_windows)


def _move(file: DuckDbFile, found: Sequence[Impossible], moved_ms: int) -> None:
    """All of one span."""
    connection, span = file.connection, found[0].span
    start = "start_ms" if span == "windows" else "hour_ms"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE moved (cluster VARCHAR, node VARCHAR, {start} BIGINT)")
    insert_rows(connection, "moved", ["cluster", "node", start], [one[:3] for one in found])
    within = f"{start} BETWEEN {min(one.start_ms for one in found)} AND {max(one.start_ms for one in found)}"
    by_key = {one[:3]: one for one in found}
    for table in TABLES:
        source = f"{table}_{span}"
        result = connection.execute(f"FROM {source} SEMI JOIN moved USING (cluster, node, {start}) WHERE {within}")
        names = [column[0] for column in result.description]
        rows: dict[Impossible, list[dict[str, Any]]] = defaultdict(list)
        for values in result.fetchall():
            row = dict(zip(names, values, strict=True))
            rows[by_key[row["cluster"], row["node"], row[start]]].append(row)
        for one, own in rows.items():
            kept = quarantined_rows(one, source, own, moved_ms)
            connection.execute(f"INSERT INTO quarantined VALUES ({', '.join('?' for _ in kept)})", list(kept))
        if rows:
            connection.execute(f"DELETE FROM {source} WHERE {within} AND (cluster, node, {start}) IN (FROM moved)")
    connection.execute("DROP TABLE moved")


def quarantined(connection: Any) -> list[QuarantinedRows]:
    """See `Ledger.quarantined`."""
    rows = connection.execute(f"SELECT {', '.join(QuarantinedRows._fields)} FROM quarantined ORDER BY ALL").fetchall()
    return [QuarantinedRows(*row) for row in rows]
