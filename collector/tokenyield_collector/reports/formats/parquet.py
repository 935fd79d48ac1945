"""A report as Parquet: the rows of the CSV, typed. Money is DECIMAL(38, 9), exact; unknown is NULL.

The file's metadata say how names are written, what is not known (`gaps`, as in JSON), and the period's `state` and
`version`.
"""

import json
import tempfile
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from tokenyield_collector.reports.formats import ReportFormat
from tokenyield_collector.reports.report import Report
from tokenyield_collector.reports.rounding import EXACT
from tokenyield_collector.statements.names import NAMES_AS_THEY_ARE
from tokenyield_wire.window import TOKEN_KINDS

_INTEGERS = (*TOKEN_KINDS, "tokens", "requests")


def to_parquet(report: Report) -> bytes:
    """Written by DuckDB, which the ledger needs anyway. It reads whole columns, of numpy, by the name of a variable:
    rows one by one take a hundred times as long."""
    import duckdb

    names = report.column_names
    rows = [row.columns for row in report.rows]
    data = {name: _array([row[name] for row in rows], _sql_type(name, report)) for name in names}
    columns = ", ".join(f'"{name}"::{_sql_type(name, report)} AS "{name}"' for name in names)
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        file = Path(folder) / "report.parquet"
        gaps = json.dumps([gap.document() for gap in report.gaps]).replace("'", "''")
        period = f"state: '{report.state}', version: '{'' if report.version is None else report.version}'"
        metadata = f"KV_METADATA {{{period}, names: '{NAMES_AS_THEY_ARE}', gaps: '{gaps}'}}"
        connection.execute(f"COPY (SELECT {columns} FROM data) TO '{file}' (FORMAT parquet, {metadata})")  # noqa: S608
        del data
        return file.read_bytes()


def _array(values: Sequence[Any], sql_type: str) -> Any:
    """Decimals as text, which loses nothing."""
    import numpy as np

    if sql_type in ("BIGINT", "DOUBLE"):
        missing = [value is None for value in values]
        dtype = np.int64 if sql_type == "BIGINT" else np.float64
        return np.ma.masked_array([value or 0 for value in values], mask=missing, dtype=dtype)
    return np.array([None if value is None else str(value) for value in values], dtype=object)


def _sql_type(name: str, report: Report) -> str:
    if name in report.by:
        return "VARCHAR"
    if isinstance(report.total.columns[name], Decimal):
        return f"DECIMAL(38, {EXACT.digits})"
    return "BIGINT" if name in _INTEGERS or name.startswith("outcomes_") else "DOUBLE"


FORMAT = ReportFormat(name="parquet", media_type="application/vnd.apache.parquet", encode=to_parquet)
