"""`GET /v1/coverage`: how much each dimension covers, and the rules for what is unattributed."""

from aiohttp import web

from tokenyield_collector.access.auth import caller_of, peer_of
from tokenyield_collector.api.services import Services
from tokenyield_collector.errors import ParameterError
from tokenyield_collector.http.query import whole_number
from tokenyield_collector.http.route import JSON, BoundRoute, QueryParameter, Route
from tokenyield_collector.http.schemas import CoverageDocument
from tokenyield_collector.live.summary import encode

TOP, TOP_MAX = 10, 1_000
COVERAGE = Route(
    path="/v1/coverage",
    summary="How much of cost, tokens and revenue each dimension covers, and the rules that would cover the rest.",
    answers={JSON: CoverageDocument},
    refusals=(400, 503),
    parameters=(
        QueryParameter(
            name="period",
            schema={"type": "string", "maxLength": 40},
            description="2026-10, 2026-10-05 or A..B",
            is_required=True,
        ),
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
        period, top = request.query.get("period"), whole_number(request.query, "top", 1, TOP_MAX) or TOP
        if period is None:
            raise ParameterError("period", expected="a period", found="nothing", fix="write period=2026-10")
        with self._queue.place():
            what = f"period={period[:40]}"
            self._audit.read(peer=peer_of(request), caller=caller_of(request).name, route=request.path, what=what)
            body = await self._queue.submit(lambda: encode(self._queue.maker().coverage(period, top)))
        return web.Response(body=body, content_type=JSON)
