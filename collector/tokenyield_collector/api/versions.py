"""`GET /v1/report/versions`: the versions of a closed month."""

from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from tokenyield_collector.access.auth import caller_of, peer_of
from tokenyield_collector.api.services import Services
from tokenyield_collector.http.query import period_of, period_parameter
from tokenyield_collector.http.right import TeamAnswer
from tokenyield_collector.http.route import JSON, BoundRoute, Route
from tokenyield_collector.http.schemas import VersionsDocument
from tokenyield_collector.live.summary import encode
from tokenyield_collector.reports.maker import ReportMaker

PERIOD = period_parameter("2026-10, or days of one month")
VERSIONS = Route(
    path="/v1/report/versions",
    to_teams=TeamAnswer.REFUSED,
    summary="The versions of a closed month: when, why, by which collector, what they come to.",
    answers={JSON: VersionsDocument},
    refusals=(400, 503),
    parameters=(PERIOD,),
)
ROUTES = (VERSIONS,)


def routes(services: Services) -> list[BoundRoute]:
    async def handle(request: web.Request) -> web.Response:
        period = month_of(request)
        return await answer(services, request, lambda maker: maker.versions(period))

    return [(VERSIONS, handle)]


async def answer(
    services: Services, request: web.Request, make: Callable[[ReportMaker], Mapping[str, Any]]
) -> web.Response:
    """A document that `make` gives in the reporter's thread."""
    with services.reports.place():
        what = f"parameters={','.join(sorted(request.query))[:100]}"
        services.audit.read(peer=peer_of(request), caller=caller_of(request).name, route=request.path, what=what)
        teams = caller_of(request).teams
        body = await services.reports.submit(lambda: encode(make(services.reports.maker(teams))))
    return web.Response(body=body, content_type=JSON)


def month_of(request: web.Request) -> str:
    """Raises `ParameterError`."""
    return period_of(request.query, "a month")
