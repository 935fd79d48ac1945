"""The API's description (OpenAPI 3.1), made of the routes and of the types that they take and answer."""

import inspect
from collections.abc import Iterable
from typing import Any

import msgspec

from tokenyield_collector.api.registry import every_route
from tokenyield_collector.http.right import Right
from tokenyield_collector.http.route import JSON, TEXT, QueryParameter, Route
from tokenyield_collector.http.schemas import ProblemDocument
from tokenyield_collector.version import VERSION

_REFUSALS = {
    400: "a parameter or the body cannot be used",
    401: "missing or invalid credentials",
    403: "the caller may not do this",
    404: "this collector does not have it",
    408: "the body did not arrive in time",
    409: "another installation has this node's name",
    413: "the body is too large, packed or unpacked",
    415: "the body's encoding is not supported",
    422: "invalid or too old batches; `errors` names the fields",
    425: "batches are ahead of the collector's clock",
    429: "too many requests; Retry-After says when to try again",
    503: "temporarily unavailable; Retry-After says when to try again",
}
_AUTHENTICATION = (401, 403, 429)
Document = dict[str, Any]


def openapi() -> Document:
    """The document. `docs/openapi.json` keeps it."""
    routes = [route for route in every_route() if route.summary]
    types = _types(routes)
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    for schema in components.values():
        if "description" in schema:  # Python 3.13 takes the indentation out of docstrings by itself
            schema["description"] = inspect.cleandoc(schema["description"])
    shapes = dict(zip(types, schemas, strict=True))
    return {
        "openapi": "3.1.0",
        "info": {"title": "tokenyield-collector", "version": VERSION, "license": {"name": "Apache-2.0"}},
        "paths": {route.path: {route.method.lower(): _operation(route, shapes)} for route in routes},
        "components": {
            "schemas": _money_as_numbers(components),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "of token_file or of an enrolled node, see docs/access.md",
                },
                "proof": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "of which node it is: a bootstrap secret, a ServiceAccount token, the node's token",
                },
                "password": {"type": "http", "scheme": "basic", "description": "of web_config_file; for reading"},
                "certificate": {"type": "mutualTLS", "description": "of the client CA of web_config_file"},
            },
        },
        "security": [{"token": []}, {"password": []}, {"certificate": []}],
    }


def _types(routes: Iterable[Route]) -> list[type]:
    """Every type of a body or an answer, once."""
    types: dict[type, None] = {ProblemDocument: None}
    for route in routes:
        for shape in (route.body, *route.answers.values()):
            if isinstance(shape, type):
                types[shape] = None
    return list(types)


def _operation(route: Route, shapes: dict[type, Document]) -> Document:
    if route.right == Right.OPEN:
        return _probe(route)
    answers = {
        media_type: {"schema": shapes[shape] if isinstance(shape, type) else dict(shape)}
        for media_type, shape in route.answers.items()
    }
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
    responses: Document = {"200": {"description": "done", "content": answers}}
    for status in sorted({*route.refusals, *_AUTHENTICATION}):
        responses[str(status)] = {"description": _REFUSALS[status], "content": problem}
    operation: Document = {"summary": route.summary, "responses": responses}
    if route.right == Right.ENROL:
        operation["security"] = [{"proof": []}]
    if route.parameters:
        operation["parameters"] = [_parameter(parameter) for parameter in route.parameters]
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": shapes[route.body]}}}
    return operation


def _probe(route: Route) -> Document:
    """Without authentication, and its refusals are plain text."""
    text = {TEXT: {"schema": {"type": "string"}}}
    statuses = {200: "ok"} | dict.fromkeys(route.refusals, "not now")
    responses = {str(status): {"description": says, "content": text} for status, says in statuses.items()}
    return {"summary": route.summary, "security": [], "responses": responses}


def _parameter(parameter: QueryParameter) -> Document:
    return {
        "name": parameter.name,
        "in": "query",
        "required": parameter.is_required,
        "schema": dict(parameter.schema),
        "description": parameter.description,
    }


def _money_as_numbers(schema: Any) -> Any:
    """msgspec describes a Decimal as text, which it is only by default (live/summary.py writes numbers)."""
    if isinstance(schema, list):
        return [_money_as_numbers(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "decimal":
        return {"type": "number"}
    return {name: _money_as_numbers(part) for name, part in schema.items()}
