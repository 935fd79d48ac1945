"""Envoy AI Gateway's access log, in the JSON form of its documentation (docs/capabilities/observability/accesslogs).

    {"gen_ai.request.model":"gpt-4o-mini","gen_ai.usage.input_tokens":15,"gen_ai.usage.output_tokens":7,
     "response_code":200,"start_time":"2025-08-30T16:51:37.894Z",...}

The fields are the operator's own choice of names; those of the documentation are read, and
`gen_ai.usage.cached_input_tokens` where it is logged. The caller is under whatever header names the
team: set it with `fields: {team: x-team-id}`.
"""

from collections.abc import Mapping
from typing import ClassVar

from tokenyield_agent.tokens.dialects.base import Gateway
from tokenyield_agent.tokens.dialects.json_lines import JsonLines, caller_of, decode, dig, usage_kinds
from tokenyield_agent.tokens.event import Caller
from tokenyield_agent.tokens.parsing import instants

DEFAULT_FIELDS = {"team": "x-team-id", "user": "x-user-id"}


class EnvoyAiGateway(JsonLines):
    """Dialect of Envoy AI Gateway's access log. `fields` maps labels of the caller to fields of the line."""

    name: ClassVar[str] = "envoy-ai-gateway"
    words: ClassVar[tuple[bytes, ...]] = (b"gen_ai.usage.",)

    def __init__(self, fields: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._fields = fields or DEFAULT_FIELDS

    def count(self, line: bytes) -> tuple[Caller, dict[str, int], float | None] | None:
        entry = decode(line)
        if not isinstance(entry, dict) or "response_code" not in entry:
            return None
        caller = caller_of(
            entry.get("gen_ai.response.model") or entry.get("gen_ai.request.model"),
            ((label, dig(entry, path)) for label, path in self._fields.items()),
        )
        start = entry.get("start_time")
        at_s = instants.parse(start.encode(), 0.0) if isinstance(start, str) else None
        code = entry["response_code"]
        if not isinstance(code, int) or not 200 <= code < 400:
            aborted = code in (0, 499)  # the client went away before the answer
            return caller, {"requests_aborted" if aborted else "requests_failed": 1}, at_s
        prompt, completion = entry.get("gen_ai.usage.input_tokens"), entry.get("gen_ai.usage.output_tokens")
        return caller, usage_kinds(prompt, completion, entry.get("gen_ai.usage.cached_input_tokens")), at_s


GATEWAY = Gateway(
    name="envoy-ai-gateway",
    title="Envoy AI Gateway",
    log=EnvoyAiGateway,
    reports="what your access log's format names; failed and aborted requests apart",
    takes_fields=True,
)
