"""How impossible windows of a ClickHouse ledger are found and moved aside; see `ledger/quarantine.py`.

A window is moved in steps that a second run ends: its rows are kept in `quarantined`, which holds the same rows once;
its batches take the place of themselves without their GPUs and so on, by their identity; rows of the hour go, and the
hour is touched, so that the leading collector recomputes it.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from tokenyield_collector.errors import LedgerError
from tokenyield_collector.ledger.clickhouse.client import ClickHouseClient, quoted
from tokenyield_collector.ledger.clickhouse.schema import WINDOW_COLUMNS
from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_collector.ledger.quarantine import (
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
from tokenyield_collector.ledger.sql import is_one_of, starts_in_hour
from tokenyield_collector.ledger.tables import BATCH_COLUMNS, TABLES, columns_of_batch, columns_of_hours
from tokenyield_wire.units import MS_PER_HOUR, hour_of_ms

WINDOWS_AT_ONCE = 100
"""In one statement: with the longest names within the 256 kB that a server takes."""
DELETED_WITHIN_S = 600.0
LOOK_EVERY_S = 0.1


def _wide(column: str) -> str:
    return f"toFloat64({column})"


def impossible(tables: ClickHouseTables, hour_ms: int) -> list[Impossible]:
    """See `Ledger.impossible`."""
    within, suffix, rows_of = starts_in_hour(hour_ms), tables.suffix, tables.client.rows
    counts = tables.rows(f"SELECT {KEY_COLUMNS}, count() FROM {{windows}} FINAL WHERE {within} GROUP BY {KEY_COLUMNS}")
    if not counts:
        return impossible_hours(rows_of, lambda table: f"{table}_hours{suffix} FINAL", hour_ms)
    source = WindowSource(lambda table: f"windows{suffix} FINAL ARRAY JOIN {table} AS x", "x.", _wide)
    found = findings(rows_of, source, within, {tuple(key): n for *key, n in counts if n > 1})
    beyond = f"end_ms <= start_ms OR end_ms > (intDiv(start_ms, {MS_PER_HOUR}) + 1) * {MS_PER_HOUR}"
    unlike = f"{' + '.join(_wide(f'x.{name}') for name in STATES_MS)} != toFloat64(end_ms - start_ms)"
    for condition, reason, of_tables in ((beyond, SPAN_REASON, TABLES), (unlike, LENGTH_REASON, ("gpu",))):
        for table in of_tables:
            sql = f"SELECT DISTINCT {KEY_COLUMNS} FROM {source.of_table(table)} WHERE {within} AND ({condition})"
            for cluster, node, start_ms in rows_of(sql):
                found.setdefault((cluster, node, int(start_ms)), reason)
    if found:
        return impossible_windows(found)
    return impossible_together(rows_of, source, within, counts)


def quarantine(tables: ClickHouseTables, found: Sequence[Impossible], moved_ms: int) -> None:
    """See `Ledger.quarantine`."""
    by_hour: dict[tuple[str, int], list[Impossible]] = defaultdict(list)
    for one in found:
        by_hour[one.span, hour_of_ms(one.start_ms)].append(one)
    for (span, hour_ms), of_hour in by_hour.items():
        for i in range(0, len(of_hour), WINDOWS_AT_ONCE):
            chunk = of_hour[i : i + WINDOWS_AT_ONCE]
            if span == "windows":
                _move_windows(tables, hour_ms, chunk, moved_ms)
            else:
                _keep_hours(tables, chunk, moved_ms)
    _remake_hours(tables)


def _move_windows(tables: ClickHouseTables, hour_ms: int, found: Sequence[Impossible], moved_ms: int) -> None:
    keys = ", ".join(f"({quoted(one.cluster)}, {quoted(one.node)}, {int(one.start_ms)})" for one in found)
    batches = tables.client.rows(
        f"SELECT {', '.join(WINDOW_COLUMNS)} FROM windows{tables.suffix} FINAL "
        f"WHERE {starts_in_hour(hour_ms)} AND ({KEY_COLUMNS}) IN ({keys})"
    )
    kept: dict[tuple[str, str, int], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    emptied = []
    for batch in batches:
        row = dict(zip(WINDOW_COLUMNS, batch, strict=True))
        window = (row["cluster"], row["node"], int(row["start_ms"]))
        for table in TABLES:
            names = columns_of_batch(table)
            for values in zip(*(row[f"{table}.{name}"] for name in names), strict=True):
                own = dict(zip(names, values, strict=True))
                kept[window][table].append({**dict(zip(WINDOW_KEY, window, strict=True)), **own})
        emptied.append([row[name] if name in BATCH_COLUMNS else [] for name in WINDOW_COLUMNS])
    _keep(tables, [
        quarantined_rows(one, f"{table}_windows", rows, moved_ms)
        for one in found
        for table, rows in kept[one[:3]].items()
    ])  # fmt: skip
    if emptied:  # the newest row of an identity is the one that counts
        tables.insert("windows", WINDOW_COLUMNS, list(zip(*emptied, strict=True)))


def _keep_hours(tables: ClickHouseTables, found: Sequence[Impossible], moved_ms: int) -> None:
    kept = []
    for one in found:
        for table in TABLES:
            names = columns_of_hours(table)
            own = f"hour_ms = {int(one.start_ms)} AND cluster = {quoted(one.cluster)} AND node = {quoted(one.node)}"
            of_table = f"{table}_hours{tables.suffix}"
            values = tables.client.rows(f"SELECT {', '.join(names)} FROM {of_table} FINAL WHERE {own}")
            if rows := [dict(zip(names, row, strict=True)) for row in values]:
                kept.append(quarantined_rows(one, f"{table}_hours", rows, moved_ms))
    _keep(tables, kept)


def _keep(tables: ClickHouseTables, rows: Sequence[QuarantinedRows]) -> None:
    tables.insert_rows("quarantined", QuarantinedRows._fields, rows)


def _remake_hours(tables: ClickHouseTables) -> None:
    """Of nodes of which something was moved aside: their rows go, and the hours are touched, to be made again of the
    windows that are left. Also those of an earlier call, which may have been killed before it came to this."""
    nodes: dict[int, set[tuple[str, str]]] = defaultdict(set)
    hours_of_windows_ms = set()
    for row in quarantined(tables):
        nodes[hour_of_ms(row.start_ms)].add((row.cluster, row.node))
        if row.source.endswith("_windows"):
            hours_of_windows_ms.add(hour_of_ms(row.start_ms))
    first_ms, remade_ms = tables.retired_before_ms("windows"), []
    for hour_ms, of_hour in sorted(nodes.items()):
        if hour_ms in hours_of_windows_ms and hour_ms < first_ms:
            continue  # what is left of it cannot be made again
        remade_ms.append(hour_ms)
        listed = sorted(of_hour)
        for i in range(0, len(listed), WINDOWS_AT_ONCE):
            names = (f"({quoted(cluster)}, {quoted(node)})" for cluster, node in listed[i : i + WINDOWS_AT_ONCE])
            of_nodes = f"{is_one_of([hour_ms])} AND (cluster, node) IN ({', '.join(names)})"
            for shard in tables.shards:
                for table in TABLES:
                    shard.run(f"ALTER TABLE {table}_hours DELETE WHERE {of_nodes}")
    for shard in tables.shards:
        _wait_for_mutations(shard)
    folds = tables.folds()
    changed = [(hour_ms, folds.get(hour_ms, 0) + 1) for hour_ms in remade_ms if hour_ms < first_ms]
    tables.insert_rows("folded", ("hour_ms", "commits"), changed)
    tables.insert_rows("touched", ("hour_ms", "commits"), [(hour_ms, 1) for hour_ms in remade_ms])


def _wait_for_mutations(shard: ClickHouseClient) -> None:
    deadline_s = time.monotonic() + DELETED_WITHIN_S
    pending = "SELECT count() FROM system.mutations WHERE database = currentDatabase() AND NOT is_done"
    while shard.rows(pending)[0][0]:
        if time.monotonic() > deadline_s:
            raise LedgerError(f"ClickHouse has not deleted rows of hours within {DELETED_WITHIN_S:.0f} s; "
                              "see system.mutations, and run it again")  # fmt: skip
        time.sleep(LOOK_EVERY_S)


def quarantined(tables: ClickHouseTables) -> list[QuarantinedRows]:
    """See `Ledger.quarantined`."""
    rows = tables.rows(
        f"SELECT {', '.join(QuarantinedRows._fields)} FROM {{quarantined}} FINAL "
        f"WHERE start_ms >= {tables.retired_before_ms('hours')} ORDER BY {', '.join(QuarantinedRows._fields)}"
    )
    return [QuarantinedRows(*row) for row in rows]
