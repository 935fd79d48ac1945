"""The scraper against servers: those that show no counters yet, that refuse it, that are another program, that sleep."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from harness import wait_until
from metrics_server import serving
from recordings import FIXTURES, RUNS
from tokenyield_agent.tokens import scrape
from tokenyield_agent.tokens.page_request import EndpointAddress
from tokenyield_agent.tokens.scrape import Scraper, ScrapeResult
from tokenyield_agent.tokens.workload_tokens import WorkloadTokens

UNUSED = b'# TYPE dynamo_frontend_model_context_length gauge\ndynamo_frontend_model_context_length{model="m"} 0\n'
USED = (FIXTURES / "pages" / "dynamo-1.6.1.prom").read_bytes()
VLLM = b'# TYPE vllm:generation_tokens_total counter\nvllm:generation_tokens_total{engine="0",model_name="m"} 100\n'
NODE = b'node_cpu_seconds_total{cpu="0"} 3\n'


@contextmanager
def scraping(url: str, **address: Any) -> Iterator[tuple[Scraper, Callable[[Callable[[], bool]], list[ScrapeResult]]]]:
    """A scraper of one target `w`, and `until`, which triggers it until something is so."""
    scraper = Scraper(interval_s=0.01, timeout_s=5)
    scraper.set_targets({"w": [EndpointAddress(url=url, **address)]})
    results: list[ScrapeResult] = []

    def until(condition: Callable[[], bool]) -> list[ScrapeResult]:
        def is_so() -> bool:
            scraper.trigger()
            results.extend(scraper.take())
            return condition()

        wait_until(is_so, what="the scraper")
        return results

    try:
        yield scraper, until
    finally:
        scraper.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "PROBE_PAUSE_S", 0.0)
    monkeypatch.setattr(scrape, "RETRY_S_MIN", 0.01)
    monkeypatch.setattr(scrape, "RETRY_CONFIGURED_S_MAX", 0.01)


def test_a_server_that_was_not_used_yet_is_asked_on_and_counted_from_its_first_request() -> None:
    tokens = WorkloadTokens("w", None, has_endpoint=True, mark=None)
    with serving(UNUSED) as server, scraping(f"{server.url}/metrics") as (scraper, until):
        until(lambda: len(server.asked) >= 3)
        assert "which shows no counters before its first request" in scraper.problems()["w"]
        assert (scraper.answering(), scraper.recognized()) == ({}, {"w"})
        server.body = USED
        results = until(lambda: bool(scraper.answering()))
        assert scraper.answering()["w"][1] == "dynamo"
        assert scraper.problems() == {}
    events = [event for n, result in enumerate(results) for event in tokens.from_endpoint(result, n)]
    assert sum(event.counts.completion or 0 for event in events) == 140
    assert sum(event.counts.requests or 0 for event in events) == 7


def test_a_configured_address_is_asked_again_whatever_answered_there() -> None:
    with serving(NODE) as server, scraping(server.url, is_configured=True) as (scraper, until):
        until(lambda: len(server.asked) >= 10)
        server.body = VLLM
        until(lambda: bool(scraper.answering()))


def test_another_program_is_left_alone_where_it_was_only_discovered() -> None:
    with serving(NODE) as server, scraping(server.url) as (scraper, until):
        until(lambda: "w" in scraper.problems())
        asked = len(server.asked)
        for _ in range(20):
            scraper.trigger()
        server.body = VLLM
        assert len(server.asked) == asked


def test_a_server_that_warms_up_is_no_other_program() -> None:
    with serving(b"# TYPE python_info gauge\npython_info 1\n") as server, scraping(server.url) as (scraper, until):
        until(lambda: "w" in scraper.problems())
        server.body = VLLM
        until(lambda: bool(scraper.answering()))


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refusal_is_said_with_its_fix_and_asked_again(status: int) -> None:
    with serving(VLLM, status=status) as server, scraping(f"{server.url}/metrics") as (scraper, until):
        until(lambda: "w" in scraper.problems())
        assert f"answers {status}; " in scraper.problems()["w"]
        server.status = 200
        until(lambda: bool(scraper.answering()))


def test_another_server_at_a_known_address_is_recognized() -> None:
    with serving(VLLM) as server, scraping(f"{server.url}/metrics") as (scraper, until):
        until(lambda: bool(scraper.answering()))
        server.body = USED
        until(lambda: scraper.answering()["w"][1] == "dynamo")


def test_an_idle_server_is_left_alone_until_its_log_shows_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "STILL_S", 0.0)
    with serving(VLLM) as server, scraping(f"{server.url}/metrics", when_idle="never") as (scraper, until):
        scraper.trigger()
        assert server.asked == []
        scraper.stir("w")
        until(lambda: bool(scraper.answering()))
        asked = len(server.asked)
        for _ in range(20):
            scraper.trigger()
        assert len(server.asked) == asked
        scraper.stir("w")
        until(lambda: len(server.asked) > asked)


def test_an_idle_server_that_is_asked_rarely_is_asked_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "STILL_S", 0.0)
    monkeypatch.setattr(scrape, "RARELY_S", 3600.0)
    with serving(VLLM) as server, scraping(f"{server.url}/metrics", when_idle="rarely") as (scraper, until):
        until(lambda: bool(scraper.answering()))
        asked = len(server.asked)
        for _ in range(20):
            scraper.trigger()
        assert len(server.asked) == asked
        monkeypatch.setattr(scrape, "RARELY_S", 0.0)
        until(lambda: len(server.asked) > asked + 3)


def test_a_page_is_read_for_its_waits_too() -> None:
    page = (RUNS["vllm"] / "metrics.after.prom").read_bytes()
    with serving(page) as server, scraping(f"{server.url}/metrics") as (scraper, until):
        results = until(lambda: bool(scraper.answering()))
    kinds = {key.partition("\t")[0]: sum(sums[1:]) for key, sums in results[-1].latency.series.items()}
    assert kinds == {"first_token": 726, "inter_token": 74_306, "end_to_end": 726}


def test_a_page_that_cannot_be_read_costs_its_answer_and_not_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(body: bytes, names: Any) -> Any:
        raise OverflowError("cannot convert float infinity to integer")

    with serving(VLLM) as server, scraping(f"{server.url}/metrics") as (scraper, until):
        until(lambda: bool(scraper.answering()))
        with monkeypatch.context() as patch:
            patch.setattr(scrape, "read", broken)
            until(lambda: scraper.reasons().get("w") == "unreadable")
        until(lambda: scraper.reasons().get("w") is None)
