"""The API's description (OpenAPI 3.1), from the routes and from the types that are sent and answered."""

import inspect
from typing import Any

import msgspec

from tokenyield_collector.http.schemas import (
    BudgetsDocument,
    DiagnosesDocument,
    FleetDocument,
    ProblemDocument,
    RatesDocument,
    ReceiptDocument,
    SummaryDocument,
)
from tokenyield_collector.reports.maker import MEDIA_TYPES
from tokenyield_collector.version import VERSION
from tokenyield_wire.window import Shipment

_TYPES = (
    Shipment,
    ReceiptDocument,
    ProblemDocument,
    SummaryDocument,
    FleetDocument,
    RatesDocument,
    BudgetsDocument,
    DiagnosesDocument,
)
_REFUSALS = {
    400: "a parameter or the body cannot be used",
    401: "nobody known asks",
    403: "who asks may not",
    408: "the body did not come in time",
    413: "the body is too large, packed or unpacked",
    415: "the body's encoding is not understood",
    422: "batches are not sound, or too old; `errors` names the fields",
    425: "batches are ahead of the collector's clock",
    429: "too often; Retry-After says when",
    503: "not now; Retry-After says when",
}
_ASKING = (401, 403, 429)


def openapi() -> dict[str, Any]:
    """The document. `docs/openapi.json` keeps it."""
    schemas, components = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    for schema in components.values():
        if "description" in schema:  # Python 3.13 takes the indentation out of docstrings by itself
            schema["description"] = inspect.cleandoc(schema["description"])
    components = _money_as_numbers(components)
    shapes = dict(zip((kind.__name__ for kind in _TYPES), schemas, strict=True))
    month = {"type": "string", "pattern": r"^\d{4}-\d{2}$"}
    paths = {
        "/v1/batches": {
            "post": _operation(
                "Take in windows of one node. Answered when they are durable; the same batch again is counted once.",
                {"application/json": shapes["ReceiptDocument"]},
                (*_REFUSALS,),
                body=shapes["Shipment"],
            )
        },
        "/v1/summary": _get(
            "Yield, waterfall and workloads of the newest stretch.",
            shapes["SummaryDocument"],
            (400,),
            window_s=({"type": "integer", "minimum": 1, "maximum": 86_400}, "seconds; left out: the live window"),
        ),
        "/v1/fleet": _get("What every GPU does now.", shapes["FleetDocument"]),
        "/v1/diagnosis": _get(
            "Why each workload yields what it yields, with evidence and the money at stake.",
            shapes["DiagnosesDocument"],
            (400, 503),
            window_s=({"type": "integer", "minimum": 1, "maximum": 604_800}, "seconds; left out: an hour"),
            loss_percent=({"type": "number", "minimum": 0, "maximum": 100}, "tokens that a power cap may cost"),
        ),
        "/v1/report": {
            "get": _operation(
                "A period's report. Any other parameter is a column, and only its given value is shown: team=search.",
                {media_type: _body_of(form) for form, media_type in MEDIA_TYPES.items()},
                (400, *_ASKING, 503),
                parameters=[
                    _parameter(
                        "period", {"type": "string", "maxLength": 40}, "2026-10, 2026-10-05 or A..B", wanted=True
                    ),
                    _parameter("by", {"type": "string", "maxLength": 200}, "columns, separated by commas"),
                    _parameter("format", {"type": "string", "enum": list(MEDIA_TYPES)}, "json when left out"),
                    _parameter("top", {"type": "integer", "minimum": 0, "maximum": 99_999_999}, "only so many rows"),
                ],
            )
        },
        "/v1/budgets": _get(
            "Every budget of a month.", shapes["BudgetsDocument"], (400, 503), month=(month, "2026-10")
        ),
        "/v1/rates": _get("What a GPU-hour of each pool costs now.", shapes["RatesDocument"], (503,)),
        "/v1/backup": {
            "get": _operation(
                "The ledger's file as it is now.", {"application/vnd.duckdb": {"type": "string"}}, (400, *_ASKING, 503)
            )
        },
        "/metrics": {"get": _operation("Prometheus metrics.", {"text/plain": {"type": "string"}}, _ASKING)},
        "/healthz": {"get": _open("The program runs.", 200)},
        "/readyz": {"get": _open("The ledger answers.", 200, 503)},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "tokenyield-collector", "version": VERSION, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "of token_file, see docs/access.md"},
                "password": {"type": "http", "scheme": "basic", "description": "of web_config_file; for reading"},
                "certificate": {"type": "mutualTLS", "description": "of the client CA of web_config_file"},
            },
        },
        "security": [{"token": []}, {"password": []}, {"certificate": []}],
    }


def _money_as_numbers(schema: Any) -> Any:
    """msgspec describes a Decimal as text, which it is only where nobody asks otherwise (summary.encode)."""
    if isinstance(schema, list):
        return [_money_as_numbers(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "decimal":
        return {"type": "number"}
    return {name: _money_as_numbers(one) for name, one in schema.items()}


def _get(
    says: str, answer: dict[str, Any], refusals: tuple[int, ...] = (), **parameters: tuple[dict[str, Any], str]
) -> dict[str, Any]:
    listed = [_parameter(name, schema, said) for name, (schema, said) in parameters.items()]
    return {"get": _operation(says, {"application/json": answer}, (*refusals, *_ASKING), parameters=listed)}


def _operation(
    says: str,
    answers: dict[str, dict[str, Any]],
    refusals: tuple[int, ...],
    *,
    parameters: list[dict[str, Any]] | None = None,
    body: dict[str, Any] | None = None,
) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
    answered: dict[str, Any] = {
        "200": {"description": "done", "content": {m: {"schema": s} for m, s in answers.items()}}
    }
    for status in sorted(set(refusals)):
        answered[str(status)] = {"description": _REFUSALS[status], "content": problem}
    made: dict[str, Any] = {"summary": says, "responses": answered}
    if parameters:
        made["parameters"] = parameters
    if body is not None:
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return made


def _open(says: str, *statuses: int) -> dict[str, Any]:
    text = {"text/plain": {"schema": {"type": "string"}}}
    answers = {
        str(status): {"description": "ok" if status == 200 else "not now", "content": text} for status in statuses
    }
    return {"summary": says, "security": [], "responses": answers}


def _parameter(name: str, schema: dict[str, Any], said: str, *, wanted: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": wanted, "schema": schema, "description": said}


def _body_of(form: str) -> dict[str, Any]:
    """A report's columns are those of the rules, so its JSON is an object of no fixed shape."""
    return {"type": "object"} if form == "json" else {"type": "string"}
