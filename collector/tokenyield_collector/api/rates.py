"""`GET /v1/rates`: what a GPU-hour of each pool costs now."""

from aiohttp import web

from tokenyield_collector.api.services import Services
from tokenyield_collector.http.right import TeamAnswer
from tokenyield_collector.http.route import JSON, BoundRoute, Route
from tokenyield_collector.http.schemas import RatesDocument
from tokenyield_collector.live.summary import encode
from tokenyield_collector.prices.rate_card import rate_document

RATES = Route(
    path="/v1/rates",
    to_teams=TeamAnswer.REFUSED,
    summary="What a GPU-hour of each pool costs now.",
    answers={JSON: RatesDocument},
    refusals=(503,),
)
ROUTES = (RATES,)


def routes(services: Services) -> list[BoundRoute]:
    return [(RATES, RateApi(services).handle)]


class RateApi:
    """The handler."""

    def __init__(self, services: Services) -> None:
        self._queue = services.reports

    async def handle(self, request: web.Request) -> web.Response:
        def make() -> bytes:
            maker = self._queue.maker(teams=None)
            return encode(rate_document(maker.policy.prices, maker.now_ms))

        with self._queue.place():
            body = await self._queue.submit(make)
        return web.Response(body=body, content_type=JSON)
