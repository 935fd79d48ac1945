"""How slices come in over HTTP: `POST /v1/outcomes` and `POST /v1/spend` in all that does not depend on what they hold.

Few bodies are held at once; they are decoded and checked in a thread, and compared and replaced in the writer's, so
that what is compared is what is replaced.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from aiohttp import hdrs, web

from tokenyield_collector.access.auth import caller_of, peer_of
from tokenyield_collector.api.body import Refusal, read_body
from tokenyield_collector.api.services import Services
from tokenyield_collector.http.problem import problem
from tokenyield_collector.http.route import JSON, QueryParameter
from tokenyield_collector.ingest.decompress import BodyTooLarge, UnknownEncoding, decompress
from tokenyield_collector.live.summary import encode
from tokenyield_wire.window import Fault

FAULTS_MAX = 50
REFUSALS = (400, 408, 413, 415, 422, 503)
DRY_RUN = QueryParameter(
    name="dry_run",
    schema={"type": "string", "enum": ["true", "false"]},
    description="true: say what would change, and change nothing",
)
Given = TypeVar("Given")


class SliceImport(ABC, Generic[Given]):
    """The handler of one route. `what`: as its refusals name it; `unit`: what the audit log counts."""

    what: str
    unit: str
    waits: str
    """Said where `held_max` bodies are in memory."""
    held_max: int

    def __init__(self, services: Services) -> None:
        self._settings = services.settings
        self._ledger = services.ledger
        self._decoder = services.executors.decoder
        self._writer = services.executors.writer
        self._audit = services.audit
        self._held = 0

    @abstractmethod
    def read(self, plain: bytes) -> list[Given]:
        """What the body holds, checked. Raises `Refusal`, or ValueError for no JSON."""

    @abstractmethod
    def replace(self, given: list[Given], is_dry: bool) -> Any:
        """The receipt, a document. Raises `Refusal`."""

    async def handle(self, request: web.Request) -> web.Response:
        if self._held >= self.held_max:
            return problem(503, f"{self.waits}; send later", headers={"Retry-After": "2"})
        self._held += 1
        try:
            receipt = await self._taken(request)
        except Refusal as refusal:
            return refusal.answer
        finally:
            self._held -= 1
        return web.Response(body=encode(receipt), content_type=JSON)

    async def _taken(self, request: web.Request) -> Any:
        body, loop = await read_body(request, self._settings, "slices"), asyncio.get_running_loop()
        encoding = request.headers.get(hdrs.CONTENT_ENCODING, "").lower()
        given = await loop.run_in_executor(self._decoder, self._decoded, body, encoding)
        is_dry = request.query.get("dry_run") == "true"
        what = f"{self.unit}={len(given)} dry_run={is_dry}"
        self._audit.wrote(peer=peer_of(request), caller=caller_of(request).name, route=request.path, what=what)
        return await loop.run_in_executor(self._writer, self.replace, given, is_dry)

    def _decoded(self, body: bytes, encoding: str) -> list[Given]:
        try:
            return self.read(decompress(body, encoding, self._settings.decompressed_bytes_max))
        except BodyTooLarge as error:
            raise Refusal("too_large", 413, str(error)) from None
        except UnknownEncoding as error:
            raise Refusal("encoding", 415, str(error)) from None
        except ValueError as error:
            detail = f"body: expected JSON, found none that can be read ({error}); correct it"
            raise Refusal("unreadable", 400, detail[:500]) from None

    def unsound(self, faults: Iterable[Fault]) -> Refusal:
        return Refusal("unsound", 422, f"{self.what} that cannot be used; nothing was changed", tuple(faults))
