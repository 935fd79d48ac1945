"""Which batches a DuckDB ledger has received, as a start reads it: number ranges, kept by hour.

In: the batches of hours that are being written down. Out: a row of `received_hours` for each range of a sender's
numbers whose windows start in that hour; there are a few hundred times fewer of these than of batches. An hour that is
dirty may have more by now, so its batches themselves are read. Of the writing thread only.
"""

from collections import defaultdict
from collections.abc import Collection
from typing import Any

from tokenyield_collector.ledger.intake import BatchSender
from tokenyield_collector.ledger.receipts import NumberSet, ReceiptDifference
from tokenyield_collector.ledger.sql import is_one_of, starts_in, starts_in_hour
from tokenyield_wire.units import MS_PER_HOUR

RECEIVED_COLUMNS = ("hour_ms", *BatchSender._fields, "first_seq", "last_seq")
Received = dict[BatchSender, NumberSet]
_SENDER = ", ".join(BatchSender._fields)


def ranges_by_hour(condition: str) -> str:
    """SQL: of the batches of which `condition` holds, rows of `RECEIVED_COLUMNS`. Hardly any sender has a gap in an
    hour; only the numbers of those are sorted."""
    key = f"hour_ms, {_SENDER}"
    batches = f"(SELECT start_ms - start_ms % {MS_PER_HOUR} AS hour_ms, {_SENDER}, seq FROM batches WHERE {condition})"
    return (
        f"WITH of_hours AS (SELECT {key}, min(seq) AS first_seq, max(seq) AS last_seq, count(*) AS batches "
        f"FROM {batches} GROUP BY ALL), "
        "whole AS (FROM of_hours WHERE last_seq - first_seq + 1 = batches), "
        f"islands AS (SELECT {key}, seq, seq - row_number() OVER (PARTITION BY {key} ORDER BY seq) AS island "
        f"FROM {batches} ANTI JOIN whole USING ({key})) "
        f"SELECT {key}, first_seq, last_seq FROM whole "
        f"UNION ALL SELECT {key}, min(seq), max(seq) FROM islands GROUP BY {key}, island"
    )


def keep_ranges(connection: Any, hours_ms: Collection[int]) -> None:
    """Of these hours as they are now, inside the caller's transaction, after which they are dirty no more."""
    connection.execute(f"DELETE FROM received_hours WHERE {is_one_of(hours_ms)}")
    for start_ms, end_ms in _stretches(hours_ms):
        connection.execute(f"INSERT INTO received_hours {ranges_by_hour(starts_in(start_ms, end_ms))}")


def read_received(connection: Any) -> Received:
    """All numbers of every sender. Ranges of several hours become one where they follow each other. Dirty hours
    are read one stretch after the other: many in one query take more memory than DuckDB has."""
    dirty = [hour_ms for (hour_ms,) in connection.execute("SELECT DISTINCT hour_ms FROM dirty_hours").fetchall()]
    columns = ", ".join(RECEIVED_COLUMNS)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE all_ranges AS "
        f"SELECT {columns} FROM received_hours ANTI JOIN dirty_hours USING (hour_ms)"
    )
    for start_ms, end_ms in _stretches(dirty):
        connection.execute(f"INSERT INTO all_ranges {ranges_by_hour(starts_in(start_ms, end_ms))}")
    rows = connection.execute(_joined("FROM all_ranges")).fetchall()
    connection.execute("DROP TABLE all_ranges")
    ranges: dict[BatchSender, list[tuple[int, int]]] = defaultdict(list)
    for *names, first, last in rows:
        ranges[BatchSender(*names)].append((first, last))
    return {sender: NumberSet(of_sender) for sender, of_sender in ranges.items()}


def differences(connection: Any) -> list[ReceiptDifference]:
    """See `Ledger.receipt_differences`. Hour by hour, so that it needs little memory."""
    hours = connection.execute(
        f"SELECT hour_ms FROM received_hours UNION SELECT start_ms - start_ms % {MS_PER_HOUR} FROM batches "
        "EXCEPT SELECT hour_ms FROM dirty_hours ORDER BY 1"
    ).fetchall()
    columns = ", ".join(RECEIVED_COLUMNS)
    found: list[ReceiptDifference] = []
    for (hour_ms,) in hours:
        kept = f"SELECT {columns} FROM received_hours WHERE {is_one_of([hour_ms])}"
        there = f"SELECT {columns} FROM ({ranges_by_hour(starts_in_hour(hour_ms))})"
        for one, other, are_there in ((there, kept, True), (kept, there, False)):
            sql = f"SELECT cluster, node, hour_ms, first_seq, last_seq FROM ({one} EXCEPT ALL {other}) ORDER BY ALL"
            found += [ReceiptDifference._make((*row, are_there)) for row in connection.execute(sql).fetchall()]
    return found


def _joined(ranges: str) -> str:
    """SQL: ranges of `RECEIVED_COLUMNS` without the hours, in order, those that follow each other as one. Of most
    senders they all do."""
    return (
        f"WITH ranges AS MATERIALIZED ({ranges}), "
        f"senders AS (SELECT {_SENDER}, min(first_seq) AS first_seq, max(last_seq) AS last_seq, "
        f"sum(last_seq - first_seq + 1) AS batches FROM ranges GROUP BY ALL), "
        "whole AS (FROM senders WHERE last_seq - first_seq + 1 = batches), "
        f"marked AS (SELECT {_SENDER}, first_seq, last_seq, "
        f"lag(last_seq) OVER (PARTITION BY {_SENDER} ORDER BY first_seq) + 1 IS DISTINCT FROM first_seq AS begins "
        f"FROM ranges ANTI JOIN whole USING ({_SENDER})), "
        f"numbered AS (SELECT *, sum(begins::INTEGER) OVER (PARTITION BY {_SENDER} ORDER BY first_seq "
        "ROWS UNBOUNDED PRECEDING) AS island FROM marked) "
        f"SELECT {_SENDER}, first_seq, last_seq FROM whole "
        f"UNION ALL SELECT {_SENDER}, min(first_seq), max(last_seq) FROM numbered GROUP BY {_SENDER}, island "
        "ORDER BY ALL"
    )


def _stretches(hours_ms: Collection[int]) -> list[tuple[int, int]]:
    """[start, end) of hours that follow each other: DuckDB skips what lies outside."""
    stretches: list[tuple[int, int]] = []
    for hour_ms in sorted(set(hours_ms)):
        start_ms = stretches.pop()[0] if stretches and stretches[-1][1] == hour_ms else hour_ms
        stretches.append((start_ms, hour_ms + MS_PER_HOUR))
    return stretches
