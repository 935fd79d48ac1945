"""LiteLLM proxy's standard logging payload, one JSON object a line.

    {"id":"chatcmpl-1","call_type":"acompletion","status":"success","prompt_tokens":17,"completion_tokens":9,
     "startTime":1795000000.1,"endTime":1795000001.2,"model_group":"chat","request_tags":["batch"],"end_user":"u7",
     "cache_hit":false,"metadata":{"user_api_key_team_alias":"search","user_api_key_alias":"search-prod",...},
     "error_information":{"error_code":"499","error_class":"ClientDisconnected"}}

The payload is documented at docs.litellm.ai/docs/proxy/logging_spec. LiteLLM writes it to no file by itself: a
callback of ten lines does (docs/gateways.md), and leaves messages and answers out. An answer from LiteLLM's own cache
made no tokens: it counts as a request alone. A request that failed, or that its client gave up, is kept apart; what it
used before is counted.

LiteLLM logs more than model calls: MCP tools, files, batches and their management. These count nothing. A batch is
counted when it is retrieved, once, with what its usage grew by since the last time. Reading a stored response counts
nothing: LiteLLM gives it another id at each read, so that one read often cannot be distinguished from many.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

import msgspec

from tokenyield_agent.tokens.dialects.base import Gateway
from tokenyield_agent.tokens.dialects.json_lines import (
    MODEL_ENDPOINT,
    JsonLines,
    LineCounts,
    caller_of,
    instant_of,
    only_used,
)
from tokenyield_agent.tokens.event import Caller
from tokenyield_agent.tokens.parsing.agent_labels import labels_in
from tokenyield_agent.tokens.parsing.loose_json import LooseDecoder
from tokenyield_agent.tokens.parsing.outcome import outcome_of
from tokenyield_agent.tokens.parsing.request_class import tier_in
from tokenyield_agent.tokens.parsing.usage import as_object, count_of, token_kinds, usage_kinds

_MODEL_CALLS = frozenset((
    "anthropic_messages", "batch_completion", "chat_completion", "compact_responses", "completion",
    "create_interaction", "create_video", "embedding", "generate_content", "generate_content_stream", "image_edit",
    "image_generation", "image_variation", "moderation", "ocr", "realtime", "rerank", "responses",
    "responses_websocket", "run_thread", "run_thread_stream", "speech", "text_completion", "transcription",
    "video_edit", "video_extension", "video_generation", "video_remix",
))  # fmt: skip
_BATCH_READ = "retrieve_batch"
_MANAGEMENT = frozenset((
    "add", "assistant", "assistants", "batch", "cancel", "container", "containers", "content", "count", "delete",
    "file", "files", "fine", "get", "input", "list", "mcp", "message", "messages", "retrieve", "sandbox", "skill",
    "store", "thread", "tool", "tools", "tuning", "vector",
))  # fmt: skip
"""Any of these words in the name of another call: it manages something, or calls a tool."""
_VERBS = frozenset(("cancel", "count", "create", "delete", "file", "get", "list", "retrieve"))
"""With an `a` before them in the names of asynchronous calls."""
_BATCH_SUFFIX = "_batch_cost"
"""Which LiteLLM's own poller appends to the id of a batch."""


class _Payload(msgspec.Struct, gc=False):
    status: str
    call_type: str
    id: Any = None
    prompt_tokens: Any = None
    completion_tokens: Any = None
    metadata: Any = None
    model_group: Any = None
    model: Any = None
    end_user: Any = None
    request_tags: Any = None
    cache_hit: Any = None
    startTime: Any = None
    endTime: Any = None
    error_information: Any = None
    response: Any = None
    service_tier: Any = None
    model_parameters: Any = None


class LiteLlm(JsonLines):
    """Dialect of LiteLLM's standard logging payload."""

    name: ClassVar[str] = "litellm"
    words: ClassVar[tuple[bytes, ...]] = (b'"call_type"',)
    decoder: ClassVar[LooseDecoder] = LooseDecoder(_Payload)

    def count(self, document: _Payload, line: bytes) -> LineCounts | None:
        if not _is_payload(document):
            return None
        call = _name_of(document.call_type)
        metadata = as_object(document.metadata) or {}
        kinds = _tokens(document, metadata)
        is_batch = call == _BATCH_READ
        is_management = not _MANAGEMENT.isdisjoint(call.split("_"))
        if not (_calls_model(call) or is_batch) and (is_management or not any(kinds.values())):
            return LineCounts()
        at_s, caller = instant_of(document.endTime), _caller(document, metadata)
        if is_batch:
            used, job = only_used(kinds), _job(document)
            return LineCounts(caller, {"requests": 1, **used}, at_s, job=job) if used and job else LineCounts()
        ended = _outcome(document)
        is_cached = ended == "requests" and str(document.cache_hit).lower() == "true"
        kinds = {} if is_cached else only_used(kinds)
        return LineCounts(caller, {ended: 1, **kinds}, at_s, identity=_identity(document, caller))


