"""vLLM's log: throughput lines of the v0 and V1 engines.

    INFO 01-25 11:26:58 llm_engine.py:706] Avg prompt throughput: 0.0 tokens/s, Avg generation throughput: 77.3 ...
    INFO 08-22 20:52:46 metrics.py:406] Avg prompt throughput: ...
    (APIServer pid=1) INFO 11-23 12:02:22 [loggers.py:335] Engine 000: Avg prompt throughput: ...
    (ApiServer_0 pid=9) INFO 03-30 06:46:52 [loggers.py:259] 2 Engines Aggregated: Avg prompt throughput: ...

    2026-08-13T08:33:28.674517Z  INFO loggers.log: Engine 000: Avg prompt throughput: ...           (NVIDIA Dynamo)
    (ServeReplica:default:LLMServer pid=4021, ip=10.0.3.7) INFO 05-28 10:11:12 [loggers.py:116] ... (Ray Serve LLM)

A line gives two rates over the time since the engine's last statistics (intervals.py says how they become tokens):
* V1 takes statistics every VLLM_LOG_STATS_INTERVAL (10 s) and prints nothing while idle.
* v0 takes them at the first step 5 s or more after the last, at the latest after 10 s, and always prints.

Measured on the recorded run of vLLM 0.32.0 (tests/fixtures/servers/vllm): 74,140 completion tokens where the truth was
75,032. The first interval began when the server started; from the second burst on 20,534 of 20,535.
How many requests run and wait and how full the cache is, as a line reports it, is taken for all of its interval.
The prompt rate leaves out tokens served from the prefix cache, which the log does not report: `prompt_cached` is None.

Requests are counted from uvicorn's access log: answers of /v1/completions and /v1/chat/completions, those without
status 200 as failed. Other endpoints are not looked for: every further search costs a fifth of the time of reading.
"""

import re
from typing import Any, ClassVar

from tokenyield_agent.tokens.dialects.base import LogDialect, PathReport, Server
from tokenyield_agent.tokens.endpoint import CounterNames, SeriesName
from tokenyield_agent.tokens.event import TokenCounts, load_over
from tokenyield_agent.tokens.parsing import instants
from tokenyield_agent.tokens.parsing.intervals import RateIntervals
from tokenyield_agent.tokens.parsing.lines import AccessLog, lines_with

NOMINAL_V1_S = 10.0
NOMINAL_V0_S = 5.0
SILENCE_FACTOR_V1 = 1.5
SILENCE_FACTOR_V0 = 2.2
"""v0 prints after 5 s under load and after 10 s at the latest, so twice its nominal interval is not silence."""

PIDS_MAX = 16
BEFORE_BYTES = 64 * 1024
"""Of the end of a block: where a server whose statistics are in the next one may have logged its model."""

_STATS = re.compile(
    rb"^[^'\"]{0,200}?(?:\((?P<process>[\w:.-]{1,120}) pid=(?P<pid>\d{1,10})(?:, ip=[\d.]{7,15})?\) )?"
    rb"(?:INFO (?P<at>(?:\d{4}-)?\d\d-\d\d \d\d:\d\d:\d\d)(?:[.,]\d{1,6})?"
    rb" (?:\[[\w./-]{1,80}:\d+\]|[\w./-]{1,80}:\d+\])"
    rb"|(?P<iso>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z) +INFO [\w.:-]{1,80}:)"
    rb" (?:Engine (?P<engine>\d+): |(?P<engines>\d+) Engines Aggregated: )?"
    rb"Avg prompt throughput: (?P<prompt>\d{1,9}(?:\.\d{1,3})?) tokens/s, "
    rb"Avg generation throughput: (?P<generation>\d{1,9}(?:\.\d{1,3})?) tokens/s, "
    rb"Running: (?P<running>\d{1,6}) reqs, (?P<next>\w+)"
)
_WAITING = re.compile(rb", (?:Pending|Waiting): (\d{1,6}) reqs")
_CACHE = re.compile(rb", [GC]PU KV cache usage: (\d{1,3}(?:\.\d)?)%")
"""v0 reports both its caches, the GPU's first."""
_MODEL = re.compile(rb"""served_model_name(?:'|")?\s*[:=]\s*\[?\s*['"]?(?P<model>[^'",\]\s]{1,253})""")
_STATS_WORDS = b"Avg generation throughput"
_MODEL_WORDS = b"served_model_name"


PREFIXES = ("vllm:", "vllm_", "ray_vllm:", "ray_vllm_")
"""Of its names: its own, those of its first versions, and as Ray exports them."""


def _everywhere(name: str, **where: str) -> tuple[SeriesName, ...]:
    """The alternatives of a counter's name."""
    return tuple(SeriesName(prefix + name, **where) for prefix in PREFIXES)


def _together(*names: str) -> tuple[tuple[SeriesName, ...], ...]:
    """The same for counters that add up."""
    return tuple(tuple(SeriesName(prefix + name) for name in names) for prefix in PREFIXES)


