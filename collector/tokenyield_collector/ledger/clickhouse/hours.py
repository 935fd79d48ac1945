"""The hours of a ClickHouse ledger: how windows become sums.

`touched` counts the commits into each hour, `folded` up to which of them it was recomputed; so any collector knows
what another left undone. Roll-ups are in rolls.py.
"""

from tokenyield_collector.ledger.clickhouse.leadership import ClickHouseLeadership
from tokenyield_collector.ledger.clickhouse.schema import IDENTITY
from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_collector.ledger.sql import starts_in_hour
from tokenyield_collector.ledger.tables import NODE_KEYS, SUM_MAX, TABLES


def at_most(column: str, most: int) -> str:
    """The sum of a column, cut to what fits; NULL where no row has a value. Sums wrap at 64 bits: whether they are
    beyond shows in floating point, which is exact up to 2^53."""
    return f"if(sum(toFloat64({column})) > {most}, toInt64({most}), sum({column}))"


class ClickHouseHours:
    """Of the tables of one ledger."""

    def __init__(self, tables: ClickHouseTables, leadership: ClickHouseLeadership) -> None:
        self._tables = tables
        self._leadership = leadership
        self._known_folds = tables.folds()

    def fold(self) -> list[int]:
        """The leading collector recomputes hours; all report which changed."""
        folds = self.recompute_touched() if self._leadership.is_leading else self._tables.folds()
        known, self._known_folds = self._known_folds, folds
        changed = sorted(hour_ms for hour_ms, commits in folds.items() if commits != known.get(hour_ms))
        if changed:
            self._tables.load()
        return changed

    def recompute_touched(self) -> dict[int, int]:
        """Hour -> up to how many commits its sums include, now that all hours are recomputed."""
        touched, folds = self._tables.touched(), self._tables.folds()
        for hour_ms, commits in sorted(touched.items()):
            if commits > folds.get(hour_ms, 0):
                self._recompute(hour_ms)
                self._tables.insert_rows("folded", ("hour_ms", "commits"), [(hour_ms, commits)])
                folds[hour_ms] = commits
        return folds

    def batches_in(self, hour_ms: int) -> int:
        sql = f"SELECT uniqExact({IDENTITY}) FROM {{windows}} WHERE {starts_in_hour(hour_ms)}"
        ((batches,),) = self._tables.rows(sql)
        return int(batches)

    def _recompute(self, hour_ms: int) -> None:
        batches, suffix = self.batches_in(hour_ms), self._tables.suffix
        assert next(iter(TABLES)) == "gpu", "wholes are written before their parts, see ClickHouseLedger"
        for table, (keys, sums) in TABLES.items():
            selected = [key if key in NODE_KEYS else f"x.{key}" for key in keys]
            totals = ", ".join(at_most(f"x.{column}", SUM_MAX[table]) for column in sums)
            self._tables.client.run(
                f"INSERT INTO {table}_hours{suffix} (hour_ms, {', '.join([*keys, *sums])}, version) "
                f"SELECT {hour_ms}, {', '.join(selected)}, {totals}, {batches} FROM windows{suffix} FINAL "
                f"ARRAY JOIN {table} AS x WHERE {starts_in_hour(hour_ms)} GROUP BY {', '.join(selected)}"
            )
