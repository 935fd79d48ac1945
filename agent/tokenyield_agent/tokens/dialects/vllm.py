"""vLLM's log: throughput lines of the v0 and V1 engines.

    INFO 01-25 11:26:58 llm_engine.py:706] Avg prompt throughput: 0.0 tokens/s, Avg generation throughput: 77.3 ...
    INFO 08-22 20:52:46 metrics.py:406] Avg prompt throughput: ...
    (APIServer pid=1) INFO 11-23 12:02:22 [loggers.py:335] Engine 000: Avg prompt throughput: ...
    (ApiServer_0 pid=9) INFO 03-30 06:46:52 [loggers.py:259] 2 Engines Aggregated: Avg prompt throughput: ...

    {"asctime": "2026-10-02 12:00:00,101", ..., "process": 11, "message": "Engine 000: Avg prompt throughput: ..."}
    2026-08-13T08:33:28.674517Z  INFO loggers.log: Engine 000: Avg prompt throughput: ...           (NVIDIA Dynamo)
    (ServeReplica:default:LLMServer pid=4021, ip=10.0.3.7) INFO 05-28 10:11:12 [loggers.py:116] ... (Ray Serve LLM)

A line gives two rates over the time since the engine's last statistics (intervals.py says how they become tokens):
* V1 takes statistics every VLLM_LOG_STATS_INTERVAL (10 s) and prints nothing while idle.
* v0 takes them at the first step 5 s or more after the last, at the latest after 10 s, and always prints.

Measured on the recorded run of vLLM 0.32.0 (tests/fixtures/servers/vllm): 74,140 completion tokens where the truth was
75,032. The first interval began when the server started; from the second burst on 20,534 of 20,535.
How many requests run and wait and how full the cache is, as a line reports it, is taken for all of its interval.
The prompt rate is of whole prompts up to 0.15 (`prompt_unsplit`), of what was computed since 0.16 (`prompt_computed`);
v0 has the prefix cache off by default. The version is in the line of the API server or of the engine's configuration.
Where neither was read, the line of the source that printed the statistics shows it, and where the line has none, the
prompt is `prompt_unsplit` unless no token came from the cache: then less may be counted than was made, never more.
The log never reports `prompt_cached`.

With several API servers, and with --disable-log-stats, vLLM prints no statistics at all; then doctor says so.
Requests are counted from uvicorn's access log, see access_log.py; without one they are unknown.
"""

import re
from functools import partial
from typing import Any, ClassVar

from tokenyield_agent.tokens.dialects.base import LogDialect, PathReport, ProcessNames, Server
from tokenyield_agent.tokens.endpoint import CounterNames, SeriesName, every_series, full_names
from tokenyield_agent.tokens.event import TokenCounts, load_over
from tokenyield_agent.tokens.latency import LatencyNames
from tokenyield_agent.tokens.parsing import instants
from tokenyield_agent.tokens.parsing.access_log import ENDPOINTS, AccessLog
from tokenyield_agent.tokens.parsing.intervals import RateIntervals
from tokenyield_agent.tokens.parsing.lines import lines_with
from tokenyield_agent.tokens.parsing.loose_json import LooseDecoder
from tokenyield_agent.tokens.parsing.origins import BEFORE, sender_of

NOMINAL_V1_S = 10.0
NOMINAL_V0_S = 5.0
SILENCE_FACTOR_V1 = 1.5
SILENCE_FACTOR_V0 = 2.2
"""v0 prints after 5 s under load and after 10 s at the latest, so twice its nominal interval is not silence."""

PIDS_MAX = 16
BEFORE_BYTES = 64 * 1024
"""Of the end of a block: where a server whose statistics are in the next one may have logged its model."""

