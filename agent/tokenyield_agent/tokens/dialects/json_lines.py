"""What the gateways' dialects share: JSON lines into counts by caller. Pure.

A gateway knows the team and key of a request, and the `usage` of its answer. Nothing else of a line is kept: messages
and answers may be in it. Lines of one caller in one block are added up, because a busy gateway writes thousands a
second.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

import msgspec

from tokenyield_agent.tokens.dialects.base import LogDialect
from tokenyield_agent.tokens.event import LINE_COUNT_MAX, Caller, TokenCounts
from tokenyield_agent.tokens.parsing.lines import lines_with

LINE_BYTES_MAX = 256 * 1024
"""The longest line that is read: gateways may log messages and answers too."""
LABEL_CHARS_MAX = 128
LABELS = ("team", "key", "user", "end_user", "project", "org", "tags")
"""What may be known of a caller."""


class JsonLines(LogDialect):
    """A dialect of JSON lines. A subclass names what its lines hold and turns one into counts."""

    name: ClassVar[str]
    words: ClassVar[tuple[bytes, ...]]
    """Any of these is in every line of interest."""

    def count(self, line: bytes) -> tuple[Caller, dict[str, int], float | None] | None:
        """(caller, counts by kind, the line's instant); None for a line that is not this gateway's."""
        raise NotImplementedError

    def feed(self, block: bytes | bytearray, arrival_s: float) -> list[TokenCounts]:
        sums: dict[Caller, tuple[dict[str, int], float | None]] = {}
        for line in lines_with(block, *self.words, bytes_max=LINE_BYTES_MAX):
            start = line.find(b"{")
            if start < 0 or (counts := self.count(line[start:])) is None:
                continue
            caller, kinds, at_s = counts
            self.recognised += 1
            caller_kinds, _ = sums.setdefault(caller, ({}, at_s))
            for kind, count in kinds.items():
                caller_kinds[kind] = caller_kinds.get(kind, 0) + count
        return [
            TokenCounts(method="count", at_s=at_s, caller=caller, **kinds) for caller, (kinds, at_s) in sums.items()
        ]


def caller_of(model: Any, labels: Iterable[tuple[str, Any]]) -> Caller:
    """A caller from the fields of a line; what is not text, or is empty, is left out."""
    return Caller(model=_text(model), labels=tuple((label, text) for label, value in labels if (text := _text(value))))


def usage_kinds(prompt: Any, completion: Any, cached: Any) -> dict[str, int]:
    """Counts of one answered request from the numbers of its `usage` object; what is not a count is unknown."""
    kinds = {"requests": 1}
    if is_count(completion):
        kinds["completion"] = completion
    if is_count(prompt):
        if is_count(cached) and cached <= prompt:
            kinds["prompt_computed"], kinds["prompt_cached"] = prompt - cached, cached
        else:
            kinds["prompt_unsplit"] = prompt
    return kinds


def is_count(value: Any) -> bool:
    """Whether it can be a count of one line's tokens."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LINE_COUNT_MAX


def decode(line: bytes) -> Any:
    """The JSON document in `line`; None when it is not one."""
    try:
        return msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def dig(document: Any, path: str) -> Any:
    """The value at a dotted path; the whole path may also be one key, as in Envoy's `gen_ai.usage.input_tokens`."""
    if isinstance(document, dict) and path in document:
        return document[path]
    for key in path.split("."):
        if not isinstance(document, dict):
            return None
        document = document.get(key)
    return document


def _text(value: Any) -> str | None:
    if isinstance(value, list):
        value = ",".join(sorted(item for item in value if isinstance(item, str)))
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value or value == "-":
        return None
    return value[:LABEL_CHARS_MAX]
