"""Errors as RFC 9457 problem details: what every handler answers with, and the middleware that turns errors into it.

`errors` lists what is wrong field by field: the parameter or the JSON path of the field, what was expected, what was
found, and how to fix it where there is more to say.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice

from aiohttp import web

from tokenyield_collector.errors import CollectorError, ParameterError
from tokenyield_collector.http.schemas import FieldFaultDocument, ProblemDocument
from tokenyield_wire.window import Fault

log = logging.getLogger(__name__)

_TITLES = {
    400: "Invalid request",
    401: "Missing or invalid token",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "The request did not arrive in time",
    409: "Taken by another",
    413: "The body is too large",
    415: "Unsupported encoding",
    422: "Invalid batches",
    425: "The windows are ahead of the collector's clock",
    429: "Too many requests",
    500: "The collector failed",
    503: "Temporarily unavailable",
}

ERRORS_MAX = 50
ERROR_TEXT_CHARS_MAX = 200


def problem(
    status: int, detail: str, *, faults: Iterable[Fault] = (), headers: dict[str, str] | None = None
) -> web.Response:
    body = ProblemDocument(type="about:blank", title=_TITLES.get(status, "Error"), status=status, detail=detail)
    errors = [
        FieldFaultDocument(field=field, expected=expected[:ERROR_TEXT_CHARS_MAX], found=found[:ERROR_TEXT_CHARS_MAX])
        for field, found, expected in islice(faults, ERRORS_MAX)
    ]
    if errors:
        body["errors"] = errors
    return _answer(body, headers)


def problem_of(error: CollectorError) -> web.Response:
    """400 for a parameter that cannot be used, 503 for anything that may work later."""
    if not isinstance(error, ParameterError):
        return problem(503, str(error), headers={"Retry-After": str(error.retry_after_s)})
    fault = FieldFaultDocument(field=error.field, expected=error.expected, found=error.found)
    if error.fix:
        fault["fix"] = error.fix
    body = ProblemDocument(type="about:blank", title=_TITLES[400], status=400, detail=str(error), errors=[fault])
    return _answer(body, None)


@web.middleware
async def errors_as_problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """No error of a handler leaves this function."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return problem(error.status, f"{request.method} {request.path[:200]}", headers=headers)
    except CollectorError as error:
        if request.get("of_teams") and not isinstance(error, ParameterError):
            # What does not work may be of others: their names and sums are no business of this caller.
            log.error("%s: %s", route_of(request), error)
            return problem(503, "the collector's log has the reason", headers={"Retry-After": str(error.retry_after_s)})
        return problem_of(error)
    except Exception:
        log.exception("%s failed in an unforeseen way; please report it", route_of(request))
        return problem(500, "the collector's log has the details")


def route_of(request: web.Request) -> str:
    """The path of the route, with names for its variable parts; empty where there is no such route."""
    resource = request.match_info.route.resource
    return resource.canonical if resource else ""


def _answer(body: ProblemDocument, headers: dict[str, str] | None) -> web.Response:
    return web.Response(
        status=body["status"], text=json.dumps(body), content_type="application/problem+json", headers=headers
    )
