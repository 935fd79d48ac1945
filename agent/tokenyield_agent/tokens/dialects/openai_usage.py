"""Any JSON-lines log that carries OpenAI's `usage` object (or Anthropic's): home-made gateways, batch results.

    {"time":"2026-11-23T12:00:00Z","team":"search","model":"chat","usage":{"prompt_tokens":9,"completion_tokens":12,
     "prompt_tokens_details":{"cached_tokens":4}}}
    {"custom_id":"r1","response":{"status_code":200,"body":{"model":"chat","usage":{...}}},"error":null}

The object is looked for at the top, and under `response`, `body`, `response.body` and `data`. A `usage` that is null or
holds no counts is not usage. The caller is taken from `team`, `user` and the like at the top or under `metadata`, or
from where `fields` says.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from tokenyield_agent.tokens.dialects.base import Gateway
from tokenyield_agent.tokens.dialects.json_lines import JsonLines, caller_of, decode, dig, is_count, usage_kinds
from tokenyield_agent.tokens.event import Caller

_HOLDERS = ("", "response", "body", "response.body", "data")
_DEFAULT_FIELDS = (
    ("team", ("team", "metadata.team")),
    ("key", ("api_key_alias", "metadata.key")),
    ("user", ("user", "metadata.user")),
    ("project", ("project", "metadata.project")),
)


class OpenAiUsage(JsonLines):
    """Dialect of JSON lines with a `usage` object. `fields` maps labels of the caller to dotted paths."""

    name: ClassVar[str] = "openai-usage"
    words: ClassVar[tuple[bytes, ...]] = (b'"usage"',)

    def __init__(self, fields: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._fields = [(label, (path,)) for label, path in fields.items()] if fields else list(_DEFAULT_FIELDS)

    def count(self, line: bytes) -> tuple[Caller, dict[str, int], float | None] | None:
        entry = decode(line)
        for place in _HOLDERS:
            holder = dig(entry, place) if place else entry
            kinds = _kinds(holder.get("usage")) if isinstance(holder, dict) else None
            if kinds is not None:
                model = holder.get("model") or entry.get("model")
                return caller_of(model, self._labels(entry)), kinds, None
        return None

    def _labels(self, entry: Any) -> list[tuple[str, Any]]:
        return [
            (label, next((value for path in paths if (value := dig(entry, path)) is not None), None))
            for label, paths in self._fields
        ]


def _kinds(usage: Any) -> dict[str, int] | None:
    if not isinstance(usage, dict):
        return None
    if "prompt_tokens" in usage or "completion_tokens" in usage:
        cached = dig(usage, "prompt_tokens_details.cached_tokens")
        kinds = usage_kinds(usage.get("prompt_tokens"), usage.get("completion_tokens"), cached)
    elif "cache_read_input_tokens" in usage:  # Anthropic: its input leaves out what was read from the cache
        kinds = usage_kinds(None, usage.get("output_tokens"), None)
        parts = [usage.get(name) or 0 for name in ("input_tokens", "cache_creation_input_tokens")]
        read = usage["cache_read_input_tokens"] or 0
        if all(is_count(part) for part in (*parts, read)):
            kinds["prompt_computed"], kinds["prompt_cached"] = sum(parts), read
    else:
        cached = dig(usage, "input_tokens_details.cached_tokens")
        kinds = usage_kinds(usage.get("input_tokens"), usage.get("output_tokens"), cached)
    return kinds if len(kinds) > 1 else None


GATEWAY = Gateway(
    name="openai-usage",
    title="any JSON lines with OpenAI's or Anthropic's `usage`",
    log=OpenAiUsage,
    reports="`team`, `user`, `metadata.team` and the like, or where `fields` says",
    takes_fields=True,
)
