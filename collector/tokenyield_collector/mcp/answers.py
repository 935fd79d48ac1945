"""What each tool answers: the views of the API, fewer of their figures, with what these are worth beside them.

In: a report maker, a tool's arguments. Out: a document. Nothing is computed a second time: rows are those of
/v1/report, /v1/explain, /v1/budgets, /v1/diagnosis and /v1/shadow. Raises `ParameterError`, `LedgerError`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from tokenyield_collector.errors import ParameterError
from tokenyield_collector.http.schemas import DiagnosesDocument, ShadowDocument
from tokenyield_collector.insight.effects import CATALOGUE as EFFECTS
from tokenyield_collector.insight.explain import explain
from tokenyield_collector.insight.forecast import forecasts
from tokenyield_collector.mcp.arguments import (
    Budgets,
    Explain,
    FindIdle,
    Forecast,
    ListValues,
    NoArguments,
    Query,
    Reference,
    ShadowUse,
    YieldFindings,
)
from tokenyield_collector.prices.period import day_of
from tokenyield_collector.reports.context import context_document
from tokenyield_collector.reports.maker import ReportMaker, budget_document
from tokenyield_collector.reports.report import Report
from tokenyield_collector.reports.report_table import ReportRow
from tokenyield_collector.statements.buckets import CATALOGUE as BUCKETS
from tokenyield_settings.loader import nearest

NOTES_MAX = 20
FINDINGS_MAX = 50
IDLE_MEASURES = (
    "idle_capacity_cost",
    "cost_idle",
    "cost_unallocated",
    "cost_dark",
    "parked_cost",
    "idle_gpu_hours",
    "parked_gpu_hours",
    "unallocated_gpu_hours",
    "dark_gpu_hours",
)
_SUMMED = ("cost", "tokens", "requests")
"""Measures that may be summed over rows, beside those that begin with `cost_` and a bucket, or end in hours."""
UNITS = {
    "cost": "the currency of the price book; exact decimals, rows sum to the total",
    "gpu_hours": "hours of one GPU",
    "joules": "measured at the GPU, with its host, and with the site's overhead (facility)",
    "tokens_per_joule": "the same as tokens a second per watt",
    "cost_per_mtok": "currency per million tokens: direct (active time), allocated (and idle time held), loaded (and a "
    "share of what the pool lost)",
    "null": "unknown, never 0",
}
LIMITS = (
    "Costs are what the price book and the vendors' reports say; figures without a price are counted in coverage.",
    "The newest hours are not complete: see as_of.",
    "Names are as users chose them; what reads like a marker, such as (dark), is in quotes.",
)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What tools may read. `diagnose` and `find_shadow` are of the whole fleet."""

    maker: ReportMaker
    diagnose: Callable[[int], DiagnosesDocument]
    find_shadow: Callable[[str, int], ShadowDocument]


def get_context(asked: Asked, _: NoArguments) -> dict[str, Any]:
    maker = asked.maker
    context = context_document(maker)
    return {**context, "measures": _measures(maker), "units": UNITS, "limits": list(LIMITS)}


def list_values(asked: Asked, arguments: ListValues) -> dict[str, Any]:
    report = asked.maker.report(arguments.period, [arguments.column])
    return _of_rows(asked.maker, report, ("cost", "tokens"), arguments.top)


def query(asked: Asked, arguments: Query) -> dict[str, Any]:
    report = asked.maker.report(arguments.period, arguments.by, arguments.where)
    return _of_rows(asked.maker, report, arguments.measures, arguments.top)


def find_idle(asked: Asked, arguments: FindIdle) -> dict[str, Any]:
    report = asked.maker.report(arguments.period, arguments.by)
    return _of_rows(asked.maker, report, IDLE_MEASURES, arguments.top)


def explain_change(asked: Asked, arguments: Explain) -> dict[str, Any]:
    maker = asked.maker
    parameters = {"period": arguments.period, "against": arguments.against}
    made = explain(maker, arguments.period, arguments.against, arguments.by, arguments.where, arguments.top)
    return {
        **{name: made[name] for name in ("period", "against", "by", "where", "text", "effects", "total", "rows")},
        "unit": made["currency"],
        "as_of": context_document(maker)["as_of"],
        "coverage": {"notes": made["notes"][:NOTES_MAX]},
        "provenance": _provenance(maker, "/v1/explain", parameters, arguments.by, arguments.where),
    }


def forecast(asked: Asked, arguments: Forecast) -> dict[str, Any]:
    maker = asked.maker
    made = forecasts(maker, arguments.measure, arguments.by, arguments.where, arguments.top)
    parameters = {"measure": arguments.measure}
    return {
        **{name: made[name] for name in ("measure", "month", "by", "where", "rows", "total")},
        "unit": made["unit"],
        "as_of": made["as_of"],
        "coverage": {"history_days": made["total"]["history_days"], "notes": made["notes"][:NOTES_MAX]},
        "provenance": _provenance(maker, "/v1/forecast", parameters, arguments.by, arguments.where),
    }


