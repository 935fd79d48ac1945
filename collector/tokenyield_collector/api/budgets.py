"""`GET /v1/budgets`: every budget of a month."""

from aiohttp import web

from tokenyield_collector.access.auth import caller_of, peer_of
from tokenyield_collector.api.services import Services
from tokenyield_collector.http.right import TeamAnswer
from tokenyield_collector.http.route import JSON, BoundRoute, QueryParameter, Route
from tokenyield_collector.http.schemas import BudgetsDocument
from tokenyield_collector.live.summary import encode
from tokenyield_collector.reports.maker import budget_document

BUDGETS = Route(
    path="/v1/budgets",
    to_teams=TeamAnswer.OWN,
    summary="Every budget of a month.",
    answers={JSON: BudgetsDocument},
    refusals=(400, 503),
    parameters=(
        QueryParameter(
            name="month",
            schema={"type": "string", "pattern": r"^\d{4}-\d{2}$"},
            description="2026-10; default the present month",
        ),
    ),
)
ROUTES = (BUDGETS,)


def routes(services: Services) -> list[BoundRoute]:
    return [(BUDGETS, BudgetApi(services).handle)]


class BudgetApi:
    """The handler."""

    def __init__(self, services: Services) -> None:
        self._queue = services.reports
        self._audit = services.audit

    async def handle(self, request: web.Request) -> web.Response:
        month = request.query.get("month")

        def make() -> bytes:
            maker = self._queue.maker(caller_of(request).teams)
            return encode(budget_document(maker.budgets(month), maker.policy.prices.currency))

        with self._queue.place():
            what = f"parameters={','.join(sorted(request.query))[:100]}"
            self._audit.read(peer=peer_of(request), caller=caller_of(request).name, route=request.path, what=what)
            body = await self._queue.submit(make)
        return web.Response(body=body, content_type=JSON)
