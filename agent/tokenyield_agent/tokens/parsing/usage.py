"""A `usage` object, as vendors and servers write it, into kinds of tokens. Pure.

What differs is whether the prompt's number holds what came from a cache (OpenAI, DeepSeek, Gemini) or stands beside it
(Anthropic, Bedrock), and whether reasoning is inside or beside the output. A number may be written as text or with a
point; what is no count (negative, nan, 1.5, true, a list) is unknown, never 0.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tokenyield_agent.tokens.event import LINE_COUNT_MAX
from tokenyield_agent.tokens.parsing.loose_json import LooseDecoder

_decoder = LooseDecoder()

_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?(?:[eE]\+?[0-9]{1,2})?")
_NESTED = ("usage", "tokens", "billed_units")
"""Where Cohere and some gateways put the counts, inside the object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _UsageShape:
    """The names that one family of usage objects uses; a dot goes into an object."""

    prompt: str
    completion: str
    cached: tuple[str, ...] = ()
    """Of the prompt; the first that is a count is taken."""
    read_beside: str = ""
    """What the cache served, which the prompt leaves out."""
    written_beside: str = ""
    """What was computed and written into the cache, which the prompt leaves out."""
    parts: tuple[str, ...] = ()
    """Of a prompt that has no number of its own: they make it."""
    more_prompt: str = ""
    more_completion: str = ""

    def is_of(self, usage: dict[str, Any]) -> bool:
        return self.prompt in usage or self.completion in usage or any(name in usage for name in self.parts)


_SHAPES = (
    _UsageShape(
        prompt="prompt_tokens",
        completion="completion_tokens",
        cached=(
            "prompt_tokens_details.cached_tokens",
            "prompt_cache_hit_tokens",  # DeepSeek
            "cache_read_input_tokens",  # LiteLLM, of Anthropic's models
            "cached_tokens",  # Moonshot
            "num_cached_tokens",
        ),
        parts=("prompt_cache_hit_tokens", "prompt_cache_miss_tokens"),
    ),
    _UsageShape(
        prompt="input_tokens",
        completion="output_tokens",
        cached=(
            "input_tokens_details.cached_tokens",
            "input_token_details.cached_tokens",
            "input_token_details.cache_read",
        ),
        read_beside="cache_read_input_tokens",
        written_beside="cache_creation_input_tokens",
    ),
    _UsageShape(
        prompt="promptTokenCount",
        completion="candidatesTokenCount",
        cached=("cachedContentTokenCount",),
        more_prompt="toolUsePromptTokenCount",
        more_completion="thoughtsTokenCount",
    ),
    _UsageShape(
        prompt="prompt_token_count",
        completion="candidates_token_count",
        cached=("cached_content_token_count",),
        more_prompt="tool_use_prompt_token_count",
        more_completion="thoughts_token_count",
    ),
    _UsageShape(
        prompt="inputTokens",
        completion="outputTokens",
        cached=("cachedInputTokens",),
        read_beside="cacheReadInputTokens",
        written_beside="cacheWriteInputTokens",
    ),
    _UsageShape(prompt="promptTokens", completion="completionTokens", cached=("cachedInputTokens",)),
)


def count_of(value: Any) -> int | None:
    """The count of tokens that `value` is: 15, 15.0, "15", "1.5e1"; None for anything that cannot be one."""
    if type(value) is int:  # nearly always
        return value if 0 <= value < LINE_COUNT_MAX else None
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.fullmatch(text):
            return None
        value = int(text) if text.isdigit() else float(text)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < LINE_COUNT_MAX else None


@lru_cache(maxsize=512)
def _keys(path: str) -> tuple[str, ...]:
    return tuple(path.split("."))


def dig(document: Any, path: str) -> Any:
    """The value at a dotted path; the whole path may also be one key, as in Envoy's `gen_ai.usage.input_tokens`."""
    if not isinstance(document, dict):
        return None
    if path in document:
        return document[path]
    for key in _keys(path):
        if not isinstance(document, dict):
            return None
        document = document.get(key)
    return document


def token_kinds(prompt: Any, completion: Any, cached: Any = None) -> dict[str, int]:
    """Kinds of a prompt that includes what was cached, and of its completion; what is not a count is left out."""
    kinds = {}
    if (out := count_of(completion)) is not None:
        kinds["completion"] = out
    if (whole := count_of(prompt)) is not None:
        part = count_of(cached)
        if part is not None and part <= whole:
            kinds |= {"prompt_computed": whole - part, "prompt_cached": part}
        else:
            kinds["prompt_unsplit"] = whole
    return kinds


def usage_kinds(usage: Any) -> dict[str, int] | None:
    """Kinds of tokens of a usage object; empty where it holds counts that cannot be divided into prompt and completion,
    None for what is no usage object. It may be text that holds one."""
    usage = as_object(usage)
    if usage is None:
        return None
    readings = []
    for shape in _SHAPES:
        sums = _read(usage, shape) if shape.is_of(usage) else {}
        if kinds := {kind: count for kind, count in sums.items() if count < LINE_COUNT_MAX}:
            if any(kinds.values()):
                return kinds
            readings.append(kinds)
    for name in _NESTED:
        if isinstance(usage.get(name), dict) and (nested := usage_kinds(usage[name])):
            return nested
    if readings:
        return readings[0]
    return {} if count_of(usage.get("total_tokens")) is not None or usage.get("type") == "duration" else None


def as_object(value: Any) -> dict[str, Any] | None:
    """A JSON object, or the one that a text holds: some loggers write objects as text."""
    if isinstance(value, str) and value.startswith("{"):
        value = _decoder.decode(value.encode("utf-8", "replace"))
    return value if isinstance(value, dict) else None


def _read(usage: dict[str, Any], shape: _UsageShape) -> dict[str, int]:
    prompt, completion = count_of(usage.get(shape.prompt)), count_of(usage.get(shape.completion))
    if prompt is None and shape.parts:
        parts = [part for name in shape.parts if (part := count_of(usage.get(name))) is not None]
        prompt = sum(parts) if len(parts) == len(shape.parts) else None
    if prompt is not None and shape.more_prompt:
        prompt += count_of(usage.get(shape.more_prompt)) or 0
    if shape.more_completion and (beside := count_of(usage.get(shape.more_completion))) is not None:
        completion = (completion or 0) + beside
    elif completion is not None and prompt is not None:
        completion += _reasoning_beside(usage, prompt + completion)
    if prompt is not None and shape.read_beside and (shape.read_beside in usage or shape.written_beside in usage):
        return token_kinds(None, completion) | _prompt_beside_cache(usage, shape, prompt)
    cached = next((part for path in shape.cached if (part := count_of(dig(usage, path))) is not None), None)
    return token_kinds(prompt, completion, cached)


def _prompt_beside_cache(usage: dict[str, Any], shape: _UsageShape, prompt: int) -> dict[str, int]:
    computed = prompt + (count_of(usage.get(shape.written_beside)) or 0)
    read = 0 if usage.get(shape.read_beside) is None else count_of(usage[shape.read_beside])
    return {"prompt_unsplit": computed} if read is None else {"prompt_computed": computed, "prompt_cached": read}


def _reasoning_beside(usage: dict[str, Any], sum_without: int) -> int:
    """What xAI generated as reasoning: the total holds it, the completion does not."""
    total = count_of(usage.get("total_tokens"))
    if total is None or total <= sum_without:
        return 0
    reasoning = count_of(dig(usage, "completion_tokens_details.reasoning_tokens"))
    return reasoning if reasoning == total - sum_without else 0
