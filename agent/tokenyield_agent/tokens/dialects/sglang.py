"""SGLang's log: what each prefill batch computed, and how fast the decode batches ran.

    [2025-09-03 18:33:31 TP0] Prefill batch. #new-seq: 1, #new-token: 18, #cached-token: 184, token usage: 0.00, ...
    [2025-09-03 18:33:32 TP0] Decode batch. #running-req: 1, #token: 234, token usage: 0.00, cuda graph: True,
        gen throughput (token/s): 3.17, #queue-req: 0,
    [2025-05-31 18:31:21 DP6 TP6] Decode batch. #running-req: 8, ... accept len: 2.86, ... gen throughput (token/s): ...
    [2026-08-23 09:06:21 TP0 EP0] Decode batch, #running-req: 1, #full token: 166144, ...
    [gpu=0] Decode batch. #running-req: 1, ...                                                    (0.2 and earlier 0.3)
    new fill batch. #seq: 1. #cached_token: 757. #new_token: 1. ...                               (0.1)

* Prefill lines are counts: `#new-token` was computed, `#replay-token` computed again, `#cached-token` came from the
  radix cache.
* A decode line's rate is over the time since the last decode line of the same rank, however long that was (idle time
  included: the rate is low then), so tokens = rate x that time. Of the first line the time is unknown; a line is
  printed every 40 decode steps (`--decode-log-interval`), in each of which every running request gets a token: 40 x
  `#running-req` is taken. The same for logs without timestamps. Accepted speculative tokens are in the rate already.
* A decode line's running and queued requests and token usage are taken for all of that time.
* Tensor-parallel ranks repeat the same numbers and pipeline stages the same batches, and so do ranks of any other name
  (EP, ATTN_CP, MOE_DP): one is counted of each data-parallel rank, the first that prints. Data-parallel ranks add up.
* A time's milliseconds are left out, so that a log gives the same with and without them; they only show that a line is
  there twice.
"""

import re
from functools import partial
from typing import Any, ClassVar

from tokenyield_agent.tokens.dialects.base import LogDialect, PathReport, ProcessNames, Server
from tokenyield_agent.tokens.endpoint import CounterNames, every_series, full_names
from tokenyield_agent.tokens.event import SPAN_S_MAX, TokenCounts, load_over
from tokenyield_agent.tokens.latency import LatencyNames
from tokenyield_agent.tokens.parsing import instants
from tokenyield_agent.tokens.parsing.access_log import AccessLog
from tokenyield_agent.tokens.parsing.lines import lines_with
from tokenyield_agent.tokens.parsing.origins import BEFORE, sender_of

DECODE_STEPS = 40
"""Between two decode lines, SGLang's default."""
RANKS_MAX = 1024
"""Data-parallel ranks in one log, so that memory stays bounded whatever a log holds."""

_HEAD = BEFORE + (
    rb"(?:\[(?:gpu(?:_id)?=(?P<gpu>\d{1,4})"
    rb"|(?P<at>(?:\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d)(?P<fraction>[.,]\d{1,9})?"
    rb"(?P<ranks>(?: [A-Za-z_]{2,24}\d{1,5}){0,12}))\] )?"
)
"""SGLang's own head; in a format of the operator's what stands before is searched for the same."""
_PREFILL = re.compile(
    _HEAD + rb"Prefill batch(?: \[\d+\])?[.,] #new-seq: \d+, "
    rb"#new-token: (?P<new>\d{1,9}), #cached-token: (?P<cached>\d{1,9}),"
)
_DECODE = re.compile(
    _HEAD + rb"Decode batch(?: \[\d+\])?[.,] #running-req: (?P<running>\d{1,6}), "
    rb"[^'\"]{0,400}?gen throughput \(token/s\): (?P<rate>\d{1,9}(?:\.\d{1,6})?)(?:, #|,?\s*$)"
)
_FILL = re.compile(
    BEFORE + rb"new fill batch\. #seq: \d+\. #cached_token: (?P<cached>\d{1,9})\. #new_token: (?P<new>\d{1,9})\. "
)
_REPLAY = re.compile(rb", #replay-token: (\d{1,9}),")
_QUEUE = re.compile(rb", #queue-req: (\d{1,6})")
_USAGE = re.compile(rb", (?:full )?token usage: (\d(?:\.\d{1,4})?),")
_MODEL = re.compile(
    rb"server_args=(?:ServerArgs\(|\{).{0,40000}?\bserved_model_name['\"]?(?:=|: ?)['\"](?P<model>[^'\"]{1,253})['\"]"
)
_RANK = re.compile(rb"\b([A-Za-z_]{2,24}?)[=:]?(\d{1,5})\b")
_WITHIN_TP = (b"EP", b"ATTN_CP", b"MOE_DP")
MODEL_LINE_BYTES_MAX = 64 * 1024
"""Of the line with all of a server's options, which newer versions have hundreds of."""

PREFIXES = ("sglang:", "sglang_", "ray_sglang:", "ray_sglang_")
"""Of its names: its own, as a router passes them on, and as Ray exports them."""


_names, _everywhere = partial(full_names, PREFIXES), partial(every_series, PREFIXES)

