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

Since `n` may be above 1 (December 2025), a launch shows whether a slot is a child of another: a child repeats its
parent's prompt timing, and is no request of its own. So of a child only the completion is counted, and the same of a
request whose launch was not read in a log that has children. A request that its client gave up prints no timings, only
`cancel task` and its release: what it computed is not in the log, so that the log is a lower bound. Of its completion
there is the last `n_decoded` or `n_gen`, which long ones print.

    0.10.000.000 I slot launch_slot_: id  0 | task 0 | processing task, is_child = 0
    0.11.000.000 I slot print_timing: id  0 | task 0 | n_decoded =    300, tg =  100.00 t/s
    0.12.000.000 W srv          stop: cancel task, id_task = 0

Children of a router count slots and tasks from 0 each; what stands before their lines (`[40001] `) distinguishes them.
"""

import re
from collections import deque
from typing import Any, ClassVar

from tokenyield_agent.tokens.dialects.base import LogDialect, PathReport, ProcessNames, Server
from tokenyield_agent.tokens.endpoint import CounterNames, SeriesName
from tokenyield_agent.tokens.event import SPAN_S_MAX, TokenCounts
from tokenyield_agent.tokens.parsing.lines import lines_with
from tokenyield_agent.tokens.parsing.origins import BEFORE, sender_of
from tokenyield_wire.bounded import fitting_name
from tokenyield_wire.window import NAME_CHARS_MAX

PENDING_MAX = 1024
"""Requests whose lines are not all read yet. A server has as many as slots; an embedding leaves its release."""
SENDERS_MAX = 64
"""Servers whose lines are in one log: those of a router, or of a compose file."""
COUNTED_MAX = 64
"""Requests that a line read twice is compared with."""

_WORDS = (
    b"print_timing: id",
    b"eval time",
    b"llama_print_timings:      sample",
    b"stop processing",
    b"loading model '",
    b"processing task",
    b"cancel task, id_task = ",
)
_LIBRARY_KEY = "library"
_IDENTITY = ("computed", "completion", "length", "prompt_ms", "ms")
_SLOT = re.compile(
    BEFORE + rb"slot +(?P<function>\w+): id +(?P<slot>\d{1,6}) \| task (?P<task>-?\d{1,12}) \|(?P<rest>.*)$"
)
_TIMING = re.compile(
    rb"^(?P<before>(?:(?!llama_)[^'\"]){0,300}?)(?P<prompt>prompt )?eval time\s*=\s*"
    rb"(?P<ms>\d{1,12}\.\d+) ms /\s*(?P<tokens>\d{1,9}) tokens \("
)
_RELEASE = re.compile(rb"^\s*stop processing: n_(?:tokens|past) = (?P<length>\d{1,9}), truncated = (?P<truncated>[01])")
_LAUNCH = re.compile(rb"^\s*processing task(?:, is_child = (?P<child>[01]))?\s*$")
_PROGRESS = re.compile(rb"^\s*n_(?:decoded|gen) =\s*(?P<made>\d{1,9}), tg = ")
_CANCEL = re.compile(BEFORE + rb"srv +\w+: cancel task, id_task = (?P<task>\d{1,12})\s*$")
_KEYED = re.compile(
    rb"(?:" + BEFORE + rb"INFO \[ *print_timings\] |\"function\":\"print_timings\",.{0,80}?\"msg\":\")"
    rb"(?P<kind>prompt|generation) eval time *= *(?P<ms>\d{1,12}\.\d+) ms / *(?P<tokens>\d{1,9}) (?:tokens|runs) "
)
_KEYED_SLOT = re.compile(rb"\b(?:id_slot|slot_id)\"?[=:](?P<slot>\d{1,6})\b")
_KEYED_TASK = re.compile(rb"\b(?:id_task|task_id)\"?[=:](?P<task>\d{1,12})\b")
_LIBRARY = re.compile(
    BEFORE + rb"llama_print_timings: +(?P<kind>sample|prompt eval|eval) time = +(?P<ms>\d{1,12}\.\d+) ms / "
    rb"+(?P<tokens>\d{1,9}) (?:runs|tokens) "
)
_MODEL = re.compile(
    rb"^(?P<before>[^']{0,300}?)(?:(?:(?:srv +)?\w+: +)?loading model|(?:srv +)?load_model:[^']{0,100} model) "
    rb"'(?P<path>[^']{1,1024})'"
)
_CHILD_OF_ROUTER = re.compile(rb"(?:^|\s)\[\d{1,6}\] ")

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
        """Sender, slot and task -> what was read of the request."""
        self._current: dict[str, str] = {}
        """Sender -> the request whose lines without a head come next."""
        self._models: dict[str, str] = {}
        """Sender -> its model: a router's children may each have another."""
        self._has_children = False
        """The launch of a child was read: a request without a launch may be a child whose launch was not read."""
        self._counted: deque[str] = deque(maxlen=COUNTED_MAX)
        """The newest requests counted, so that lines that are there twice count once."""

    def feed(self, block: bytes | bytearray, arrival_s: float) -> list[TokenCounts]:
        events: list[TokenCounts] = []
        for line in lines_with(block, *_WORDS):
            if slot := _SLOT.match(line):
                sender = sender_of(slot["before"])
                self._current[sender] = key = _key(sender, slot["slot"], slot["task"])
                if len(self._current) > SENDERS_MAX:
                    del self._current[next(iter(self._current))]
                self._read(slot["rest"], key, events)
            elif model := _MODEL.match(line):
                self._server_started(model, events)
            elif cancel := _CANCEL.match(line):
                self._cancel(sender_of(cancel["before"]), int(cancel["task"]))
            elif keyed := _KEYED.search(line):
                self._read_keyed(keyed, line, events)
            elif library := _LIBRARY.match(line):
                self._read_library(library, events)
            elif (timing := _TIMING.match(line)) and (current := self._current.get(sender_of(timing["before"]))):
                self._read(line[timing.end("before") :], current, events)
        return events

    def finish(self) -> list[TokenCounts]:
        """Requests whose timings were read but whose slot was never seen released."""
        events = [counts for request in self._pending.values() if (counts := self._counts(request, whole=False))]
        self._pending.clear()
        return events

    def forget_counts(self) -> None:
        self._pending.clear()
        self._counted.clear()

    def _server_started(self, match: re.Match[bytes], events: list[TokenCounts]) -> None:
        """This line opens a server's log: requests of the last one end here, answered where their timings are there,
        for a server that is stopped prints no release. Beside a router's child are others."""
        sender = sender_of(match["before"])
        if not _CHILD_OF_ROUTER.search(match["before"]):
            self._models.clear()
        self._models.pop(sender, None)
        self._models[sender] = fitting_name(
            match["path"].rpartition(b"/")[2].decode("utf-8", "replace"), NAME_CHARS_MAX
        )
        if len(self._models) > SENDERS_MAX:
            del self._models[next(iter(self._models))]
        self.model = fitting_name("+".join(sorted(set(self._models.values()))), NAME_CHARS_MAX)
        for key in [key for key in self._pending if _sender(key) == sender]:
            self._end(key, events)
        self._counted.clear()

    def _read(self, text: bytes, key: str, events: list[TokenCounts]) -> None:
        if match := _TIMING.match(text):
            request = self._of(key, events)
            request["computed" if match["prompt"] else "completion"] = int(match["tokens"])
            request["prompt_ms" if match["prompt"] else "ms"] = float(match["ms"])
        elif match := _RELEASE.match(text):
            request = self._of(key, events)
            request["length"] = int(match["length"]) if match["truncated"] == b"0" else -1
        elif match := _LAUNCH.match(text):
            self._has_children |= match["child"] == b"1"
            self._pending.pop(key, None)
            request = self._of(key, events)
            if match["child"] is not None:
                request["child"] = int(match["child"])
            return
        elif match := _PROGRESS.match(text):
            self._of(key, events)["made"] = int(match["made"])
            return
        else:
            return
        self._settle(key, events, needs_release=True)

    def _cancel(self, sender: str, task: int) -> None:
        """Its client gave it up: its slot will be released without timings."""
        for key, request in self._pending.items():
            if _sender(key) == sender and key.endswith(f":{task}"):
                request["cancelled"] = 1

    def _read_keyed(self, match: re.Match[bytes], line: bytes, events: list[TokenCounts]) -> None:
        slot, task = _KEYED_SLOT.search(line), _KEYED_TASK.search(line)
        if slot is None or task is None:
            return
        before = line.partition(b"{")[0] if match["before"] is None else match["before"]
        key = _key(sender_of(before), slot["slot"], task["task"])
        request = self._of(key, events)
        is_prompt = match["kind"] == b"prompt"
        request["computed" if is_prompt else "completion"] = int(match["tokens"])
        request["prompt_ms" if is_prompt else "ms"] = float(match["ms"])
        self._settle(key, events, needs_release=False)

    def _read_library(self, match: re.Match[bytes], events: list[TokenCounts]) -> None:
        """Three lines that always come together, from one thread: sample, prompt eval, eval."""
        key = f"{sender_of(match['before'])}/{_LIBRARY_KEY}"
        request = self._of(key, events)
        if match["kind"] == b"sample":
            request.clear()
            request["completion"] = int(match["tokens"])
            request["sample_ms"] = float(match["ms"])
        elif match["kind"] == b"prompt eval":
            request["computed"] = int(match["tokens"])
            request["prompt_ms"] = float(match["ms"])
        else:
            request["ms"] = float(match["ms"])
            self._settle(key, events, needs_release=False)
            self._pending.pop(key, None)

    def _settle(self, key: str, events: list[TokenCounts], *, needs_release: bool) -> None:
        """Emit the request if all its lines are read."""
        request = self._pending[key]
        if counts := self._counts(request, whole=needs_release):
            del self._pending[key]
            self.recognised += 1
            self._emit(key, request, counts, events)

    def _emit(self, key: str, request: dict[str, Any], counts: TokenCounts, events: list[TokenCounts]) -> None:
        """Once, however often its lines are there."""
        identity = " ".join([key, *(str(request.get(part)) for part in _IDENTITY)])
        if identity not in self._counted:
            self._counted.append(identity)
            events.append(counts)

    def _counts(self, request: dict[str, Any], *, whole: bool) -> TokenCounts | None:
        """The request's counts, or None when lines are missing: its timings, and when `whole` its release too."""
        is_released = "length" in request
        if request.get("cancelled") and is_released and "completion" not in request:
            aborted = None if request.get("child") else 1
            return TokenCounts(method="count", completion=request.get("made"), requests_aborted=aborted)
        if "computed" not in request or "completion" not in request or (whole and not is_released):
            return None
        ms = sum(request.get(part, 0.0) for part in ("ms", "prompt_ms", "sample_ms"))
        span_ms = int(min(ms, SPAN_S_MAX * 1000))
        if request.get("child", int(self._has_children)):
            return TokenCounts(method="count", span_ms=span_ms, completion=request["completion"])
        cached = request.get("length", -1) + 1 - request["computed"] - request["completion"]
        return TokenCounts(
            method="count",
            span_ms=span_ms,
            prompt_computed=request["computed"],
            prompt_cached=cached if cached >= 0 and request.get("length", -1) >= 0 else None,
            completion=request["completion"],
            requests=1,
        )

    def _of(self, key: str, events: list[TokenCounts]) -> dict[str, Any]:
        request = self._pending.setdefault(key, {})
        if len(self._pending) > PENDING_MAX:
            self._end(next(iter(self._pending)), events)
        return request

    def _end(self, key: str, events: list[TokenCounts]) -> None:
        """Of this request no more will be read: emit what its timings say."""
        request = self._pending.pop(key, {})
        if counts := self._counts(request, whole=False):
            self._emit(key, request, counts, events)

    def state(self) -> dict[str, Any]:
        return {
            **super().state(),
            "currents": dict(self._current),
            "pending": {key: dict(request) for key, request in self._pending.items()},
            "models": dict(self._models),
            "has_children": self._has_children,
            "counted": list(self._counted),
        }

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        current = state.get("current")  # of an older agent, which knew no senders
        self._current = dict(state.get("currents") or ({"": current} if current else {}))
        self._pending = {key: dict(request) for key, request in state["pending"].items()}
        self._models = dict(state.get("models", {}))
        self._has_children = state.get("has_children", False)
        self._counted = deque(state.get("counted", ()), maxlen=COUNTED_MAX)


