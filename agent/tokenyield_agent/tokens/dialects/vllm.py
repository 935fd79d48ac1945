"""vLLM's log: throughput lines of the v0 and V1 engines.

    INFO 01-25 11:26:58 llm_engine.py:706] Avg prompt throughput: 0.0 tokens/s, Avg generation throughput: 77.3 ...
    INFO 08-22 20:52:46 metrics.py:406] Avg prompt throughput: ...
    (APIServer pid=1) INFO 11-23 12:02:22 [loggers.py:335] Engine 000: Avg prompt throughput: ...
    (ApiServer_0 pid=9) INFO 03-30 06:46:52 [loggers.py:259] 2 Engines Aggregated: Avg prompt throughput: ...

A line gives two rates over the time since the engine's last statistics, so tokens = rate x interval:
* V1 takes statistics every VLLM_LOG_STATS_INTERVAL (10 s) and prints nothing while idle. A longer time between two
  lines is silence, not work, and the nominal interval stands.
* v0 takes them at the first step 5 s or more after the last, at the latest after 10 s, and always prints.
The timestamp has whole seconds, so a spacing within one second of the usual interval *is* the usual one. Another
interval set by the operator is learned once three spacings in a row agree on it.

Measured on a recording of vLLM 0.32.0 (tests/fixtures/vllm): 74,140 completion tokens where the truth was 75,032. The
first interval began when the server started; from the second burst on 20,534 of 20,535.
The prompt rate leaves out tokens served from the prefix cache, which the log does not tell: `prompt_cached` is None.

Requests are counted from uvicorn's access log: answers with status 200 of /v1/completions and /v1/chat/completions.
Other endpoints are not looked for, because every further search costs a fifth of the time of reading a log.
"""

import re
from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar

from tokenyield_agent.tokens.dialects.lines import lines_with
from tokenyield_agent.tokens.event import Counted

NOMINAL_V1_S = 10.0
NOMINAL_V0_S = 5.0
RESOLUTION_S = 1.0
LEARN_FROM = 3
SILENCE_FACTOR_V1 = 1.5
SILENCE_FACTOR_V0 = 2.2
"""v0 prints after 5 s under load and after 10 s at the latest, so twice its nominal interval is no silence."""

PIDS_MAX = 16
ENGINES_MAX = 1024
"""Of one log: more than any data-parallel server has, so that memory stays bounded whatever a log holds."""
BEFORE_BYTES = 64 * 1024
"""Of the end of a block: where a server that starts in the next one may have told its model."""

_STATS = re.compile(
    rb"^[^'\"]{0,200}?(?:\((?P<process>\w{1,40}) pid=(?P<pid>\d{1,10})\) )?"
    rb"INFO (?P<minute>\d\d-\d\d \d\d:\d\d):(?P<second>\d\d)"
    rb" (?:\[[\w./-]{1,80}:\d+\]|[\w./-]{1,80}:\d+\])"
    rb" (?:Engine (?P<engine>\d+): |(?P<engines>\d+) Engines Aggregated: )?"
    rb"Avg prompt throughput: (?P<prompt>\d+(?:\.\d+)?) tokens/s, "
    rb"Avg generation throughput: (?P<generation>\d+(?:\.\d+)?) tokens/s, Running: \d+ reqs, (?P<next>\w+)"
)
_MODEL = re.compile(rb"""served_model_name(?:'|")?\s*[:=]\s*\[?\s*['"]?(?P<model>[^'",\]\s]{1,253})""")
_STATS_WORDS = b"Avg generation throughput"
_MODEL_WORDS = b"served_model_name"
_ANSWERED = b'completions HTTP/1.1" 200'


