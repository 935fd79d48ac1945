"""The tables of one ClickHouse ledger as this collector reaches them, and what it last read of the ledger's state.

Every part of the ledger shares one of these. On a cluster a table `t` is reached over the Distributed table `t_all`.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tokenyield_collector.errors import LedgerError
from tokenyield_collector.ledger.clickhouse.client import ClickHouseClient, quoted
from tokenyield_collector.ledger.clickhouse.schema import NAMES
from tokenyield_collector.ledger.sql import starts_in_hour


class ClickHouseTables:
    """Raises `LedgerError`, as the client does. Its tables must be there."""

    def __init__(
        self,
        client: ClickHouseClient,
        shards: Sequence[ClickHouseClient],
        *,
        is_cluster: bool,
        first_replicas: Sequence[ClickHouseClient] = (),
    ) -> None:
        self.client = client
        self.shards = shards
        self.suffix = "_all" if is_cluster else ""
        self._first_replicas = first_replicas
        self._asking = ThreadPoolExecutor(len(first_replicas), "shard") if len(first_replicas) > 1 else None
        self.node_labels: dict[tuple[str, str], str] = {}
        """(cluster, node) -> labels as JSON. Replaced whole: other threads read it."""
        self.first_ms: int | None = None
        """Start of the oldest window, or of the oldest hour whose windows are gone."""

    def load(self) -> None:
        """Read the state, once the tables are there."""
        self.node_labels = self.read_node_labels()
        self.first_ms = self.read_first_ms()

    def of(self, table: str) -> str:
        """Its name as it is reached from here."""
        return table + self.suffix

    def rows(self, sql: str, *numbers: int) -> list[tuple[Any, ...]]:
        """`{name}` stands for a table as it is reached from here."""
        return self.client.rows(sql.format_map({name: name + self.suffix for name in NAMES}) % numbers)

    def rows_of_shards(self, table: str, sql_of: Callable[[str], str]) -> list[tuple[Any, ...]]:
        """What each shard answers of its own rows of a table, one after the other. Over a Distributed table the shards
        would send all of them to one server, which alone would sum them. `sql_of`: the statement by the table's name;
        it must be right for any division of these rows among shards by the table's key."""
        if self._asking is not None:
            try:
                answers = [*self._asking.map(lambda shard: shard.rows(sql_of(table)), self._first_replicas)]
            except LedgerError:  # the server that we are connected to knows the other replicas
                pass
            else:
                return [row for rows in answers for row in rows]
        return self.client.rows(sql_of(self.of(table)))

    def close(self) -> None:
        """Connections are their owner's."""
        if self._asking is not None:
            self._asking.shutdown()

    def insert(self, table: str, columns: Sequence[str], values: Sequence[Sequence[Any]]) -> None:
        """Column by column."""
        self.client.insert(table + self.suffix, columns, values)

    def insert_rows(self, table: str, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
        values = list(zip(*rows, strict=True))
        if values:
            self.insert(table, columns, values)

    def touched(self) -> dict[int, int]:
        """Hour -> commits into it."""
        sql = "SELECT hour_ms, sum(commits) FROM {touched} WHERE hour_ms >= %d GROUP BY hour_ms"
        return dict(self.rows(sql, self.retired_before_ms("windows")))

    def folds(self) -> dict[int, int]:
        """Hour -> up to how many commits its sums include."""
        sql = "SELECT hour_ms, max(commits) FROM {folded} WHERE hour_ms >= %d GROUP BY hour_ms"
        return dict(self.rows(sql, self.retired_before_ms("hours")))

    def retired_before_ms(self, what: str) -> int:
        """Up to where `windows` or `hours` are gone."""
        ((before_ms,),) = self.rows(f"SELECT max(before_ms) FROM {{retired}} WHERE what = {quoted(what)}")
        return int(before_ms or 0)

    def read_node_labels(self) -> dict[tuple[str, str], str]:
        sql = "SELECT cluster, node, argMax(labels, received_ms) FROM {node_labels} GROUP BY cluster, node"
        return {(cluster, node): labels for cluster, node, labels in self.rows(sql)}

    def read_first_ms(self) -> int | None:
        ((hour_ms, count),) = self.rows(
            "SELECT min(hour_ms), count() FROM {touched} WHERE hour_ms >= %d", self.retired_before_ms("hours")
        )
        if not count:
            return None
        ((start_ms, windows),) = self.rows(
            f"SELECT min(start_ms), count() FROM {{windows}} WHERE {starts_in_hour(hour_ms)}"
        )
        return int(start_ms) if windows else int(hour_ms)