def _key(sender: str, slot: bytes, task: bytes) -> str:
    return f"{sender}/{int(slot)}:{int(task)}" if sender else f"{int(slot)}:{int(task)}"


def _sender(key: str) -> str:
    return key.rpartition("/")[0]


SERVER = Server(
    name="llamacpp",
    title="llama.cpp llama-server, 2023 to 2026",
    process=ProcessNames(
        # `llama serve` is the single binary of 2026; before June 2024 the program was called `server`.
        programs=("llama-server", "llama serve", "llama.cpp/server", "llama.cpp/build/bin/server"),
        model_flags=("-m", "--model"),
    ),
    port=8080,
    counters=COUNTERS,
    counters_report=PathReport(
        since={"prompt_cached": "mid-2026"}, turned_on_by="--metrics", caveat="requests are those of its log"
    ),
    log=LlamaCpp,
    log_report=PathReport(
        lower_bound=("prompt_computed", "prompt_cached", "completion", "requests", "requests_aborted"),
        since={"prompt_cached": "December 2024", "requests_aborted": "December 2025"},
        caveat="per request that was answered; one that its client gave up prints no timings, so that its tokens are "
        "missing; a completion with `n` above 1 is one request",
    ),
    advice="start it with --metrics for exact counts while requests run",
)
