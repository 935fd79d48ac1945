"""`POST /v1/spend`: slices of what is bought, which replace those of the same source, account, day and grain."""

import asyncio
import time
from datetime import UTC, date, datetime

import msgspec
from aiohttp import hdrs, web

from tokenyield_collector.access.auth import caller_of, peer_of
from tokenyield_collector.api.body import Refusal, read_body
from tokenyield_collector.api.services import Services
from tokenyield_collector.http.problem import problem
from tokenyield_collector.http.right import Right
from tokenyield_collector.http.route import JSON, BoundRoute, QueryParameter, Route
from tokenyield_collector.http.schemas import SpendReceiptDocument
from tokenyield_collector.ingest.decompress import BodyTooLarge, UnknownEncoding, decompress
from tokenyield_collector.ingest.outcomes import allowed_days
from tokenyield_collector.ingest.spend_document import SpendSlices, decode_spend, spend_faults, spend_receipt
from tokenyield_collector.ingest.spend_import import people_of
from tokenyield_collector.ledger.spend import spend_size_faults
from tokenyield_collector.live.summary import encode
from tokenyield_collector.spend.slices import SpendSlice, spend_changes, spend_span
from tokenyield_settings.loader import SettingsError
from tokenyield_wire.units import NS_PER_MS
from tokenyield_wire.window import Fault

SPEND = Route(
    path="/v1/spend",
    method="POST",
    right=Right.SPEND,
    summary="Take in slices of spend. They replace those of the same source, account, day and grain.",
    answers={JSON: SpendReceiptDocument},
    refusals=(400, 408, 413, 415, 422, 503),
    parameters=(
        QueryParameter(
            name="dry_run",
            schema={"type": "string", "enum": ["true", "false"]},
            description="true: say what would change, and change nothing",
        ),
    ),
    body=SpendSlices,
)
ROUTES = (SPEND,)
FAULTS_MAX = 50
HELD_MAX = 2
"""Requests whose bodies are in memory at once."""
UNUSABLE = "spend that cannot be used; nothing was changed"


def routes(services: Services) -> list[BoundRoute]:
    return [(SPEND, SpendApi(services).handle)]


class SpendApi:
    """The handler. Bodies are decoded and checked in a thread; slices are compared and replaced in the writer's, so
    that what is compared is what is replaced."""

    def __init__(self, services: Services) -> None:
        self._settings = services.settings
        self._ledger = services.ledger
        self._decoder = services.executors.decoder
        self._writer = services.executors.writer
        self._audit = services.audit
        self._held = 0

    async def handle(self, request: web.Request) -> web.Response:
        if self._held >= HELD_MAX:
            return problem(503, "too much spend waits; send later", headers={"Retry-After": "2"})
        self._held += 1
        try:
            receipt = await self._taken(request)
        except Refusal as refusal:
            return refusal.answer
        finally:
            self._held -= 1
        return web.Response(body=encode(receipt), content_type=JSON)

    async def _taken(self, request: web.Request) -> SpendReceiptDocument:
        body, loop = await read_body(request, self._settings, "slices"), asyncio.get_running_loop()
        encoding = request.headers.get(hdrs.CONTENT_ENCODING, "").lower()
        slices = await loop.run_in_executor(self._decoder, self._decoded, body, encoding)
        is_dry = request.query.get("dry_run") == "true"
        what = f"slices={len(slices)} dry_run={is_dry}"
        self._audit.wrote(peer=peer_of(request), caller=caller_of(request).name, route=request.path, what=what)
        return await loop.run_in_executor(self._writer, self._replace, slices, is_dry)

    def _decoded(self, body: bytes, encoding: str) -> list[SpendSlice]:
        try:
            plain = decompress(body, encoding, self._settings.decompressed_bytes_max)
            slices = decode_spend(plain, people_of(self._settings))
        except BodyTooLarge as error:
            raise Refusal("too_large", 413, str(error)) from None
        except UnknownEncoding as error:
            raise Refusal("encoding", 415, str(error)) from None
        except msgspec.ValidationError as error:
            raise Refusal("unsound", 422, UNUSABLE, (_fault(error),)) from None
        except ValueError as error:
            detail = f"body: expected JSON, found none that can be read ({error}); correct it"
            raise Refusal("unreadable", 400, detail[:500]) from None
        except (SettingsError, OSError) as error:
            raise Refusal("people", 503, f"people: {error}", retry_after_s=60) from None
        days = allowed_days(self._settings.hours_keep_days, time.time_ns() // NS_PER_MS)
        if faults := list(spend_faults(slices, _ms(days.first), _ms(days.last)))[:FAULTS_MAX]:
            raise Refusal("unsound", 422, UNUSABLE, tuple(faults))
        return slices

    def _replace(self, slices: list[SpendSlice], is_dry: bool) -> SpendReceiptDocument:
        stored = self._ledger.spend(*spend_span(slices))
        if faults := [Fault(what, f"{found}", expected) for what, found, expected in spend_size_faults(stored, slices)]:
            raise Refusal("unsound", 422, UNUSABLE, tuple(faults[:FAULTS_MAX]))
        changes = spend_changes(stored, slices)
        if not is_dry and changes.to_write:
            self._ledger.replace_spend(changes.to_write, time.time_ns() // NS_PER_MS)
        return spend_receipt(changes)


def _fault(error: msgspec.ValidationError) -> Fault:
    """`Expected `int`, got `str` - at `$.slices[0].lines[0].fresh`` as a field and what is wrong with it."""
    what, _, path = str(error).partition(" - at `$")
    expected, _, found = what.removeprefix("Expected ").partition(", got ")
    return Fault(path.partition("`")[0].lstrip(".") or "body", found[:200] or "another value", expected[:200])


def _ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000
