"""A dialect that the operator writes in YAML: a regular expression with named groups, and their units.

    dialects:
      - name: my-server
        contains: "served in"                        # a literal that stands in every such line: found at memory speed
        pattern: '^(?P<time>\\S+ \\S+) model=(?P<model>\\S+) in=(?P<prompt>\\d+) out=(?P<completion>\\d+) served in
        (?P<took>[\\d.]+)s' units: {took: s}
      - name: my-rates
        contains: "tok/s"
        pattern: 'engine (?P<engine>\\d+): (?P<completion>[\\d.]+) tok/s'
        units: {completion: tokens/s}
        interval_s: 10                               # of rates, until two lines show it

Groups: the kinds of tokens and requests (`prompt` stands for prompt_unsplit; beside `prompt_cached` it is the whole
prompt, which holds what was cached), `status`, `id`, `time`, `took`, `engine`, `model`, and the labels of a caller. A
line with a `status`, an HTTP code or a word, is one request that ended so. A line that comes again with the same `id`,
and equal in all that the pattern matches, counts once. Numbers may have commas between thousands. A rate times the
interval since the engine's last line makes tokens, see intervals.py. All this is checked when the settings are read.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenyield_agent.tokens.dialects.base import LogDialect
from tokenyield_agent.tokens.dialects.json_lines import LABELS, caller_of
from tokenyield_agent.tokens.event import KINDS, LINE_COUNT_MAX, SPAN_S_MAX, TokenCounts
from tokenyield_agent.tokens.parsing import instants
from tokenyield_agent.tokens.parsing.intervals import RateIntervals
from tokenyield_agent.tokens.parsing.lines import lines_with
from tokenyield_agent.tokens.parsing.outcome import outcome_of
from tokenyield_agent.tokens.parsing.seen import SeenLines
from tokenyield_wire.bounded import fitting_name
from tokenyield_wire.window import NAME_CHARS_MAX, REQUEST_KINDS

UNITS = {"tokens": 1.0, "kilotokens": 1e3, "requests": 1.0, "tokens/s": 1.0, "ms": 1e-3, "s": 1.0}
_RATE = "tokens/s"
_COUNTS = {"prompt": "prompt_unsplit", **{kind: kind for kind in KINDS}}
_STATUS = "status"
_OTHER_GROUPS = (_STATUS, "id", "time", "took", "engine", "model", *LABELS)
SILENCE_FACTOR = 1.5


@dataclass(frozen=True, kw_only=True)
class PatternSettings:
    """One dialect of the operator's own."""

    name: str
    contains: str
    pattern: str
    units: dict[str, str] = field(default_factory=dict)
    interval_s: float = 10.0

    def faults(self, at: str) -> Iterator[str]:
        """What is wrong with it, each fault with the fix."""
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,40}", self.name):
            yield f"{at}.name: expected small letters, digits and -, found '{self.name}'"
        if len(self.contains) < 3:
            yield f"{at}.contains: expected 3 characters or more, found '{self.contains}'; name a literal of every line"
        if not 0.1 <= self.interval_s <= 3600:
            yield f"{at}.interval_s: expected 0.1 to 3600, found {self.interval_s}"
        try:
            groups = list(re.compile(self.pattern.encode()).groupindex)
        except re.error as error:
            yield f"{at}.pattern: expected a regular expression, found '{self.pattern}' ({error})"
            return
        known = (*_COUNTS, *_OTHER_GROUPS)
        for group in groups:
            if group not in known:
                yield f"{at}.pattern: expected groups of {', '.join(known)}; found '{group}'"
        if not set(groups) & {*_COUNTS, _STATUS}:
            yield f"{at}.pattern: expected a group that counts, found none; name one completion, prompt or requests"
        if _STATUS in groups and (counted := set(groups) & set(REQUEST_KINDS)):
            yield f"{at}.pattern: expected status or {min(counted)}, found both; remove one"
        for group, unit in self.units.items():
            if group not in groups:
                yield f"{at}.units.{group}: expected a group of the pattern, found '{group}'; remove the unit"
            allowed = ("ms", "s") if group == "took" else ("tokens", "kilotokens", "tokens/s", "requests")
            if unit not in allowed:
                yield f"{at}.units.{group}: expected one of {', '.join(allowed)}; found '{unit}'"


