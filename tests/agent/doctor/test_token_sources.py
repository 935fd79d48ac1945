"""How good a count is called, by what is counted and what is missing."""

from collections.abc import Mapping

import pytest

from tokenyield_agent.doctor.token_sources import counters_advice, log_quality, missing_kinds
from tokenyield_agent.tokens.dialects.base import PathReport
from tokenyield_agent.tokens.dialects.registry import SERVERS
from tokenyield_wire.window import Method

COUNT: frozenset[Method] = frozenset({"count"})
RATE: frozenset[Method] = frozenset({"rate"})


@pytest.mark.parametrize(
    ("methods", "quality"),
    [
        ({"prompt_computed": COUNT, "completion": COUNT}, "exact, per request"),
        ({"prompt_unsplit": COUNT, "completion": COUNT}, "exact, per request"),
        ({"completion": COUNT}, "exact, per request; no prompts"),
        ({"prompt_computed": COUNT}, "exact, per request; no completions"),
        ({"prompt_computed": COUNT, "completion": RATE}, "rates x intervals, about 1 % off"),
        ({"prompt_cached": COUNT, "completion": COUNT}, "a lower bound; no prompts"),
    ],
)
def test_a_log_is_as_good_as_its_worst_kind(methods: Mapping[str, frozenset[Method]], quality: str) -> None:
    report = PathReport(exact=("prompt_computed", "prompt_unsplit", "completion"), lower_bound=("prompt_cached",))
    assert log_quality(methods, report) == quality


def test_counters_are_whole_where_prompts_and_completions_are_counted() -> None:
    assert missing_kinds(frozenset({"prompt_unsplit", "completion", "requests"})) == ""
    assert missing_kinds(frozenset({"requests"})) == "; no prompts and no completions"


@pytest.mark.parametrize(
    ("server", "arguments", "problem", "advice"),
    [
        ("llamacpp", "llama-server -m m", "", "start it with --metrics for exact counts while requests run"),
        ("llamacpp", "llama-server", "x answers 501", "start it with --metrics for exact counts while requests run (x answers 501)"),
        ("llamacpp", "llama-server --metrics", "", "it has --metrics, and its counters do not answer: make its port reachable, or name it with metrics"),
        ("sglang", "sglang serve --enable-metrics=true", "x", "it has --enable-metrics, and its counters do not answer: make its port reachable, or name it with metrics (x)"),
        ("sglang", "", "", "start it with --enable-metrics for exact counts"),
        ("ray", "", "x", "x"),
    ],
)  # fmt: skip
def test_an_option_that_is_missing_is_named(server: str, arguments: str, problem: str, advice: str) -> None:
    assert counters_advice(SERVERS[server], tuple(arguments.split()), problem) == advice
