"""Counters of every server's endpoint: recorded expositions with their true counts, and the names of each version."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordings import PAGES, RUNS, Recording
from tokenyield_agent.tokens.dialects import llamacpp, vllm
from tokenyield_agent.tokens.dialects.registry import COUNTERS, counters_of_page
from tokenyield_agent.tokens.endpoint import CounterNames, CounterReading, change_between, read, since_start
from tokenyield_agent.tokens.exposition import SERIES_MAX, is_page
from tokenyield_agent.tokens.handover import Handover


def kinds_of(body: bytes, names: CounterNames) -> dict[str, int]:
    return since_start(read(body, names)).kinds


def test_a_recorded_vllm_run_gives_the_usage_of_all_answers() -> None:
    truth = json.loads((RUNS["vllm"] / "truth.json").read_bytes())["from_responses_usage"]
    before = read((RUNS["vllm"] / "metrics.before.prom").read_bytes(), vllm.COUNTERS)
    after = read((RUNS["vllm"] / "metrics.after.prom").read_bytes(), vllm.COUNTERS)
    change = change_between(before, after)
    assert not change.restarted
    assert change.kinds["completion"] == truth["completion"]
    assert change.kinds["prompt_computed"] + change.kinds["prompt_cached"] == truth["prompt"]
    assert change.kinds["prompt_cached"] == 21_504
    assert change.kinds["requests"] == truth["requests"]
    assert "requests_aborted" not in change.kinds, "V1 shows 0 whatever was given up"
    assert (after.model, after.started_s) == ("tiny-llama", 1.79543530003e09)


def test_a_recorded_llamacpp_run_gives_the_usage_of_all_answers() -> None:
    truth = json.loads((RUNS["llamacpp"] / "truth.json").read_bytes())["from_metrics"]
    kinds = kinds_of((RUNS["llamacpp"] / "metrics.after.prom").read_bytes(), llamacpp.COUNTERS)
    assert kinds == {kind: int(count) for kind, count in truth.items()}


@pytest.mark.parametrize("recording", PAGES, ids=str)
def test_names_of_every_server_and_version(recording: Recording) -> None:
    names = COUNTERS[recording.dialect]
    assert counters_of_page(recording.body) is names
    assert kinds_of(recording.body, names) == recording.expected["counts"]
    assert read(recording.body, names).model == recording.expected.get("model")


@pytest.mark.parametrize("name", RUNS)
def test_the_counters_of_a_whole_run_give_the_usage_of_all_answers(name: str) -> None:
    usage = json.loads((RUNS[name] / "truth.json").read_bytes())["from_responses_usage"]
    page = (RUNS[name] / "metrics.after.prom").read_bytes()
    names = counters_of_page(page)
    assert names is COUNTERS.get(name)
    if names is None:
        return  # it has none: its tokens are unknown
    before = RUNS[name] / "metrics.before.prom"
    first = read(before.read_bytes(), names) if before.exists() else CounterReading(values={})
    kinds = change_between(first, read(page, names)).kinds
    assert kinds["completion"] == usage["completion"]
    assert sum(kinds.get(kind, 0) for kind in ("prompt_computed", "prompt_cached", "prompt_unsplit")) == usage["prompt"]
    assert kinds.get("requests", usage["requests"]) == usage["requests"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>vllm:generation_tokens_total</html>",
        b"# HELP vllm:generation_tokens_total\n",
        b'python_info{version="3.11"} 1.0\nhttp_requests_total 3\n',
        b"my_vllm:generation_tokens_total 3\n",
    ],
)
def test_other_pages_are_no_server_of_ours(body: bytes) -> None:
    assert counters_of_page(body) is None


def test_what_is_no_count_is_left_out() -> None:
    body = b"""vllm:generation_tokens_total{engine="0"} NaN
vllm:generation_tokens_total{engine="1"} +Inf
vllm:generation_tokens_total{engine="2"} -4
vllm:generation_tokens_total{engine="3"} 5.0
vllm:generation_tokens_total{engine="4} 5.0
vllm:generation_tokens_total{engine="5"} five
"""
    assert kinds_of(body, vllm.COUNTERS) == {"completion": 5}


@pytest.mark.parametrize(
    "line",
    [
        b'vllm:generation_tokens_total{engine="0"} 5.0\r\n',
        b'vllm:generation_tokens_total{engine="0"} 5.0 1764202800000\n',
        b'vllm:generation_tokens_total{engine="0"} 5 # {trace_id="a b"} 1.0 1764202800.5\n',
        b'vllm:generation_tokens_total{engine="0",path="a # {b} 1"} 5\n',
        b'vllm:generation_tokens_total{engine="0"} 5\nvllm:generation_tokens_total{engine="0"} 3\n',
    ],
)
def test_a_sample_is_read_as_clients_may_write_it(line: bytes) -> None:
    assert is_page(line)
    assert kinds_of(line, vllm.COUNTERS) == {"completion": 5}


@pytest.mark.parametrize(
    ("lines", "computed", "cached"),
    [
        (["prompt_tokens_cached_total 60", "prefix_cache_hits_total 900"], 40, 60),
        (
            [
                'prompt_tokens_by_source_total{source="local_compute"} 30',
                'prompt_tokens_by_source_total{source="x"} 70',
            ],
            30,
            70,
        ),
        (["prefix_cache_hits_total 20", "external_prefix_cache_hits_total 50"], 30, 70),
        (["prefix_cache_hits_total 20"], 80, 20),
    ],
)
@pytest.mark.parametrize("prefix", vllm.PREFIXES)
def test_the_most_complete_counter_of_cached_tokens_is_taken(
    lines: list[str], computed: int, cached: int, prefix: str
) -> None:
    page = [f"{prefix}{line}\n" for line in ("generation_tokens_total 1", "prompt_tokens_total 100", *lines)]
    body = "".join(page).encode()
    assert counters_of_page(body) is vllm.COUNTERS
    kinds = kinds_of(body, vllm.COUNTERS)
    assert (kinds["prompt_computed"], kinds["prompt_cached"]) == (computed, cached)


def test_of_a_page_with_more_series_than_are_read_none_is_taken_for_new() -> None:
    def of(first: int) -> CounterReading:
        lines = (f'vllm:generation_tokens_total{{engine="{n}"}} 9\n' for n in range(first, first + SERIES_MAX + 1))
        return read("".join(lines).encode(), vllm.COUNTERS)

    handover = Handover("w")
    assert handover.from_counters(of(0), 0) == []
    (event,) = handover.from_counters(of(7), 1)
    assert event.counts.completion == 0


def test_an_engine_that_appears_counts_from_nothing_and_one_that_restarts_is_seen() -> None:
    first = CounterReading(values={"completion\tengine=0": 100})
    assert change_between(
        first, CounterReading(values={"completion\tengine=0": 110, "completion\tengine=1": 4})
    ).kinds == {"completion": 14}
    again = change_between(first, CounterReading(values={"completion\tengine=0": 3}))
    assert (again.restarted, again.kinds) == (True, {"completion": 3})


@given(st.binary(max_size=2000))
def test_no_page_breaks_the_reading(junk: bytes) -> None:
    for names in COUNTERS.values():
        body = b"vllm:generation_tokens_total " + junk + b"\nsglang:prompt_tokens_total{" + junk
        assert all(value >= 0 for value in read(body, names).values.values())
