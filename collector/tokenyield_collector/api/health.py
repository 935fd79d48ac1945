"""`GET /healthz` and `/readyz`: for probes, which have no token."""

from aiohttp import web

from tokenyield_collector.api.services import Services
from tokenyield_collector.http.right import Right
from tokenyield_collector.http.route import TEXT, BoundRoute, Route

HEALTHZ = Route(path="/healthz", right=Right.OPEN, summary="The program runs.", answers={TEXT: {"type": "string"}})
READYZ = Route(
    path="/readyz",
    right=Right.OPEN,
    summary="The ledger answers.",
    answers={TEXT: {"type": "string"}},
    refusals=(503,),
)
ROUTES = (HEALTHZ, READYZ)


def routes(services: Services) -> list[BoundRoute]:
    api = HealthApi(services)
    return [(HEALTHZ, api.healthz), (READYZ, api.readyz)]


class HealthApi:
    """The handlers."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(self, request: web.Request) -> web.Response:
        if problem := self._services.problem():
            # The errors of a database may contain paths, and probes are not authenticated.
            why = "not ready; the log has the reason" if self._services.requires_authentication() else problem
            return web.Response(status=503, text=f"{why}\n")
        return web.Response(text="ok\n")
