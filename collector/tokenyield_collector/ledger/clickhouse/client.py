"""How the ClickHouse ledger talks to a server: the few calls it needs, and the native protocol behind them.

In: statements and columns of values. Out: rows. One connection for each thread and server, made when it is needed.
Errors of the server, of the network and of the driver all become `LedgerError`.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from tokenyield_collector.errors import LedgerError, UnstorableShipment

NATIVE_PORT, SECURE_PORT = 9000, 9440
CONNECT_TIMEOUT_S = 5
ANSWER_TIMEOUT_S = 300
STATEMENT_BYTES_MAX = 256 * 2**20
"""Of a server that is not set otherwise: 256 KiB."""


class ClickHouseClient(Protocol):
    """One server, or a cluster by any of its servers. From any thread."""

    def rows(self, sql: str) -> list[tuple[Any, ...]]: ...

    def columns(self, sql: str) -> list[Sequence[Any]]:
        """The same, column by column; no column where there are no rows."""
        ...

    def run(self, sql: str) -> None: ...

    def insert(self, table: str, columns: Sequence[str], values: Sequence[Sequence[Any]]) -> None:
        """Adds rows, given column by column. Durable on every shard when it returns."""
        ...

    def close(self) -> None: ...


class ClickHouseAddress(NamedTuple):
    """`clickhouse://user@host:port/database?secure=1&ca_certs=FILE`, the password apart."""

    host: str
    port: int
    user: str
    database: str
    options: Mapping[str, str]

    @property
    def name(self) -> str:
        return f"clickhouse://{self.host}:{self.port}/{self.database}"


def parse_address(url: str) -> ClickHouseAddress:
    """Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme != "clickhouse" or not parts.hostname:
        raise ValueError(f"expected an address, found '{url[:100]}'; write clickhouse://user@host:9000/database")
    if parts.password is not None:
        raise ValueError("expected no password in the address, for settings are shown; use ledger_password_file")
    options = dict(parse_qsl(parts.query))
    if unknown := sorted(options.keys() - {"secure", "ca_certs", "alt_hosts"}):
        raise ValueError(f"expected the options secure, ca_certs or alt_hosts, found '{unknown[0][:40]}'; remove it")
    port = parts.port or (SECURE_PORT if options.get("secure") else NATIVE_PORT)
    return ClickHouseAddress(
        parts.hostname, port, unquote(parts.username or "default"), parts.path.strip("/") or "tokenyield", options
    )


class NativeClient:
    """`ClickHouseClient` by clickhouse-driver. Raises `LedgerError`, also where the driver is not installed."""

    def __init__(self, address: ClickHouseAddress, password: str, *, database: str | None = None) -> None:
        try:
            import clickhouse_driver
        except ImportError as error:
            raise LedgerError(
                "ledger_url: expected clickhouse-driver to be installed, found no such package; "
                "install the wheel with [collector,clickhouse]"
            ) from error
        self._driver = clickhouse_driver
        errors = clickhouse_driver.errors
        self._errors = (errors.Error, OSError, EOFError)
        self._of_values = (errors.TypeMismatchError, OverflowError, UnicodeError)
        self._address = address
        self._call = {
            "host": address.host,
            "port": address.port,
            "user": address.user,
            "password": password,
            "database": address.database if database is None else database,
            "connect_timeout": CONNECT_TIMEOUT_S,
            "send_receive_timeout": ANSWER_TIMEOUT_S,
            "secure": address.options.get("secure", "") in ("1", "true", "True"),
            "ca_certs": address.options.get("ca_certs"),
            "alt_hosts": address.options.get("alt_hosts"),
            "compression": False,
            # Receipts are given after the insert: it returns when every shard that it fell to has its rows.
            # What a policy says of every GPU and workload is in a report's statement.
            "settings": {
                "insert_distributed_sync": 1,
                "max_query_size": STATEMENT_BYTES_MAX,
                "max_ast_elements": STATEMENT_BYTES_MAX,
                "max_expanded_ast_elements": STATEMENT_BYTES_MAX,
            },
        }
        self._threads = threading.local()
        self._open: list[Any] = []

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self._execute(sql)
        return rows

    def columns(self, sql: str) -> list[Sequence[Any]]:
        columns: list[Sequence[Any]] = self._execute(sql, columnar=True)
        return columns

    def run(self, sql: str) -> None:
        self._execute(sql)

    def insert(self, table: str, columns: Sequence[str], values: Sequence[Sequence[Any]]) -> None:
        named = ", ".join(f"`{column}`" for column in columns)
        self._execute(f"INSERT INTO {table} ({named}) VALUES", values, columnar=True)

    def _execute(self, sql: str, values: Any = None, *, columnar: bool = False) -> Any:
        if not hasattr(self._threads, "connection"):
            self._threads.connection = self._driver.Client(**self._call)
            self._open.append(self._threads.connection)
        try:
            return self._threads.connection.execute(sql, values, columnar=columnar)
        except self._of_values as error:
            raise UnstorableShipment(self._failure(error)) from error
        except self._errors as error:
            raise LedgerError(self._failure(error)) from error

    def _failure(self, error: Exception) -> str:
        self._threads.connection.disconnect()
        message = str(error).partition("Stack trace:")[0].strip().replace("\n", " ")[:500]
        return f"{self._address.name}: {message or type(error).__name__}"

    def close(self) -> None:
        for connection in self._open:
            connection.disconnect()


def quoted(text: str) -> str:
    """A string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
