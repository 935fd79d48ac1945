"""How loaded servers were (requests running and waiting, cache in use), from their logs and their endpoints."""

import pytest

from recordings import RUNS
from tokenyield_agent.tokens.dialects import llamacpp, registry, sglang, vllm
from tokenyield_agent.tokens.dialects.base import LogDialect, PathReport, Server
from tokenyield_agent.tokens.dialects.sglang import SgLang
from tokenyield_agent.tokens.dialects.vllm import Vllm
from tokenyield_agent.tokens.endpoint import LoadGauges, read
from tokenyield_agent.tokens.event import TokenCounts, TokenEvent
from tokenyield_agent.tokens.log_source import LogSource, to_events
from tokenyield_agent.tokens.scrape import ScrapeResult
from tokenyield_agent.tokens.workload_tokens import LOAD_GAP_MS_MAX, WorkloadTokens

V0 = (
    b"INFO 01-25 11:26:58 llm_engine.py:706] Avg prompt throughput: 0.0 tokens/s, Avg generation throughput: 77.3 "
    b"tokens/s, Running: 3 reqs, Swapped: 0 reqs, Pending: 2 reqs, GPU KV cache usage: 12.5%, CPU KV cache usage: 0.0%\n"
)
V1 = (
    b"(APIServer pid=1) INFO 11-23 12:02:22 [loggers.py:335] Engine 000: Avg prompt throughput: 6.9 tokens/s, Avg "
    b"generation throughput: 10.0 tokens/s, Running: 4 reqs, Waiting: 7 reqs, GPU KV cache usage: 96.1%, Prefix cache hit "
    b"rate: 33.5%\n"
)
SGLANG = b"".join(
    b"[2025-09-03 18:33:%d TP0] Decode batch. #running-req: 6, #token: 137, token usage: 0.25, cuda graph: True, gen "
    b"throughput (token/s): 50.00, #queue-req: 3, \n" % second
    for second in (10, 12)
)


@pytest.mark.parametrize(
    ("line", "span_ms", "running", "waiting", "cache"),
    [(V0, 5_000, 15_000, 10_000, 625), (V1, 10_000, 40_000, 70_000, 9_610)],
)
def test_a_line_of_vllm_reports_its_interval(line: bytes, span_ms: int, running: int, waiting: int, cache: int) -> None:
    (counts,) = Vllm().feed(line, 1_764_000_000.0)
    assert counts.load() == {
        "load_known_ms": span_ms,
        "running_request_ms": running,
        "waiting_request_ms": waiting,
        "cache_used_ms": cache,
    }


def test_a_decode_line_of_sglang_reports_the_time_since_the_last() -> None:
    _, counts = SgLang().feed(SGLANG, 1_756_924_400.0)
    assert counts.load() == {
        "load_known_ms": 2_000,
        "running_request_ms": 12_000,
        "waiting_request_ms": 6_000,
        "cache_used_ms": 500,
    }


def test_lines_that_end_in_one_poll_are_added_up() -> None:
    parts = [TokenCounts(method="rate", span_ms=500, completion=1, load_known_ms=500, running_request_ms=900)] * 2
    (event,) = to_events("w", parts, 1000)
    assert (event.counts.completion, event.counts.load_known_ms, event.counts.running_request_ms) == (2, 1000, 1800)


PAGE = b"""# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="m"} 100
vllm:generation_tokens_total{engine="1",model_name="m"} 50
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3
vllm:num_requests_running{engine="1",model_name="m"} 1
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 2
vllm:num_requests_waiting{engine="1",model_name="m"} 0
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 2
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.9
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.5
"""


def test_engines_add_up_and_their_caches_are_a_mean() -> None:
    assert read(PAGE, vllm.COUNTERS).gauges == LoadGauges(running=4, waiting=2, cache_used=0.7)


def test_schedulers_of_sglang_add_up_by_data_parallel_rank_and_count_once_among_copies() -> None:
    lines = [
        f'sglang:num_running_reqs{{dp_rank="{dp}",pp_rank="{pp}",priority="{priority}",tp_rank="{tp}"}} {running}'
        for dp, of_all in ((0, 5), (1, 3))
        for tp in (0, 1)
        for pp in (0, 1)
        for priority, running in (("", of_all), ("1", of_all - 1), ("2", 1))
    ]
    gauges = read(("\n".join(lines) + "\n").encode(), sglang.COUNTERS).gauges
    assert gauges is not None
    assert (gauges.running, gauges.waiting) == (8, None)


