"""SGLang's log: what each prefill batch computed, and how fast the decode batches ran.

    [2025-09-03 18:33:31 TP0] Prefill batch. #new-seq: 1, #new-token: 18, #cached-token: 184, token usage: 0.00, ...
    [2025-09-03 18:33:32 TP0] Decode batch. #running-req: 1, #token: 234, token usage: 0.00, cuda graph: True,
        gen throughput (token/s): 3.17, #queue-req: 0,
    [2025-05-31 18:31:21 DP6 TP6] Decode batch. #running-req: 8, ... accept len: 2.86, ... gen throughput (token/s): ...
    [2026-08-23 09:06:21 TP0 EP0] Decode batch, #running-req: 1, #full token: 166144, ...
    [gpu=0] Decode batch. #running-req: 1, ...                                                    (0.2 and earlier 0.3)
    new fill batch. #seq: 1. #cached_token: 757. #new_token: 1. ...                               (0.1)

* Prefill lines are counts: `#new-token` was computed, `#cached-token` came from the radix cache.
* A decode line's rate is over the time since the last decode line of the same rank, however long that was (idle time
  included: the rate is low then), so tokens = rate x that time. Of the first line the time is unknown; a line is
  printed every 40 decode steps (`--decode-log-interval`), in each of which every running request gets a token: 40 x
  `#running-req` is taken. The same for logs without timestamps. Accepted speculative tokens are in the rate already.
* A decode line's running and queued requests and token usage are taken for all of that time.
* Tensor-parallel ranks repeat the same numbers and pipeline stages the same batches: one rank is counted of each
  data-parallel rank, the first that prints. Data-parallel ranks add up.
"""

import re
from typing import Any, ClassVar

from tokenyield_agent.tokens.dialects.base import LogDialect, PathReport, Server
from tokenyield_agent.tokens.endpoint import CounterNames, SeriesName
from tokenyield_agent.tokens.event import SPAN_S_MAX, TokenCounts, load_over
from tokenyield_agent.tokens.latency import LatencyNames
from tokenyield_agent.tokens.parsing import instants
from tokenyield_agent.tokens.parsing.lines import AccessLog, lines_with

DECODE_STEPS = 40
"""Between two decode lines, SGLang's default."""
RANKS_MAX = 1024
"""Data-parallel ranks in one log, so that memory stays bounded whatever a log holds."""

_HEAD = (
    rb"^[^'\"]{0,200}?(?:\[(?:gpu(?:_id)?=(?P<gpu>\d{1,4})"
    rb"|(?P<at>(?:\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d)(?P<ranks>(?: [A-Z]{2,4}\d{1,4}){0,6}))\] )"
)
_PREFILL = re.compile(
    _HEAD + rb"Prefill batch(?: \[\d+\])?[.,] #new-seq: \d+, "
    rb"#new-token: (?P<new>\d{1,9}), #cached-token: (?P<cached>\d{1,9}),"
)
_DECODE = re.compile(
    _HEAD + rb"Decode batch(?: \[\d+\])?[.,] #running-req: (?P<running>\d{1,6}), "
    rb"[^'\"]{0,400}?gen throughput \(token/s\): (?P<rate>\d{1,9}(?:\.\d{1,6})?)(?:, #|,?\s*$)"
)
_FILL = re.compile(
    rb"^new fill batch\. #seq: \d+\. #cached_token: (?P<cached>\d{1,9})\. #new_token: (?P<new>\d{1,9})\. "
)
_QUEUE = re.compile(rb", #queue-req: (\d{1,6})")
_USAGE = re.compile(rb", (?:full )?token usage: (\d(?:\.\d{1,4})?),")
_MODEL = re.compile(rb"server_args=ServerArgs\(.{0,4000}?served_model_name='(?P<model>[^']{1,253})'")
_RANK = re.compile(rb"([A-Z]{2,4})(\d{1,4})")

COUNTERS = CounterNames(
    server="sglang",
    known_by=(SeriesName("sglang:generation_tokens_total"), SeriesName("sglang:num_running_reqs")),
    completion=(SeriesName("sglang:generation_tokens_total"),),
    prompt=(SeriesName("sglang:prompt_tokens_total"),),
    prompt_cached=(SeriesName("sglang:cached_tokens_total"),),
    requests=(SeriesName("sglang:num_requests_total"),),
    requests_aborted=(SeriesName("sglang:num_aborted_requests_total"),),
    running=(SeriesName("sglang:num_running_reqs"),),
    waiting=(SeriesName("sglang:num_queue_reqs"),),
    cache_used=(SeriesName("sglang:token_usage"),),
    latency=LatencyNames(
        first_token=("sglang:time_to_first_token_seconds", "sglang_time_to_first_token_seconds"),
        inter_token=(
            "sglang:inter_token_latency_seconds",
            "sglang_inter_token_latency_seconds",
            "sglang:time_per_output_token_seconds",
        ),
        end_to_end=("sglang:e2e_request_latency_seconds", "sglang_e2e_request_latency_seconds"),
    ),
)
"""SGLang's Prometheus names, 0.3.6 to 0.5.6, read off each version's metrics/collector.py. `prompt_tokens` holds the
cached ones; cached tokens are reported since 0.4.6."""


