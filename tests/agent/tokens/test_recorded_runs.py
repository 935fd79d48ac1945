"""Whole logs of real servers against what their own counters, or the answers' `usage`, gave at the same time."""

from pathlib import Path

import pytest

from tokenyield_agent.tokens.offline import UnrecognizedLog, read_log

FIXTURES = Path(__file__).parents[2] / "fixtures"
LOGS = FIXTURES / "logs"


def test_llamacpp_with_three_choices_counts_what_its_counters_count() -> None:
    read = read_log(FIXTURES / "pages" / "llamacpp-three-choices" / "server.log.gz", "auto")
    assert (read.prompt_computed, read.prompt_cached, read.completion) == (22_286, 68_427, 13_842)
    assert read.requests == 145, "of 435 sequences"


def test_llamacpp_whose_clients_gave_up_shows_less_than_was_made_and_says_so() -> None:
    read = read_log(LOGS / "llamacpp-given-up.log.gz", "auto")
    assert ((read.requests or 0) + (read.requests_aborted or 0)) == 84, "all that were sent"
    assert read.completion is not None
    assert read.completion < 5_577, "what its counters counted"
    assert read.exactness["completion"] == "lower bound"


def test_a_routers_two_models_are_both_named() -> None:
    read = read_log(LOGS / "llamacpp-router.log.gz", "auto")
    assert (read.model, read.requests, read.completion) == ("tinya.gguf+tinyb.gguf", 276, 8_418)


@pytest.mark.parametrize(
    ("name", "computed", "completion", "requests"),
    [
        ("vllm-pod", 39_541, 9_788, 330),
        ("vllm-mixed", 8_732, 1_270, 49),  # 52 by its web server, which also counts three that were given up
    ],
)
def test_vllm_is_within_two_percent_of_its_counters(name: str, computed: int, completion: int, requests: int) -> None:
    read = read_log(LOGS / f"{name}.log.gz", "auto")
    assert read.prompt_computed == pytest.approx(computed, rel=0.02)
    assert read.completion == pytest.approx(completion, rel=0.02)
    assert read.requests == requests
    assert read.requests_aborted is None


def test_vllm_with_two_api_servers_says_why_there_is_nothing() -> None:
    with pytest.raises(UnrecognizedLog, match="several API servers"):
        read_log(LOGS / "vllm-two-api-servers.log.gz", "auto")


def test_ollama_without_tokens_counts_its_requests() -> None:
    read = read_log(LOGS / "ollama-0.17.log.gz", "auto")
    assert (read.completion, read.requests, read.requests_failed) == (None, 245, 0)
