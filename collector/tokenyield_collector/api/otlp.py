"""`POST /otlp/v1/metrics`, `/v1/logs`, `/v1/traces`: OTLP over HTTP, of coding agents and applications.

In: requests as JSON or protobuf. Out: 200 when what is counted of them is durable, with how many points were refused;
429 and 503 with Retry-After, upon which senders send again. No value of a request is ever logged.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import hdrs, web

from tokenyield_collector.access.auth import caller_of, peer_of
from tokenyield_collector.api.body import Refusal, read_body, too_large
from tokenyield_collector.api.services import Services
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.errors import LedgerError
from tokenyield_collector.http.right import Right
from tokenyield_collector.http.route import JSON, BoundRoute, Route
from tokenyield_collector.http.schemas import OtlpAnswerDocument
from tokenyield_collector.ingest.decompress import BodyTooLarge, UnknownEncoding, decompress
from tokenyield_collector.ingest.observed import FullDay
from tokenyield_collector.ingest.spend_import import people_of
from tokenyield_collector.spend.otlp.document import (
    OTLP_PREFIX,
    LogsRequest,
    MetricsRequest,
    OtlpRequest,
    TracesRequest,
    decode_json,
)
from tokenyield_collector.spend.otlp.protobuf import decode_protobuf, encode_answer
from tokenyield_collector.spend.otlp.reading import People, ReceivedPoints, ReceiverRules, read_request
from tokenyield_settings.buckets import Buckets
from tokenyield_settings.loader import SettingsError

PROTOBUF = "application/x-protobuf"
REFUSALS = (400, 408, 413, 415, 429, 503)
_ANSWERS = {JSON: OtlpAnswerDocument, PROTOBUF: {"type": "string", "format": "binary"}}
METRICS = Route(
    path=f"{OTLP_PREFIX}/v1/metrics",
    method="POST",
    right=Right.OTLP,
    summary="Take in metrics over OTLP: tokens and money of coding agents and applications.",
    answers=_ANSWERS,
    refusals=REFUSALS,
)
LOGS = replace(
    METRICS,
    path=f"{OTLP_PREFIX}/v1/logs",
    summary="Take in events over OTLP: requests of coding agents. Bodies and prompts are dropped.",
)
TRACES = replace(
    METRICS,
    path=f"{OTLP_PREFIX}/v1/traces",
    summary="Take in spans over OTLP: requests of applications, by the GenAI conventions.",
)
ROUTES = (METRICS, LOGS, TRACES)
_BODIES: dict[str, Any] = {METRICS.path: MetricsRequest, LOGS.path: LogsRequest, TRACES.path: TracesRequest}
"""Not in the API's description: OpenTelemetry describes them."""
_SIGNALS = {METRICS.path: "metrics", LOGS.path: "events", TRACES.path: "spans"}
_REFUSED_NAMES = {METRICS.path: "rejectedDataPoints", LOGS.path: "rejectedLogRecords", TRACES.path: "rejectedSpans"}
BYTES_MAX = 8 * 2**20
"""Of a body unpacked; SDKs send at most some hundred kilobytes at once."""
HELD_MAX = 16
"""Requests that are in memory at once."""
POINTS_PER_S, POINTS_BURST, CALLERS_MAX = 2_000.0, 200_000, 100_000
"""Of one token at one address."""


def routes(services: Services) -> list[BoundRoute]:
    receiver = OtlpApi(services)
    return [(route, partial(receiver.handle, route)) for route in ROUTES]


