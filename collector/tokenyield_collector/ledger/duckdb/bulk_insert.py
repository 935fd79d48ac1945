"""Many rows into a DuckDB table at once: as columns of numpy arrays, which DuckDB reads by the name of a variable.

Measured: 20,000 rows of 27 columns in 0.08 s, against 2 s with executemany.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tokenyield_collector.ledger.tables import TEXT


def insert_rows(connection: Any, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    insert_columns(connection, table, dict(zip(columns, zip(*rows, strict=True), strict=bool(rows))))


def make_table(connection: Any, name: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """A temporary table of the connection's own, with these rows. `data` below is what DuckDB finds by this name."""
    data = {column: _array(column, values) for column, values in zip(columns, zip(*rows, strict=True), strict=True)}
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS FROM data")
    del data


def insert_columns(connection: Any, table: str, columns: Mapping[str, Sequence[Any]]) -> None:
    """As numpy arrays; nothing where there are no rows."""
    data = {name: _array(name, values) for name, values in columns.items()}
    if data:  # DuckDB finds it by this name
        connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM data")


def _array(column: str, values: Sequence[Any]) -> Any:
    if column in TEXT:
        return np.array(values, dtype=object)
    if None in values:
        missing = [value is None for value in values]
        return np.ma.masked_array([value or 0 for value in values], mask=missing, dtype=np.int64)
    return np.array(values, dtype=np.int64)
