"""Errors as RFC 9457 problem details: one function, used by every handler.

`errors` lists what is wrong field by field: the JSON path of the field, what was found, what is wanted.
"""

import json
from collections.abc import Iterable

from aiohttp import web

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
    errors = [FieldFault(field=f.field, found=f.found[:200], wanted=f.wanted[:200]) for f in faults][:50]
    if errors:
        body["errors"] = errors
    return web.Response(status=status, text=json.dumps(body), content_type="application/problem+json", headers=headers)
