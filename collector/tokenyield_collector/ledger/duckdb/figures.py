"""Kept figures of a DuckDB ledger: a `FigureStore`.

In two tables, for a checkpoint writes all rows of a small table again when some were replaced, and commits wait for it:
with 400 days of 10,000 GPUs these are 118 MB, of which 1.5 MB change with an hour. Contents are not compressed, for
DuckDB unpacks those of 2,048 rows to read one.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from tokenyield_collector.ledger.duckdb.file import DuckDbFile, readable
from tokenyield_collector.ledger.kept import SETTLED_PREFIX, KeptFigure

_SETTLED, _CHANGING = "settled_figures", "changing_figures"
_TABLES = (_SETTLED, _CHANGING)


class DuckDbFigures:
    """Of one file."""

    def __init__(self, file: DuckDbFile) -> None:
        self._file = file

    @readable
    def inputs(self, prefix: str) -> dict[str, str]:
        return dict(self._rows("SELECT name, inputs FROM {} WHERE starts_with(name, ?)", prefix))

    @readable
    def contents(self, names: Collection[str]) -> dict[str, str]:
        return dict(self._rows("SELECT name, content FROM {} WHERE list_contains(?, name)", sorted(names)))

    def keep(self, figures: Sequence[KeptFigure], forget: Iterable[str] = ()) -> None:
        gone = [*forget, *(figure.name for figure in figures)]
        if not gone:
            return
        with self._file.transaction("cannot keep figures"):
            connection = self._file.connection
            for table in _TABLES:
                of_table = [name for name in gone if _table_of(name) == table]
                if of_table:
                    connection.execute(f"DELETE FROM {table} WHERE list_contains(?, name)", [of_table])
            for figure in figures:
                values = f"INSERT INTO {_table_of(figure.name)} (name, inputs, content) VALUES (?, ?, ?)"
                connection.execute(values, list(figure))

    def _rows(self, sql: str, value: Any) -> list[Any]:
        """Of both tables, in one state of the ledger."""
        reader = self._file.reader()
        rows: list[Any] = reader.execute(" UNION ALL ".join(map(sql.format, _TABLES)), [value, value]).fetchall()
        return rows


def _table_of(name: str) -> str:
    return _SETTLED if name.startswith(SETTLED_PREFIX) else _CHANGING
