"""`GET /v1/caching`: what caches of prompts saved and cost."""

from aiohttp import web

from tokenyield_collector.api.services import Services
from tokenyield_collector.api.versions import answer
from tokenyield_collector.http.query import period_of, period_parameter, whole_number
from tokenyield_collector.http.right import TeamAnswer
from tokenyield_collector.http.route import JSON, BoundRoute, QueryParameter, Route
from tokenyield_collector.http.schemas import CachingDocument
from tokenyield_collector.insight.caching import ROWS_MAX, caching
from tokenyield_collector.reports.maker import ReportMaker

TOP = 200
CACHING = Route(
    path="/v1/caching",
    to_teams=TeamAnswer.REFUSED,
    summary="What caches of prompts saved and cost in a period, by vendor and model, bought and made.",
    answers={JSON: CachingDocument},
    refusals=(400, 503),
    parameters=(
        period_parameter(),
        QueryParameter(
            name="top",
            schema={"type": "integer", "minimum": 1, "maximum": ROWS_MAX},
            description=f"how many rows at most; default {TOP}",
        ),
    ),
)
ROUTES = (CACHING,)


def routes(services: Services) -> list[BoundRoute]:
    async def handle(request: web.Request) -> web.Response:
        period, top = period_of(request.query), whole_number(request.query, "top", 1, ROWS_MAX) or TOP

        def make(maker: ReportMaker) -> CachingDocument:
            return caching(maker, services.ledger, period, top)

        return await answer(services, request, make)

    return [(CACHING, handle)]
