"""llama.cpp's llama-server log: the timings that it prints for each finished request.

    0.04.153.246 I slot print_timing: id  3 | task 0 | prompt eval time =       4.70 ms /   162 tokens ( ...
    0.04.153.294 I slot print_timing: id  3 | task 0 |        eval time =      17.03 ms /     5 tokens ( ...
    0.04.153.454 I slot      release: id  3 | task 0 | stop processing: n_tokens = 166, truncated = 0

Older versions print one head line and the timings under it without a head, and release the slot before the timings:

    slot      release: id  0 | task 519 | stop processing: n_past = 380, truncated = 0
    slot print_timing: id  0 | task 519 |
    prompt eval time =    5093.47 ms /  1360 tokens ( ...
           eval time =     319.58 ms /    10 tokens ( ...

January to December 2024 wrote key-values or JSON, and until January 2024 the library's own timings, once a request,
where the tokens are the `sample` runs (the first token is sampled off the prompt and needs no run of its own):

    INFO [           print_timings] prompt eval time     =      15.62 ms /    12 tokens (...) | ... id_slot=0
    id_task=0 ... {"tid":"14964",...,"function":"print_timings",...,"msg":"generation eval time =    3559.27 ms /
    25 runs ...",...} llama_print_timings:      sample time =     107.35 ms /   396 runs   ( ... llama_print_timings:
    prompt eval time =     444.18 ms /   800 tokens ( ... llama_print_timings:        eval time =   ...       ms /
    395 runs   ( ...

`prompt eval` counts what was computed; tokens taken from the prompt cache are not in it. They follow from the slot's
length at release: it holds the whole prompt and every token generated but the last, never evaluated. So
`cached = n_tokens + 1 - computed - completion`. Checked on the recorded run in
tests/fixtures/servers/llamacpp, where that gives 54,007, the server's own counter to the token. Of a slot whose context
was shifted (`truncated = 1`) it stays unknown.
"""

import re
from typing import Any, ClassVar

from tokenyield_agent.tokens.dialects.base import LogDialect, PathReport, Server
from tokenyield_agent.tokens.endpoint import CounterNames, SeriesName
from tokenyield_agent.tokens.event import SPAN_S_MAX, TokenCounts
from tokenyield_agent.tokens.parsing.lines import lines_with

PENDING_MAX = 1024
"""Requests whose lines are not all read yet. A server has as many as slots; a cancelled one leaves its release."""

_WORDS = (
    b"print_timing: id",
    b"eval time",
    b"llama_print_timings:      sample",
    b"stop processing",
    b"loading model '",
)
_LIBRARY_KEY = "library"
_SLOT = re.compile(
    rb"^[^'\"]{0,200}?slot +(?P<function>\w+): id +(?P<slot>\d{1,6}) \| task (?P<task>-?\d{1,12}) \|(?P<rest>.*)$"
)
_TIMING = re.compile(
    rb"^(?:\[\d{1,6}\])?\s*(?P<prompt>prompt )?eval time\s*=\s*"
    rb"(?P<ms>\d{1,12}\.\d+) ms /\s*(?P<tokens>\d{1,9}) tokens \("
)
_RELEASE = re.compile(rb"^\s*stop processing: n_(?:tokens|past) = (?P<length>\d{1,9}), truncated = (?P<truncated>[01])")
_KEYED = re.compile(
    rb"(?:^INFO \[ *print_timings\] |\"function\":\"print_timings\",.{0,80}?\"msg\":\")"
    rb"(?P<kind>prompt|generation) eval time *= *(?P<ms>\d{1,12}\.\d+) ms / *(?P<tokens>\d{1,9}) (?:tokens|runs) "
)
_KEYED_SLOT = re.compile(rb"\b(?:id_slot|slot_id)\"?[=:](?P<slot>\d{1,6})\b")
_KEYED_TASK = re.compile(rb"\b(?:id_task|task_id)\"?[=:](?P<task>\d{1,12})\b")
_LIBRARY = re.compile(
    rb"^[^'\"]{0,120}?llama_print_timings: +(?P<kind>sample|prompt eval|eval) time = +(?P<ms>\d{1,12}\.\d+) ms / "
    rb"+(?P<tokens>\d{1,9}) (?:runs|tokens) "
)
_MODEL = re.compile(rb"(?:loading model|load_model:.* model) '(?P<path>[^']{1,1024})'")

COUNTERS = CounterNames(
    server="llamacpp",
    known_by=(SeriesName("llamacpp:tokens_predicted_total"),),
    prefixes=("llamacpp:",),
    completion=(SeriesName("llamacpp:tokens_predicted_total"),),
    prompt_computed=(SeriesName("llamacpp:prompt_tokens_total"),),
    prompt_cached=(SeriesName("llamacpp:prompt_tokens_cached_total"),),
    running=(SeriesName("llamacpp:requests_processing"),),
    waiting=(SeriesName("llamacpp:requests_deferred"),),
    cache_used=(SeriesName("llamacpp:kv_cache_usage_ratio"),),
)
"""llama-server's Prometheus names (`--metrics`). Versions before mid-2026 do not report cached tokens; none reports
requests."""