class PatternDialect(LogDialect):
    """The dialect of one `PatternSettings`, which must be without faults."""

    name: str

    def __init__(self, settings: PatternSettings) -> None:
        super().__init__()
        self.name = settings.name
        self._contains = settings.contains.encode()
        self._pattern = re.compile(settings.pattern.encode())
        self._units = settings.units
        self._nominal_s = settings.interval_s
        groups = self._pattern.groupindex
        self._counts = [group for group in groups if group in _COUNTS]
        self._rates = [group for group in self._counts if self._units.get(group) == _RATE]
        self._labels = [group for group in groups if group in LABELS]
        self._intervals = RateIntervals()
        self._seen = SeenLines()

    def feed(self, block: bytes | bytearray, arrival_s: float) -> list[TokenCounts]:
        events = []
        for line in lines_with(block, self._contains):
            match = self._pattern.search(line)
            if match is None:
                continue
            groups = match.groupdict()
            if groups.get("id") and not self._seen.is_new(match[0]):
                self.recognised += 1
            elif counts := self._counts_of(groups, arrival_s):
                self.recognised += 1
                events.append(counts)
        return events

    def forget_counts(self) -> None:
        self._intervals.clear()

    def _counts_of(self, groups: Mapping[str, bytes | None], arrival_s: float) -> TokenCounts | None:
        values = {group: _number(groups[group]) for group in self._counts}
        status = (groups.get(_STATUS) or b"").decode("utf-8", "replace")
        if not status and all(value is None for value in values.values()):
            return None
        at_s = instants.parse(when, arrival_s) if (when := groups.get("time")) else None
        kinds = {
            _COUNTS[group]: round(value * UNITS[self._units.get(group, "tokens")])
            for group, value in values.items()
            if value is not None and group not in self._rates
        }
        took = _number(groups.get("took"))
        span_s = 0.0 if took is None else took * UNITS[self._units.get("took", "s")]
        if self._rates:
            rates = tuple(values[group] or 0.0 for group in self._rates)
            span_s, tokens = self._intervals.tokens(
                (groups.get("engine") or b"").decode("utf-8", "replace")[:64],
                arrival_s if at_s is None else at_s,
                rates,
                nominal_s=self._nominal_s,
                silence_factor=SILENCE_FACTOR,
            )
            kinds |= {_COUNTS[group]: count for group, count in zip(self._rates, tokens, strict=True)}
        if max(kinds.values(), default=0) > LINE_COUNT_MAX:
            return None
        kinds = _divided(kinds)
        if status:
            kinds[outcome_of(status)] = 1
        texts = {group: (groups.get(group) or b"").decode("utf-8", "replace") for group in ("model", *self._labels)}
        if texts["model"]:
            self.model = fitting_name(texts["model"], NAME_CHARS_MAX)
        caller = caller_of(texts["model"], [(label, texts[label]) for label in self._labels]) if self._labels else None
        method: Any = "rate" if self._rates else "count"
        span_ms = int(min(span_s, SPAN_S_MAX) * 1000)
        return TokenCounts(method=method, at_s=at_s, span_ms=span_ms, caller=caller, **kinds)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "engines": self._intervals.state(), "seen": self._seen.state()}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._intervals.restore(state["engines"])
        self._seen.restore(state.get("seen", ""))  # older states have none


def _divided(kinds: dict[str, int]) -> dict[str, int]:
    """The whole prompt beside its cached part as the two parts; as it is where a part cannot be of this prompt."""
    whole, cached = kinds.get("prompt_unsplit"), kinds.get("prompt_cached")
    if whole is None or cached is None:
        return kinds
    others = {kind: count for kind, count in kinds.items() if not kind.startswith("prompt_")}
    if cached > whole:
        return {**others, "prompt_unsplit": whole}
    return {**others, "prompt_computed": whole - cached, "prompt_cached": cached}


def _number(text: bytes | None) -> float | None:
    """A finite number that is not negative, with or without commas between thousands; None for anything else."""
    if text is None or not re.fullmatch(rb"\d{1,15}(?:,\d{3}){0,4}(?:\.\d{1,9})?", text):
        return None
    value = float(text.replace(b",", b""))
    return value if math.isfinite(value) else None
