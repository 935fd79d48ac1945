"""`GET /metrics`: the collector's Prometheus metrics."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from tokenyield_collector.api.services import Services
from tokenyield_collector.http.answer import compressed
from tokenyield_collector.http.right import TeamAnswer
from tokenyield_collector.http.route import TEXT, BoundRoute, Route
from tokenyield_collector.live.view import View
from tokenyield_collector.metrics.exposition import Exposition, OwnExposition

SCRAPED_LATELY_S = 150.0
"""Two and a half times the longest scrape interval in common use."""
_OPENMETRICS_END = b"# EOF\n"
METRICS = Route(
    path="/metrics", to_teams=TeamAnswer.REFUSED, summary="Prometheus metrics.", answers={TEXT: {"type": "string"}}
)
ROUTES = (METRICS,)


def routes(services: Services) -> list[BoundRoute]:
    api = MetricsApi(services)
    services.after_refresh.append(api.expose_ahead)
    return [(METRICS, api.handle)]


@dataclass
class _Exposed:
    """What was scraped last in one content type, of which there are few."""

    encode: Callable[[CollectorRegistry], bytes]
    view: View | None = None
    body: bytes = b""
    scraped_at_s: float = 0.0


class MetricsApi:
    """The handler. A view is written as text once, however many scrapes; the collector's own counts at each of them."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._exposer = services.executors.exposer
        self._own = CollectorRegistry()
        self._own.register(OwnExposition(services.ingest, services.pulls, services.watched))
        ProcessCollector(registry=self._own)
        self._exposed: dict[str, _Exposed] = {}
        """By content type."""

    async def handle(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        loop = asyncio.get_running_loop()
        exposed = self._exposed.setdefault(content_type, _Exposed(encode))
        exposed.scraped_at_s = loop.time()
        body = await loop.run_in_executor(self._exposer, self._expose, exposed)
        return compressed(body, self._exposer, content_type)

    def expose_ahead(self) -> None:
        """Write a new view as text before the next scrape, in the content types that were scraped lately."""
        now_s = asyncio.get_running_loop().time()
        for content_type, exposed in list(self._exposed.items()):
            if now_s - exposed.scraped_at_s > SCRAPED_LATELY_S:
                del self._exposed[content_type]
            else:
                self._exposer.submit(self._expose, exposed)

    def _expose(self, exposed: _Exposed) -> bytes:
        view, settings = self._services.view() or View(), self._services.settings
        if exposed.view is not view:
            registry = CollectorRegistry()
            registry.register(Exposition(view, settings.metrics_series_max))
            exposed.body = exposed.encode(registry).removesuffix(_OPENMETRICS_END)
            exposed.view = view
        return exposed.body + exposed.encode(self._own)
