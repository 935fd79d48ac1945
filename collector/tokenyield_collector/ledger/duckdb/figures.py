"""Kept figures of a DuckDB ledger: a `FigureStore`."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from tokenyield_collector.ledger.duckdb.file import DuckDbFile, readable
from tokenyield_collector.ledger.kept import KeptFigure


class DuckDbFigures:
    """Of one file."""

    def __init__(self, file: DuckDbFile) -> None:
        self._file = file

    @readable
    def inputs(self, prefix: str) -> dict[str, str]:
        return dict(self._rows("SELECT name, inputs FROM kept_figures WHERE starts_with(name, ?)", [prefix]))

    @readable
    def contents(self, names: Collection[str]) -> dict[str, str]:
        sql = "SELECT name, content FROM kept_figures WHERE list_contains(?, name)"
        return dict(self._rows(sql, [sorted(names)])) if names else {}

    def keep(self, figures: Sequence[KeptFigure], forget: Iterable[str] = ()) -> None:
        gone = [*forget, *(figure.name for figure in figures)]
        if not gone:
            return
        with self._file.transaction("cannot keep figures"):
            connection = self._file.connection
            connection.execute("DELETE FROM kept_figures WHERE list_contains(?, name)", [gone])
            for figure in figures:
                connection.execute("INSERT INTO kept_figures (name, inputs, content) VALUES (?, ?, ?)", list(figure))

    def _rows(self, sql: str, values: Sequence[Any]) -> list[Any]:
        rows: list[Any] = self._file.reader().execute(sql, values).fetchall()
        return rows
