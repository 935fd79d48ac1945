"""`GET /v1/summary`: yield, waterfall and workloads of the newest stretch."""

import asyncio
import time

from aiohttp import web

from tokenyield_collector.api.services import Services
from tokenyield_collector.http.answer import compressed
from tokenyield_collector.http.query import whole_number
from tokenyield_collector.http.right import TeamAnswer
from tokenyield_collector.http.route import JSON, BoundRoute, QueryParameter, Route
from tokenyield_collector.http.schemas import SummaryDocument
from tokenyield_collector.live.live_view import LiveView, read_live_view
from tokenyield_collector.live.refresher import live_stretch
from tokenyield_collector.live.summary import encode, summarize
from tokenyield_collector.live.view import View
from tokenyield_wire.units import NS_PER_MS

WINDOW_S_MAX = 86_400
SUMMARY = Route(
    path="/v1/summary",
    to_teams=TeamAnswer.REFUSED,
    summary="Yield, waterfall and workloads of the newest stretch.",
    answers={JSON: SummaryDocument},
    refusals=(400,),
    parameters=(
        QueryParameter(
            name="window_s",
            schema={"type": "integer", "minimum": 1, "maximum": WINDOW_S_MAX},
            description="seconds; default the live window",
        ),
    ),
)
ROUTES = (SUMMARY,)


def routes(services: Services) -> list[BoundRoute]:
    return [(SUMMARY, SummaryApi(services).handle)]


class SummaryApi:
    """The handler."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._live: tuple[View | None, bytes] = (None, b"")
        """The view that was encoded last, and its document."""

    async def handle(self, request: web.Request) -> web.Response:
        """Of the live window as it was refreshed last; with `window_s` of any other, read anew."""
        services, loop = self._services, asyncio.get_running_loop()
        window_s, view = whole_number(request.query, "window_s", 1, WINDOW_S_MAX), services.view()
        if window_s is None and view is not None and view.live is not None:
            body = await loop.run_in_executor(services.executors.queries, self._of_view, view, view.live)
        else:
            window_s = window_s or services.settings.live_window_s
            body = await loop.run_in_executor(services.executors.queries, self._of_newest, window_s)
        return compressed(body, services.executors.exposer)

    def _of_view(self, view: View, live: LiveView) -> bytes:
        """Once for each view, however many callers."""
        if self._live[0] is not view:
            self._live = view, encode(summarize(live, self._services.policy(), view))
        return self._live[1]

    def _of_newest(self, window_s: int) -> bytes:
        ledger, policy = self._services.ledger, self._services.policy()
        start_ms, end_ms = live_stretch(time.time_ns() // NS_PER_MS, window_s, self._services.settings)
        start_ms = min(max(start_ms, ledger.first_ms() or start_ms), end_ms)
        live = read_live_view(ledger, policy, start_ms, end_ms, self._services.others)
        view = self._services.view()
        return encode(summarize(live, policy, view))
