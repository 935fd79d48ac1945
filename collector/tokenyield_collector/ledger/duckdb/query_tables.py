"""A reader's own cursor of a DuckDB ledger: rows, and temporary tables that go with it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb

from tokenyield_collector.errors import LedgerError
from tokenyield_collector.ledger.duckdb.bulk_insert import insert_rows
from tokenyield_collector.ledger.duckdb.schema import ddl

FETCH_ROWS = 10_000


class QueryTables:
    """All reads are of one state of the ledger, from the first on. Raises `LedgerError`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        with _reading():
            self._connection.execute("BEGIN")

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with _reading():
            rows: list[tuple[Any, ...]] = self._connection.execute(sql).fetchall()
        return rows

    def stream(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """Rows as they are needed. The connection must not be used for anything else until they are all read."""
        with _reading():
            result = self._connection.execute(sql)
            while rows := result.fetchmany(FETCH_ROWS):
                yield from rows

    def make(self, name: str, sql: str) -> None:
        """A temporary table of what a query gives."""
        with _reading():
            self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {sql}")

    def give(self, name: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """A temporary table of `rows`."""
        with _reading():
            self._connection.execute(ddl(name, columns).replace("CREATE TABLE", "CREATE OR REPLACE TEMP TABLE", 1))
            if rows:
                insert_rows(self._connection, name, columns, rows)


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise LedgerError(f"the ledger cannot be read: {error}; give it more memory (ledger_memory) or disk") from error


def weighted_tokens(weights: Mapping[str, int]) -> str:
    """Thousandths of weighted tokens of a row."""
    return "(" + " + ".join(f"{int(weight)} * coalesce({kind}, 0)" for kind, weight in weights.items()) + ")"
