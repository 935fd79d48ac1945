"""How a ClickHouse ledger is opened: connections to every shard, tables where they are missing, newer columns."""

from collections.abc import Iterable
from typing import NamedTuple

from tokenyield_collector.errors import LedgerError
from tokenyield_collector.ledger.clickhouse.client import ClickHouseAddress, ClickHouseClient, NativeClient, quoted
from tokenyield_collector.ledger.clickhouse.schema import (
    SCHEMA_VERSION,
    distributed_tables,
    expected_columns,
    local_tables,
)
from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_collector.ledger.clickhouse.workload_names import take_from_hours
from tokenyield_collector.ledger.schema_version import check_schema_version


class ClickHouseConnections(NamedTuple):
    """To the server that the settings name, and to every shard's."""

    client: ClickHouseClient
    shards: list[ClickHouseClient]
    """All replicas."""
    first_replicas: list[ClickHouseClient]
    """One of each shard."""


def connect_shards(address: ClickHouseAddress, password: str, cluster: str) -> ClickHouseConnections:
    """Makes the database on every shard. Raises `LedgerError`."""
    first = NativeClient(address, password, database="default")
    hosts = _hosts(first, address, cluster) if cluster else [(1, address.host, address.port)]
    shards: list[ClickHouseClient] = []
    first_replicas: dict[int, ClickHouseClient] = {}
    for shard, host, port in hosts:
        place = address._replace(host=host, port=port)
        maker = NativeClient(place, password, database="default")
        maker.run(f"CREATE DATABASE IF NOT EXISTS `{address.database}`")
        maker.close()
        shards.append(NativeClient(place, password))
        first_replicas.setdefault(shard, shards[-1])
    first.close()
    return ClickHouseConnections(NativeClient(address, password), shards, [*first_replicas.values()])


def _hosts(client: ClickHouseClient, address: ClickHouseAddress, cluster: str) -> list[tuple[int, str, int]]:
    """(shard, host, port) of all replicas."""
    rows = client.rows(
        f"SELECT shard_num, host_name, port FROM system.clusters WHERE cluster = {quoted(cluster)} "
        "ORDER BY shard_num, replica_num"
    )
    if not rows:
        raise LedgerError(
            f"ledger_cluster: expected a cluster of {address.name}, found '{cluster}'; see its remote_servers"
        )
    return [(int(shard), str(host), int(port)) for shard, host, port in rows]


def make_tables(tables: ClickHouseTables, ledger: str, cluster: str, database: str) -> None:
    """Where they are missing, on every shard. Raises `LedgerError`, also where a newer collector made them."""
    for shard in tables.shards:
        for statement in local_tables():
            shard.run(statement)
        if cluster:
            for statement in distributed_tables(cluster, database):
                shard.run(statement)
        _add_columns(shard, ("", "_all") if cluster else ("",))
    ((version,),) = tables.rows("SELECT max(version) FROM {schema_version}")
    check_schema_version(ledger, version, SCHEMA_VERSION)
    if version < SCHEMA_VERSION:
        if version < 8:
            take_from_hours(tables)
        tables.insert_rows("schema_version", ("version",), [(SCHEMA_VERSION,)])


def _add_columns(shard: ClickHouseClient, endings: Iterable[str]) -> None:
    """What tables of an earlier version lack; another collector may do the same at this moment."""
    for table, columns in expected_columns().items():
        for name in (table + ending for ending in endings):
            known = _columns(shard, name)
            for column, kind in columns.items():
                if column in known:
                    continue
                try:
                    shard.run(f"ALTER TABLE {name} ADD COLUMN {column} {kind}")
                except LedgerError:
                    if column not in _columns(shard, name):
                        raise


def _columns(shard: ClickHouseClient, table: str) -> set[str]:
    return {column for column, *_ in shard.rows(f"DESCRIBE TABLE {table}")}
