"""What the gateways' dialects share: JSON lines into counts by caller. Pure.

A gateway knows the team and key of a request, and the `usage` of its answer. Nothing else of a line is kept: messages
and answers may be in it. Lines of one caller in one block are added up, because a busy gateway writes thousands a
second. Before the JSON may stand what a container's runtime, a shipper or syslog wrote.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, NamedTuple

from tokenyield_agent.tokens.dialects.base import LogDialect
from tokenyield_agent.tokens.event import Caller, TokenCounts
from tokenyield_agent.tokens.parsing import instants
from tokenyield_agent.tokens.parsing.agent_labels import AGENT_LABELS
from tokenyield_agent.tokens.parsing.lines import lines_with
from tokenyield_agent.tokens.parsing.loose_json import LooseDecoder
from tokenyield_agent.tokens.parsing.request_class import REQUEST_LABELS, RequestClasses
from tokenyield_agent.tokens.parsing.seen import CountedJobs, SeenLines
from tokenyield_agent.tokens.parsing.usage import count_of
from tokenyield_wire.bounded import fitting_name

LINE_BYTES_MAX = 256 * 1024
"""The longest line that is read: gateways may log messages and answers too."""
LABEL_CHARS_MAX = 128
LABELS = ("team", "key", "user", "end_user", "project", "org", "tags", *AGENT_LABELS, *REQUEST_LABELS)
"""What may be known of a caller."""
MODEL_ENDPOINT = re.compile(
    r"[/:](?:completions|messages|responses|embeddings|rerank|generations|edits|speech|transcriptions|translations"
    r"|(?:stream)?generateContent|converse(?:-stream)?|invoke)/?(?:\?|$)",
    re.I,
)
"""The end of a path at which a model is called."""
_KEY = re.compile(rb'" {0,2}:')
STARTS_MAX = 4
"""Braces of one line at which its JSON may begin."""


class LineCounts(NamedTuple):
    """What one line counts. No kinds: it is this gateway's and counts nothing."""

    caller: Caller = Caller()
    kinds: dict[str, int] = {}  # noqa: RUF012  # never changed
    at_s: float | None = None
    identity: bytes | None = None
    """Equal in lines that report the same request once more; None where nothing distinguishes them."""
    job: bytes | None = None
    """The batch whose total so far this is."""


class JsonLines(LogDialect):
    """A dialect of JSON lines. A subclass names what its lines hold and turns one into counts."""

    name: ClassVar[str]
    words: ClassVar[tuple[bytes, ...]]
    """Any of these is in every line of interest."""
    decoder: ClassVar[LooseDecoder] = LooseDecoder()

    def __init__(self) -> None:
        super().__init__()
        self.classes = RequestClasses()
        self._seen = SeenLines()
        self._jobs = CountedJobs()

    def count(self, document: Any, line: bytes) -> LineCounts | None:
        """What the line, whose JSON is decoded to `document`, counts; None for a line that is not this gateway's."""
        raise NotImplementedError

    def feed(self, block: bytes | bytearray, arrival_s: float) -> list[TokenCounts]:
        sums: dict[Caller, tuple[dict[str, int], float | None]] = {}
        for line in lines_with(block, *self.words, bytes_max=LINE_BYTES_MAX):
            counts = self._counts_of(line)
            if counts is None:
                continue
            self.recognised += 1
            kinds = self._not_yet_counted(counts)
            if not kinds:
                continue
            caller_kinds, _ = sums.setdefault(self._caller_of(counts), ({}, counts.at_s))
            for kind, count in kinds.items():
                caller_kinds[kind] = caller_kinds.get(kind, 0) + count
        return [
            TokenCounts(method="count", at_s=at_s, caller=caller, **kinds) for caller, (kinds, at_s) in sums.items()
        ]

    def _caller_of(self, counts: LineCounts) -> Caller:
        """The caller, with the class of its request."""
        caller = counts.caller
        labels = self.classes.labels(caller.labels, counts.kinds, is_one_request=counts.job is None)
        return caller if labels is caller.labels else Caller(model=caller.model, labels=labels)

    def _not_yet_counted(self, counts: LineCounts) -> dict[str, int]:
        kinds = counts.kinds
        if counts.job is not None:
            return self._jobs.growth(counts.job, kinds)
        if kinds and counts.identity is not None and not self._seen.is_new(counts.identity):
            return {}
        return kinds

    def _counts_of(self, line: bytes) -> LineCounts | None:
        for part in _documents(line):
            if (document := self.decoder.decode(part)) is not None:
                return self.count(document, part)
        return None

    def state(self) -> dict[str, Any]:
        return {**super().state(), "seen": self._seen.state(), "jobs": self._jobs.state()}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._seen.restore(state.get("seen", ""))  # older states have neither
        self._jobs.restore(state.get("jobs", {}))


def caller_of(model: Any, labels: Iterable[tuple[str, Any]]) -> Caller:
    """A caller from the fields of a line; what is not text, or is empty, is left out."""
    return Caller(model=_text(model), labels=tuple((label, text) for label, value in labels if (text := _text(value))))


def only_used(kinds: dict[str, int] | None) -> dict[str, int]:
    """Tokens of a request without an answer: a gateway writes 0 where it knows of none."""
    return kinds if kinds and any(kinds.values()) else {}


def instant_of(value: Any) -> float | None:
    """Unix seconds of a time in a line, a number or ISO 8601; None for anything else."""
    if isinstance(value, str):
        return instants.parse(value[:64].encode("utf-8", "replace"), 0.0)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return instants.valid(value) if is_number else None


def _documents(line: bytes) -> Iterator[bytes]:
    """Parts of the line that may be its JSON object: from a brace on to the last one. What stands before is no JSON
    itself, else an object inside a broken one would be taken for a whole line."""
    end = line.rfind(b"}") + 1
    start = line.find(b"{")
    for _ in range(STARTS_MAX):
        if not 0 <= start < end or _KEY.search(line, 0, start):
            return
        yield line[start:end]
        start = line.find(b"{", start + 1)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, list):
        value = ",".join(sorted(item for item in value if isinstance(item, str)))
    elif not isinstance(value, str):
        number = count_of(value)
        value = "" if number is None else str(number)
    if value in ("", "-"):
        return None
    return fitting_name(str(value), LABEL_CHARS_MAX)