class SgLang(LogDialect):
    """Dialect of SGLang 0.1 to the newest."""

    name: ClassVar[str] = "sglang"

    def __init__(self) -> None:
        super().__init__()
        self._answers = AccessLog(b"completions", b"POST /generate")
        self._ranks: dict[str, dict[str, Any]] = {}
        """Data-parallel rank -> the tensor rank that is counted, its last decode instant, fraction of a token."""

    def feed(self, block: bytes | bytearray, arrival_s: float) -> list[TokenCounts]:
        events: list[TokenCounts] = []
        words = [b"#new-token: ", b"gen throughput (token/s): ", b"new fill batch. "]
        if self.model is None:
            words.append(b"server_args=ServerArgs(")
        for line in lines_with(block, *words):
            if match := _DECODE.match(line):
                self._decode(match, arrival_s, events)
            elif match := _PREFILL.match(line):
                if self._rank(match) is not None:
                    at_s = instants.parse(match["at"], arrival_s) if match["at"] else None
                    events.append(self._prefill(match, at_s))
            elif match := _FILL.match(line):
                events.append(self._prefill(match, None))
            elif match := _MODEL.search(line):
                self.model = match["model"].decode("utf-8", "replace")
                self._ranks = {}  # this line opens a server's log
        self._answers.read(block)
        if self.recognised and (answers := self._answers.take()):
            events.append(TokenCounts(method="count", **answers))  # type: ignore[arg-type]
        return events

    def forget_counts(self) -> None:
        self._ranks = {}
        self._answers.clear()

    def _prefill(self, match: re.Match[bytes], at_s: float | None) -> TokenCounts:
        self.recognised += 1
        return TokenCounts(
            method="count", at_s=at_s, prompt_computed=int(match["new"]), prompt_cached=int(match["cached"])
        )

    def _decode(self, match: re.Match[bytes], arrival_s: float, events: list[TokenCounts]) -> None:
        rank = self._rank(match)
        if rank is None:
            return
        self.recognised += 1
        at_s = instants.parse(match["at"], arrival_s) if match["at"] else None
        before_s, rate = rank["at_s"], float(match["rate"])
        rank["at_s"] = at_s
        # A longer time between two decode lines is another run appended to the same file.
        if at_s is not None and before_s is not None and 0 <= at_s - before_s <= SPAN_S_MAX:
            gap_s = at_s - before_s
            exact = rate * gap_s + rank["fraction"]
            rank["fraction"] = exact % 1
        else:
            exact = float(DECODE_STEPS * int(match["running"]) if rate else 0)
            gap_s = min(exact / rate, SPAN_S_MAX) if rate else 0.0
        span_ms = int(gap_s * 1000)
        waiting, cache = _QUEUE.search(match.string, match.end("running")), _USAGE.search(match.string)
        load = load_over(
            span_ms,
            running=int(match["running"]),
            waiting=int(waiting[1]) if waiting else None,
            cache_used=float(cache[1]) if cache else None,
        )
        events.append(TokenCounts(method="rate", at_s=at_s, span_ms=span_ms, completion=int(exact), **load))  # type: ignore[arg-type]

    def _rank(self, match: re.Match[bytes]) -> dict[str, Any] | None:
        """The data-parallel rank of a line; None when the line repeats that of another tensor rank or stage."""
        ranks = {name: int(number) for name, number in _RANK.findall(match["ranks"] or b"")}
        tensor = ranks.get(b"TP", 0) if match["gpu"] is None else int(match["gpu"])
        if ranks.get(b"PP", 0) or (b"DP" not in ranks and tensor):
            return None
        key = str(ranks.get(b"DP", ""))
        if len(self._ranks) >= RANKS_MAX and key not in self._ranks:
            self._ranks.clear()
        rank = self._ranks.setdefault(key, {"tensor": tensor, "at_s": None, "fraction": 0.0})
        return rank if rank["tensor"] == tensor else None

    def state(self) -> dict[str, Any]:
        return {
            **super().state(),
            "answers": self._answers.state(),
            "ranks": {key: dict(rank) for key, rank in self._ranks.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._answers.restore(state["answers"])
        self._ranks = {key: dict(rank) for key, rank in state["ranks"].items()}


SERVER = Server(
    name="sglang",
    title="SGLang 0.1 to 0.5",
    process=re.compile(r"\bsglang[./](?:launch_server|srt)|\bsglang serve\b"),
    port=30000,
    counters=COUNTERS,
    counters_report=PathReport(since={"prompt_cached": "0.4.6"}, turned_on_by="--enable-metrics"),
    log=SgLang,
    log_report=PathReport(
        exact=("prompt_computed", "prompt_cached", "requests", "requests_failed"),
        rates=("completion",),
        has_load=True,
        caveat="prompts per prefill batch, completion per 40 decode steps; requests are those of the access log",
    ),
    advice="start it with --enable-metrics for exact counts",
)
