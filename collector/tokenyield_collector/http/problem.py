"""Errors as RFC 9457 problem details: one function, used by every handler.

`errors` lists what is wrong field by field: the parameter or the JSON path of the field, what was expected, what was
found, and how to fix it where there is more to say.
"""

import json
from collections.abc import Iterable

from aiohttp import web

from tokenyield_collector.errors import CollectorError, ParameterError
from tokenyield_collector.http.schemas import FieldFault, ProblemDocument
from tokenyield_wire.window import Fault

_TITLES = {
    400: "The body cannot be read",
    401: "Who asks is not known here",
    403: "This is not allowed to who asks",
    404: "There is nothing here",
    405: "This method is not served here",
    408: "The request did not come in time",
    413: "The body is too large",
    415: "This encoding is not understood",
    422: "The batches are not sound",
    425: "The windows are ahead of the collector's clock",
    429: "This is too often",
    500: "The collector failed",
    503: "The collector cannot take this now",
}


def problem(
    status: int, detail: str, *, faults: Iterable[Fault] = (), headers: dict[str, str] | None = None
) -> web.Response:
    body = ProblemDocument(type="about:blank", title=_TITLES.get(status, "Error"), status=status, detail=detail)
    errors = [FieldFault(field=field, expected=expected[:200], found=found[:200]) for field, found, expected in faults]
    if errors:
        body["errors"] = errors[:50]
    return _answer(body, headers)


def problem_of(error: CollectorError) -> web.Response:
    """400 for a parameter that cannot be used, 503 for a ledger that does not work now."""
    if not isinstance(error, ParameterError):
        return problem(503, str(error), headers={"Retry-After": "5"})
    fault = FieldFault(field=error.field, expected=error.expected, found=error.found)
    if error.fix:
        fault["fix"] = error.fix
    body = ProblemDocument(type="about:blank", title=_TITLES[400], status=400, detail=str(error), errors=[fault])
    return _answer(body, None)


def _answer(body: ProblemDocument, headers: dict[str, str] | None) -> web.Response:
    return web.Response(
        status=body["status"], text=json.dumps(body), content_type="application/problem+json", headers=headers
    )
