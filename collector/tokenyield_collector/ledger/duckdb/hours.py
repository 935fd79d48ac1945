"""The hours of a DuckDB ledger: how windows become sums, in memory and in the file, and roll-ups.

An hour is *dirty* while the file does not hold all of its sums: they are in memory (live_hours.py), or, after a start
or a failure, *unread* and recomputed from the windows. An hour that was written down is *unrolled* until its roll-ups
are made again. Of the writing thread only.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import duckdb

from tokenyield_collector.ledger.duckdb.bulk_insert import insert_rows
from tokenyield_collector.ledger.duckdb.file import DuckDbFile
from tokenyield_collector.ledger.duckdb.gpu_owners import changed_hours
from tokenyield_collector.ledger.duckdb.live_hours import DATABASE as LIVE
from tokenyield_collector.ledger.duckdb.live_hours import LiveHours, summed
from tokenyield_collector.ledger.duckdb.received import keep_ranges
from tokenyield_collector.ledger.duckdb.rollup import roll
from tokenyield_collector.ledger.sql import is_one_of, starts_in_hour
from tokenyield_collector.ledger.tables import TABLES

log = logging.getLogger(__name__)

ROLL_HOURS = 24
"""Hours rolled up in one transaction: at 10,000 GPUs one takes 0.03 s."""
LIVE_ROWS_MAX = 3_000_000
"""Rows of hours kept in memory before they are written down though they may still grow: about 0.5 GiB."""


class DuckDbHours:
    """Of one file."""

    def __init__(self, file: DuckDbFile) -> None:
        self._file = file
        self.dirty = {row[0] for row in file.rows("SELECT hour_ms FROM dirty_hours")}
        """Hours of which the file does not hold all sums."""
        self._unread = set(self.dirty)
        """Of those, the hours whose sums are not in memory either."""
        self.live = LiveHours(file.connection)
        self._changed: set[int] = set()
        """Hours whose windows changed since the last `fold`."""

    def add(self, hours_ms: Iterable[int], tables: Sequence[str]) -> None:
        """Windows of these hours were committed; those of each table are in `fresh_x_windows`, which go."""
        self.dirty.update(hours_ms)
        self._changed.update(hours_ms)
        try:
            self.live.add(tables)
            for table in tables:
                self._file.connection.execute(f"DROP TABLE fresh_{table}_windows")
        except Exception as error:  # noqa: BLE001 - what was committed stays, and has its receipt
            self._read_live_again(error)

    def fold(self) -> list[int]:
        try:
            self.live.compact()
        except duckdb.Error as error:
            self._read_live_again(error)
        if self.live.rows > LIVE_ROWS_MAX:
            self.write_down(sorted(self.dirty)[: max(1, len(self.dirty) - 1)])
        self._read_again()
        changed, self._changed = sorted(self._changed), set()
        return changed

    def write_down(self, hours_ms: Iterable[int]) -> None:
        """What memory has of these hours goes to the file."""
        self._read_again()
        hours_ms = [hour_ms for hour_ms in hours_ms if hour_ms in self.dirty]
        if not hours_ms:
            return
        connection, within = self._file.connection, f"WHERE {is_one_of(hours_ms)}"
        with self._moving(hours_ms):
            for table in TABLES:
                both = f"FROM {table}_hours {within} UNION ALL BY NAME FROM {LIVE}.{table}_hours {within}"
                connection.execute(
                    f"CREATE OR REPLACE TEMP TABLE whole AS SELECT {summed(table)} FROM ({both}) GROUP BY ALL"
                )
                connection.execute(f"DELETE FROM {table}_hours {within}")
                connection.execute(f"INSERT INTO {table}_hours BY NAME FROM whole")
            connection.execute("DROP TABLE whole")

    def roll(self, before_ms: int | None, hours_max: int | None) -> bool:
        dirty = sorted(hour_ms for hour_ms in self.dirty if before_ms is None or hour_ms < before_ms)
        self.write_down(dirty[:hours_max])
        where = "" if before_ms is None else f"WHERE hour_ms < {int(before_ms)}"
        rows = self._file.rows(f"SELECT DISTINCT hour_ms FROM unrolled_hours {where} ORDER BY 1")
        unrolled = [row[0] for row in rows]
        hours = unrolled[:hours_max]
        for i in range(0, len(hours), ROLL_HOURS):
            chunk = hours[i : i + ROLL_HOURS]
            with self._file.transaction("cannot roll up its hours"):
                roll(self._file.connection, chunk)
                self._file.connection.execute(f"DELETE FROM unrolled_hours WHERE {is_one_of(chunk)}")
        if hours:
            self._roll_changed()
        return len(hours) < len(unrolled) or (hours_max is not None and hours_max < len(dirty))

    def recompute(self, hours_ms: Sequence[int]) -> None:
        """Inside the caller's transaction, after which `forget_live` must be called: windows of these hours were taken
        away, so that all of them is made again."""
        insert_rows(self._file.connection, "dirty_hours", ["hour_ms"], [(hour_ms,) for hour_ms in hours_ms])

    def forget_live(self, hours_ms: Sequence[int]) -> None:
        """What memory has of these hours is too old; see `recompute`."""
        self.dirty.update(hours_ms)
        self._unread.update(hours_ms)
        self._drop_live(hours_ms)

    def _roll_changed(self) -> None:
        """Roll-ups of hours in which another node's GPUs count now than did."""
        changed = changed_hours(self._file.connection)
        for i in range(0, len(changed), ROLL_HOURS):
            with self._file.transaction("cannot roll up its hours"):
                roll(self._file.connection, changed[i : i + ROLL_HOURS])

    def _read_live_again(self, error: Exception) -> None:
        self._file.rollback()
        log.warning("hours that still grow are recomputed from their windows: %s", error)
        self.live.clear()
        self._unread |= self.dirty

    def _read_again(self) -> None:
        """The hours whose sums are not in memory, from their windows."""
        self._changed |= self._unread
        connection = self._file.connection
        for hour_ms in sorted(self._unread):
            windows = f"SELECT *, {hour_ms} AS hour_ms FROM {{}}_windows WHERE {starts_in_hour(hour_ms)}"
            with self._moving([hour_ms]):
                for table in TABLES:
                    connection.execute(f"DELETE FROM {table}_hours WHERE hour_ms = {hour_ms}")
                    connection.execute(
                        f"INSERT INTO {table}_hours BY NAME SELECT {summed(table)} "
                        f"FROM ({windows.format(table)}) GROUP BY ALL"
                    )

    @contextmanager
    def _moving(self, hours_ms: Sequence[int]) -> Iterator[None]:
        """A transaction that puts all sums of these hours into the file."""
        with self._file.moving_hours:
            with self._file.transaction("cannot write its hours down"):
                yield
                self._file.connection.execute(f"DELETE FROM dirty_hours WHERE {is_one_of(hours_ms)}")
                self.mark_changed(hours_ms)
                keep_ranges(self._file.connection, hours_ms)
            self.dirty.difference_update(hours_ms)
            self._unread.difference_update(hours_ms)
            self._drop_live(hours_ms)

    def _drop_live(self, hours_ms: Iterable[int]) -> None:
        try:
            self.live.forget(hours_ms)
        except duckdb.Error as error:
            self._read_live_again(error)

    def mark_changed(self, hours_ms: Sequence[int]) -> None:
        """The facts of these hours are others than before: they need new roll-ups, and have a new revision."""
        connection = self._file.connection
        ((newest,),) = self._file.rows("SELECT coalesce(max(revision), 0) FROM hour_revisions")
        connection.execute(f"DELETE FROM hour_revisions WHERE {is_one_of(hours_ms)}")
        revisions = [(hour_ms, newest + 1) for hour_ms in hours_ms]
        insert_rows(connection, "hour_revisions", ["hour_ms", "revision"], revisions)
        connection.execute(f"DELETE FROM unrolled_hours WHERE {is_one_of(hours_ms)}")
        insert_rows(connection, "unrolled_hours", ["hour_ms"], [(hour_ms,) for hour_ms in hours_ms])
