"""How a DuckDB ledger keeps who uses which name of a workload; see `ledger/workload_names.py`."""

from collections.abc import Iterator, Sequence
from typing import Any

from tokenyield_collector.ledger.duckdb.bulk_insert import insert_rows, make_table
from tokenyield_collector.ledger.duckdb.file import DuckDbFile
from tokenyield_collector.ledger.name_conflicts import CONFLICTS_MAX, NameConflict, conflicts_of
from tokenyield_collector.ledger.workload_names import USE_KEY, NameKey, NameUse

_COLUMNS = ", ".join(NameUse._fields)


def read_uses(file: DuckDbFile, keys: Sequence[NameKey]) -> Iterator[NameUse]:
    """Of these names. As the writer reads it."""
    make_table(file.connection, "wanted_names", ("cluster", "workload"), keys)
    rows = file.rows(f"SELECT {_COLUMNS} FROM workload_names SEMI JOIN wanted_names USING (cluster, workload)")
    return (NameUse(*row) for row in rows)


def write_uses(connection: Any, uses: Sequence[NameUse]) -> None:
    """In the place of what was known of the same members. Within a transaction."""
    if uses:
        make_table(connection, "fresh_names", NameUse._fields, uses)
        connection.execute(f"DELETE FROM workload_names WHERE ({USE_KEY}) IN (SELECT ({USE_KEY}) FROM fresh_names)")
        insert_rows(connection, "workload_names", NameUse._fields, uses)


def name_conflicts(connection: Any) -> list[NameConflict]:
    rows = connection.execute(
        f"""
        SELECT {_COLUMNS} FROM workload_names SEMI JOIN (
          SELECT cluster, workload FROM workload_names GROUP BY ALL
          HAVING count(DISTINCT founder) > 1 ORDER BY ALL LIMIT {CONFLICTS_MAX}) USING (cluster, workload)
        """
    ).fetchall()
    return conflicts_of(NameUse(*row) for row in rows)