class LlamaCpp(LogDialect):
    """Dialect of llama-server from 2023 to the newest."""

    name: ClassVar[str] = "llamacpp"

    def __init__(self) -> None:
        super().__init__()
        self._pending: dict[str, dict[str, Any]] = {}
        self._current: str | None = None

    def feed(self, block: bytes | bytearray, arrival_s: float) -> list[TokenCounts]:
        events: list[TokenCounts] = []
        for line in lines_with(block, *_WORDS):
            slot = _SLOT.search(line)
            if slot is not None:
                self._current = f"{int(slot['slot'])}:{int(slot['task'])}"
                self._read(slot["rest"], self._current, events)
            elif model := _MODEL.search(line):
                self.model = model["path"].rpartition(b"/")[2].decode("utf-8", "replace")[:253]
                self._pending.clear()  # this line opens a server's log; requests of the last one end here
            elif keyed := _KEYED.search(line):
                self._read_keyed(keyed, line, events)
            elif library := _LIBRARY.match(line):
                self._read_library(library, events)
            elif self._current is not None:
                self._read(line, self._current, events)
        return events

    def finish(self) -> list[TokenCounts]:
        """Requests whose timings were read but whose slot was never seen released."""
        events = [counts for request in self._pending.values() if (counts := _request(request, whole=False))]
        self._pending.clear()
        return events

    def forget_counts(self) -> None:
        self._pending.clear()

    def _read(self, text: bytes, key: str, events: list[TokenCounts]) -> None:
        if match := _TIMING.match(text):
            kind = "computed" if match["prompt"] else "completion"
            request = self._of(key, events)
            request[kind] = int(match["tokens"])
            request["ms"] = request.get("ms", 0.0) + float(match["ms"])
        elif match := _RELEASE.match(text):
            request = self._of(key, events)
            request["length"] = int(match["length"]) if match["truncated"] == b"0" else -1
        else:
            return
        self._settle(key, events, needs_release=True)

    def _read_keyed(self, match: re.Match[bytes], line: bytes, events: list[TokenCounts]) -> None:
        slot, task = _KEYED_SLOT.search(line), _KEYED_TASK.search(line)
        if slot is None or task is None:
            return
        key = f"{int(slot['slot'])}:{int(task['task'])}"
        request = self._of(key, events)
        request["computed" if match["kind"] == b"prompt" else "completion"] = int(match["tokens"])
        request["ms"] = request.get("ms", 0.0) + float(match["ms"])
        self._settle(key, events, needs_release=False)

    def _read_library(self, match: re.Match[bytes], events: list[TokenCounts]) -> None:
        """Three lines that always come together, from one thread: sample, prompt eval, eval."""
        request = self._of(_LIBRARY_KEY, events)
        if match["kind"] == b"sample":
            request.clear()
            request["completion"] = int(match["tokens"])
        elif match["kind"] == b"prompt eval":
            request["computed"] = int(match["tokens"])
        request["ms"] = request.get("ms", 0.0) + float(match["ms"])
        if match["kind"] == b"eval":
            self._settle(_LIBRARY_KEY, events, needs_release=False)
            self._pending.pop(_LIBRARY_KEY, None)

    def _settle(self, key: str, events: list[TokenCounts], *, needs_release: bool) -> None:
        """Emit the request if all its lines are read."""
        if counts := _request(self._pending[key], whole=needs_release):
            del self._pending[key]
            self.recognised += 1
            events.append(counts)

    def _of(self, key: str, events: list[TokenCounts]) -> dict[str, Any]:
        request = self._pending.setdefault(key, {})
        if len(self._pending) > PENDING_MAX:
            oldest = self._pending.pop(next(iter(self._pending)))
            if counts := _request(oldest, whole=False):
                events.append(counts)
        return request

    def state(self) -> dict[str, Any]:
        return {
            **super().state(),
            "current": self._current,
            "pending": {key: dict(request) for key, request in self._pending.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._current = state["current"]
        self._pending = {key: dict(request) for key, request in state["pending"].items()}


def _request(request: dict[str, Any], *, whole: bool) -> TokenCounts | None:
    """The request's counts, or None when lines are missing: its timings, and when `whole` its release too."""
    if "computed" not in request or "completion" not in request or (whole and "length" not in request):
        return None
    cached = request.get("length", -1) + 1 - request["computed"] - request["completion"]
    return TokenCounts(
        method="count",
        span_ms=int(min(request["ms"], SPAN_S_MAX * 1000)),
        prompt_computed=request["computed"],
        prompt_cached=cached if cached >= 0 and request.get("length", -1) >= 0 else None,
        completion=request["completion"],
        requests=1,
    )


SERVER = Server(
    name="llamacpp",
    title="llama.cpp llama-server, 2023 to 2026",
    process=re.compile(r"\bllama-server\b"),
    port=8080,
    counters=COUNTERS,
    counters_report=PathReport(
        since={"prompt_cached": "mid-2026"}, turned_on_by="--metrics", caveat="requests are those of its log"
    ),
    log=LlamaCpp,
    log_report=PathReport(
        exact=("prompt_computed", "prompt_cached", "completion", "requests"),
        since={"prompt_cached": "December 2024"},
        caveat="per request",
    ),
    advice="start it with --metrics for exact counts while requests run",
)