_RATES = (
    rb"(?:Engine (?P<engine>\d{1,5}): |(?P<engines>\d{1,5}) Engines Aggregated: )?"
    rb"Avg prompt throughput: (?P<prompt>\d{1,9}(?:\.\d{1,3})?) tokens/s, "
    rb"Avg generation throughput: (?P<generation>\d{1,9}(?:\.\d{1,3})?) tokens/s, "
    rb"Running: (?P<running>\d{1,6}) reqs, (?P<next>\w+)"
)
_PROCESS = re.compile(rb"\((?P<process>[\w:.-]{1,120}) pid=(?P<pid>\d{1,10})(?:, ip=[\d.]{7,15})?\) ")
_STATS = re.compile(BEFORE + _RATES)
_OWN_STATS = re.compile(
    rb"^(?P<before>(?:\((?P<process>[\w:.-]{1,120}) pid=(?P<pid>\d{1,10})\) )?"
    rb"INFO (?P<at>\d\d-\d\d \d\d:\d\d:\d\d) \[(?P<source>[\w./-]{1,80}:\d{1,5})\] )" + _RATES
)
"""The same where only vLLM itself wrote before its words, which is read twice as fast."""
_SOURCE = re.compile(rb"\bloggers\.py:(?P<number>\d{1,5})\b")
_WAITING = re.compile(rb", (?:Pending|Waiting): (\d{1,6}) reqs")
_CACHE = re.compile(rb", [A-Z]{2,4} KV cache usage: (\d{1,3}(?:\.\d)?)%")
"""v0 reports both its caches, the GPU's first."""
_HIT_RATE = re.compile(rb"[,.] Prefix cache hit rate: (?:GPU: )?(\d{1,3}\.\d{1,2})%")
_MODEL = re.compile(rb"""served_model_name(?:'|\\?")?\s*[:=]\s*\[?\s*(?:'|\\?")?(?P<model>[^'"\\,\]\s]{1,253})""")
_VERSION = re.compile(rb"(?:LLM engine \(v|vLLM API server version )(?P<major>\d{1,4})\.(?P<minor>\d{1,4})")
_JSON = LooseDecoder()
_STATS_WORDS = b"Avg generation throughput"
_MODEL_WORDS = b"served_model_name"
"""Also in the line in which an engine shows its version."""
_VERSION_WORDS = b"vLLM API server version "
START_LINE_BYTES_MAX = 64 * 1024
"""Of a line with all options of a server."""
JSON_MESSAGES = ("message", "msg", "event", "log")
COMPUTED_SINCE = (0, 16)
"""The version from which on the prompt rate leaves out what the prefix cache served, read off the releases' sources."""
COMPUTED_SINCE_LINE = 259
"""Of the source, where that version prints its statistics. In the releases from 0.8.5 to 0.15.1 it is line 111 to 257,
in those from 0.16 to 0.33 line 259 to 335."""


PREFIXES = ("vllm:", "vllm_", "ray_vllm:", "ray_vllm_")
"""Of its names: its own, those of its first versions, and as Ray exports them."""


_names, _everywhere = partial(full_names, PREFIXES), partial(every_series, PREFIXES)


def _http(status: str) -> SeriesName:
    """Requests by their answer, at the endpoints that make tokens, as its web server counts them."""
    handlers = "|".join("/v1" + endpoint.decode() for endpoint in ENDPOINTS)
    return SeriesName("http_requests_total", method="POST", status=status, handler=handlers)


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
        *zip(_everywhere("prefix_cache_hits_total"), _everywhere("external_prefix_cache_hits_total"), strict=True),
        *_everywhere("prefix_cache_hits_total"),
    ),
    # What clients sent and were answered is what its web server counts. Its engine counts sequences, three for one
    # request with n=3, and where there is no web server on the page, they are taken.
    requests=(_http("2xx"), *_everywhere("request_success_total", finished_reason="!abort|error")),
    # V1's engine forgets a request that its client gave up without counting it.
    requests_aborted=_everywhere("request_success_total", finished_reason="abort"),
    unknown_at_zero=("requests_aborted",),
    requests_failed=(_http("4xx|5xx"), *_everywhere("request_success_total", finished_reason="error")),
    running=_everywhere("num_requests_running"),
    waiting=_everywhere("num_requests_waiting"),
    cache_used=(*_everywhere("kv_cache_usage_perc"), *_everywhere("gpu_cache_usage_perc")),
    latency=LatencyNames(
        first_token=_names("time_to_first_token_seconds"),
        inter_token=(*_names("inter_token_latency_seconds"), *_names("time_per_output_token_seconds")),
        end_to_end=_names("e2e_request_latency_seconds"),
    ),
)
"""vLLM's Prometheus names, from 0.4 to 0.32, read off each version's metrics.py and loggers.py. Engines of a
data-parallel server carry an `engine` label and add up."""