def test_recorded_pages_report_the_load() -> None:
    page = (RUNS["vllm"] / "metrics.after.prom").read_bytes()
    assert read(page, vllm.COUNTERS).gauges == LoadGauges(running=0, waiting=0, cache_used=0)
    page = (RUNS["llamacpp"] / "metrics.after.prom").read_bytes()
    gauges = read(page, llamacpp.COUNTERS).gauges
    assert gauges is not None
    assert (gauges.running, gauges.waiting) == (0, 0)
    assert read(b"sglang:generation_tokens_total 1\n", sglang.COUNTERS).gauges is None


class Mine(LogDialect):
    """A log that was recognised."""

    name = "mine"

    def __init__(self) -> None:
        super().__init__()
        self.recognised = 1

    def feed(self, block: bytes | bytearray, arrival_s: float) -> list[TokenCounts]:
        return []


class NoLog:
    """A log that gives the events that it is given."""

    problem = None

    def __init__(self) -> None:
        self.events: list[TokenEvent] = []

    def poll(self, now_ms: int, now_mono_s: float, until_s: float = 0.0) -> list[TokenEvent]:
        events, self.events = self.events, []
        return events

    def dialects(self) -> list[Vllm]:
        return []

    def marks(self) -> list[object]:
        return []

    def close(self) -> None: ...


def answer(page: bytes = PAGE) -> ScrapeResult:
    return ScrapeResult(target="w", scraped_mono_s=0.0, names=vllm.COUNTERS, reading=read(page, vllm.COUNTERS))


def loads(events: list[TokenEvent]) -> list[tuple[int, int, int | None]]:
    known = [event for event in events if event.counts.load_known_ms is not None]
    return [(event.start_ms, event.end_ms, event.counts.waiting_request_ms) for event in known]


def test_the_load_is_integrated_between_two_scrapes_and_reported_once() -> None:
    log = NoLog()
    source: LogSource = log  # type: ignore[assignment]
    tokens = WorkloadTokens("w", source, has_endpoint=True, mark=None)
    logged = TokenCounts(method="rate", span_ms=10_000, completion=9, load_known_ms=10_000, waiting_request_ms=1)
    log.events = [TokenEvent(workload="w", start_ms=0, end_ms=10_000, counts=logged)]
    assert loads(tokens.poll(10_000, 0.0)) == [(0, 10_000, 1)], "the endpoint has not answered yet"
    assert loads(tokens.from_endpoint(answer(), 10_000)) == []
    empty = PAGE.replace(b'waiting{engine="0",model_name="m"} 2', b'waiting{engine="0",model_name="m"} 0')
    assert loads(tokens.from_endpoint(answer(empty), 20_000)) == [(10_000, 20_000, 10_000)], (
        "half of two, for ten seconds"
    )
    log.events = [TokenEvent(workload="w", start_ms=10_000, end_ms=20_000, counts=logged)]
    assert loads(tokens.poll(21_000, 0.0)) == [], "the load of one time is reported once"
    assert loads(tokens.from_endpoint(answer(empty), 20_001 + LOAD_GAP_MS_MAX)) == [], (
        "nothing is reported about a long silence"
    )


def test_a_workload_is_quiet_since_its_last_token() -> None:
    tokens = WorkloadTokens("w", None, has_endpoint=True, mark=None)
    assert tokens.quiet_since_ms(500) is None, "its tokens are not read yet"
    tokens.from_endpoint(answer(), 1_000)
    assert tokens.quiet_since_ms(5_000) == 5_000, "since it was first read"
    tokens.from_endpoint(answer(), 6_000)
    assert tokens.quiet_since_ms(9_000) == 5_000
    more = PAGE.replace(b"} 100", b"} 101")
    tokens.from_endpoint(answer(more), 9_000)
    assert tokens.quiet_since_ms(20_000) == 9_000
    again = WorkloadTokens("w", None, has_endpoint=True, mark=tokens.mark())
    again.from_endpoint(answer(more), 21_000)
    assert again.quiet_since_ms(30_000) == 9_000, "a restart of the agent forgets nothing"


def test_a_workload_of_a_server_that_reports_no_tokens_is_not_called_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows when it made its last token."""
    requests_only = Server(name="mine", title="Mine", log=Mine, log_report=PathReport(exact=("requests",)))
    log = NoLog()
    source: LogSource = log  # type: ignore[assignment]
    tokens = WorkloadTokens("w", source, has_endpoint=False, mark=None)
    monkeypatch.setattr(log, "dialects", lambda: [Mine()])
    assert tokens.quiet_since_ms(500) == 500, "a dialect of the operator's own"
    monkeypatch.setattr(registry, "WITHOUT_TOKENS", registry.without_tokens({"mine": requests_only}))
    again = WorkloadTokens("w", source, has_endpoint=False, mark=None)
    assert again.quiet_since_ms(500) is None
