"""`GET /v1/context`: what can be asked, and how far figures go."""

import asyncio

from aiohttp import web

from tokenyield_collector.access.auth import caller_of
from tokenyield_collector.api.services import Services
from tokenyield_collector.http.right import TeamAnswer
from tokenyield_collector.http.route import JSON, BoundRoute, Route
from tokenyield_collector.http.schemas import ContextDocument
from tokenyield_collector.live.summary import encode
from tokenyield_collector.reports.context import context_document

CONTEXT = Route(
    path="/v1/context",
    to_teams=TeamAnswer.OWN,
    summary="What can be asked: dimensions, columns, currency; and from when to when there are figures.",
    answers={JSON: ContextDocument},
    refusals=(503,),
)
ROUTES = (CONTEXT,)


def routes(services: Services) -> list[BoundRoute]:
    async def handle(request: web.Request) -> web.Response:
        """Quick, and not behind the reports that wait."""

        def make() -> bytes:
            return encode(context_document(services.reports.maker(caller_of(request).teams)))

        body = await asyncio.get_running_loop().run_in_executor(services.executors.queries, make)
        return web.Response(body=body, content_type=JSON)

    return [(CONTEXT, handle)]
