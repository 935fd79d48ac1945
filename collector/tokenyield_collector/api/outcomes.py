"""`POST /v1/outcomes`: counts of what was done with tokens, which replace those of the same source, day and name."""

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import hdrs, web

from tokenyield_collector.access.auth import caller_of, peer_of
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
    check_sizes,
    outcome_row,
    receipt_of,
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


def routes(services: Services) -> list[BoundRoute]:
    return [(OUTCOMES, OutcomeApi(services).handle)]


class OutcomeApi:
    """The handler."""

    def __init__(self, services: Services) -> None:
        self._settings = services.settings
        self._ledger = services.ledger
        self._writer = services.executors.writer
        self._audit = services.audit

    async def handle(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(self._settings.body_wait_s):
                body = await request.read()
            encoding = request.headers.get(hdrs.CONTENT_ENCODING, "").lower()
            document = msgspec.json.decode(decompress(body, encoding, self._settings.decompressed_bytes_max))
        except TimeoutError:
            return problem(408, f"the body did not arrive within {self._settings.body_wait_s} s (body_wait_s)")
        except (web.HTTPRequestEntityTooLarge, BodyTooLarge):
            return problem(413, f"body: expected at most {self._settings.body_bytes_max} bytes, found more; send less")
        except UnknownEncoding as error:
            return problem(415, str(error))
        except (ValueError, ConnectionError) as error:
            return problem(400, f"body: expected JSON, found none that can be read ({error}); correct it"[:500])
        rows, faults = _rows(document, allowed_days(self._settings.hours_keep_days, time.time_ns() // NS_PER_MS))
        if faults:
            return problem(422, "outcomes that cannot be used; nothing was changed", faults=faults)
        is_dry = request.query.get("dry_run") == "true"
        self._audit.wrote(
            peer=peer_of(request), caller=caller_of(request).name, route=request.path, what=f"rows={len(rows)}"
        )
        receipt = await asyncio.get_running_loop().run_in_executor(self._writer, self._replace, rows, is_dry)
        if isinstance(receipt, list):
            return problem(422, "outcomes that cannot be used; nothing was changed", faults=receipt)
        return web.Response(body=encode(receipt), content_type=JSON)

    def _replace(self, rows: list[Row], is_dry: bool) -> OutcomesReceiptDocument | list[Fault]:
        """In the writer's thread, so that what is compared is what is replaced."""
        slices = slices_of(rows)
        if faults := list(check_sizes(slices)):
            return faults
        changes = slice_changes(self._ledger.outcomes(*span_of(slices)), slices)
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
