"""What a ClickHouse ledger gives back beside facts and activity. From any thread; others commit meanwhile."""

import hashlib
import time

from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_wire.units import MS_PER_DAY

SIZE_EVERY_S = 60.0
OWNERS_DECIDED_MS = 31 * MS_PER_DAY
"""So late may windows come (`windows_keep_days` is 7) that decide which node was the first to report a GPU."""


class ClickHouseReader:
    """Of the tables of one ledger; the calls are those of `Ledger`."""

    def __init__(self, tables: ClickHouseTables) -> None:
        self._tables = tables
        self._size = (0.0, 0)

    def last_seen(self) -> dict[tuple[str, str], int]:
        rows = self._tables.rows("SELECT cluster, node, max(end_ms) FROM {seen_nodes} GROUP BY cluster, node")
        newest = max((end_ms for _, _, end_ms in rows), default=0)
        return {(cluster, node): end_ms for cluster, node, end_ms in rows if end_ms > newest - MS_PER_DAY}

    def counter_bases(self) -> dict[str, int]:
        return dict(self._tables.rows("SELECT name, sum(value) FROM {counter_bases} FINAL GROUP BY name"))

    def revision(self, start_ms: int, end_ms: int) -> str:
        """With the hours before the period, in which late windows may decide otherwise whose a GPU is in it."""
        first_ms = start_ms - OWNERS_DECIDED_MS
        folds = sorted(fold for fold in self._tables.folds().items() if first_ms <= fold[0] < end_ms)
        return hashlib.sha256(repr(folds).encode()).hexdigest()[:32]

    def hours(self) -> list[int]:
        return sorted(self._tables.folds())

    def windows_from_ms(self) -> int | None:
        ((start_ms, windows),) = self._tables.rows("SELECT min(start_ms), count() FROM {windows}")
        return int(start_ms) if windows else None

    def doubled(self) -> list[tuple[str, str, int, int]]:
        rows = self._tables.rows(
            "SELECT cluster, node, start_ms, toInt64(count()) FROM {windows} FINAL GROUP BY cluster, node, start_ms "
            "HAVING count() > 1 ORDER BY cluster, node, start_ms"
        )
        return [(cluster, node, start_ms, count) for cluster, node, start_ms, count in rows]

    def size_bytes(self) -> int:
        read_at_s, size = self._size
        if time.monotonic() - read_at_s > SIZE_EVERY_S or not size:
            sql = "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase()"
            size = sum(int(row[0] or 0) for shard in self._tables.shards for row in shard.rows(sql))
            self._size = time.monotonic(), size
        return size
