"""Usage for reports out of ClickHouse: its hours, as far as a report needs them, in a DuckDB of this collector's own.

In: hours with the number of commits that they hold. Out: a `LedgerUsageReader`. What divides time, tokens and money to
the last millisecond exists once, in DuckDB's SQL, and gives the same figures here. The DuckDB is a copy in a temporary
folder: hours that changed are fetched again, and it is gone with the collector.

Each call answers from one state of the copy. Two calls of one statement may differ by hours that were fetched between
them; an hour that was recomputed while it was fetched is fetched again for the next call, and until then no workload
holds more than its GPUs did (see ClickHouseLedger).
"""

import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tokenyield_collector.ledger.clickhouse.client import quoted
from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_collector.ledger.contradictions import ContestedGpu, DemandDay, DoubledGpu, ForeignDay
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.sql import is_one_of
from tokenyield_collector.ledger.tables import TABLES, columns_of_hours
from tokenyield_collector.ledger.usage import (
    CAPACITY_TIMES,
    BestHour,
    GpuGroup,
    HostDay,
    LedgerUsageReader,
    UsageQuery,
    UsageRows,
    WorkLatency,
)
from tokenyield_wire.units import MS_PER_HOUR

HOURS_AT_ONCE = 6
GPUS_AT_ONCE = 500


class ClickHouseUsage:
    """A `LedgerUsageReader` from any thread."""

    def __init__(self, tables: ClickHouseTables) -> None:
        self._tables = tables
        self._lock = threading.Lock()
        self._copied: dict[int, int] = {}
        """Hour -> how many commits its copy includes."""
        self._known_folds: dict[int, int] = {}
        """The same of all hours, when the history of contested GPUs was read."""
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._copy: DuckDbLedger | None = None

    def gpu_groups(self) -> Sequence[GpuGroup]:
        return self._reader(None, None).gpu_groups()

    def best_hours(self, start_ms: int, end_ms: int, weights: Mapping[str, int]) -> Sequence[BestHour]:
        return self._reader(start_ms, end_ms).best_hours(start_ms, end_ms, weights)

    def reported_ms(
        self, start_ms: int, end_ms: int, chain_of: Callable[[GpuGroup], str]
    ) -> Mapping[tuple[str, int], int]:
        return self._reader(start_ms, end_ms).reported_ms(start_ms, end_ms, chain_of)

    def usage(self, query: UsageQuery) -> UsageRows:
        return self._reader(query.start_ms, query.end_ms).usage(query)

    def host_energy(self, start_ms: int, end_ms: int) -> Sequence[HostDay]:
        return self._reader(start_ms, end_ms).host_energy(start_ms, end_ms)

    def demand(self, start_ms: int, end_ms: int, gateway_models: Mapping[str, str]) -> Sequence[DemandDay]:
        return self._reader(start_ms, end_ms).demand(start_ms, end_ms, gateway_models)

    def doubled_gpus(self, start_ms: int, end_ms: int) -> Sequence[DoubledGpu]:
        return self._reader(start_ms, end_ms).doubled_gpus(start_ms, end_ms)

    def contested_gpus(self, start_ms: int, end_ms: int) -> Sequence[ContestedGpu]:
        return self._reader(start_ms, end_ms).contested_gpus(start_ms, end_ms)

    def foreign_days(self, start_ms: int, end_ms: int) -> Sequence[ForeignDay]:
        return self._reader(start_ms, end_ms).foreign_days(start_ms, end_ms)

    def latency(self, start_ms: int, end_ms: int) -> Sequence[WorkLatency]:
        return self._reader(start_ms, end_ms).latency(start_ms, end_ms)

    def checksum(self, start_ms: int, end_ms: int) -> str:
        return self._reader(start_ms, end_ms).checksum(start_ms, end_ms)

    def forget(self, hours_before_ms: int) -> None:
        with self._lock:
            if self._copy is not None:
                self._copy.retire(windows_before_ms=0, hours_before_ms=hours_before_ms, counter_bases={})
            self._copied = {hour_ms: commits for hour_ms, commits in self._copied.items() if hour_ms >= hours_before_ms}

    def close(self) -> None:
        with self._lock:
            if self._copy is not None:
                self._copy.close()
            if self._folder is not None:
                self._folder.cleanup()
            self._copy = self._folder = None

    def _reader(self, start_ms: int | None, end_ms: int | None) -> LedgerUsageReader:
        """Of the copy, with the hours of the period as ClickHouse has them now."""
        with self._lock:
            if self._copy is None:
                self._folder = tempfile.TemporaryDirectory(prefix="tokenyield-")
                self._copy = DuckDbLedger(Path(self._folder.name) / "hours.duckdb")
            folds = self._tables.folds()
            stale = [
                hour_ms
                for hour_ms, commits in sorted(folds.items())
                if (start_ms is None or start_ms <= hour_ms)
                and (end_ms is None or hour_ms < end_ms)
                and self._copied.get(hour_ms) != commits
            ]
            for i in range(0, len(stale), HOURS_AT_ONCE):
                chunk = stale[i : i + HOURS_AT_ONCE]
                self._fetch(self._copy, chunk)
                self._copied.update({hour_ms: folds[hour_ms] for hour_ms in chunk})
            has_history = folds != self._known_folds and self._fetch_history(self._copy, stale)
            self._known_folds = folds
            if stale or has_history:
                self._copy.roll()
            return self._copy.usage()

    def _fetch_history(self, copy: DuckDbLedger, stale: Sequence[int]) -> bool:
        """Of contested GPUs, who reported them in all hours: those that are not copied decide too who was the first.
        Returns whether there are any."""
        uuids = copy.contested_gpus_of(stale)
        history: list[tuple[str, str, str, int, int]] = []
        spent = " + ".join(f"least({name}, {MS_PER_HOUR})" for name in CAPACITY_TIMES)
        for i in range(0, len(uuids), GPUS_AT_ONCE):
            named = ", ".join(map(quoted, uuids[i : i + GPUS_AT_ONCE]))
            history += self._tables.client.rows(
                f"SELECT gpu_uuid, cluster, node, hour_ms, least(sum({spent}), {MS_PER_HOUR}) "
                f"FROM gpu_hours{self._tables.suffix} FINAL WHERE gpu_uuid IN ({named}) "
                "GROUP BY gpu_uuid, cluster, node, hour_ms"
            )
        if history:
            columns = ("gpu_uuid", "cluster", "node", "hour_ms", "spent_ms")
            copy.take_gpu_history(dict(zip(columns, zip(*history, strict=True), strict=True)))
        return bool(history)

    def _fetch(self, copy: DuckDbLedger, hours_ms: Sequence[int]) -> None:
        hours = {}
        for table in reversed(TABLES):  # wholes last, see ClickHouseLedger
            columns = columns_of_hours(table)
            values = self._tables.client.columns(
                f"SELECT {', '.join(columns)} FROM {table}_hours{self._tables.suffix} FINAL WHERE {is_one_of(hours_ms)}"
            )
            hours[table] = dict(zip(columns, values, strict=True)) if values else {}
        copy.take_hours(hours_ms, hours, self._tables.read_node_labels())
