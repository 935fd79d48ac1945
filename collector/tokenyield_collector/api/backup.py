"""`GET /v1/backup`: the ledger's file as it is now, while batches are taken in. One at a time.

In: nothing but the request. Out: a DuckDB file, made beside the ledger and gone once it is sent. ClickHouse has means
of its own.
"""

import asyncio
import logging
import shutil
from pathlib import Path

from aiohttp import web

from tokenyield_collector.access.audit import Audit
from tokenyield_collector.access.auth import caller_of, peer_of
from tokenyield_collector.errors import LedgerError
from tokenyield_collector.http.problem import problem
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
MEDIA_TYPE = "application/vnd.duckdb"
CLICKHOUSE = "this ledger is kept by ClickHouse; back it up with ClickHouse's own means (docs/scale.md)"
SPARE = 1.2
"""Free disk wanted, of what the ledger has now."""


class BackupApi:
    """The handler."""

    def __init__(self, ledger: Ledger, path: str, audit: Audit) -> None:
        self._ledger = ledger
        self._path = Path(path).with_name(Path(path).name + ".backup")
        self._audit = audit
        self._is_busy = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        ledger = self._ledger
        if not isinstance(ledger, DuckDbLedger):
            return problem(400, CLICKHOUSE)
        if self._is_busy:
            return problem(503, "a backup is being made already; ask again later", headers={"Retry-After": "60"})
        free, wanted = shutil.disk_usage(self._path.parent).free, int(ledger.size_bytes() * SPARE)
        if free < wanted:
            return problem(503, f"{wanted} bytes are wanted on the ledger's disk and {free} are free; make room",
                           headers={"Retry-After": "600"})  # fmt: skip
        self._audit.read(peer=peer_of(request), caller=caller_of(request).name, route=request.path, what="backup")
        self._is_busy = True
        try:
            self._path.unlink(missing_ok=True)  # of a collector that was killed
            await asyncio.to_thread(ledger.copy_to, self._path)
            return await self._sent(request)
        except LedgerError as error:
            log.error("%s", error)
            return problem(503, str(error), headers={"Retry-After": "60"})
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
