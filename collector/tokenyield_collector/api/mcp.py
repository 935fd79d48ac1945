"""`POST /mcp`: the Model Context Protocol, for programs that ask on behalf of people. It only reads.

In: one message a request, under the token of its caller. Out: its answer as JSON. A tool has a place among the reports
that wait, a time within which it answers, and a line in the audit log.
"""

import asyncio
import time
from typing import Any

from aiohttp import web

from tokenyield_collector.access.auth import caller_of, peer_of
from tokenyield_collector.api.body import Refusal, read_body
from tokenyield_collector.api.services import Services
from tokenyield_collector.api.shadow import egress_rules
from tokenyield_collector.diagnosis.make import diagnoses
from tokenyield_collector.errors import CollectorError, ParameterError
from tokenyield_collector.http.problem import problem
from tokenyield_collector.http.right import TeamAnswer
from tokenyield_collector.http.route import JSON, BoundRoute, Route
from tokenyield_collector.insight.shadow import shadow
from tokenyield_collector.live.refresher import live_stretch
from tokenyield_collector.live.summary import encode
from tokenyield_collector.mcp.answers import Asked
from tokenyield_collector.mcp.protocol import BODY_BYTES_MAX, ProtocolAnswer, ToolCall, read_message
from tokenyield_collector.mcp.tools import BY_NAME, LISTED, TEXT_CHARS_MAX
from tokenyield_settings.visible import visible
from tokenyield_wire.bounded import bounded
from tokenyield_wire.units import NS_PER_MS

ANSWER_S_MAX = 60.0
MCP = Route(
    path="/mcp",
    method="POST",
    to_teams=TeamAnswer.OWN,
    answers={JSON: {"type": "object"}},
)
"""Without a summary: it describes itself, by the protocol's own means (`tools/list`)."""
ROUTES = (MCP,)


def routes(services: Services) -> list[BoundRoute]:
    return [(MCP, McpApi(services).handle)]


class McpApi:
    """The handler."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._answer_s_max = ANSWER_S_MAX
        self._running: set[asyncio.Task[dict[str, Any]]] = set()
        """Tools, also those whose caller got no answer in time: each keeps its place until it ends."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if (request.content_length or 0) > BODY_BYTES_MAX:
            return problem(413, f"body: expected at most {BODY_BYTES_MAX} bytes, found {request.content_length}")
        try:
            body = await read_body(request, self._services.settings, "arguments")
        except Refusal as refusal:
            return refusal.answer
        if len(body) > BODY_BYTES_MAX:
            return problem(413, f"body: expected at most {BODY_BYTES_MAX} bytes, found more")
        message = read_message(request.headers, body, LISTED)
        if isinstance(message, ToolCall):
            message = message.answer(await self._called(request, message))
        return _response(message)

    async def _called(self, request: web.Request, call: ToolCall) -> dict[str, Any]:
        """The result of a tool. What fails is a result too, whose text the model can act on."""
        caller, begun_s = caller_of(request), time.monotonic()
        task = asyncio.create_task(self._made(call, caller.teams))
        self._running.add(task)
        task.add_done_callback(self._ended)
        rows = 0
        try:
            answer = await asyncio.wait_for(asyncio.shield(task), self._answer_s_max)
            rows = len(answer.get("rows", ()))
            result = _result(answer)
        except TimeoutError:
            result = _failure(f"no answer within {self._answer_s_max:g} s; ask for a shorter period or fewer columns")
        except ParameterError as error:
            result = _failure(str(error))
        except CollectorError as error:
            # As for other routes: what does not work may be of others.
            result = _failure(str(error) if caller.teams is None else "it cannot be answered now; ask again later")
        spent_ms = round((time.monotonic() - begun_s) * 1000)
        self._services.audit.read(
            peer=peer_of(request),
            caller=caller.name,
            route=request.path,
            what=f"tool={call.name} rows={rows} ms={spent_ms} failed={result['isError']}",
        )
        return result

    async def _made(self, call: ToolCall, teams: tuple[str, ...] | None) -> dict[str, Any]:
        services = self._services
        tool = BY_NAME[call.name]

        def make() -> dict[str, Any]:
            maker = services.reports.maker(teams)

            def diagnose(window_s: int) -> Any:
                start_ms, end_ms = live_stretch(time.time_ns() // NS_PER_MS, window_s, services.settings)
                return diagnoses(services.ledger, maker.policy, start_ms, end_ms)

            def find_shadow(period: str, top: int) -> Any:
                rules = egress_rules(services.settings)
                return shadow(maker, services.ledger, period, rules, services.settings.people, top)

            return tool.call(Asked(maker=maker, diagnose=diagnose, find_shadow=find_shadow), call.arguments)

        with services.reports.place():
            return await services.reports.submit(make)

    def _ended(self, task: "asyncio.Task[dict[str, Any]]") -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited for it has seen it


def _result(answer: dict[str, Any]) -> dict[str, Any]:
    text = encode(answer).decode()
    return {"content": [{"type": "text", "text": text}], "structuredContent": answer, "isError": False}


def _failure(text: str) -> dict[str, Any]:
    shown = bounded(visible(text), TEXT_CHARS_MAX)
    return {"content": [{"type": "text", "text": shown}], "isError": True}


def _response(answer: ProtocolAnswer) -> web.Response:
    if answer.document is None:
        return web.Response(status=answer.status)
    return web.Response(status=answer.status, body=encode(answer.document), content_type=JSON)
