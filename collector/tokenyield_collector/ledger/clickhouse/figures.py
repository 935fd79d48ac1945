"""Kept figures of a ClickHouse ledger: a `FigureStore`. A figure that was removed is one without content."""

from collections.abc import Collection, Iterable, Sequence

from tokenyield_collector.ledger.clickhouse.client import quoted
from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_collector.ledger.kept import KeptFigure

_NAMES_AT_ONCE = 500
"""Names in one statement, of which a server takes 256 kB."""


class ClickHouseFigures:
    """Of the tables of one ledger."""

    def __init__(self, tables: ClickHouseTables) -> None:
        self._tables = tables

    def inputs(self, prefix: str) -> dict[str, str]:
        rows = self._select("name, inputs", f"substring(name, 1, {len(prefix)}) = {quoted(prefix)}")
        return {str(name): str(inputs) for name, inputs in rows}

    def contents(self, names: Collection[str]) -> dict[str, str]:
        contents: dict[str, str] = {}
        listed = sorted(names)
        for i in range(0, len(listed), _NAMES_AT_ONCE):
            some = ", ".join(map(quoted, listed[i : i + _NAMES_AT_ONCE]))
            rows = self._select("name, content", f"name IN ({some})")
            contents.update({str(name): str(content) for name, content in rows})
        return contents

    def keep(self, figures: Sequence[KeptFigure], forget: Iterable[str] = ()) -> None:
        ((newest,),) = self._tables.rows("SELECT max(version) FROM {kept_figures}")
        columns, version = (*KeptFigure._fields, "version"), int(newest or 0) + 1
        for figure in figures:
            self._tables.insert_rows("kept_figures", columns, [(*figure, version)])
        self._tables.insert_rows("kept_figures", columns, [(name, "", "", version) for name in forget])

    def _select(self, columns: str, where: str) -> list[tuple[object, ...]]:
        """Not by `rows` of the tables: a name may have any character."""
        return self._tables.client.rows(
            f"SELECT {columns} FROM kept_figures{self._tables.suffix} FINAL WHERE {where} AND content != ''"
        )