COUNTERS = CounterNames(
    server="sglang",
    model_labels=("model_name", "model", "name"),  # the last: before 0.4
    known_by=_everywhere("generation_tokens_total"),
    prefixes=PREFIXES,
    shows_late=True,
    # With --enable-metrics-for-all-schedulers every rank shows the gauges of its scheduler, all of which run the same.
    copies=("tp_rank", "pp_rank", "moe_ep_rank", "attn_tp_rank", "attn_cp_rank", "pid"),
    completion=_everywhere("generation_tokens_total"),
    prompt=_everywhere("prompt_tokens_total"),
    prompt_cached=_everywhere("cached_tokens_total"),
    requests=_everywhere("num_requests_total"),
    requests_aborted=_everywhere("num_aborted_requests_total"),
    # With priorities a gauge shows them all under an empty priority, and each beside it.
    running=_everywhere("num_running_reqs", priority=""),
    waiting=_everywhere("num_queue_reqs", priority=""),
    cache_used=_everywhere("token_usage"),
    latency=LatencyNames(
        first_token=_names("time_to_first_token_seconds"),
        inter_token=(*_names("inter_token_latency_seconds"), *_names("time_per_output_token_seconds")),
        end_to_end=_names("e2e_request_latency_seconds"),
    ),
)
"""SGLang's Prometheus names, 0.3.6 to 0.5.23, read off each version's metrics collector. `prompt_tokens` holds the
cached ones; cached tokens are reported since 0.4.6, by where they were cached, which adds up."""


class SgLang(LogDialect):
    """Dialect of SGLang 0.1 to the newest."""

    name: ClassVar[str] = "sglang"

    def __init__(self) -> None:
        super().__init__()
        self._answers = AccessLog(b"/generate")
        self._ranks: dict[str, dict[str, Any]] = {}
        """Data-parallel rank -> the rank beside it that is counted, its last decode instant and prefill line, fraction
        of a token."""

    def feed(self, block: bytes | bytearray, arrival_s: float) -> list[TokenCounts]:
        events: list[TokenCounts] = []
        words = [b"#new-token: ", b"gen throughput (token/s): ", b"new fill batch. "]
        if self.model is None:
            words.append(b"server_args=")
        for line in lines_with(block, *words, bytes_max=MODEL_LINE_BYTES_MAX):
            if match := _DECODE.match(line):
                self._decode(match, arrival_s, events)
            elif match := _PREFILL.match(line):
                self._prefill(match, arrival_s, events)
            elif match := _FILL.match(line):
                self.recognised += 1
                events.append(_prompts(match, None))
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

    def _prefill(self, match: re.Match[bytes], arrival_s: float, events: list[TokenCounts]) -> None:
        rank = self._rank(match)
        if rank is None:
            return
        self.recognised += 1
        if match["fraction"]:  # whole seconds do not tell two equal batches apart
            line = f"{match['at']!r}{match['fraction']!r} {match['new']!r} {match['cached']!r}"
            if rank.get("prefill") == line:
                return  # the same line twice
            rank["prefill"] = line
        events.append(_prompts(match, _at_s(match, arrival_s)))

    def _decode(self, match: re.Match[bytes], arrival_s: float, events: list[TokenCounts]) -> None:
        rank = self._rank(match)
        if rank is None:
            return
        self.recognised += 1
        at_s = _at_s(match, arrival_s)
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
        """The data-parallel rank of a line; None when the line repeats that of another rank or stage.

        Ranks of any other name (TP, EP, ATTN_CP, MOE_DP, one to come) repeat each other's lines. A TP rank is one of
        each of those that are known."""
        before, head = match["before"], match["ranks"] or b""
        if match["at"] is None and match["gpu"] is None:
            before, _, head = before.rpartition(b"[")
        ranks = {name: int(number) for name, number in _RANK.findall(head)}
        if match["gpu"] is not None:
            ranks[b"TP"] = int(match["gpu"])
        data = ranks.pop(b"DP", None)
        if ranks.pop(b"PP", 0) or (data is None and ranks.get(b"TP", 0)):
            return None
        key = sender_of(before) + ("" if data is None else str(data))
        if b"TP" in ranks:
            ranks = {name: number for name, number in ranks.items() if name not in _WITHIN_TP}
        beside = " ".join(f"{name.decode('ascii')}{number}" for name, number in sorted(ranks.items()))
        if len(self._ranks) >= RANKS_MAX and key not in self._ranks:
            self._ranks.clear()
        rank = self._ranks.setdefault(key, {"at_s": None, "fraction": 0.0})
        return rank if rank.setdefault("beside", beside) == beside else None

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


def _at_s(match: re.Match[bytes], arrival_s: float) -> float | None:
    if match["at"]:
        return instants.parse(match["at"], arrival_s)
    return None if match["gpu"] is not None else instants.last_in(match["before"], arrival_s)


def _prompts(match: re.Match[bytes], at_s: float | None) -> TokenCounts:
    replayed = _REPLAY.search(match.string, match.end())
    return TokenCounts(
        method="count",
        at_s=at_s,
        prompt_computed=int(match["new"]) + (int(replayed[1]) if replayed else 0),
        prompt_cached=int(match["cached"]),
    )


SERVER = Server(
    name="sglang",
    title="SGLang 0.1 to 0.5",
    process=ProcessNames(
        programs=("sglang serve",), modules=("sglang.launch_server", "sglang.srt"), titles=("sglang::",)
    ),
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
