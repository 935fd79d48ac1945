"""Closed periods in a DuckDB ledger: a `VersionStore`."""

from collections.abc import Collection, Sequence
from typing import Any

from tokenyield_collector.ledger.closed import PeriodCheck, StatementRecord
from tokenyield_collector.ledger.duckdb.file import DuckDbFile, readable


class DuckDbVersions:
    """Of one file."""

    def __init__(self, file: DuckDbFile) -> None:
        self._file = file

    @readable
    def periods(self) -> list[str]:
        return [row[0] for row in self._rows("SELECT DISTINCT period FROM statements ORDER BY 1")]

    @readable
    def records(self, period: str) -> list[StatementRecord]:
        columns = ", ".join(StatementRecord._fields)
        rows = self._rows(f"SELECT {columns} FROM statements WHERE period = ? ORDER BY version", [period])
        return [StatementRecord(*row) for row in rows]

    def add_record(self, record: StatementRecord) -> None:
        columns, marks = ", ".join(StatementRecord._fields), ", ".join("?" for _ in record)
        with self._file.transaction("cannot be written"):
            self._file.connection.execute(f"INSERT INTO statements ({columns}) VALUES ({marks})", list(record))

    @readable
    def part_counts(self) -> dict[str, int]:
        return dict(self._rows("SELECT digest, count(*) FROM closed_days GROUP BY 1"))

    @readable
    def day_part(self, digests: Collection[str], part: int) -> dict[str, str]:
        sql = "SELECT digest, content FROM closed_days WHERE part = ? AND list_contains(?, digest)"
        return dict(self._rows(sql, [part, sorted(digests)]))

    def add_day(self, digest: str, parts: Sequence[str]) -> None:
        with self._file.transaction("cannot be written"):
            known = self._file.connection.execute("SELECT 1 FROM closed_days WHERE digest = ? LIMIT 1", [digest])
            if not known.fetchall():
                for number, content in enumerate(parts):
                    self._file.connection.execute(
                        "INSERT INTO closed_days (digest, part, content) VALUES (?, ?, ?)", [digest, number, content]
                    )

    def forget_days(self, kept: Collection[str]) -> None:
        with self._file.transaction("cannot be written"):
            self._file.connection.execute("DELETE FROM closed_days WHERE NOT list_contains(?, digest)", [sorted(kept)])

    @readable
    def checks(self) -> dict[str, PeriodCheck]:
        rows = self._rows(f"SELECT {', '.join(PeriodCheck._fields)} FROM period_checks")
        return {row[0]: PeriodCheck(*row) for row in rows}

    def note_check(self, check: PeriodCheck) -> None:
        columns = ", ".join(PeriodCheck._fields)
        with self._file.transaction("cannot be written"):
            self._file.connection.execute("DELETE FROM period_checks WHERE period = ?", [check.period])
            self._file.connection.execute(f"INSERT INTO period_checks ({columns}) VALUES (?, ?, ?, ?)", list(check))

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        rows: list[Any] = self._file.reader().execute(sql, values).fetchall()
        return rows
