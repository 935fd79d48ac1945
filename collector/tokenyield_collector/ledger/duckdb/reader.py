"""What a DuckDB ledger gives back. From any thread; others commit meanwhile."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tokenyield_collector.ledger.duckdb.file import DuckDbFile
from tokenyield_collector.ledger.duckdb.live_hours import all_hours_of
from tokenyield_collector.ledger.sql import between
from tokenyield_wire.units import MS_PER_DAY

Result = TypeVar("Result")


class DuckDbReader:
    """Of one file; the calls are those of `Ledger`."""

    def __init__(self, file: DuckDbFile) -> None:
        self._file = file

    def in_snapshot(self, read: Callable[..., Result], *values: Any, **named: Any) -> Result:
        """What `read` (facts.py, activity.py) gives of one state of the ledger."""
        with self._file.snapshot() as connection:
            return read(connection, *values, **named)

    def hours(self) -> list[int]:
        tables = ("gpu", "token", "demand")  # what a node may report alone
        sql = " UNION ".join(f"SELECT hour_ms FROM {all_hours_of(table)}" for table in tables) + " ORDER BY 1"
        with self._file.snapshot() as connection:
            return [row[0] for row in connection.execute(sql).fetchall()]

    def last_seen(self) -> dict[tuple[str, str], int]:
        rows = self._rows(
            "SELECT cluster, node, max(end_ms) FROM batches "
            f"WHERE start_ms > (SELECT max(start_ms) FROM batches) - {MS_PER_DAY} GROUP BY ALL"
        )
        return {(cluster, node): end_ms for cluster, node, end_ms in rows}

    def counter_bases(self) -> dict[str, int]:
        return dict(self._rows("SELECT name, value FROM counter_bases"))

    def revision(self, start_ms: int, end_ms: int) -> str:
        rows = self._rows(
            "SELECT count(*), bit_xor(hash(hour_ms, facts)) FROM rolled_hours "
            f"WHERE {between('hour_ms', start_ms, end_ms)}"
        )
        return "{}-{}".format(*rows[0])

    def hour_revisions(self) -> dict[int, int | None]:
        sql = (
            "SELECT hour_ms, revision FROM hour_revisions ANTI JOIN dirty_hours USING (hour_ms) "
            "UNION ALL SELECT DISTINCT hour_ms, NULL FROM dirty_hours"
        )
        return dict(self._rows(sql))

    def windows_from_ms(self) -> int | None:
        rows: list[tuple[int | None]] = self._rows("SELECT min(start_ms) FROM batches")
        return rows[0][0]

    def doubled(self) -> list[tuple[str, str, int, int]]:
        return self._rows(
            "SELECT cluster, node, start_ms, count(*) FROM batches GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL"
        )

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        rows: list[Any] = self._file.reader().execute(sql, values).fetchall()
        return rows
