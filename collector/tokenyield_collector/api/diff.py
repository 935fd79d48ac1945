"""`GET /v1/report/diff`: what moved between two versions of a closed month, and why."""

from collections.abc import Mapping

from aiohttp import web

from tokenyield_collector.api.report import VERSION_MAX
from tokenyield_collector.api.services import Services
from tokenyield_collector.api.versions import PERIOD, answer, month_of
from tokenyield_collector.errors import ParameterError
from tokenyield_collector.http.query import columns_of, whole_number
from tokenyield_collector.http.right import TeamAnswer
from tokenyield_collector.http.route import JSON, BoundRoute, QueryParameter, Route
from tokenyield_collector.http.schemas import DifferenceDocument

_VERSION = {"type": "integer", "minimum": 1, "maximum": VERSION_MAX}
DIFFERENCE = Route(
    path="/v1/report/diff",
    to_teams=TeamAnswer.OWN,
    summary="What moved between two versions of a month, and why. Any other parameter is a column: team=search.",
    answers={JSON: DifferenceDocument},
    refusals=(400, 503),
    parameters=(
        PERIOD,
        QueryParameter(name="from", schema=_VERSION, description="a version", is_required=True),
        QueryParameter(name="to", schema=_VERSION, description="the version it is compared with", is_required=True),
        QueryParameter(
            name="by",
            schema={"type": "string", "maxLength": 200},
            description="columns, separated by commas; default the first dimension of the rules, and the model",
        ),
    ),
)
_NAMES = frozenset(parameter.name for parameter in DIFFERENCE.parameters)
"""Any other parameter is a column."""
ROUTES = (DIFFERENCE,)


def routes(services: Services) -> list[BoundRoute]:
    async def handle(request: web.Request) -> web.Response:
        """`?period=2026-10&from=1&to=2&by=team`"""
        query, period = request.query, month_of(request)
        first, second = (_version(query, name) for name in ("from", "to"))
        columns = columns_of(query)
        where = {name: value for name, value in query.items() if name not in _NAMES}
        return await answer(services, request, lambda maker: maker.difference(period, first, second, columns, where))

    return [(DIFFERENCE, handle)]


def _version(query: Mapping[str, str], name: str) -> int:
    number = whole_number(query, name, 1, VERSION_MAX)
    if number is None:
        raise ParameterError(name, expected="a version", found="nothing", fix="write from=1&to=2")
    return number
