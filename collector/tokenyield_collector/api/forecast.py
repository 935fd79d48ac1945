"""`GET /v1/forecast`: what the month and the time after it will come to."""

from aiohttp import web

from tokenyield_collector.api.services import Services
from tokenyield_collector.api.versions import answer
from tokenyield_collector.http.query import columns_of, whole_number
from tokenyield_collector.http.right import TeamAnswer
from tokenyield_collector.http.route import JSON, BoundRoute, QueryParameter, Route
from tokenyield_collector.http.schemas import ForecastsDocument
from tokenyield_collector.insight.forecast import (
    HISTORY_DAYS,
    HISTORY_DAYS_MAX,
    MEASURES,
    TOP,
    TOP_MAX,
    forecasts,
)

FORECAST = Route(
    path="/v1/forecast",
    to_teams=TeamAnswer.OWN,
    summary="What the month and the time after it will come to, with its own back-test. Any other parameter is a "
    "column, and only its given value is forecast: team=search.",
    answers={JSON: ForecastsDocument},
    refusals=(400, 503),
    parameters=(
        QueryParameter(name="measure", schema={"type": "string", "enum": list(MEASURES)}, description="default cost"),
        QueryParameter(
            name="by",
            schema={"type": "string", "maxLength": 200},
            description="columns, separated by commas; each row is forecast by itself; default none",
        ),
        QueryParameter(
            name="top",
            schema={"type": "integer", "minimum": 1, "maximum": TOP_MAX},
            description=f"only so many rows, and one of all others; default {TOP}",
        ),
        QueryParameter(
            name="history_days",
            schema={"type": "integer", "minimum": 1, "maximum": HISTORY_DAYS_MAX},
            description=f"how far back is looked; default {HISTORY_DAYS}",
        ),
    ),
)
_NAMES = frozenset(parameter.name for parameter in FORECAST.parameters)
"""Any other parameter is a column."""
ROUTES = (FORECAST,)


def routes(services: Services) -> list[BoundRoute]:
    async def handle(request: web.Request) -> web.Response:
        """`?measure=tokens&by=team`"""
        query = request.query
        top = whole_number(query, "top", 1, TOP_MAX) or TOP
        history_days = whole_number(query, "history_days", 1, HISTORY_DAYS_MAX) or HISTORY_DAYS
        columns = columns_of(query)
        where = {name: value for name, value in query.items() if name not in _NAMES}
        measure = query.get("measure", "cost")
        return await answer(
            services, request, lambda maker: forecasts(maker, measure, columns, where, top, history_days)
        )

    return [(FORECAST, handle)]
