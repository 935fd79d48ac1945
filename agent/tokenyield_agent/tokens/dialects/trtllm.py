"""TensorRT-LLM's log: what each step of the executor computed (`trtllm-serve` with `print_iter_log: true`), and the
same from Triton's TensorRT-LLM backend (`--log-verbose`).

    [04/28/2025-09:56:44] [TRT-LLM] [I] iter = 198, global_rank = 0, rank = 0, currank_total_requests = 0/0,
        elapsed_time = 0.005s, timestamp = 2025-04-28 09:56:44, num_scheduled_requests: 10,
        states = {'num_ctx_requests': 0, 'num_ctx_tokens': 0, 'num_generation_tokens': 16}
    [08/04/2026-19:08:13] [TRT-LLM] [I] [_torch][RANK 0] iter = 3, global_rank = 0, rank = 0,
        num_scheduled_requests = 8, kv_cache_util = 0.125, ..., states = {...}
    I1218 03:35:37.688135 20559 libtensorrtllm.cc:1205] {"Active Request Count":1,"Context Requests":1,...,
        "Generation Requests":0,...,"Timestamp":"12-18-2023 03:35:37",...,"Total Context Tokens":2048,...}

A step computes `num_ctx_tokens` of prompts, and one token for each request in generation. `num_generation_tokens` is
not that number: it holds the padding of CUDA graphs and draft tokens that may be refused (TensorRT-LLM pull request
3914). So completion = scheduled requests - context requests, at most `num_generation_tokens`. This leaves out the first
token of each request, which comes with its context, and accepted draft tokens: it is a lower bound, and marked `rate`.
Only rank 0 is read; ranks of attention data parallelism are not reported. Prefer the endpoint: /prometheus/metrics.
"""

import re
from functools import partial
from typing import Any, ClassVar

from tokenyield_agent.tokens.dialects.base import LogDialect, PathReport, ProcessNames, Server
from tokenyield_agent.tokens.endpoint import CounterNames, SeriesName, every_series, full_names
from tokenyield_agent.tokens.event import TokenCounts
from tokenyield_agent.tokens.latency import LatencyNames
from tokenyield_agent.tokens.parsing import instants
from tokenyield_agent.tokens.parsing.access_log import AccessLog
from tokenyield_agent.tokens.parsing.lines import lines_with
from tokenyield_agent.tokens.parsing.origins import BEFORE, digest

_STEP = re.compile(
    BEFORE + rb"(?:\[(?P<at>\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d)\] )?"
    rb"\[TRT-LLM\] \[I\] (?:\[_torch\])?(?:\[RANK \d{1,5}\] )?"
    rb"iter = \d{1,12}, global_rank = (?P<rank>\d{1,5}), rank = \d{1,5}, "
    rb"(?:[^'\"]{0,300}?num_scheduled_requests(?::| =) (?P<scheduled>\d{1,6}),)?[^'\"]{0,300}?"
    rb"states = \{'num_ctx_requests': (?P<context>\d{1,6}), 'num_ctx_tokens': (?P<prompt>\d{1,9}), "
    rb"'num_generation_tokens': (?P<made>\d{1,9})(?:, '\w{1,40}': \d{1,12}){0,8}\}"
)
_TRITON = re.compile(
    rb'^[^\'"{]{0,120}libtensorrtllm\.cc:\d{1,6}\] \{"Active Request Count":\d{1,6},'
    rb'"Context Requests":(?P<context>\d{1,6}),'
    rb'[^{}]{0,600}?"Generation Requests":(?P<made>\d{1,6}),'
    rb'[^{}]{0,600}?"Timestamp":"(?P<at>\d\d-\d\d-\d{4} \d\d:\d\d:\d\d)",'
    rb'[^{}]{0,300}?"Total Context Tokens":(?P<prompt>\d{1,9})[,}]'
)

PREFIXES = ("trtllm_", "trtllm:")
"""Of its names: its own, and as Dynamo passes them on."""


def _everywhere(name: str, **where: str) -> tuple[SeriesName, ...]:
    """The alternatives of a name. Until 1.1 it has no prefix: then a label distinguishes it."""
    return (*every_series(PREFIXES, name, **where), SeriesName(name, **{**where, "engine_type": "!"}))


_names = partial(full_names, (*PREFIXES, ""))

