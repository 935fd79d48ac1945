"""Closed periods in a ClickHouse ledger: a `VersionStore`."""

from collections.abc import Collection, Sequence

from tokenyield_collector.ledger.clickhouse.client import quoted
from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_collector.ledger.closed import PeriodCheck, StatementRecord


class ClickHouseVersions:
    """Of the tables of one ledger."""

    def __init__(self, tables: ClickHouseTables) -> None:
        self._tables = tables

    def periods(self) -> list[str]:
        return [row[0] for row in self._tables.rows("SELECT DISTINCT period FROM {statements} ORDER BY period")]

    def records(self, period: str) -> list[StatementRecord]:
        rows = self._tables.client.rows(  # not `rows` of the tables: a period's name may have any character
            f"SELECT {', '.join(StatementRecord._fields)} FROM statements{self._tables.suffix} FINAL "
            f"WHERE period = {quoted(period)} ORDER BY version"
        )
        return [StatementRecord(*row) for row in rows]

    def add_record(self, record: StatementRecord) -> None:
        self._tables.insert_rows("statements", StatementRecord._fields, [tuple(record)])

    def part_counts(self) -> dict[str, int]:
        return dict(self._tables.rows("SELECT digest, toInt64(uniqExact(part)) FROM {closed_days} GROUP BY digest"))

    def day_part(self, digests: Collection[str], part: int) -> dict[str, str]:
        if not digests:
            return {}
        named = ", ".join(map(quoted, sorted(digests)))
        rows = self._tables.rows(
            f"SELECT digest, any(content) FROM {{closed_days}} WHERE digest IN ({named}) AND part = {int(part)} "
            "GROUP BY digest"
        )
        return dict(rows)

    def add_day(self, digest: str, parts: Sequence[str]) -> None:
        """Parts that are there are written again, with the same content: a kill may have left some of them."""
        for number, content in enumerate(parts):
            self._tables.insert_rows("closed_days", ("digest", "part", "content"), [(digest, number, content)])

    def forget_days(self, kept: Collection[str]) -> None:
        """Not here: another collector may be about to name them. They are few, and small."""

    def checks(self) -> dict[str, PeriodCheck]:
        rows = self._tables.rows(f"SELECT {', '.join(PeriodCheck._fields)} FROM {{period_checks}} FINAL")
        return {row[0]: PeriodCheck(*row) for row in rows}

    def note_check(self, check: PeriodCheck) -> None:
        self._tables.insert_rows("period_checks", PeriodCheck._fields, [tuple(check)])