class Vllm(LogDialect):
    """Dialect of vLLM 0.2 to 0.32, single, data-parallel and aggregated engines, also inside Dynamo, NIM and Ray."""

    name: ClassVar[str] = "vllm"

    def __init__(self) -> None:
        super().__init__()
        self._answers = AccessLog()
        self._intervals = RateIntervals()
        self._version: tuple[int, int] | None = None
        self._pids: list[int] = []
        """Processes whose statistics were read; newer versions begin their lines with '(APIServer pid=N) '."""
        self._before = b""

    def feed(self, block: bytes | bytearray, arrival_s: float) -> list[TokenCounts]:
        events = []
        # A server logs its model as it starts, before its first statistics. Where a line names its process, the model
        # is looked for only when the process changes, which saves a fifth of the time of reading a log.
        watch = self.model is None or not self._pids
        words = [_STATS_WORDS, _MODEL_WORDS] if watch else [_STATS_WORDS]
        if watch and self._version is None:
            words.append(_VERSION_WORDS)
        for line in lines_with(block, *words, bytes_max=START_LINE_BYTES_MAX):
            if match := _OWN_STATS.match(line) or _STATS.match(line):
                process = _PROCESS.search(match["before"])
                if process is not None and int(process["pid"]) not in self._pids:
                    self._follow_process(int(process["pid"]), block, watch)
                events.append(self._of_text(match, arrival_s))
            elif _STATS_WORDS in line:
                if (counts := self._of_json(line, arrival_s)) is not None:
                    events.append(counts)
            else:
                self._start(line)
        self._answers.read(block)
        if not watch:
            self._before = bytes(block[-BEFORE_BYTES:])
        if self.recognised and (answers := self._answers.take()):
            events.append(TokenCounts(method="count", **answers))  # type: ignore[arg-type]
        return events

    def forget_counts(self) -> None:
        self._intervals.clear()
        self._answers.clear()

    def _start(self, line: bytes) -> None:
        """What a server logs once, as it starts."""
        if version := _VERSION.search(line):
            numbers = (int(version["major"]), int(version["minor"]))
            self._version = numbers if numbers > (0, 1) else None  # builds without a tag are 0.1.dev
        if model := _MODEL.search(line):
            self.model = model["model"].decode("utf-8", "replace")
            self._intervals.clear()  # this line opens a server's log: its engines start from nothing

    def _of_text(self, match: re.Match[bytes], arrival_s: float) -> TokenCounts:
        before = match["before"]
        if match.re is _OWN_STATS:
            before = match["source"]
            parts, at_s = [match["process"] or b"", match["pid"] or b""], instants.parse(match["at"], arrival_s)
        else:
            process = _PROCESS.search(before)
            sender = sender_of(_PROCESS.sub(b"", before.partition(b"INFO")[0]))
            parts = [sender.encode()] if sender else []
            parts += [b"", b""] if process is None else [process["process"], process["pid"]]
            at_s = instants.last_in(before, arrival_s)
        return self._counts_of(match, before, parts, at_s, arrival_s)

    def _of_json(self, line: bytes, arrival_s: float) -> TokenCounts | None:
        """A line of vLLM's JSON formatter, or of another one."""
        start = line.find(b"{")
        entry = _JSON.decode(line[start:]) if start >= 0 else None
        if not isinstance(entry, dict):
            return None
        texts = {key: value.encode("utf-8", "replace") for key, value in entry.items() if isinstance(value, str)}
        match = next((m for key in JSON_MESSAGES if (m := _STATS.match(texts.get(key, b"")))), None)
        if match is None:
            return None
        head = b" ".join(text for key, text in texts.items() if key not in JSON_MESSAGES)
        parts = [sender_of(line[:start]).encode(), str(entry.get("process", ""))[:20].encode("utf-8", "replace")]
        return self._counts_of(match, head, parts, instants.last_in(head, arrival_s), arrival_s)

    def _follow_process(self, pid: int, block: bytes | bytearray, watched: bool) -> None:
        """Another process writes now, perhaps of another model: what it logged as it started is not far back."""
        if not watched:
            words = (_MODEL_WORDS, _VERSION_WORDS)
            for line in lines_with(self._before + block, *words, bytes_max=START_LINE_BYTES_MAX):
                self._start(line)
        self._pids = [*self._pids, pid][-PIDS_MAX:]

    def _counts_of(
        self, match: re.Match[bytes], head: bytes, parts: list[bytes], at_s: float | None, arrival_s: float
    ) -> TokenCounts:
        """`head` is all that stands before the statistics; `parts` name the engine's process."""
        self.recognised += 1
        is_v0 = match["next"] == b"Swapped"
        parts = [*parts, match["engine"] or match["engines"] or b""]
        interval_s, (prompt, generation) = self._intervals.tokens(
            b"/".join(parts).decode("ascii", "replace"),
            arrival_s if at_s is None else at_s,
            (float(match["prompt"]), float(match["generation"])),
            nominal_s=NOMINAL_V0_S if is_v0 else NOMINAL_V1_S,
            silence_factor=SILENCE_FACTOR_V0 if is_v0 else SILENCE_FACTOR_V1,
            is_timed=at_s is not None,
        )
        waiting, cache = _WAITING.search(match.string, match.end() - 10), _CACHE.search(match.string, match.end())
        span_ms = int(interval_s * 1000)
        load = load_over(
            span_ms,
            running=int(match["running"]),
            waiting=int(waiting[1]) if waiting else None,
            cache_used=float(cache[1]) / 100 if cache else None,
        )
        kind = "prompt_computed" if is_v0 or self._is_of_computed(match, head) else "prompt_unsplit"
        return TokenCounts(
            method="rate",
            at_s=arrival_s if at_s is None else at_s,
            span_ms=span_ms,
            completion=generation,
            **{kind: prompt, **load},  # type: ignore[arg-type]
        )

    def _is_of_computed(self, match: re.Match[bytes], head: bytes) -> bool:
        """Whether V1's prompt rate is of computed tokens, not of whole prompts."""
        if self._version is not None:
            return self._version >= COMPUTED_SINCE
        source = _SOURCE.search(head)
        if source is not None and int(source["number"]) >= COMPUTED_SINCE_LINE:
            return True
        hits = _HIT_RATE.search(match.string, match.end())
        return hits is None or not float(hits[1])  # nothing came from the cache, so that both are the same

    def state(self) -> dict[str, Any]:
        return {
            **super().state(),
            "answers": self._answers.state(),
            "pids": self._pids,
            "engines": self._intervals.state(),
            "version": self._version,
        }

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._answers.restore(state["answers"])
        self._pids = list(state["pids"])
        self._intervals.restore(state["engines"])
        version = state.get("version")
        self._version = None if version is None else (int(version[0]), int(version[1]))


