"""Usage for reports out of ClickHouse: its hours, as far as a report needs them, in a DuckDB of this collector's own.

In: hours with the number of commits that they hold. Out: a `UsageReader`. What divides time, tokens and money to the
last millisecond exists once, in DuckDB's SQL, and gives the same figures here. The DuckDB is a copy in a temporary
folder: hours that changed are fetched again, and it is gone with the collector.

Each call answers from one state of the copy. Two calls of one statement may differ by hours that were fetched between
them; an hour that was recomputed while it was fetched is fetched again for the next call, and until then no workload
holds more than its GPUs did (see ClickHouseLedger).
"""

import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tokenyield_collector.ledger.clickhouse.client import Client
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.rows import TABLES
from tokenyield_collector.ledger.usage import BestHour, GpuGroup, HostDay, UsageQuery, UsageRows

HOURS_AT_ONCE = 6


class ClickHouseUsage:
    """From any thread. `folds` tells which hours there are and how old; `node_labels` is as the ledger keeps them."""

    def __init__(
        self,
        client: Client,
        suffix: str,
        folds: Callable[[], Mapping[int, int]],
        node_labels: Callable[[], Mapping[tuple[str, str], str]],
    ) -> None:
        self._client = client
        self._suffix = suffix
        self._folds = folds
        self._node_labels = node_labels
        self._lock = threading.Lock()
        self._held: dict[int, int] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._copy: DuckDbLedger | None = None

    def gpu_groups(self) -> Sequence[GpuGroup]:
        return self._upto(None, None).usage().gpu_groups()

    def best_hours(self, start_ms: int, end_ms: int, weights: Mapping[str, int]) -> Sequence[BestHour]:
        return self._upto(start_ms, end_ms).usage().best_hours(start_ms, end_ms, weights)

    def usage(self, query: UsageQuery) -> UsageRows:
        return self._upto(query.start_ms, query.end_ms).usage().usage(query)

    def host_energy(self, start_ms: int, end_ms: int) -> Sequence[HostDay]:
        return self._upto(start_ms, end_ms).usage().host_energy(start_ms, end_ms)

    def checksum(self, start_ms: int, end_ms: int) -> str:
        return self._upto(start_ms, end_ms).usage().checksum(start_ms, end_ms)

    def forget(self, hours_before_ms: int) -> None:
        with self._lock:
            if self._copy is not None:
                self._copy.retire(windows_before_ms=0, hours_before_ms=hours_before_ms, counter_bases={})
            self._held = {hour_ms: age for hour_ms, age in self._held.items() if hour_ms >= hours_before_ms}

    def close(self) -> None:
        with self._lock:
            if self._copy is not None:
                self._copy.close()
            if self._folder is not None:
                self._folder.cleanup()
            self._copy = self._folder = None

    def _upto(self, start_ms: int | None, end_ms: int | None) -> DuckDbLedger:
        """The copy, with the hours of the period as ClickHouse has them now."""
        with self._lock:
            if self._copy is None:
                self._folder = tempfile.TemporaryDirectory(prefix="tokenyield-")
                self._copy = DuckDbLedger(Path(self._folder.name) / "hours.duckdb")
            ages = self._folds()
            stale = [
                hour_ms
                for hour_ms, age in sorted(ages.items())
                if (start_ms is None or start_ms <= hour_ms)
                and (end_ms is None or hour_ms < end_ms)
                and self._held.get(hour_ms) != age
            ]
            for i in range(0, len(stale), HOURS_AT_ONCE):
                some = stale[i : i + HOURS_AT_ONCE]
                self._fetch(self._copy, some)
                self._held.update({hour_ms: ages[hour_ms] for hour_ms in some})
            if stale:
                self._copy.roll()
            return self._copy

    def _fetch(self, copy: DuckDbLedger, hours_ms: Sequence[int]) -> None:
        listed = ", ".join(map(str, hours_ms))
        found = {}
        for table in sorted(TABLES, key=lambda table: table == "gpu"):  # wholes last, see ClickHouseLedger
            keys, sums = TABLES[table]
            columns = ["hour_ms", *keys, *sums]
            values = self._client.columns(
                f"SELECT {', '.join(columns)} FROM {table}_hours{self._suffix} FINAL WHERE hour_ms IN ({listed})"
            )
            found[table] = dict(zip(columns, values, strict=True)) if values else {}
        copy.take_hours(hours_ms, found, self._node_labels())