COUNTERS = CounterNames(
    server="vllm",
    paths=("/metrics",),
    model_labels=("model_name", "model"),  # the second: Triton's backend
    known_by=_everywhere("generation_tokens_total"),
    prefixes=PREFIXES,
    completion=_everywhere("generation_tokens_total"),
    prompt=_everywhere("prompt_tokens_total"),
    # Hits were counted in blocks until 0.8 and under the name gpu_prefix_cache_hits; since 0.9 in tokens. A preempted
    # request queries the cache again, and so may a waiting one at every step, so that the newest versions' own
    # counter of cached prompt tokens is preferred. It holds what came from an external KV cache (a connector, a prefill
    # server), which versions before it count beside the hits, as tokens that their own cache did not have.
    prompt_cached=(
        *_everywhere("prompt_tokens_cached_total"),
        *_everywhere("prompt_tokens_by_source_total", source="!local_compute"),
        *_together("prefix_cache_hits_total", "external_prefix_cache_hits_total"),
        *_everywhere("prefix_cache_hits_total"),
    ),
    requests=_everywhere("request_success_total", finished_reason="!abort|error"),
    requests_aborted=_everywhere("request_success_total", finished_reason="abort"),
    requests_failed=_everywhere("request_success_total", finished_reason="error"),
    running=_everywhere("num_requests_running"),
    waiting=_everywhere("num_requests_waiting"),
    cache_used=(*_everywhere("kv_cache_usage_perc"), *_everywhere("gpu_cache_usage_perc")),
)
"""vLLM's Prometheus names, from 0.4 to 0.32, read off each version's metrics.py and loggers.py. Engines of a
data-parallel server carry an `engine` label and add up."""


class Vllm(LogDialect):
    """Dialect of vLLM 0.2 to 0.32, single, data-parallel and aggregated engines, also inside Dynamo, NIM and Ray."""

    name: ClassVar[str] = "vllm"

    def __init__(self) -> None:
        super().__init__()
        self._answers = AccessLog(b"completions")
        self._intervals = RateIntervals()
        self._pids: list[int] = []
        """Processes whose statistics were read; newer versions begin their lines with '(APIServer pid=N) '."""
        self._before = b""

    def feed(self, block: bytes | bytearray, arrival_s: float) -> list[TokenCounts]:
        events = []
        # A server logs its model as it starts, before its first statistics. Where a line names its process, the model
        # is looked for only when the process changes, which saves a fifth of the time of reading a log.
        watch = self.model is None or not self._pids
        for line in lines_with(block, _STATS_WORDS, _MODEL_WORDS) if watch else lines_with(block, _STATS_WORDS):
            if match := _STATS.match(line):
                if match["pid"] is not None and int(match["pid"]) not in self._pids:
                    self._follow_process(int(match["pid"]), block, watch)
                events.append(self._counts_of(match, arrival_s))
            elif model := _MODEL.search(line):
                self.model = model["model"].decode("utf-8", "replace")
                self._intervals.clear()  # this line opens a server's log: its engines start from nothing
        self._answers.read(block)
        if not watch:
            self._before = bytes(block[-BEFORE_BYTES:])
        if self.recognised and (answers := self._answers.take()):
            events.append(TokenCounts(method="count", **answers))  # type: ignore[arg-type]
        return events

    def _follow_process(self, pid: int, block: bytes | bytearray, watched: bool) -> None:
        """Another process writes now, perhaps of another model: what it logged as it started is not far back."""
        if not watched:
            models = [m for line in lines_with(self._before + block, _MODEL_WORDS) if (m := _MODEL.search(line))]
            if models:
                self.model = models[-1]["model"].decode("utf-8", "replace")
                self._intervals.clear()
        self._pids = [*self._pids, pid][-PIDS_MAX:]

    def forget_counts(self) -> None:
        self._intervals.clear()
        self._answers.clear()

    def _counts_of(self, match: re.Match[bytes], arrival_s: float) -> TokenCounts:
        self.recognised += 1
        is_v0 = match["next"] == b"Swapped"
        parts = (match["process"], match["pid"], match["engine"] or match["engines"])
        at_s = instants.parse(match["at"] or match["iso"], arrival_s) or arrival_s
        interval_s, (prompt, generation) = self._intervals.tokens(
            b"/".join(part or b"" for part in parts).decode("ascii", "replace"),
            at_s,
            (float(match["prompt"]), float(match["generation"])),
            nominal_s=NOMINAL_V0_S if is_v0 else NOMINAL_V1_S,
            silence_factor=SILENCE_FACTOR_V0 if is_v0 else SILENCE_FACTOR_V1,
        )
        waiting, cache = _WAITING.search(match.string, match.end() - 10), _CACHE.search(match.string, match.end())
        span_ms = int(interval_s * 1000)
        load = load_over(
            span_ms,
            running=int(match["running"]),
            waiting=int(waiting[1]) if waiting else None,
            cache_used=float(cache[1]) / 100 if cache else None,
        )
        return TokenCounts(
            method="rate",
            at_s=at_s,
            span_ms=span_ms,
            prompt_computed=prompt,
            completion=generation,
            **load,  # type: ignore[arg-type]
        )

    def state(self) -> dict[str, Any]:
        return {
            **super().state(),
            "answers": self._answers.state(),
            "pids": self._pids,
            "engines": self._intervals.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._answers.restore(state["answers"])
        self._pids = list(state["pids"])
        self._intervals.restore(state["engines"])


SERVER = Server(
    name="vllm",
    title="vLLM 0.2 to 0.32",
    process=re.compile(r"\bvllm[./](?:entrypoints|serve)|\bvllm serve\b"),
    port=8000,
    counters=COUNTERS,
    counters_report=PathReport(since={"prompt_cached": "0.9"}),
    log=Vllm,
    log_report=PathReport(
        exact=("requests", "requests_failed"),
        rates=("prompt_computed", "completion"),
        has_load=True,
        caveat="a rate every 5 or 10 s; requests are those of the access log",
    ),
    advice="its /metrics is on by default: make its port reachable from this host, or name it with metrics",
    log_advice="do not start it with --disable-log-stats",
)
