"""`POST /v1/outcomes`: counts of what was done with tokens, which replace those of the same source, day and name."""

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import hdrs, web

from tokenyield_collector.access.auth import caller_of, peer_of
from tokenyield_collector.api.body import Refusal, read_body
from tokenyield_collector.api.services import Services
from tokenyield_collector.http.problem import problem
from tokenyield_collector.http.right import Right
from tokenyield_collector.http.route import JSON, BoundRoute, QueryParameter, Route
from tokenyield_collector.http.schemas import OutcomesReceiptDocument
from tokenyield_collector.ingest.decompress import BodyTooLarge, UnknownEncoding, decompress
from tokenyield_collector.ingest.outcomes import (
    ROWS_MAX,
    AllowedDays,
    Outcomes,
    Row,
    UnusableOutcome,
    allowed_days,
    outcome_row,
    receipt_of,
    size_faults,
)
from tokenyield_collector.ledger.outcomes import slice_changes, slices_of, span_of
from tokenyield_collector.live.summary import encode
from tokenyield_wire.units import NS_PER_MS
from tokenyield_wire.window import Fault

OUTCOMES = Route(
    path="/v1/outcomes",
    method="POST",
    right=Right.OUTCOMES,
    summary="Take in outcomes. They replace those of the same source, day and name; the same again changes nothing.",
    answers={JSON: OutcomesReceiptDocument},
    refusals=(400, 408, 413, 415, 422, 503),
    parameters=(
        QueryParameter(
            name="dry_run",
            schema={"type": "string", "enum": ["true", "false"]},
            description="true: say what would change, and change nothing",
        ),
    ),
    body=Outcomes,
)
ROUTES = (OUTCOMES,)
FAULTS_MAX = 50
HELD_MAX = 4
"""Requests whose bodies are in memory at once."""
UNUSABLE = "outcomes that cannot be used; nothing was changed"


def routes(services: Services) -> list[BoundRoute]:
    return [(OUTCOMES, OutcomeApi(services).handle)]


class OutcomeApi:
    """The handler. Few bodies are held at once; they are decoded and checked in a thread, and compared and replaced in
    the writer's, so that what is compared is what is replaced."""

    def __init__(self, services: Services) -> None:
        self._settings = services.settings
        self._ledger = services.ledger
        self._decoder = services.executors.decoder
        self._writer = services.executors.writer
        self._audit = services.audit
        self._held = 0

    async def handle(self, request: web.Request) -> web.Response:
        if self._held >= HELD_MAX:
            return problem(503, "too many outcomes wait; send later", headers={"Retry-After": "2"})
        self._held += 1
        try:
            receipt = await self._taken(request)
        except Refusal as refusal:
            return refusal.answer
        finally:
            self._held -= 1
        return web.Response(body=encode(receipt), content_type=JSON)

    async def _taken(self, request: web.Request) -> OutcomesReceiptDocument:
        body, loop = await read_body(request, self._settings, "slices"), asyncio.get_running_loop()
        encoding = request.headers.get(hdrs.CONTENT_ENCODING, "").lower()
        rows = await loop.run_in_executor(self._decoder, self._decoded, body, encoding)
        is_dry = request.query.get("dry_run") == "true"
        what = f"rows={len(rows)} dry_run={is_dry}"
        self._audit.wrote(peer=peer_of(request), caller=caller_of(request).name, route=request.path, what=what)
        return await loop.run_in_executor(self._writer, self._replace, rows, is_dry)

    def _decoded(self, body: bytes, encoding: str) -> list[Row]:
        try:
            document = msgspec.json.decode(decompress(body, encoding, self._settings.decompressed_bytes_max))
        except BodyTooLarge as error:
            raise Refusal("too_large", 413, str(error)) from None
        except UnknownEncoding as error:
            raise Refusal("encoding", 415, str(error)) from None
        except ValueError as error:
            detail = f"body: expected JSON, found none that can be read ({error}); correct it"
            raise Refusal("unreadable", 400, detail[:500]) from None
        rows, faults = _rows(document, allowed_days(self._settings.hours_keep_days, time.time_ns() // NS_PER_MS))
        if faults:
            raise Refusal("unsound", 422, UNUSABLE, tuple(faults))
        return rows

    def _replace(self, rows: list[Row], is_dry: bool) -> OutcomesReceiptDocument:
        slices = slices_of(rows)
        stored = self._ledger.outcomes(*span_of(slices))
        if faults := list(size_faults(stored, slices)):
            raise Refusal("unsound", 422, UNUSABLE, tuple(faults))
        changes = slice_changes(stored, slices)
        if not is_dry and changes.to_write:
            self._ledger.replace_outcomes(changes.to_write, time.time_ns() // NS_PER_MS)
        return receipt_of(len(rows), changes)


def _rows(document: Any, days: AllowedDays) -> tuple[list[Row], list[Fault]]:
    entries = document.get("outcomes") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        return [], [Fault("outcomes", "none", "a list")]
    if len(entries) > ROWS_MAX:
        return [], [Fault("outcomes", f"{len(entries)}", f"at most {ROWS_MAX}; send whole slices in several requests")]
    rows: list[Row] = []
    faults: list[Fault] = []
    for i, entry in enumerate(entries):
        if len(faults) >= FAULTS_MAX:
            break
        if not isinstance(entry, dict):
            faults.append(Fault(f"outcomes[{i}]", type(entry).__name__, "an object"))
            continue
        try:
            rows.append(outcome_row(entry, days))
        except UnusableOutcome as error:
            faults += _at(i, error.faults)
    return rows, faults


def _at(i: int, faults: Iterable[Fault]) -> list[Fault]:
    return [Fault(f"outcomes[{i}].{field}", found, expected) for field, found, expected in faults]
