"""Any JSON-lines log that carries a `usage` object: home-made gateways, results of batches.

    {"time":"2026-11-23T12:00:00Z","team":"search","model":"chat","usage":{"prompt_tokens":9,"completion_tokens":12,
     "prompt_tokens_details":{"cached_tokens":4}}}
    {"custom_id":"r1","response":{"status_code":200,"body":{"model":"chat","usage":{...}}},"error":null}
    {"custom_id":"a","result":{"type":"succeeded","message":{"model":"claude-x","usage":{...}}}}

The object is looked for at the top and in the places of `_HOLDERS`; its forms are in parsing/usage.py. A `usage` that
is null or holds no counts is not usage. The caller is taken from `team`, `user` and the like at the top or under
`metadata`, or from where `fields` says. `status`, `status_code` and `error` say how a request ended. A line that has an
id and comes again, equal in all, is the same request; of a stream's chunks the last one counts, of a polled batch what
grew.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from tokenyield_agent.tokens.dialects.base import Gateway
from tokenyield_agent.tokens.dialects.json_lines import JsonLines, LineCounts, caller_of, only_used
from tokenyield_agent.tokens.event import Caller
from tokenyield_agent.tokens.parsing.agent_labels import labels_of_line
from tokenyield_agent.tokens.parsing.outcome import outcome_of
from tokenyield_agent.tokens.parsing.request_class import tier_in
from tokenyield_agent.tokens.parsing.usage import as_object, count_of, dig, usage_kinds

_HOLDERS = ("", "response", "body", "response.body", "response_body", "data", "result", "result.message")
"""Each may be an object, or a text that holds one."""
_USAGES = ("usage", "usageMetadata", "usage_metadata")
_STATUSES = (
    "status_code", "status", "statusCode", "http_status", "response.status_code", "response.status", "result.type",
)  # fmt: skip
_IDS = ("id", "custom_id", "request_id")
_BATCH_ENDED = frozenset(("completed", "cancelled", "expired", "failed"))
_DEFAULT_FIELDS = (
    ("team", ("team", "metadata.team")),
    ("key", ("api_key_alias", "metadata.key")),
    ("user", ("user", "metadata.user")),
    ("project", ("project", "metadata.project")),
)


class OpenAiUsage(JsonLines):
    """Dialect of JSON lines with a `usage` object. `fields` maps labels of the caller to dotted paths."""

    name: ClassVar[str] = "openai-usage"
    words: ClassVar[tuple[bytes, ...]] = (b'"usage', b'"custom_id"')

    def __init__(self, fields: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._fields = [(label, (path,)) for label, path in fields.items()] if fields else list(_DEFAULT_FIELDS)

    def count(self, document: Any, line: bytes) -> LineCounts | None:
        if not isinstance(document, dict):
            return None
        holder, usage, kinds = _usage_of(document)
        statuses = [dig(document, path) for path in _STATUSES]
        ended = outcome_of(*statuses, error=document.get("error") or holder.get("error"))
        if kinds is None and not _is_batch_result(document) and not (ended != "requests" and _has_no_usage(document)):
            return None
        caller = self._caller(document, holder)
        if kinds and holder.get("object") == "batch":
            return _batch(caller, holder, kinds)
        if _is_chunk(holder) and not _is_last_chunk(holder):
            return LineCounts()
        counted = {ended: 1, **((kinds or {}) if ended == "requests" else only_used(kinds))}
        return LineCounts(caller, counted, identity=_identity(document, holder, usage, line))

    def _caller(self, document: dict[str, Any], holder: dict[str, Any]) -> Caller:
        labels = [
            (label, next((value for path in paths if (value := dig(document, path)) is not None), None))
            for label, paths in self._fields
        ]
        labels += labels_of_line(document, dict(labels))
        if dict(labels).get("service_tier") is None:
            labels.append(("service_tier", tier_in(holder, document)))
        return caller_of(holder.get("model") or holder.get("modelVersion") or document.get("model"), labels)


def _usage_of(document: dict[str, Any]) -> tuple[dict[str, Any], Any, dict[str, int] | None]:
    """(the object that holds the usage, the usage, its kinds); (the document, None, None) where there is none."""
    undivided: tuple[dict[str, Any], Any, dict[str, int] | None] = (document, None, None)
    for place in _HOLDERS:
        if holder := as_object(dig(document, place) if place else document):
            for name in _USAGES:
                kinds = usage_kinds(holder.get(name))
                if kinds:
                    return holder, holder[name], kinds
                if kinds is not None and undivided[2] is None:
                    undivided = holder, holder[name], kinds
    return undivided


def _is_batch_result(document: dict[str, Any]) -> bool:
    """A line of a batch's results, or of its errors, where the usage may be missing; not one of its requests."""
    if not isinstance(document.get("custom_id"), str):
        return False
    has_type = isinstance(dig(document, "result.type"), str)
    has_status = count_of(dig(document, "response.status_code")) is not None
    return has_type or has_status or bool(document.get("error"))


def _has_no_usage(document: dict[str, Any]) -> bool:
    """Whether it is the line of a request to a model that says that nothing is known of its tokens."""
    return isinstance(document.get("model"), str) and "usage" in document and document["usage"] is None


def _batch(caller: Caller, batch: dict[str, Any], kinds: dict[str, int]) -> LineCounts:
    """OpenAI's batch object, which is polled: its usage is final when the batch has ended."""
    status, name = batch.get("status"), batch.get("id")
    if not isinstance(status, str) or status not in _BATCH_ENDED or not isinstance(name, str):
        return LineCounts()
    requests = {
        kind: count
        for kind, name in (("requests", "completed"), ("requests_failed", "failed"))
        if (count := count_of(dig(batch, f"request_counts.{name}")))
    }
    return LineCounts(caller, {**requests, **kinds}, job=name.encode("utf-8", "replace"))


def _is_chunk(holder: dict[str, Any]) -> bool:
    return holder.get("object") == "chat.completion.chunk"


def _is_last_chunk(holder: dict[str, Any]) -> bool:
    """OpenAI's usage comes in a chunk without choices, others' in the one that says why the answer ended; some servers
    put the usage so far in every chunk."""
    choices = holder.get("choices")
    if not isinstance(choices, list) or not choices:
        return True
    return all(isinstance(choice, dict) and choice.get("finish_reason") for choice in choices)


def _identity(document: dict[str, Any], holder: dict[str, Any], usage: Any, line: bytes) -> bytes | None:
    if _is_chunk(holder) and isinstance(holder.get("id"), str):
        return repr((holder["id"], holder.get("created"), usage)).encode("utf-8", "backslashreplace")
    has_id = any(isinstance(dig(document, name), str) for name in _IDS) or isinstance(holder.get("id"), str)
    return line if has_id else None


GATEWAY = Gateway(
    name="openai-usage",
    title="any JSON lines with a `usage` object: OpenAI's (chat, responses, batch results), Anthropic's (also batch "
    "results), DeepSeek's, Gemini's, Bedrock's, Cohere's",
    log=OpenAiUsage,
    reports="`team`, `user`, `metadata.team` and the like, or where `fields` says; service tier; failed and "
    "aborted requests apart, with what they used; a request once where its line has an id",
    takes_fields=True,
)