def _name_of(call_type: str) -> str:
    """The call's name, the same for the asynchronous one: `acompletion` is `completion`, `_arealtime` is `realtime`."""
    name = call_type.lower().lstrip("_")
    is_async = name.startswith("a") and (name[1:] in _MODEL_CALLS or name.split("_")[0][1:] in _VERBS)
    return name[1:] if is_async else name


def _calls_model(call: str) -> bool:
    """Older versions name the path instead, for a request that was refused before it became a call."""
    return call in _MODEL_CALLS or ("/" in call and bool(MODEL_ENDPOINT.search(f"/{call}")))


def _is_payload(document: _Payload) -> bool:
    """Whether it is LiteLLM's at all: logs of telephony have a `call_type` and a `status` too."""
    counts = (document.prompt_tokens, document.completion_tokens)
    return any(count_of(count) is not None for count in counts) or as_object(document.metadata) is not None


def _outcome(document: _Payload) -> str:
    """A stream whose client left is logged as a success, and only its error says so."""
    if document.status == "success" and not document.error_information:
        return "requests"
    ended = outcome_of(document.status, error=document.error_information)
    return "requests" if ended == "requests_failed" and document.status == "success" else ended


def _tokens(document: _Payload, metadata: dict[str, Any]) -> dict[str, int]:
    """The payload's own counts; the usage object says what part was cached, and all where the payload is without."""
    of_usage = usage_kinds(metadata.get("usage_object")) or {}
    kinds = token_kinds(document.prompt_tokens, document.completion_tokens, of_usage.get("prompt_cached"))
    has_none = not kinds or (not any(kinds.values()) and document.status == "success")
    return of_usage if has_none and of_usage else kinds


def _caller(document: _Payload, metadata: dict[str, Any]) -> Caller:
    return caller_of(
        document.model_group or document.model,
        (
            ("team", metadata.get("user_api_key_team_alias") or metadata.get("user_api_key_team_id")),
            ("key", metadata.get("user_api_key_alias")),
            ("user", metadata.get("user_api_key_user_id")),
            ("end_user", document.end_user),
            ("project", metadata.get("user_api_key_project_alias")),
            ("org", metadata.get("user_api_key_org_alias")),
            ("tags", document.request_tags),
            *_agent_labels(metadata),
            ("service_tier", _service_tier(document, metadata)),
        ),
    )


def _agent_labels(metadata: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Of what is logged for spend; else of what the client sent as metadata, or as `x-` headers."""
    ours = {label: value for label, value in labels_in(metadata.get("spend_logs_metadata")) if value is not None}
    yield from ours.items()
    for label, value in labels_in(metadata.get("requester_metadata"), metadata.get("requester_custom_headers")):
        if label not in ours:
            yield label, value


def _service_tier(document: _Payload, metadata: dict[str, Any]) -> Any:
    """Of the answer; else of the request."""
    written = {"service_tier": document.service_tier}
    wished = {"model_parameters": as_object(document.model_parameters) or {}}
    return tier_in(written, document.response, {"usage": metadata.get("usage_object")}, wished)


def _job(document: _Payload) -> bytes | None:
    """The batch that is polled: LiteLLM's own poller and its clients report the same one."""
    if not isinstance(document.id, str) or not document.id:
        return None
    return document.id.removesuffix(_BATCH_SUFFIX).encode("utf-8", "replace")


def _identity(document: _Payload, caller: Caller) -> bytes | None:
    """All that is counted, with the id and the start: a server may give all its answers one id. A start with a fraction
    of a second distinguishes requests too."""
    has_instant = isinstance(document.startTime, float) and not document.startTime.is_integer()
    if not (has_instant or (isinstance(document.id, str) and document.id)):
        return None
    error = as_object(document.error_information) or {}
    counted = (
        document.id,
        document.startTime,
        document.call_type,
        document.status,
        document.prompt_tokens,
        document.completion_tokens,
        document.cache_hit,
        error.get("error_code"),
        error.get("error_class"),
        caller,
    )
    return repr(counted).encode("utf-8", "backslashreplace")


GATEWAY = Gateway(
    name="litellm",
    title="LiteLLM proxy",
    log=LiteLlm,
    reports="team, key, user, end user, project, organization, tags, agent task, session, agent, service "
    "tier; failed and aborted requests apart, with what they used; a request or batch once, by its id",
    before=("openai-usage",),  # whose object may be in LiteLLM's payload
)
