"""A report as JSON: all of it. Money is in decimal numbers, unknown is null.

Amounts are exact; those beside them that are called `shown` are in cents, for people.
"""

from decimal import Decimal
from typing import Any

import msgspec

from tokenyield_collector.prices.period import iso
from tokenyield_collector.reports.formats import ReportFormat
from tokenyield_collector.reports.report import Report
from tokenyield_collector.reports.report_latency import ReportLatency
from tokenyield_collector.reports.report_table import ReportRow
from tokenyield_collector.statements.names import NAMES_AS_THEY_ARE, own_name
from tokenyield_collector.statements.references import AppliedReference
from tokenyield_collector.targets.terminal_json import printable_json
from tokenyield_wire.latency import LATENCY_EDGES_MS

_encoder = msgspec.json.Encoder(decimal_format="number")


def to_json(report: Report) -> bytes:
    return printable_json(msgspec.json.format(_encoder.encode(report_document(report)), indent=2)) + b"\n"


def report_document(report: Report) -> dict[str, Any]:
    """The same before it is encoded."""
    return {
        "period": report.period.name,
        "start": report.start,
        "end": report.end,
        "state": report.state,
        "version": report.version,
        "currency": report.currency,
        "price_book": report.price_book or None,
        "token_weights": report.token_weights,
        "by": list(report.by),
        "where": report.where,
        "names": NAMES_AS_THEY_ARE,
        "notes": report.notes,
        "waterfall": [
            {
                "bucket": name,
                "gpu_hours": step.gpu_hours,
                "cost": step.cost,
                "cost_shared": step.shared,
                "shown": {"cost": step.shown, "cost_shared": step.shown_shared},
            }
            for name, step in report.steps.items()
        ],
        "idle_capacity": report.idle_capacity._asdict(),
        "total": _row_document(report.total),
        "outcomes": [msgspec.to_builtins(outcome) for outcome in report.outcomes],
        "rows": [_row_document(row) for row in report.rows],
        "gaps": [gap.document() for gap in report.gaps],
        "references": [_reference_document(reference) for reference in report.references],
        "buy_or_run": [msgspec.to_builtins(one, builtin_types=(Decimal,)) for one in report.buy_or_run],
        "latency": None if report.latency is None else _latency_document(report.latency),
    }


def _row_document(row: ReportRow) -> dict[str, Any]:
    columns = row.columns
    return {**columns, "shown": {name: cents for name, cents in row.shown.items() if columns.get(name) is not None}}


def _latency_document(latency: ReportLatency) -> dict[str, Any]:
    return {
        "by": list(latency.by),
        "upper_edges_ms": {kind: list(edges) for kind, edges in LATENCY_EDGES_MS.items()},
        "rows": [
            {**by, "kind": histogram.kind, **histogram.document(), "counts": list(histogram.counts)}
            for by, histogram in latency.rows
        ],
    }


def _reference_document(reference: AppliedReference) -> dict[str, Any]:
    document: dict[str, Any] = {
        "model": own_name(reference.instance.model),
        "gpu_model": reference.instance.gpu_model,
        "gpus": reference.instance.gpus,
        "completion_tokens_per_second": round(reference.tokens_per_second, 6),
        "source": reference.source,
        "nodes": reference.nodes,
        "days": reference.days,
        "node": None if reference.node is None else "/".join(map(own_name, reference.node)),
    }
    if (best := reference.evidence) is not None:
        document["evidence"] = {
            "hour": iso(best.hour_ms),
            "cluster": own_name(best.cluster),
            "node": own_name(best.node),
            "workload": own_name(best.workload),
            "weighted_tokens": best.units / 1000,
            "active_gpu_seconds": best.active_ms / 1000,
        }
    return document


FORMAT = ReportFormat(name="json", media_type="application/json", encode=to_json, shows_latency=True)
