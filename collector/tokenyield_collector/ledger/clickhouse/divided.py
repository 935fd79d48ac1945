"""Roll-ups of a ClickHouse ledger that a policy divides further, in a DuckDB of one reader's own.

In: the rows that a condition selects. Out: a `LedgerUsageReader` over them, and its rows beside those of the servers.
The DuckDB is a file in a temporary folder, which goes with the reader.
"""

import heapq
import operator
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from tokenyield_collector.ledger.clickhouse.names import NO_LABELS, IdentityName
from tokenyield_collector.ledger.clickhouse.schema import WORK_NUMBERS
from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.duckdb.rollup import NOBODY
from tokenyield_collector.ledger.duckdb.usage import DuckDbUsage
from tokenyield_collector.ledger.tables import INTEGER_MAX, columns_of_hours
from tokenyield_collector.ledger.usage import CAPACITY_SUMS, CapacityRow, GpuGroup, WorkRow

Row = TypeVar("Row", WorkRow, CapacityRow)


class DividedRows:
    """Of one reader."""

    def __init__(
        self, tables: ClickHouseTables, groups: Mapping[int, GpuGroup], identities: Mapping[int, IdentityName]
    ) -> None:
        self._tables = tables
        folder = tempfile.TemporaryDirectory(prefix="tokenyield-")
        self._copy = DuckDbLedger(Path(folder.name) / "rows.duckdb")
        self._finalizer = weakref.finalize(self, _remove, self._copy, folder)
        self._group_numbers = {number: i + 1 for i, number in enumerate(groups)}
        self._identity_numbers = {number: i + 1 for i, number in enumerate(identities)}
        self._take("gpu_groups", ("id", *GpuGroup._fields[:3]), [
            (self._group_numbers[number], *group[:3]) for number, group in groups.items()
        ])  # fmt: skip
        self._take("identities", ("id", *IdentityName._fields), [
            (self._identity_numbers[number], *name) for number, name in identities.items()
        ])  # fmt: skip
        labels = {group[:2]: group.labels for group in groups.values() if group.labels != NO_LABELS}
        self._take("node_labels", ("cluster", "node", "labels"), [(*node, text) for node, text in labels.items()])

    @property
    def reader(self) -> DuckDbUsage:
        """Of all that was taken."""
        return self._copy.usage()

    def take_work(self, where: str) -> None:
        """Rows of `work_hours`."""
        self._take_numbered("work_hours", ("hour_ms", "gpu_group", "identity", *WORK_NUMBERS), where)

    def take_capacity(self, where: str) -> None:
        self._take_numbered("capacity_hours", ("hour_ms", "gpu_group", *CAPACITY_SUMS), where)

    def take_demand(self, where: str) -> None:
        """As the hours have it now."""
        columns = columns_of_hours("demand")
        self._take_numbered("demand_hours", columns, where, final="FINAL")

    def take_beyond(self, where: str) -> None:
        """Of GPUs that are reported for more time than there is, or by several nodes."""
        columns = ("hour_ms", "gpu_uuid", "cluster", "node", "gpu_model", *CAPACITY_SUMS)
        self._take_numbered("beyond_hours", columns, where, into="gpu_hours")
        self._take_numbered("contested_hours", columns[:4], where, into="gpu_contested")

    def _take_numbered(
        self, table: str, columns: Sequence[str], where: str, *, into: str = "", final: str = ""
    ) -> None:
        values = self._tables.client.columns(
            f"SELECT {', '.join(columns)} FROM {self._tables.of(table)} {final} WHERE {where}"
        )
        taken = dict(zip(columns, values, strict=True)) if values else {}
        for column, numbers in (("gpu_group", self._group_numbers), ("identity", self._identity_numbers)):
            if column in taken:
                taken[column] = [numbers.get(int(number), NOBODY) for number in taken[column]]
        self._copy.take_rows(into or table, taken)

    def _take(self, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            self._copy.take_rows(table, dict(zip(columns, zip(*rows, strict=True), strict=True)))


def merged(of_servers: Iterator[Row], divided: Iterator[Row], row_of: Callable[..., Row]) -> Iterator[Row]:
    """One row for each key, day by day: what two sources have of it, added up."""
    sources = (groupby(rows, key=operator.attrgetter("day_ms")) for rows in (of_servers, divided))
    for _, both in groupby(heapq.merge(*sources, key=operator.itemgetter(0)), key=operator.itemgetter(0)):
        sums: dict[tuple[Any, ...], tuple[int, ...]] = {}
        for _day, rows in both:
            for row in rows:
                key = row[:-1]
                known = sums.get(key)
                sums[key] = tuple(row.sums) if known is None else tuple(map(added, known, row.sums))
        yield from (row_of(*key, of_key) for key, of_key in sorted(sums.items(), key=operator.itemgetter(0)))


class RowSums:
    """One row for each key, of what several statements have of it."""

    def __init__(self, keys: int) -> None:
        """Rows begin with so many columns of keys."""
        self.keys = keys
        self._sums: dict[tuple[Any, ...], tuple[int, ...]] = {}

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        for row in rows:
            key, sums = tuple(row[: self.keys]), tuple(row[self.keys :])
            known = self._sums.get(key)
            self._sums[key] = sums if known is None else tuple(map(added, known, sums))

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Sorted."""
        for key in sorted(self._sums):
            yield (*key, *self._sums[key])


def added(one: int, other: int) -> int:
    """The sum, or as much of it as a ledger holds."""
    return min(one + other, INTEGER_MAX)


def _remove(copy: DuckDbLedger, folder: "tempfile.TemporaryDirectory[str]") -> None:
    copy.close()
    folder.cleanup()
