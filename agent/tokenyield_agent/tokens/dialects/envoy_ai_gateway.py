"""Envoy AI Gateway's access log, in the JSON form of its documentation (docs/capabilities/observability/accesslogs).

    {"gen_ai.request.model":"gpt-4o-mini","gen_ai.usage.input_tokens":15,"gen_ai.usage.output_tokens":7,
     "response_code":200,"response_flags":"-","start_time":"2025-08-30T16:51:37.894Z","x-request-id":"83b6...",...}
    {"genai_model_name":"qwen2.5","genai_tokens_input":44,"genai_tokens_output":12,"response_code":200,...}   (2025)

The fields are the operator's own choice of names; those of the documentation are read, and what was cached where it is
logged. Envoy writes numbers as text where a format asks for text, and "-" for what is absent. The caller is under
whatever header names the team: set it with `fields: {team: x-team-id}`. Lines of MCP and of requests that call no model
count nothing. A line that comes again equal in all is the same request where it has an x-request-id or the client's
address.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from tokenyield_agent.tokens.dialects.base import Gateway
from tokenyield_agent.tokens.dialects.json_lines import (
    MODEL_ENDPOINT,
    JsonLines,
    LineCounts,
    caller_of,
    instant_of,
    only_used,
)
from tokenyield_agent.tokens.parsing.agent_labels import labels_of_line
from tokenyield_agent.tokens.parsing.outcome import CLIENT_CLOSED, outcome_of
from tokenyield_agent.tokens.parsing.request_class import tier_in
from tokenyield_agent.tokens.parsing.usage import count_of, dig, token_kinds

DEFAULT_FIELDS = {"team": "x-team-id", "user": "x-user-id"}
_MODEL = ("gen_ai.response.model", "gen_ai.request.model", "genai_model_name_override", "genai_model_name")
_INPUT = ("gen_ai.usage.input_tokens", "genai_tokens_input")
_OUTPUT = ("gen_ai.usage.output_tokens", "genai_tokens_output")
_CACHED = (
    "gen_ai.usage.cached_input_tokens",
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "genai_tokens_cached_input",
)
_PATHS = ("x-envoy-origin-path", "x-envoy-original-path", "request.path", "path", ":path")
_IDS = ("x-request-id", "request_id", "downstream_remote_address")
"""Any of these distinguishes requests of one instant: the address of a client has its port."""
_NO_CALL = re.compile(r"/(?:count_tokens|tokenize|detokenize|models|files|batches)\b")
_CLIENT_GONE = frozenset(("DC", "DownstreamConnectionTermination"))
_CUT_SHORT = frozenset((
    "DPE", "DT", "IH", "LR", "OM", "SI", "UC", "UF", "UMSDR", "UPE", "UR", "UT", "DownstreamProtocolError",
    "DurationTimeout", "LocalReset", "OverloadManager", "StreamIdleTimeout", "UpstreamConnectionFailure",
    "UpstreamConnectionTermination", "UpstreamMaxStreamDurationReached", "UpstreamProtocolError",
    "UpstreamRemoteReset", "UpstreamRequestTimeout",
))  # fmt: skip
"""Envoy's flags of an answer that ended early, whatever its status was by then."""


class EnvoyAiGateway(JsonLines):
    """Dialect of Envoy AI Gateway's access log. `fields` maps labels of the caller to fields of the line."""

    name: ClassVar[str] = "envoy-ai-gateway"
    words: ClassVar[tuple[bytes, ...]] = (b"gen_ai.usage.", b'"genai_tokens_')

    def __init__(self, fields: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._fields = fields or DEFAULT_FIELDS

    def count(self, document: Any, line: bytes) -> LineCounts | None:
        if not isinstance(document, dict) or "response_code" not in document:
            return None
        model = _first(document, _MODEL)
        kinds = token_kinds(_first(document, _INPUT), _first(document, _OUTPUT), _first(document, _CACHED))
        ended = _outcome(document)
        if not any(kinds.values()) and not _calls_model(document, model, ended):
            return LineCounts()
        labels = [(label, dig(document, path)) for label, path in self._fields.items()]
        if "service_tier" not in self._fields:
            labels.append(("service_tier", tier_in(document)))
        caller = caller_of(model, [*labels, *labels_of_line(document, self._fields)])
        kinds = {ended: 1, **(kinds if ended == "requests" else only_used(kinds))}
        has_id = _first(document, _IDS) is not None
        return LineCounts(caller, kinds, instant_of(document.get("start_time")), identity=line if has_id else None)


def _first(document: dict[str, Any], names: tuple[str, ...]) -> Any:
    """The value of the first of these fields that the line has; Envoy writes "-" or null for one that is absent."""
    return next((value for name in names if (value := dig(document, name)) not in (None, "", "-")), None)


def _calls_model(document: dict[str, Any], model: Any, ended: str) -> bool:
    """Whether a request of which no tokens are logged called a model. One that was refused early has no model yet."""
    is_mcp = any(name.startswith("mcp.") and value not in (None, "", "-") for name, value in document.items())
    if is_mcp or _first(document, ("method",)) not in (None, "POST"):
        return False
    path = str(_first(document, _PATHS) or "")
    if model is not None:
        return not _NO_CALL.search(path)
    return ended != "requests" and (not path or bool(MODEL_ENDPOINT.search(path)))


def _outcome(document: dict[str, Any]) -> str:
    flags = set(re.findall(r"\w+", str(document.get("response_flags"))))
    details = str(document.get("response_code_details") or "")
    code = count_of(document["response_code"])
    if flags & _CLIENT_GONE or "downstream_remote_disconnect" in details:
        return "requests_aborted"
    if flags & _CUT_SHORT:
        return "requests_failed"
    if not code:  # no status was sent, and nothing else says why: the client went away before
        return "requests_aborted"
    return outcome_of(code) if 200 <= code < 400 or code == CLIENT_CLOSED else "requests_failed"


GATEWAY = Gateway(
    name="envoy-ai-gateway",
    title="Envoy AI Gateway",
    log=EnvoyAiGateway,
    reports="what your access log's format names; failed and aborted requests apart, with what they used; a request "
    "once where `x-request-id` or the client's address is logged",
    takes_fields=True,
)
