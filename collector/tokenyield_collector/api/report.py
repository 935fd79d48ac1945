"""`GET /v1/report`: a period's report in any format."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aiohttp import web

from tokenyield_collector.access.auth import caller_of, peer_of
from tokenyield_collector.api.pipe import Pipe
from tokenyield_collector.api.services import Services
from tokenyield_collector.errors import CollectorError, LedgerError, ParameterError
from tokenyield_collector.http.query import columns_of, period_of, period_parameter, whole_number
from tokenyield_collector.http.right import TeamAnswer
from tokenyield_collector.http.route import BoundRoute, QueryParameter, Route
from tokenyield_collector.reports.focus.columns import DEFAULT_VERSION, VERSIONS, check_focus_version
from tokenyield_collector.reports.formats import TextWriter
from tokenyield_collector.reports.maker import MEDIA_TYPES

log = logging.getLogger(__name__)

TOP_MAX = 99_999_999
VERSION_MAX = 99_999_999
_SHAPES: dict[str, Any] = {"json": {"type": "object"}}
"""Format -> schema. The columns are those of the rules, so even JSON has no fixed shape; others are text."""
REPORT = Route(
    path="/v1/report",
    to_teams=TeamAnswer.OWN,
    summary="A period's report. Any other parameter is a column, and only its given value is shown: team=search.",
    answers={media_type: _SHAPES.get(form, {"type": "string"}) for form, media_type in MEDIA_TYPES.items()},
    refusals=(400, 503),
    parameters=(
        period_parameter(),
        QueryParameter(
            name="by",
            schema={"type": "string", "maxLength": 200},
            description="columns, separated by commas; default the first dimension of the rules, and the model",
        ),
        QueryParameter(name="format", schema={"type": "string", "enum": list(MEDIA_TYPES)}, description="default json"),
        QueryParameter(
            name="top",
            schema={"type": "integer", "minimum": 1, "maximum": TOP_MAX},
            description="only so many rows, and one of all others",
        ),
        QueryParameter(
            name="version",
            schema={"type": "integer", "minimum": 1, "maximum": VERSION_MAX},
            description="of a month that is closed; default the newest",
        ),
        QueryParameter(
            name="focus_version",
            schema={"type": "string", "enum": list(VERSIONS)},
            description=f"of the FOCUS formats; default {DEFAULT_VERSION}",
        ),
    ),
)
_NAMES = frozenset(parameter.name for parameter in REPORT.parameters)
"""Any other parameter is a column."""
ROUTES = (REPORT,)


def routes(services: Services) -> list[BoundRoute]:
    return [(REPORT, ReportApi(services).handle)]


class ReportRequest(NamedTuple):
    """The parameters of a request. `where`: column -> the value that is shown."""

    period: str
    columns: list[str]
    form: str
    where: dict[str, str]
    top: int | None
    focus_version: str
    version: int | None


def report_request(query: Mapping[str, str]) -> ReportRequest:
    """Raises `ParameterError`; the period and the columns are checked where the report is made."""
    form = query.get("format", "json")
    focus_version = query.get("focus_version", DEFAULT_VERSION)
    check_focus_version(focus_version)
    if form not in MEDIA_TYPES:
        raise ParameterError("format", expected=f"one of {', '.join(MEDIA_TYPES)}", found=f"'{form[:40]}'")
    return ReportRequest(
        period=period_of(query),
        columns=columns_of(query),
        form=form,
        where={name: value for name, value in query.items() if name not in _NAMES},
        top=whole_number(query, "top", 1, TOP_MAX),
        focus_version=focus_version,
        version=whole_number(query, "version", 1, VERSION_MAX),
    )


class ReportApi:
    """The handler."""

    def __init__(self, services: Services) -> None:
        self._queue = services.reports
        self._audit = services.audit

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """`?period=2026-10&by=team,model&format=json&top=20`; other parameters are columns: `team=ads`."""
        report = report_request(request.query)
        with self._queue.place():
            # Names of parameters only: values may name people.
            what = f"period={report.period[:40]} parameters={','.join(sorted(request.query))[:100]}"
            self._audit.read(peer=peer_of(request), caller=caller_of(request).name, route=request.path, what=what)
            if report.form == "focus" and not report.where:
                return await self._streamed(request, report)

            body = await self._queue.submit(lambda: self._encoded(report, caller_of(request).teams))
        return web.Response(body=body, content_type=MEDIA_TYPES[report.form])

    def _encoded(self, report: ReportRequest, teams: Sequence[str] | None) -> bytes:
        return self._queue.maker(teams).encode(
            report.period, report.columns, report.form, report.where, report.top, report.focus_version, report.version
        )

    async def _streamed(self, request: web.Request, report: ReportRequest) -> web.StreamResponse:
        """A FOCUS file while it is made: only some chunks of it are in memory."""

        def write(out: TextWriter) -> object:
            return self._queue.maker(caller_of(request).teams).focus(
                report.period, out, focus_version=report.focus_version, version=report.version
            )

        pipe = Pipe(asyncio.get_running_loop())
        done = self._queue.submit(lambda: pipe.fill(write))
        try:
            chunk = await pipe.next()
            if isinstance(chunk, Exception):
                raise chunk if isinstance(chunk, CollectorError) else LedgerError(str(chunk))
            response = web.StreamResponse(headers={"Content-Type": MEDIA_TYPES["focus"]})
            await response.prepare(request)
            while chunk is not None:
                if isinstance(chunk, Exception):
                    log.error("a report ended early: %s", chunk)
                    assert request.transport is not None
                    request.transport.abort()  # so that nobody takes an incomplete file for the whole
                    break
                await response.write(chunk)
                chunk = await pipe.next()
        finally:
            await pipe.aclose()
            await done
        return response
