"""`GET /v1/diagnosis`: why workloads yield what they yield."""

import asyncio
import time

from aiohttp import web

from tokenyield_collector.api.services import Services
from tokenyield_collector.diagnosis.make import LOSS_PERCENT, WINDOW_S_MAX, diagnoses
from tokenyield_collector.http.query import number, whole_number
from tokenyield_collector.http.right import TeamAnswer
from tokenyield_collector.http.route import JSON, BoundRoute, QueryParameter, Route
from tokenyield_collector.http.schemas import DiagnosesDocument
from tokenyield_collector.live.refresher import live_stretch
from tokenyield_collector.live.summary import encode
from tokenyield_wire.units import NS_PER_MS

WINDOW_S = 3600
DIAGNOSIS = Route(
    path="/v1/diagnosis",
    to_teams=TeamAnswer.REFUSED,
    summary="Why each workload yields what it yields, with evidence and the money at stake.",
    answers={JSON: DiagnosesDocument},
    refusals=(400, 503),
    parameters=(
        QueryParameter(
            name="window_s",
            schema={"type": "integer", "minimum": 1, "maximum": WINDOW_S_MAX},
            description="length of the newest stretch, in seconds; default an hour",
        ),
        QueryParameter(
            name="loss_percent",
            schema={"type": "number", "minimum": 0, "maximum": 100},
            description="tokens that a power cap may cost",
        ),
    ),
)
ROUTES = (DIAGNOSIS,)


def routes(services: Services) -> list[BoundRoute]:
    return [(DIAGNOSIS, DiagnosisApi(services).handle)]


class DiagnosisApi:
    """The handler. One diagnosis is made at a time."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def handle(self, request: web.Request) -> web.Response:
        window_s = whole_number(request.query, "window_s", 1, WINDOW_S_MAX) or WINDOW_S
        loss_percent = number(request.query, "loss_percent", 0, 100)
        loss_percent = LOSS_PERCENT if loss_percent is None else loss_percent
        loop, queries = asyncio.get_running_loop(), self._services.executors.queries
        body = await loop.run_in_executor(queries, self._make, window_s, loss_percent)
        return web.Response(body=body, content_type=JSON)

    def _make(self, window_s: int, loss_percent: float) -> bytes:
        services = self._services
        start_ms, end_ms = live_stretch(time.time_ns() // NS_PER_MS, window_s, services.settings)
        return encode(diagnoses(services.ledger, services.policy(), start_ms, end_ms, loss_percent=loss_percent))
