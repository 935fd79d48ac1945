"""Sums of the hours that still grow, in memory: an hour of a DuckDB ledger is what its file holds plus what is here.

Rewriting the newest hour of 100,000 GPUs at every refresh would cost more than taking its batches in. So what came in
since an hour was last written down is added up here, and the hour is written once it has passed. Nothing is lost with
the process: until it is written an hour is listed in `dirty_hours`, and is recomputed from its windows.
"""

from collections.abc import Iterable
from typing import Any

from tokenyield_collector.ledger.tables import SUM_MAX, TABLES
from tokenyield_wire.units import MS_PER_HOUR

DATABASE = "live_hours"
COMPACT_ROWS = 50_000
"""Rows that may be added beside those that were summed, or as many again as these, before all are summed."""


class LiveHours:
    """Written by one thread; other connections read its tables, `live_hours.x_hours`, as of their own snapshot."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._connection.execute(f"ATTACH ':memory:' AS {DATABASE}")
        self.clear()

    @property
    def rows(self) -> int:
        return sum(self._added.values()) + sum(self._summed.values())

    def add(self, fresh: Iterable[str]) -> None:
        """Of each table named, the rows of `fresh_x_windows`, which have the columns of its windows."""
        connection = self._connection
        connection.execute("BEGIN")
        for table in fresh:
            (added,) = connection.execute(
                f"INSERT INTO {DATABASE}.{table}_hours BY NAME "
                f"SELECT * EXCLUDE start_ms, start_ms - start_ms % {MS_PER_HOUR} AS hour_ms FROM fresh_{table}_windows"
            ).fetchone()
            self._added[table] += added
        connection.execute("COMMIT")

    def compact(self) -> None:
        """Add up what has grown much."""
        for table in TABLES:
            if self._added[table] > max(COMPACT_ROWS, self._summed[table]):
                self._rewrite(table, f"SELECT {summed(table)} FROM {DATABASE}.{table}_hours GROUP BY ALL")

    def clear(self) -> None:
        self._added = dict.fromkeys(TABLES, 0)
        self._summed = dict.fromkeys(TABLES, 0)
        self._connection.execute("BEGIN")  # so that nobody reads shares without their GPUs
        for table in TABLES:
            self._connection.execute(f"CREATE OR REPLACE TABLE {DATABASE}.{table}_hours AS FROM {table}_hours LIMIT 0")
        self._connection.execute("COMMIT")

    def forget(self, hours_ms: Iterable[int]) -> None:
        listed = ", ".join(map(str, hours_ms))
        self._connection.execute("BEGIN")
        for table in TABLES:
            self._rewrite(table, f"FROM {DATABASE}.{table}_hours WHERE hour_ms NOT IN ({listed})")
        self._connection.execute("COMMIT")

    def _rewrite(self, table: str, select: str) -> None:
        """A new table, because deleting rows in memory frees none."""
        name = f"{DATABASE}.{table}_hours"
        self._connection.execute(f"CREATE OR REPLACE TABLE {name} AS {select}")
        ((self._summed[table],),) = self._connection.execute(f"SELECT count(*) FROM {name}").fetchall()
        self._added[table] = 0


def all_hours_of(table: str) -> str:
    """All rows of a table's hours, in the file and in memory; several may be of one hour and key."""
    return f"(FROM {table}_hours UNION ALL BY NAME FROM {DATABASE}.{table}_hours)"


def summed(table: str) -> str:
    """Columns of hours, their sums added up; needs `GROUP BY ALL`."""
    keys, sums = TABLES[table]
    return ", ".join(["hour_ms", *keys, *(f"{at_most(column, SUM_MAX[table])} AS {column}" for column in sums)])


def at_most(column: str, most: int) -> str:
    """The sum of a column, cut to what fits; NULL where no row has a value.

    Without CASE: DuckDB 2.0.1 computes CASE over the sums of a join wrongly (-2^63 for small sums of a few groups).
    Without least(sum, most), which is `most` where the sum is NULL.
    """
    return f"(sum({column}) - greatest(sum({column}) - {most}, 0))::BIGINT"
