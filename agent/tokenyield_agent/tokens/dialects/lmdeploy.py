"""LMDeploy's log (`--enable-metrics`): throughput of each data-parallel rank.

    [2025-07-10 11:02:03 DP0] Avg prompt throughput: 512.0 tokens/s, Avg generation throughput: 87.4 tokens/s, ...
    [2026-02-05 17:05:17 DP0] Avg thr (in/out): 4618.5 / 2756.3 tokens/s, API server (completed/routed/waiting): ...
    [2026-03-13 14:54:59 DP0] Avg thr (in/out): 1445.8 / 68.8 tokens/s, Server (succeeded/failed/routed/waiting): ...

Rates over the time since the last statistics, taken every 10 s; nothing is printed while no token is made. The prompt
rate is of whole prompts, prefix cache included, so it cannot be split. `succeeded` and `failed` are totals since the
server started; their growth gives the requests (2026-03 and later).
"""

import re
from typing import Any, ClassVar

from tokenyield_agent.tokens.dialects.base import LogDialect, PathReport, ProcessNames, Server
from tokenyield_agent.tokens.endpoint import CounterNames, SeriesName
from tokenyield_agent.tokens.event import TokenCounts
from tokenyield_agent.tokens.latency import LatencyNames
from tokenyield_agent.tokens.parsing import instants
from tokenyield_agent.tokens.parsing.intervals import ENGINES_MAX, RateIntervals
from tokenyield_agent.tokens.parsing.lines import lines_with
from tokenyield_agent.tokens.parsing.origins import BEFORE, sender_of

NOMINAL_S = 10.0
SILENCE_FACTOR = 1.5

_STATS = re.compile(
    BEFORE + rb"\[(?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:[.,]\d{1,9})? DP(?P<rank>\d{1,4})\] Avg "
    rb"(?:thr \(in/out\): (?P<in>\d{1,9}\.\d) / (?P<out>\d{1,9}\.\d) tokens/s, "
    rb"|prompt throughput: (?P<prompt>\d{1,9}\.\d) tokens/s, "
    rb"Avg generation throughput: (?P<made>\d{1,9}\.\d) tokens/s, )"
    rb"(?:Server \(succeeded/failed/routed/waiting\): (?P<succeeded>\d{1,12}) / (?P<failed>\d{1,12}) / )?"
)

_CANCELLED = "ResponseType.CANCEL"
_FAILED = "|".join(
    f"ResponseType.{reason}"
    for reason in (
        "ENGINE_STOP_ERROR",
        "SESSION_REPEAT",
        "SESSION_NOT_EXIST",
        "HANDLER_NOT_EXIST",
        "INPUT_LENGTH_ERROR",
        "INTERNAL_ENGINE_ERROR",
        "PREFIX_CACHE_CONFLICT",
        "NO_QUEUE",
        "NOT_SUPPORTED",
        "OUT_OF_MEMORY",
    )
)

COUNTERS = CounterNames(
    server="lmdeploy",
    known_by=(SeriesName("lmdeploy:generation_tokens_total"),),
    prefixes=("lmdeploy:",),
    completion=(SeriesName("lmdeploy:generation_tokens_total"),),
    prompt=(SeriesName("lmdeploy:prompt_tokens_total"),),
    prompt_cached=(SeriesName("lmdeploy:cached_tokens_total"),),
    requests=(SeriesName("lmdeploy:request_success_total", finished_reason=f"!{_CANCELLED}|{_FAILED}"),),
    requests_aborted=(SeriesName("lmdeploy:request_success_total", finished_reason=_CANCELLED),),
    requests_failed=(SeriesName("lmdeploy:request_success_total", finished_reason=_FAILED),),
    running=(SeriesName("lmdeploy:num_requests_running"),),
    waiting=(SeriesName("lmdeploy:num_requests_waiting"),),
    cache_used=(SeriesName("lmdeploy:gpu_cache_usage_perc"),),
    latency=LatencyNames(
        first_token=("lmdeploy:time_to_first_token_seconds",),
        inter_token=("lmdeploy:iter_token_latency", "lmdeploy:time_per_output_token_seconds"),
        end_to_end=("lmdeploy:e2e_request_latency_seconds",),
    ),
)
"""LMDeploy's Prometheus names, read off lmdeploy/metrics/loggers.py, 2025-07 to 2026-10 (0.18). Its counter of success
has every reason for which a request ended."""


class LmDeploy(LogDialect):
    """Dialect of LMDeploy from July 2025, the first with metrics."""

    name: ClassVar[str] = "lmdeploy"

    def __init__(self) -> None:
        super().__init__()
        self._intervals = RateIntervals()
        self._totals: dict[str, list[int]] = {}
        """Rank -> requests succeeded and failed, as last reported."""

    def feed(self, block: bytes | bytearray, arrival_s: float) -> list[TokenCounts]:
        events = []
        for line in lines_with(block, b"] Avg thr (in/out): ", b"] Avg prompt throughput: "):
            if match := _STATS.match(line):
                self.recognised += 1
                events.append(self._counts_of(match, arrival_s))
        return events

    def forget_counts(self) -> None:
        self._intervals.clear()

    def _counts_of(self, match: re.Match[bytes], arrival_s: float) -> TokenCounts:
        rank = sender_of(match["before"]) + match["rank"].decode("ascii")
        at_s = instants.parse(match["at"], arrival_s)
        interval_s, (prompt, made) = self._intervals.tokens(
            rank,
            arrival_s if at_s is None else at_s,
            (float(match["in"] or match["prompt"]), float(match["out"] or match["made"])),
            nominal_s=NOMINAL_S,
            silence_factor=SILENCE_FACTOR,
            is_timed=at_s is not None,
        )
        requests, failed = self._requests(rank, match)
        return TokenCounts(
            method="rate",
            at_s=at_s,
            span_ms=int(interval_s * 1000),
            prompt_unsplit=prompt,
            completion=made,
            requests=requests,
            requests_failed=failed,
        )

    def _requests(self, rank: str, match: re.Match[bytes]) -> tuple[int | None, int | None]:
        if match["succeeded"] is None:
            return None, None
        now = [int(match["succeeded"]), int(match["failed"])]
        if len(self._totals) >= ENGINES_MAX:
            self._totals.clear()
        before = self._totals.get(rank)
        self._totals[rank] = now
        if before is None:
            return None, None  # since when these count is unknown
        if now[0] < before[0] or now[1] < before[1]:
            return now[0], now[1]  # the server was restarted
        return now[0] - before[0], now[1] - before[1]

    def state(self) -> dict[str, Any]:
        return {
            **super().state(),
            "engines": self._intervals.state(),
            "totals": {rank: list(total) for rank, total in self._totals.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._intervals.restore(state["engines"])
        self._totals = {rank: list(total) for rank, total in state["totals"].items()}


SERVER = Server(
    name="lmdeploy",
    title="LMDeploy since July 2025",
    process=ProcessNames(programs=("lmdeploy serve",), modules=("lmdeploy serve", "lmdeploy.serve")),
    port=23333,
    counters=COUNTERS,
    counters_report=PathReport(turned_on_by="--enable-metrics"),
    log=LmDeploy,
    log_report=PathReport(
        exact=("requests", "requests_failed"),
        rates=("prompt_unsplit", "completion"),
        since={"requests": "March 2026", "requests_failed": "March 2026"},
        turned_on_by="--enable-metrics",
        caveat="a rate every 10 s",
    ),
    advice="start it with --enable-metrics for exact counts",
    log_advice="start it with --enable-metrics",
)
