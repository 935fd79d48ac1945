"""LiteLLM proxy's standard logging payload, one JSON object a line.

    {"id":"chatcmpl-1","call_type":"acompletion","status":"success","prompt_tokens":17,"completion_tokens":9,
     "startTime":1795000000.1,"endTime":1795000001.2,"model_group":"chat","request_tags":["batch"],"end_user":"u7",
     "cache_hit":false,"metadata":{"user_api_key_team_alias":"search","user_api_key_alias":"search-prod",...}}

The payload is documented at docs.litellm.ai/docs/proxy/logging_spec. LiteLLM writes it to no file by itself: a
callback of ten lines does (docs/gateways.md), and leaves messages and answers out. An answer from LiteLLM's own cache
made no tokens: it counts as a request alone. A failed request is kept apart.
"""

from typing import Any, ClassVar

import msgspec

from tokenyield_agent.tokens.dialects.base import Gateway
from tokenyield_agent.tokens.dialects.json_lines import JsonLines, caller_of, usage_kinds
from tokenyield_agent.tokens.event import Caller
from tokenyield_agent.tokens.parsing import instants


class _Metadata(msgspec.Struct, gc=False):
    user_api_key_team_alias: Any = None
    user_api_key_team_id: Any = None
    user_api_key_alias: Any = None
    user_api_key_user_id: Any = None
    user_api_key_project_alias: Any = None
    user_api_key_org_alias: Any = None
    usage_object: Any = None


class _Payload(msgspec.Struct, gc=False):
    status: str
    call_type: str
    prompt_tokens: Any
    completion_tokens: Any
    metadata: _Metadata
    model_group: Any = None
    model: Any = None
    end_user: Any = None
    request_tags: Any = None
    cache_hit: Any = None
    endTime: Any = None


_decoder = msgspec.json.Decoder(_Payload)


class LiteLlm(JsonLines):
    """Dialect of LiteLLM's standard logging payload."""

    name: ClassVar[str] = "litellm"
    words: ClassVar[tuple[bytes, ...]] = (b'"call_type"',)

    def count(self, line: bytes) -> tuple[Caller, dict[str, int], float | None] | None:
        try:
            payload = _decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        metadata = payload.metadata
        caller = caller_of(
            payload.model_group or payload.model,
            (
                ("team", metadata.user_api_key_team_alias or metadata.user_api_key_team_id),
                ("key", metadata.user_api_key_alias),
                ("user", metadata.user_api_key_user_id),
                ("end_user", payload.end_user),
                ("project", metadata.user_api_key_project_alias),
                ("org", metadata.user_api_key_org_alias),
                ("tags", payload.request_tags),
            ),
        )
        at_s = instants.valid(payload.endTime) if isinstance(payload.endTime, (int, float)) else None
        if payload.status != "success":
            return caller, {"requests_failed": 1}, at_s
        if payload.cache_hit is True:
            return caller, {"requests": 1}, at_s
        return (
            caller,
            usage_kinds(payload.prompt_tokens, payload.completion_tokens, _cached(metadata.usage_object)),
            at_s,
        )


def _cached(usage: Any) -> Any:
    details = usage.get("prompt_tokens_details") if isinstance(usage, dict) else None
    return details.get("cached_tokens") if isinstance(details, dict) else None


GATEWAY = Gateway(
    name="litellm",
    title="LiteLLM proxy",
    log=LiteLlm,
    reports="team, key, user, end user, project, organization, tags; failed requests apart",
    before=("openai-usage",),  # whose object may be in LiteLLM's payload
)
