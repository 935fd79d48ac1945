"""`GET /v1/coverage`: how much each dimension covers, and the rules for what is unattributed."""

from aiohttp import web

from tokenyield_collector.access.auth import caller_of, peer_of
from tokenyield_collector.api.services import Services
from tokenyield_collector.http.query import period_of, period_parameter, whole_number
from tokenyield_collector.http.right import TeamAnswer
from tokenyield_collector.http.route import JSON, BoundRoute, QueryParameter, Route
from tokenyield_collector.http.schemas import CoverageDocument
from tokenyield_collector.live.summary import encode

TOP, TOP_MAX = 10, 1_000
COVERAGE = Route(
    path="/v1/coverage",
    to_teams=TeamAnswer.REFUSED,
    summary="How much of cost, tokens and revenue each dimension covers, and the rules that would cover the rest.",
    answers={JSON: CoverageDocument},
    refusals=(400, 503),
    parameters=(
        period_parameter(),
        QueryParameter(
            name="top",
            schema={"type": "integer", "minimum": 1, "maximum": TOP_MAX},
            description=f"how many of the largest that are unattributed; default {TOP}",
        ),
    ),
)
ROUTES = (COVERAGE,)


def routes(services: Services) -> list[BoundRoute]:
    return [(COVERAGE, CoverageApi(services).handle)]


class CoverageApi:
    """The handler."""

    def __init__(self, services: Services) -> None:
        self._queue = services.reports
        self._audit = services.audit

    async def handle(self, request: web.Request) -> web.Response:
        period, top = period_of(request.query), whole_number(request.query, "top", 1, TOP_MAX) or TOP
        with self._queue.place():
            what = f"period={period[:40]}"
            self._audit.read(peer=peer_of(request), caller=caller_of(request).name, route=request.path, what=what)
            body = await self._queue.submit(lambda: encode(self._queue.maker(teams=None).coverage(period, top)))
        return web.Response(body=body, content_type=JSON)
