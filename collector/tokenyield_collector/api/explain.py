"""`GET /v1/explain`: why a period cost more or less than another."""

from aiohttp import web

from tokenyield_collector.api.report import TOP_MAX
from tokenyield_collector.api.services import Services
from tokenyield_collector.api.versions import answer
from tokenyield_collector.errors import ParameterError
from tokenyield_collector.http.query import columns_of, period_of, period_parameter, whole_number
from tokenyield_collector.http.right import TeamAnswer
from tokenyield_collector.http.route import JSON, BoundRoute, QueryParameter, Route
from tokenyield_collector.http.schemas import ExplainDocument
from tokenyield_collector.insight.explain import explain

EXPLAIN = Route(
    path="/v1/explain",
    to_teams=TeamAnswer.OWN,
    summary="Why a period cost more or less than another, in effects that sum to the difference. Any other parameter "
    "is a column, and only its given value is compared: team=search.",
    answers={JSON: ExplainDocument},
    refusals=(400, 503),
    parameters=(
        period_parameter(),
        QueryParameter(
            name="against",
            schema={"type": "string", "maxLength": 40},
            description="the period that it is compared with",
            is_required=True,
        ),
        QueryParameter(
            name="by",
            schema={"type": "string", "maxLength": 200},
            description="columns, separated by commas; default the first dimension of the rules, and the model",
        ),
        QueryParameter(
            name="top",
            schema={"type": "integer", "minimum": 1, "maximum": TOP_MAX},
            description="only so many rows, those that moved most, and one of all others",
        ),
    ),
)
_NAMES = frozenset(parameter.name for parameter in EXPLAIN.parameters)
"""Any other parameter is a column."""
ROUTES = (EXPLAIN,)


def routes(services: Services) -> list[BoundRoute]:
    async def handle(request: web.Request) -> web.Response:
        """`?period=2026-11&against=2026-10&by=team`"""
        query = request.query
        period, top = period_of(query), whole_number(query, "top", 1, TOP_MAX)
        if "against" not in query:
            raise ParameterError("against", expected="a period", found="nothing", fix="write against=2026-10")
        columns = columns_of(query)
        where = {name: value for name, value in query.items() if name not in _NAMES}
        against = query["against"]
        return await answer(services, request, lambda maker: explain(maker, period, against, columns, where, top))

    return [(EXPLAIN, handle)]
