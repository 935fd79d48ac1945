"""`GET /v1/shadow`: use of vendors and of own GPUs that nothing explains."""

from pathlib import Path

from aiohttp import web

from tokenyield_collector.api.services import Services
from tokenyield_collector.api.versions import answer
from tokenyield_collector.errors import ParameterError
from tokenyield_collector.http.query import period_of, period_parameter, whole_number
from tokenyield_collector.http.route import JSON, BoundRoute, QueryParameter, Route
from tokenyield_collector.http.schemas import ShadowDocument
from tokenyield_collector.ingest.spend_import import read_egress_file
from tokenyield_collector.insight.shadow import FINDINGS_MAX, shadow
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.spend.egress.rules import EgressRules, egress_rules
from tokenyield_settings.loader import SettingsError

TOP = 200
SHADOW = Route(
    path="/v1/shadow",
    summary="Shadow use in a period: vendors and own GPUs that are used or paid for, and that nothing explains.",
    answers={JSON: ShadowDocument},
    refusals=(400, 503),
    parameters=(
        period_parameter(),
        QueryParameter(
            name="top",
            schema={"type": "integer", "minimum": 1, "maximum": FINDINGS_MAX},
            description=f"how many findings at most; default {TOP}",
        ),
    ),
)
ROUTES = (SHADOW,)


def routes(services: Services) -> list[BoundRoute]:
    async def handle(request: web.Request) -> web.Response:
        period, top = period_of(request.query), whole_number(request.query, "top", 1, FINDINGS_MAX) or TOP
        settings = services.settings

        def make(maker: ReportMaker) -> ShadowDocument:
            return shadow(maker, services.ledger, period, rules_of(settings.egress_file), settings.people, top)

        return await answer(services, request, make)

    return [(SHADOW, handle)]


def rules_of(egress_file: str | None) -> EgressRules:
    """Read each time, so that a changed file counts at once. Raises `ParameterError`."""
    try:
        return egress_rules(read_egress_file(Path(egress_file)) if egress_file else None)
    except (SettingsError, OSError) as error:
        raise ParameterError("egress_file", expected="a file that can be used", found=str(error)) from None