SERVER = Server(
    name="vllm",
    title="vLLM 0.2 to 0.32",
    process=ProcessNames(
        programs=("vllm serve", "vllm run-batch"),
        modules=(
            "vllm.entrypoints.openai",
            "vllm.entrypoints.api_server",
            "vllm.entrypoints.grpc_server",
            "vllm.entrypoints.cli.main serve",
            "vllm.scripts serve",
        ),
        titles=("VLLM::",),
    ),
    port=8000,
    counters=COUNTERS,
    counters_report=PathReport(
        since={"prompt_cached": "0.9"},
        caveat="requests are those of its web server; aborted ones only of v0, later ones are unknown",
    ),
    log=Vllm,
    log_report=PathReport(
        exact=("requests", "requests_failed"),
        rates=("prompt_computed", "prompt_unsplit", "completion"),
        since={"prompt_computed": "0.16"},
        has_load=True,
        caveat="a rate every 5 or 10 s; up to 0.15 of whole prompts; requests are those of the access log; no "
        "statistics with several API servers",
    ),
    advice="its /metrics is on by default: make its port reachable from this host, or name it with metrics",
    log_advice="do not start it with --disable-log-stats",
    log_warnings={
        "AsyncLLM created with api_server_count more than 1; disabling stats logging": "it runs with several API "
        "servers, which turns them off; make its /metrics reachable, or start it with --api-server-count 1",
        "'disable_log_stats': True": "it was started with --disable-log-stats; start it without, or make its /metrics "
        "reachable",
    },
)
