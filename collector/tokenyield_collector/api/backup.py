"""`GET /v1/backup`: the ledger's file as it is now, while batches come in. One at a time.

In: the request. Out: a DuckDB file, made beside the ledger and removed once it is sent. ClickHouse has its own means.
"""

import asyncio
import logging
import shutil
from pathlib import Path

from aiohttp import web

from tokenyield_collector.access.auth import caller_of, is_from_another_site, peer_of
from tokenyield_collector.api.services import Services
from tokenyield_collector.errors import LedgerError
from tokenyield_collector.http.problem import problem
from tokenyield_collector.http.right import TeamAnswer
from tokenyield_collector.http.route import BoundRoute, Route
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
MEDIA_TYPE = "application/vnd.duckdb"
FREE_DISK_FACTOR = 1.2
"""Free disk that is needed, times the size of the ledger now."""
_CLICKHOUSE = "this ledger is kept by ClickHouse; back it up with ClickHouse's own means (docs/scale.md)"
BACKUP = Route(
    path="/v1/backup",
    to_teams=TeamAnswer.REFUSED,
    summary="The ledger's file as it is now.",
    answers={MEDIA_TYPE: {"type": "string"}},
    refusals=(400, 503),
)
ROUTES = (BACKUP,)


def routes(services: Services) -> list[BoundRoute]:
    return [(BACKUP, BackupApi(services).handle)]


class BackupApi:
    """The handler."""

    def __init__(self, services: Services) -> None:
        self._ledger = services.ledger
        ledger_path = Path(services.settings.ledger_path)
        self._path = ledger_path.with_name(ledger_path.name + ".backup")
        self._audit = services.audit
        self._is_busy = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        ledger = self._ledger
        if is_from_another_site(request):
            return problem(403, "a page of another site may not request a backup")
        if not isinstance(ledger, DuckDbLedger):
            return problem(400, _CLICKHOUSE)
        if self._is_busy:
            return _later("a backup is being made already", retry_after_s=60)
        free_bytes = shutil.disk_usage(self._path.parent).free
        needed_bytes = int(ledger.size_bytes() * FREE_DISK_FACTOR)
        if free_bytes < needed_bytes:
            return _later(
                f"expected {needed_bytes} free bytes on the ledger's disk, found {free_bytes}", retry_after_s=600
            )
        self._audit.read(peer=peer_of(request), caller=caller_of(request).name, route=request.path, what="backup")
        self._is_busy = True
        try:
            self._path.unlink(missing_ok=True)  # of a collector that was killed
            await asyncio.to_thread(ledger.copy_to, self._path)
            return await self._sent(request)
        except LedgerError as error:
            log.error("%s", error)
            return _later(str(error), retry_after_s=60)
        finally:
            self._path.unlink(missing_ok=True)
            self._is_busy = False

    async def _sent(self, request: web.Request) -> web.StreamResponse:
        with self._path.open("rb") as file:
            response = web.StreamResponse(headers={"Content-Type": MEDIA_TYPE})
            response.content_length = self._path.stat().st_size
            await response.prepare(request)
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                await response.write(chunk)
        return response


def _later(detail: str, retry_after_s: int) -> web.Response:
    return problem(503, f"{detail}; try again later", headers={"Retry-After": str(retry_after_s)})