class OtlpApi:
    """The handlers. Bodies are unpacked and read in a thread of their own."""

    def __init__(self, services: Services) -> None:
        self._settings = services.settings
        self._observed = services.observed
        self._receiver = services.executors.receiver
        self._stats = services.ingest
        self._people = _PeopleSetting(services.settings)
        self._paces = Buckets(POINTS_PER_S, POINTS_BURST, CALLERS_MAX)
        self._held = 0

    async def handle(self, route: Route, request: web.Request) -> web.Response:
        try:
            if self._held >= HELD_MAX:
                raise Refusal("overloaded", 503, "too many requests wait; send later", retry_after_s=2)
            self._held += 1
            try:
                received = await self._taken(route, request)
            finally:
                self._held -= 1
        except Refusal as refusal:
            self._stats.refused[refusal.reason] += 1
            return refusal.answer
        if request.content_type == PROTOBUF:
            return web.Response(body=encode_answer(received.refused, received.why), content_type=PROTOBUF)
        answer: dict[str, dict[str, str]] = {}
        if received.refused:
            partial_success = {_REFUSED_NAMES[route.path]: str(received.refused), "errorMessage": received.why}
            answer["partialSuccess"] = partial_success
        return web.Response(body=msgspec.json.encode(answer), content_type=JSON)

    async def _taken(self, route: Route, request: web.Request) -> ReceivedPoints:
        settings = self._settings
        if request.content_type not in (JSON, PROTOBUF):
            detail = f"Content-Type: expected {JSON} or {PROTOBUF}, found another; set OTEL_EXPORTER_OTLP_PROTOCOL"
            raise Refusal("encoding", 415, detail)
        if (request.content_length or 0) > settings.body_bytes_max:
            raise too_large(settings, "points")
        holder = (caller_of(request).name, peer_of(request))
        self._check_pace(holder, 1, self._paces.would_wait_s)
        body = await read_body(request, settings, "points")
        encoding, content_type = request.headers.get(hdrs.CONTENT_ENCODING, "").lower(), request.content_type
        loop = asyncio.get_running_loop()
        received = await loop.run_in_executor(self._receiver, self._read, route, body, encoding, content_type)
        self._stats.points[_SIGNALS[route.path], "refused"] += received.refused
        if received.points:
            self._check_pace(holder, len(received.points), self._paces.wait_s)
            try:
                await self._observed.add(received.points)
            except LedgerError as error:
                raise Refusal("ledger", 503, str(error), retry_after_s=5) from None
            except FullDay as error:
                for _ in received.points:
                    received.refuse(str(error))
        return received

    def _check_pace(self, holder: tuple[str, str], points: int, wait: Callable[..., float]) -> None:
        if wait_s := wait(holder, time.monotonic(), points):
            detail = f"more than {POINTS_PER_S:g} points/s of this caller"
            raise Refusal("too_many", 429, detail, retry_after_s=int(wait_s) + 1)

    # --- in the receiver's thread --------------------------------------------------------------------------------

    def _read(self, route: Route, body: bytes, encoding: str, content_type: str) -> ReceivedPoints:
        settings = self._settings
        kind = _BODIES[route.path]
        try:
            plain = decompress(body, encoding, min(BYTES_MAX, settings.decompressed_bytes_max))
            request: OtlpRequest = (decode_protobuf if content_type == PROTOBUF else decode_json)(plain, kind)
        except BodyTooLarge as error:
            raise Refusal("too_large", 413, str(error)) from None
        except UnknownEncoding as error:
            raise Refusal("encoding", 415, str(error)) from None
        except msgspec.ValidationError as error:
            raise Refusal("unsound", 400, f"body: {error}"[:300]) from None
        except ValueError:  # its text may have parts of the body
            detail = f"body: expected {content_type}, found what cannot be read; correct it"
            raise Refusal("unreadable", 400, detail) from None
        first_ms, last_ms = self._observed.span_ms()
        rules = ReceiverRules(
            first_ms=first_ms,
            last_ms=last_ms,
            people=self._people.filter(),
            keeps_sessions=settings.people != "off",
            own_fleet=settings.otlp_own_fleet,
            key=self._people.key,
        )
        return read_request(request, rules)


class _PeopleSetting:
    """What is kept of people; its files are read again when they change. In the receiver's thread."""

    def __init__(self, settings: CollectorSettings) -> None:
        self._settings = settings
        self._read_at: tuple[int, ...] | None = None
        self._filter: People | None = None
        self.key = b""

    def filter(self) -> People:
        """Raises `Refusal`."""
        settings = self._settings
        try:
            files = [Path(name) for name in (settings.people_file, settings.people_key_file) if name]
            changed_at = tuple(file.stat().st_mtime_ns for file in files)
            if self._filter is None or changed_at != self._read_at:
                self._filter = people_of(settings)
                self.key = Path(settings.people_key_file).read_bytes().strip() if settings.people_key_file else b""
                self._read_at = changed_at
        except (SettingsError, OSError) as error:
            raise Refusal("people", 503, f"people: {error}", retry_after_s=60) from None
        return self._filter
