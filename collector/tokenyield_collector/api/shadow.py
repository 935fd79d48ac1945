"""`GET /v1/shadow`: use of vendors and of own GPUs that nothing explains."""

from aiohttp import web

from tokenyield_collector.api.services import Services
from tokenyield_collector.api.versions import answer
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.errors import CollectorError
from tokenyield_collector.http.query import period_of, period_parameter, whole_number
from tokenyield_collector.http.right import TeamAnswer
from tokenyield_collector.http.route import JSON, BoundRoute, QueryParameter, Route
from tokenyield_collector.http.schemas import ShadowDocument
from tokenyield_collector.ingest.spend_import import egress_rules_of
from tokenyield_collector.insight.shadow import FINDINGS_MAX, shadow
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.spend.egress.rules import EgressRules
from tokenyield_settings.loader import SettingsError

TOP = 200
SHADOW = Route(
    path="/v1/shadow",
    to_teams=TeamAnswer.REFUSED,
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
            return shadow(maker, services.ledger, period, egress_rules(settings), settings.people, top)

        return await answer(services, request, make)

    return [(SHADOW, handle)]


def egress_rules(settings: CollectorSettings) -> EgressRules:
    """Raises `CollectorError`."""
    try:
        return egress_rules_of(settings)
    except (SettingsError, OSError) as error:
        raise CollectorError(f"egress_file: {error}") from None
