"""A report as JSON, CSV and Parquet: the same flat rows in each. Closed periods give the same bytes every time.

In: a `Report`. Out: text or bytes. Money in cents as decimal numbers; ratios as floats; unknown is null (empty in CSV).
"""

import csv
import io
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from tokenyield_collector.prices.period import iso
from tokenyield_collector.reports.report import Report, ReportRow
from tokenyield_collector.statements.buckets import COSTS
from tokenyield_collector.statements.references import AppliedReference

_json = msgspec.json.Encoder(decimal_format="number")


def flat(row: ReportRow) -> dict[str, Any]:
    """One row as columns: what it is by, cost, `cost_<part>`, figures."""
    return {**row.by, "cost": row.cost, **{f"cost_{name}": row.parts[name] for name in COSTS}, **row.figures}


def document(report: Report) -> dict[str, Any]:
    """Everything of a report, ready for JSON."""
    return {
        "period": report.period.name,
        "start": report.start,
        "end": report.end,
        "closed": report.is_closed,
        "version": report.version,
        "currency": report.currency,
        "price_book": report.price_book or None,
        "token_weights": report.token_weights,
        "by": list(report.by),
        "where": report.where,
        "notes": report.notes,
        "waterfall": [
            {"bucket": name, "cost": cost, "gpu_hours": report.waterfall_gpu_hours[name]}
            for name, cost in report.waterfall.items()
        ],
        "total": flat(report.total),
        "rows": [flat(row) for row in report.rows],
        "references": [_reference(one) for one in report.references],
        "buy_or_run": [msgspec.to_builtins(one) for one in report.buy_or_run],
    }


def to_json(report: Report) -> bytes:
    return msgspec.json.format(_json.encode(document(report)), indent=2) + b"\n"


def to_csv(report: Report) -> str:
    out = io.StringIO()
    columns = list(flat(report.total)) if not report.rows else list(flat(report.rows[0]))
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    for row in report.rows:
        writer.writerow(flat(row))
    return out.getvalue()


def to_parquet(report: Report) -> bytes:
    """With DuckDB, which is here anyway. Money is DECIMAL(18, 2)."""
    import duckdb

    rows = [flat(row) for row in report.rows]
    names = list(rows[0]) if rows else [*report.by, *flat(report.total)]
    kinds = {name: _type(name, report) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.parquet"
        connection = duckdb.connect()
        try:
            columns = ", ".join(f'"{name}" {kind}' for name, kind in kinds.items())
            connection.execute(f"CREATE TABLE report ({columns})")
            if rows:
                marks = ", ".join("?" for _ in names)
                connection.executemany(f"INSERT INTO report VALUES ({marks})", [list(row.values()) for row in rows])  # noqa: S608
            connection.execute(f"COPY report TO '{file}' (FORMAT parquet)")
        finally:
            connection.close()
        return file.read_bytes()


def _type(name: str, report: Report) -> str:
    value = flat(report.total).get(name)
    if name in report.by:
        return "VARCHAR"
    if isinstance(value, Decimal):
        return "DECIMAL(18, 2)"
    integers = ("prompt_computed", "prompt_cached", "prompt_unsplit", "completion", "tokens", "requests")
    return "BIGINT" if name in integers else "DOUBLE"


def _reference(one: AppliedReference) -> dict[str, Any]:
    found: dict[str, Any] = {
        "model": one.instance.model,
        "gpu_model": one.instance.gpu_model,
        "gpus": one.instance.gpus,
        "completion_tokens_per_second": round(one.tokens_per_second, 6),
        "source": one.source,
    }
    if one.evidence is not None:
        best = one.evidence
        found["evidence"] = {
            "hour": iso(best.hour_ms),
            "cluster": best.cluster,
            "workload": best.workload,
            "weighted_tokens": best.units / 1000,
            "active_gpu_seconds": best.active_ms / 1000,
        }
    return found
