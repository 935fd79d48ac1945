"""`GET /v1/fleet`: what every GPU did over the live window."""

import asyncio
import time

from aiohttp import web

from tokenyield_collector.api.services import Services
from tokenyield_collector.http.answer import compressed
from tokenyield_collector.http.right import TeamAnswer
from tokenyield_collector.http.route import JSON, BoundRoute, Route
from tokenyield_collector.http.schemas import FleetDocument
from tokenyield_collector.live.fleet_map import fleet_document
from tokenyield_collector.live.refresher import live_stretch
from tokenyield_collector.live.summary import encode
from tokenyield_wire.units import MS_PER_DAY, NS_PER_MS

FLEET = Route(
    path="/v1/fleet", to_teams=TeamAnswer.REFUSED, summary="What every GPU does now.", answers={JSON: FleetDocument}
)
ROUTES = (FLEET,)


def routes(services: Services) -> list[BoundRoute]:
    return [(FLEET, FleetApi(services).handle)]


class FleetApi:
    """The handler."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._newest: tuple[int, bytes] = (-1, b"")
        """End of the stretch that was encoded last (ms), and its document."""

    async def handle(self, request: web.Request) -> web.Response:
        executors = self._services.executors
        body = await asyncio.get_running_loop().run_in_executor(executors.queries, self._make)
        return compressed(body, executors.exposer)

    def _make(self) -> bytes:
        """Once for each step of the live window, however many callers."""
        settings, ledger = self._services.settings, self._services.ledger
        start_ms, end_ms = live_stretch(time.time_ns() // NS_PER_MS, settings.live_window_s, settings)
        if self._newest[0] != end_ms:
            gpus = ledger.gpus_between(start_ms, end_ms, end_ms - MS_PER_DAY)
            self._newest = end_ms, encode(fleet_document(gpus, start_ms, end_ms))
        return self._newest[1]