class Vllm:
    """Dialect of vLLM 0.2 to 0.32, single, data-parallel and aggregated engines."""

    name: ClassVar[str] = "vllm"

    def __init__(self) -> None:
        self.model: str | None = None
        self.recognised = 0
        self._requests = 0
        self._engines: dict[str, dict[str, Any]] = {}
        self._pids: list[int] = []
        """Processes whose statistics were read; newer versions begin their lines with '(APIServer pid=N) '."""
        self._before = b""

    def feed(self, block: bytes | bytearray, arrival_s: float) -> list[Counted]:
        found = []
        # A server tells its model as it starts, before its first statistics. Where a line names its process, the model
        # is looked for only when the process changes, which saves a fifth of the time of reading a log.
        watch = self.model is None or not self._pids
        for line in lines_with(block, _STATS_WORDS, _MODEL_WORDS) if watch else lines_with(block, _STATS_WORDS):
            if match := _STATS.match(line):
                if match["pid"] is not None and int(match["pid"]) not in self._pids:
                    self._server_started(int(match["pid"]), block, watch)
                found.append(self._counted(match, arrival_s))
            elif model := _MODEL.search(line):
                self.model = model["model"].decode("utf-8", "replace")
                self._engines = {}  # this line opens a server's log: its engines start anew
        self._requests += block.count(_ANSWERED)
        if not watch:
            self._before = bytes(block[-BEFORE_BYTES:])
        return found + self._take_requests()

    def _server_started(self, pid: int, block: bytes | bytearray, watched: bool) -> None:
        """Another process writes now, perhaps of another model: what it said as it started is not far back."""
        if not watched:
            told = [m for line in lines_with(self._before + block, _MODEL_WORDS) if (m := _MODEL.search(line))]
            if told:
                self.model = told[-1]["model"].decode("utf-8", "replace")
                self._engines = {}
        self._pids = [*self._pids, pid][-PIDS_MAX:]

    def finish(self) -> list[Counted]:
        return []

    def forget_counts(self) -> None:
        self._engines = {}
        self._requests = 0

    def _take_requests(self) -> list[Counted]:
        """Requests wait until a statistics line has shown that this is a vLLM log: other servers use uvicorn too."""
        if not self.recognised or not self._requests:
            return []
        requests, self._requests = self._requests, 0
        return [Counted(method="count", requests=requests)]

    def _counted(self, match: re.Match[bytes], arrival_s: float) -> Counted:
        self.recognised += 1
        is_v0 = match["next"] == b"Swapped"
        name = b"/".join((match["process"] or b"", match["engine"] or match["engines"] or b"")).decode(
            "ascii", "replace"
        )
        seen = self._engines.get(name)
        if seen is None:
            if len(self._engines) >= ENGINES_MAX:
                self._engines.clear()
            seen = self._engines[name] = {"at_s": None, "spacings_s": [], "prompt": 0.0, "generation": 0.0}
        at_s = _instant(match, arrival_s)
        spacing_s = None if seen["at_s"] is None else at_s - seen["at_s"]
        interval_s = _interval(spacing_s, seen["spacings_s"], is_v0)
        seen["at_s"] = at_s
        if spacing_s is not None:
            seen["spacings_s"] = [*seen["spacings_s"], spacing_s][-LEARN_FROM:]
        prompt = float(match["prompt"]) * interval_s + seen["prompt"]
        generation = float(match["generation"]) * interval_s + seen["generation"]
        seen["prompt"], seen["generation"] = prompt % 1, generation % 1  # fractions of a token go to the next line
        return Counted(
            method="rate",
            at_s=at_s,
            span_ms=int(interval_s * 1000),
            prompt_computed=int(prompt),
            completion=int(generation),
        )

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "recognised": self.recognised,
            "requests": self._requests,
            "pids": self._pids,
            "engines": {engine: dict(seen) for engine, seen in self._engines.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.model = state["model"]
        self.recognised = state["recognised"]
        self._requests = state["requests"]
        self._pids = list(state["pids"])
        self._engines = {engine: dict(seen) for engine, seen in state["engines"].items()}


def _interval(spacing_s: float | None, earlier_s: list[float], is_v0: bool) -> float:
    """Over how many seconds the engine took the rates of this line."""
    usual_s = NOMINAL_V0_S if is_v0 else NOMINAL_V1_S
    if len(earlier_s) == LEARN_FROM and max(earlier_s) - min(earlier_s) <= RESOLUTION_S and min(earlier_s) > 0:
        learned_s = sorted(earlier_s)[LEARN_FROM // 2]
        if abs(learned_s - usual_s) > RESOLUTION_S:
            usual_s = learned_s
    if spacing_s is None or spacing_s <= 0:
        return usual_s
    if spacing_s > usual_s * (SILENCE_FACTOR_V0 if is_v0 else SILENCE_FACTOR_V1):
        return usual_s
    return usual_s if abs(spacing_s - usual_s) <= RESOLUTION_S else spacing_s


def _instant(match: re.Match[bytes], arrival_s: float) -> float:
    """The line's time as Unix seconds."""
    return _minute(match["minute"], int(arrival_s) // 60) + int(match["second"])


@lru_cache(maxsize=64)
def _minute(text: bytes, arrival_minute: int) -> float:
    """Unix seconds of `MM-DD hh:mm`. vLLM writes local time without a year: the latest year not after arrival."""
    arrival_s = arrival_minute * 60.0
    arrival = datetime.fromtimestamp(arrival_s)
    month, day, hour, minute = (int(part) for part in re.split(rb"[- :]", text))
    for year in range(arrival.year + 1, arrival.year - 6, -1):
        try:
            at_s = datetime(year, month, day, hour, minute).timestamp()
        except ValueError:  # 29 February of another year, or no date at all
            continue
        if at_s <= arrival_s + 86_400:
            return at_s
    return arrival_s
