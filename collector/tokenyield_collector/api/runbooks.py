"""`GET /runbooks`: what each alert means and what to do, where `runbook_url` of the alerts leads."""

from aiohttp import web

from tokenyield_collector.api.services import Services
from tokenyield_collector.http.right import Right, TeamAnswer
from tokenyield_collector.http.route import BoundRoute, Route
from tokenyield_collector.monitoring.files import MONITORING_FOLDER
from tokenyield_collector.monitoring.runbooks_page import runbooks_page

RUNBOOKS = Route(
    path="/runbooks", right=Right.PAGE, to_teams=TeamAnswer.NO_FIGURES, answers={"text/html": {"type": "string"}}
)
ROUTES = (RUNBOOKS,)


def routes(services: Services) -> list[BoundRoute]:
    page = runbooks_page((MONITORING_FOLDER / "runbooks.md").read_text(encoding="utf-8"))

    async def handle(request: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html")

    return [(RUNBOOKS, handle)]
