"""Which of the collectors that share a ClickHouse ledger leads: the first by name of those that were lately alive."""

import contextlib
import uuid

from tokenyield_collector.errors import LedgerError
from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables

LEASE_MS = 15_000
"""A collector that was silent for this long leads no more."""
BEAT_MS = 4_000
GONE_MS = 2**62


class ClickHouseLeadership:
    """Of this collector."""

    def __init__(self, tables: ClickHouseTables) -> None:
        self._tables = tables
        self._id, self._beat_at_ms = uuid.uuid4().hex, 0
        self.is_leading = True
        """As of the last `check`."""

    def check(self) -> bool:
        """Shows that this collector is alive, and whether it leads."""
        ((now_ms,),) = self._tables.client.rows("SELECT toInt64(toUnixTimestamp(now())) * 1000")
        if now_ms - self._beat_at_ms >= BEAT_MS:
            self._beat(now_ms)
            self._beat_at_ms = now_ms
        sql = "SELECT id, max(seen_ms) AS seen FROM {collectors} GROUP BY id HAVING seen > %d AND seen < %d"
        rows = self._tables.rows(sql, now_ms - LEASE_MS, GONE_MS)
        self.is_leading = min(str(row[0]) for row in rows) == self._id
        return self.is_leading

    def leave(self) -> None:
        if self._beat_at_ms:
            with contextlib.suppress(LedgerError):  # then the others wait for LEASE_MS
                self._beat(GONE_MS)

    def _beat(self, at_ms: int) -> None:
        self._tables.insert_rows("collectors", ("id", "seen_ms"), [(self._id, at_ms)])
