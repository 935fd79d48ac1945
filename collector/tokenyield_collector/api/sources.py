"""`GET /v1/spend/sources`: how what is pulled and what is put into the watched folder stands."""

from collections.abc import Sequence

from aiohttp import web

from tokenyield_collector.api.services import Services
from tokenyield_collector.http.right import TeamAnswer
from tokenyield_collector.http.route import JSON, BoundRoute, Route
from tokenyield_collector.http.schemas import SpendSourcesDocument
from tokenyield_collector.live.summary import encode
from tokenyield_collector.prices.period import iso
from tokenyield_collector.pull.state import PullState
from tokenyield_collector.watch.state import FAILED_SHOWN, WatchState

SPEND_SOURCES = Route(
    path="/v1/spend/sources",
    to_teams=TeamAnswer.REFUSED,
    summary="How each account of spend_file and each folder of spend_folder stands: what is in the ledger, what waits, "
    "what does not work.",
    answers={JSON: SpendSourcesDocument},
    refusals=(),
    parameters=(),
)
ROUTES = (SPEND_SOURCES,)


def routes(services: Services) -> list[BoundRoute]:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(body=encode(document(services.pulls(), services.watched())), content_type=JSON)

    return [(SPEND_SOURCES, handle)]


def document(pulls: Sequence[PullState], watched: Sequence[WatchState]) -> SpendSourcesDocument:
    return {
        "accounts": [
            {
                "name": one.name,
                "source": one.source,
                "pulled_at": None if one.success_at_ms is None else iso(one.success_at_ms),
                "missing_days": one.missing_days,
                "rows": one.rows,
                "problems": [f"{report}: {why}" for report, why in sorted(one.problems.items())],
            }
            for one in pulls
        ],
        "folders": [
            {
                "folder": one.folder,
                "imported": one.imported,
                "waiting": one.waiting,
                "failed": len(one.failed),
                "links": one.links,
                "rows": one.rows,
                "refused": one.refused,
                "problems": [
                    *([one.problem] if one.problem else []),
                    *(f"{name}: {why}" for name, why in sorted(one.failed.items())[:FAILED_SHOWN]),
                ],
            }
            for one in watched
        ],
    }