COUNTERS = CounterNames(
    server="trtllm",
    paths=("/prometheus/metrics", "/metrics"),
    known_by=_everywhere("request_success_total"),
    prefixes=PREFIXES,
    shows_late=True,
    completion=_everywhere("generation_tokens_total"),
    prompt=_everywhere("prompt_tokens_total"),
    prompt_cached=_everywhere("prompt_cached_tokens_total"),
    requests=_everywhere("request_success_total", finished_reason="!cancelled|error"),
    requests_aborted=_everywhere("request_success_total", finished_reason="cancelled"),
    requests_failed=_everywhere("request_error_total"),
    running=_everywhere("num_requests_running"),
    waiting=_everywhere("num_requests_waiting"),
    cache_used=_everywhere("kv_cache_utilization"),
    latency=LatencyNames(
        first_token=_names("time_to_first_token_seconds"),
        inter_token=_names("time_per_output_token_seconds"),
        end_to_end=_names("e2e_request_latency_seconds"),
    ),
)
"""trtllm-serve's Prometheus names, read off tensorrt_llm/metrics/collector.py. Before 1.2 there are no token counters
among them, and no prefix."""


class TrtLlm(LogDialect):
    """Dialect of TensorRT-LLM's executor, alone or in Triton."""

    name: ClassVar[str] = "trtllm"

    def __init__(self) -> None:
        super().__init__()
        self._answers = AccessLog()
        self._last_step = ""
        """The digest of the last step's line, so that a line that is there twice counts once."""

    def feed(self, block: bytes | bytearray, arrival_s: float) -> list[TokenCounts]:
        events = []
        for line in lines_with(block, b"'num_ctx_tokens': ", b'"Total Context Tokens":'):
            step = digest(line)
            if step == self._last_step:
                continue
            if (match := _STEP.match(line)) is not None:
                self.recognised += 1
                if match["rank"] == b"0":
                    self._last_step = step
                    events.append(self._of_step(match, arrival_s))
            elif (match := _TRITON.match(line)) is not None:
                self.recognised += 1
                self._last_step = step
                events.append(self._of_triton(match, arrival_s))
        self._answers.read(block)
        if self.recognised and (answers := self._answers.take()):
            events.append(TokenCounts(method="count", **answers))  # type: ignore[arg-type]
        return events

    def forget_counts(self) -> None:
        self._answers.clear()

    def state(self) -> dict[str, Any]:
        return {**super().state(), "answers": self._answers.state(), "step": self._last_step}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._answers.restore(state.get("answers", {}))
        self._last_step = state.get("step", "")

    def _of_step(self, match: re.Match[bytes], arrival_s: float) -> TokenCounts:
        made = int(match["made"])
        if match["scheduled"] is not None:
            made = min(made, max(0, int(match["scheduled"]) - int(match["context"])))
        at_s = instants.parse(match["at"], arrival_s) if match["at"] else None
        return TokenCounts(method="rate", at_s=at_s, prompt_computed=int(match["prompt"]), completion=made)

    def _of_triton(self, match: re.Match[bytes], arrival_s: float) -> TokenCounts:
        day, _, clock = match["at"].partition(b" ")
        at_s = instants.parse(day.replace(b"-", b"/") + b"-" + clock, arrival_s)
        prompt = int(match["prompt"]) if int(match["context"]) else 0
        return TokenCounts(method="rate", at_s=at_s, prompt_computed=prompt, completion=int(match["made"]))


SERVER = Server(
    name="trtllm",
    title="TensorRT-LLM `trtllm-serve`",
    process=ProcessNames(programs=("trtllm-serve",), modules=("tensorrt_llm.commands.serve",)),
    port=8000,
    counters=COUNTERS,
    counters_report=PathReport(
        turned_on_by="return_perf_metrics: true", caveat="at `/prometheus/metrics`; 1.1 has requests only"
    ),
    log=TrtLlm,
    log_report=PathReport(
        exact=("requests", "requests_failed"),
        rates=("prompt_computed", "completion"),
        turned_on_by="print_iter_log: true",
        caveat="per step of rank 0, a lower bound; requests are those of the access log",
    ),
    advice="return_perf_metrics: true in its options gives exact counts at /prometheus/metrics",
    log_advice="set print_iter_log: true in its options",
)