def list_budgets(asked: Asked, arguments: Budgets) -> dict[str, Any]:
    maker = asked.maker
    document = budget_document(maker.budgets(arguments.month), maker.policy.prices.currency)
    return {
        "rows": document["budgets"],
        "unit": document["currency"],
        "as_of": context_document(maker)["as_of"],
        "provenance": _provenance(maker, "/v1/budgets", {"month": arguments.month}),
    }


def list_yield_findings(asked: Asked, arguments: YieldFindings) -> dict[str, Any]:
    _check_whole(asked.maker, "list_yield_findings")
    made = asked.diagnose(arguments.window_s)
    rows = [one for one in made["workloads"] if one["findings"]]
    return {
        "rows": rows[:FINDINGS_MAX],
        "more": max(0, len(rows) - FINDINGS_MAX),
        "at_stake_per_hour": made["at_stake_per_hour"],
        "unit": f"{made['currency']} an hour",
        "as_of": made["end"],
        "coverage": {"start": made["start"], "end": made["end"], "workloads": len(made["workloads"])},
        "provenance": _provenance(asked.maker, "/v1/diagnosis", {"window_s": str(arguments.window_s)}),
    }


def list_shadow_use(asked: Asked, arguments: ShadowUse) -> dict[str, Any]:
    _check_whole(asked.maker, "list_shadow_use")
    made = asked.find_shadow(arguments.period, arguments.top)
    return {
        "rows": made["findings"],
        "more": made["more"],
        "unit": "the currency of each finding",
        "as_of": made["end"],
        "coverage": {"start": made["start"], "end": made["end"], "limits": made["limits"]},
        "provenance": _provenance(asked.maker, "/v1/shadow", {"period": arguments.period}),
    }


def get_reference(asked: Asked, arguments: Reference) -> dict[str, Any]:
    terms = {
        "buckets": {bucket.name: bucket.meaning for bucket in BUCKETS},
        "effects": {effect.name: f"{effect.title}: {effect.meaning}" for effect in EFFECTS},
        "units": UNITS,
        "limits": {str(i): text for i, text in enumerate(LIMITS, 1)},
    }
    return {"topic": arguments.topic, "terms": terms[arguments.topic]}


def _of_rows(maker: ReportMaker, report: Report, measures: Sequence[str], top: int) -> dict[str, Any]:
    """The rows with most of the first measure, and the sum of all others."""
    known = report.total.columns
    for name in measures:
        if name not in known:
            fix = nearest(name, list(known)).lstrip(",; ") or "see measures of get_context"
            raise ParameterError("measures", expected="figures of a report", found=f"'{name[:40]}'", fix=fix)
    rows = sorted(report.rows, key=lambda row: _rank(row, measures)) if measures else report.rows
    rest = rows[top:]
    parameters = {"period": report.period.name}
    return {
        "by": list(report.by),
        "where": report.where,
        "rows": [_row(row, measures) for row in rows[:top]],
        "rest": {"rows": len(rest), **{name: _sum(rest, name) for name in measures if _is_summed(name)}},
        "total": _row(report.total, measures),
        "unit": report.currency,
        "as_of": context_document(maker)["as_of"],
        "coverage": {
            "start": report.start,
            "end": report.end,
            "state": report.state,
            **{name: known[name] for name in ("price_missing_gpu_hours", "price_missing_tokens", "unrated_gpu_hours")},
            "notes": report.notes[:NOTES_MAX],
        },
        "provenance": {
            **_provenance(maker, "/v1/report", parameters, report.by, report.where),
            "version": report.version,
        },
    }


def _row(row: ReportRow, measures: Sequence[str]) -> dict[str, Any]:
    columns = row.columns
    return {**row.by, **{name: columns[name] for name in measures}}


def _rank(row: ReportRow, measures: Sequence[str]) -> tuple[float, tuple[str, ...]]:
    value = row.columns[measures[0]]
    return -float(value) if value is not None else 1e300, tuple(row.by.values())


def _is_summed(measure: str) -> bool:
    return measure in _SUMMED or measure.endswith(("_gpu_hours", "_cost")) or measure in _bucket_costs()


def _bucket_costs() -> set[str]:
    return {f"cost_{bucket.name}" for bucket in BUCKETS}


def _sum(rows: Sequence[ReportRow], measure: str) -> Decimal | float | int | None:
    values = [value for row in rows if (value := row.columns[measure]) is not None]
    return sum(values) if values else None


def _measures(maker: ReportMaker) -> list[str]:
    """Of a report, whatever it is of: that of no time has the same."""
    return list(maker.report(day_of(maker.now_ms).isoformat()).total.columns)


def _provenance(
    maker: ReportMaker,
    path: str,
    parameters: Mapping[str, str],
    by: Sequence[str] = (),
    where: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Where a person finds the same figures."""
    asked = {**parameters, **({"by": ",".join(by)} if by else {}), **(where or {})}
    return {"route": f"{path}?{urlencode(asked)}", "price_book": maker.policy.prices.fingerprint or None}


def _check_whole(maker: ReportMaker, tool: str) -> None:
    if maker.teams is not None:
        raise ParameterError(
            tool,
            expected="a token for the whole fleet",
            found="one that is limited to teams",
            fix="ask query, find_idle or explain_change",
        )
