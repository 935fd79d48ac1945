"""What the roll-ups of a ClickHouse ledger refer to by number: GPUs that no price book can tell apart, and work.

They are read when there are more of them: a name never changes its number, and none is removed.
"""

import threading
from typing import NamedTuple

from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables

NO_LABELS = "{}"


class GroupName(NamedTuple):
    cluster: str
    node: str
    gpu_model: str


class IdentityName(NamedTuple):
    cluster: str
    workload: str
    model: str
    labels: str


class RollUpNames:
    """Of one ledger. From any thread. The mappings are replaced whole."""

    def __init__(self, tables: ClickHouseTables) -> None:
        self._tables = tables
        self._lock = threading.Lock()
        self.groups: dict[int, GroupName] = {}
        self.identities: dict[int, IdentityName] = {}

    def read(self) -> None:
        with self._lock:
            if self._count("gpu_groups") != len(self.groups):
                rows = self._tables.rows(f"SELECT DISTINCT id, {', '.join(GroupName._fields)} FROM {{gpu_groups}}")
                listed = sorted((GroupName(*names), int(number)) for number, *names in rows)
                self.groups = {number: name for name, number in listed}
            if self._count("identities") != len(self.identities):
                rows = self._tables.rows(f"SELECT DISTINCT id, {', '.join(IdentityName._fields)} FROM {{identities}}")
                listed_work = sorted((IdentityName(*names), int(number)) for number, *names in rows)
                self.identities = {number: name for name, number in listed_work}

    def _count(self, table: str) -> int:
        ((count,),) = self._tables.client.rows(f"SELECT uniqExact(id) FROM {self._tables.of(table)}")
        return int(count)
