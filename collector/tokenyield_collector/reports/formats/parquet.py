"""A report as Parquet: the rows of the CSV, typed. Money is DECIMAL(38, 9), exact; unknown is NULL.

The file's metadata say how names are written.
"""

import tempfile
from decimal import Decimal
from pathlib import Path

from tokenyield_collector.reports.formats import ReportFormat
from tokenyield_collector.reports.report import Report
from tokenyield_collector.reports.rounding import EXACT
from tokenyield_collector.statements.names import NAMES_AS_THEY_ARE
from tokenyield_wire.window import TOKEN_KINDS

_INTEGERS = (*TOKEN_KINDS, "tokens", "requests")


def to_parquet(report: Report) -> bytes:
    """Written by DuckDB, which the ledger needs anyway."""
    import duckdb

    columns = ", ".join(f'"{name}" {_sql_type(name, report)}' for name in report.column_names)
    marks = ", ".join("?" for _ in report.column_names)
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        file = Path(folder) / "report.parquet"
        connection.execute(f"CREATE TABLE report ({columns})")
        if report.rows:
            rows = [list(row.columns.values()) for row in report.rows]
            connection.executemany(f"INSERT INTO report VALUES ({marks})", rows)  # noqa: S608 - marks only
        metadata = f"KV_METADATA {{names: '{NAMES_AS_THEY_ARE}'}}"
        connection.execute(f"COPY report TO '{file}' (FORMAT parquet, {metadata})")
        return file.read_bytes()


def _sql_type(name: str, report: Report) -> str:
    if name in report.by:
        return "VARCHAR"
    if isinstance(report.total.columns[name], Decimal):
        return f"DECIMAL(38, {EXACT.digits})"
    return "BIGINT" if name in _INTEGERS else "DOUBLE"


FORMAT = ReportFormat(name="parquet", media_type="application/vnd.apache.parquet", encode=to_parquet)
