"""`GET /` and `/assets/NAME`: the built-in page."""

from tokenyield_collector.api.services import Services
from tokenyield_collector.http.right import Right, TeamAnswer
from tokenyield_collector.http.route import BoundRoute, Route
from tokenyield_collector.web.page import Page

INDEX = Route(path="/", right=Right.PAGE, to_teams=TeamAnswer.NO_FIGURES, answers={"text/html": {"type": "string"}})
ASSET = Route(
    path="/assets/{name:.+}", right=Right.PAGE, to_teams=TeamAnswer.NO_FIGURES, answers={"*/*": {"type": "string"}}
)
ROUTES = (INDEX, ASSET)


def routes(services: Services) -> list[BoundRoute]:
    page = Page()
    return [(INDEX, page.index), (ASSET, page.asset)]
