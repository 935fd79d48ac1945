"""Counters of every server's endpoint: recorded expositions with their true counts, and the names of each version."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenyield_agent.tokens.dialects import llamacpp, lmdeploy, nim, sglang, tgi, trtllm, vllm
from tokenyield_agent.tokens.dialects.registry import ENDPOINTS, endpoint_of
from tokenyield_agent.tokens.endpoint import CounterNames, Reading, moved, read, since_start

METRICS = Path(__file__).parents[2] / "fixtures" / "metrics"


def kinds_of(body: bytes, names: CounterNames) -> dict[str, int]:
    return since_start(read(body, names)).kinds


def test_a_recorded_vllm_run_gives_the_usage_of_all_answers(fixtures: Path) -> None:
    truth = json.loads((fixtures / "vllm" / "truth.json").read_bytes())["from_responses_usage"]
    before = read((METRICS / "vllm-0.32.before.prom").read_bytes(), vllm.COUNTERS)
    after = read((METRICS / "vllm-0.32.after.prom").read_bytes(), vllm.COUNTERS)
    change = moved(before, after)
    assert not change.restarted
    assert change.kinds["completion"] == truth["completion"]
    assert change.kinds["prompt_computed"] + change.kinds["prompt_cached"] == truth["prompt"]
    assert change.kinds["prompt_cached"] == 21_504
    assert (change.kinds["requests"], change.kinds["requests_aborted"]) == (truth["requests"], 0)
    assert (after.model, after.started_s) == ("tiny-llama", 1.79543530003e09)


def test_a_recorded_llamacpp_run_gives_the_usage_of_all_answers(fixtures: Path) -> None:
    truth = json.loads((fixtures / "llamacpp" / "truth.json").read_bytes())["from_metrics"]
    kinds = kinds_of((METRICS / "llamacpp.after.prom").read_bytes(), llamacpp.COUNTERS)
    assert kinds == {kind: int(count) for kind, count in truth.items()}


EXPOSITIONS: dict[str, tuple[CounterNames, str, dict[str, int]]] = {
    "vllm 0.4, no cache told": (
        vllm.COUNTERS,
        """# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{model_name="m"} 100.0
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{model_name="m"} 7.0
vllm:generation_tokens_created{model_name="m"} 1.7e+09
vllm:request_success_total{finished_reason="stop",model_name="m"} 3.0
vllm:request_success_total{finished_reason="abort",model_name="m"} 1.0
""",
        {"prompt_unsplit": 100, "completion": 7, "requests": 3, "requests_aborted": 1, "requests_failed": 0},
    ),
    "vllm 0.8, hits in blocks are not tokens": (
        vllm.COUNTERS,
        """vllm:prompt_tokens_total{model_name="m"} 100.0
vllm:generation_tokens_total{model_name="m"} 7.0
vllm:gpu_prefix_cache_hits_total{model_name="m"} 3.0
""",
        {"prompt_unsplit": 100, "completion": 7},
    ),
    "vllm 0.10, two engines": (
        vllm.COUNTERS,
        """vllm:prompt_tokens_total{engine="0",model_name="m"} 100.0
vllm:prompt_tokens_total{engine="1",model_name="m"} 50.0
vllm:generation_tokens_total{engine="0",model_name="m"} 7.0
vllm:generation_tokens_total{engine="1",model_name="m"} 8.0
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 16.0
vllm:prefix_cache_hits_total{engine="1",model_name="m"} 32.0
""",
        {"prompt_computed": 102, "prompt_cached": 48, "completion": 15},
    ),
    "vllm through Ray": (
        vllm.COUNTERS,
        """ray_vllm_generation_tokens_total{Component="core_worker",WorkerId="a",engine="0",model_name="m"} 7.0
ray_vllm_prompt_tokens_total{Component="core_worker",WorkerId="a",engine="0",model_name="m"} 10.0
""",
        {"prompt_unsplit": 10, "completion": 7},
    ),
    "sglang 0.5, cache declared and not hit yet": (
        sglang.COUNTERS,
        """# TYPE sglang:prompt_tokens_total counter
sglang:prompt_tokens_total{engine_type="unified",model_name="m",tp_rank="0"} 100.0
# TYPE sglang:cached_tokens_total counter
sglang:generation_tokens_total{engine_type="unified",model_name="m",tp_rank="0"} 7.0
sglang:num_requests_total{engine_type="unified",model_name="m",tp_rank="0"} 2.0
sglang:num_aborted_requests_total{engine_type="unified",model_name="m",tp_rank="0"} 1.0
""",
        {"prompt_computed": 100, "prompt_cached": 0, "completion": 7, "requests": 2, "requests_aborted": 1},
    ),
    "tgi": (
        tgi.COUNTERS,
        """# TYPE tgi_request_generated_tokens histogram
tgi_request_generated_tokens_bucket{le="+Inf"} 3
tgi_request_generated_tokens_sum 64
tgi_request_generated_tokens_count 3
tgi_request_input_length_sum 300
tgi_request_success 3
tgi_request_failure{err="overloaded"} 2
tgi_request_failure{err="validation"} 1
""",
        {"prompt_unsplit": 300, "completion": 64, "requests": 3, "requests_failed": 3},
    ),
    "trtllm-serve": (
        trtllm.COUNTERS,
        """trtllm_prompt_tokens_total{engine_type="trtllm",model_name="m"} 90.0
trtllm_generation_tokens_total{engine_type="trtllm",model_name="m"} 30.0
trtllm_prompt_cached_tokens_total{engine_type="trtllm",model_name="m"} 64.0
trtllm_request_success_total{engine_type="trtllm",finished_reason="length",model_name="m"} 4.0
trtllm_request_success_total{engine_type="trtllm",finished_reason="cancelled",model_name="m"} 1.0
""",
        {"prompt_computed": 26, "prompt_cached": 64, "completion": 30, "requests": 4, "requests_aborted": 1},
    ),
    "triton": (
        trtllm.TRITON_COUNTERS,
        """nv_llm_input_token_len_sum{model="tensorrt_llm",response_metric_type="total_input_tokens",version="1"} 72
nv_llm_output_token_len_sum{model="tensorrt_llm",response_metric_type="total_output_tokens",version="1"} 24
nv_llm_output_token_len_count{model="tensorrt_llm",response_metric_type="total_output_tokens",version="1"} 2
""",
        {"prompt_unsplit": 72, "completion": 24, "requests": 2},
    ),
    "lmdeploy": (
        lmdeploy.COUNTERS,
        """lmdeploy:prompt_tokens_total{engine="0",model_name="m"} 90.0
lmdeploy:cached_tokens_total{engine="0",model_name="m"} 10.0
lmdeploy:generation_tokens_total{engine="0",model_name="m"} 30.0
lmdeploy:request_success_total{engine="0",finished_reason="ResponseType.FINISH",model_name="m"} 4.0
""",
        {"prompt_computed": 80, "prompt_cached": 10, "completion": 30, "requests": 4},
    ),
    "nim": (
        nim.NIM_COUNTERS,
        """prompt_tokens_total{model_name="m"} 90.0
generation_tokens_total{model_name="m"} 30.0
request_success_total{model_name="m"} 4.0
request_failure_total{model_name="m"} 1.0
""",
        {"prompt_unsplit": 90, "completion": 30, "requests": 4, "requests_failed": 1},
    ),
    "dynamo": (
        nim.DYNAMO_COUNTERS,
        """dynamo_frontend_input_sequence_tokens_sum{model="m"} 20000000
dynamo_frontend_output_sequence_tokens_sum{model="m"} 4500000
dynamo_frontend_cached_tokens_sum{model="m"} 3000000
dynamo_frontend_requests_total{model="m",status="success"} 10000
dynamo_frontend_requests_total{model="m",status="error"} 3
""",
        {
            "prompt_computed": 17_000_000,
            "prompt_cached": 3_000_000,
            "completion": 4_500_000,
            "requests": 10_000,
            "requests_failed": 3,
        },
    ),
    "llamacpp before cached tokens were told": (
        llamacpp.COUNTERS,
        "llamacpp:prompt_tokens_total 100\nllamacpp:tokens_predicted_total 20\n",
        {"prompt_computed": 100, "completion": 20},
    ),
}


@pytest.mark.parametrize("name", EXPOSITIONS)
def test_names_of_every_server_and_version(name: str) -> None:
    names, text, expected = EXPOSITIONS[name]
    assert endpoint_of(text.encode()) is names
    assert kinds_of(text.encode(), names) == expected
    if "_name=" in text or "model=" in text:
        assert read(text.encode(), names).model in ("m", "tensorrt_llm")


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
    assert endpoint_of(body) is None


def test_what_is_no_count_is_left_out() -> None:
    body = b"""vllm:generation_tokens_total{engine="0"} NaN
vllm:generation_tokens_total{engine="1"} +Inf
vllm:generation_tokens_total{engine="2"} -4
vllm:generation_tokens_total{engine="3"} 5.0
vllm:generation_tokens_total{engine="4} 5.0
vllm:generation_tokens_total{engine="5"} five
"""
    assert kinds_of(body, vllm.COUNTERS) == {"completion": 5}


def test_an_engine_that_appears_counts_from_nothing_and_one_that_restarts_is_seen() -> None:
    first = Reading(values={"completion\tengine=0": 100})
    assert moved(first, Reading(values={"completion\tengine=0": 110, "completion\tengine=1": 4})).kinds == {
        "completion": 14
    }
    again = moved(first, Reading(values={"completion\tengine=0": 3}))
    assert (again.restarted, again.kinds) == (True, {"completion": 3})


@given(st.binary(max_size=2000))
def test_no_page_breaks_the_reading(junk: bytes) -> None:
    for names in ENDPOINTS:
        body = b"vllm:generation_tokens_total " + junk + b"\nsglang:prompt_tokens_total{" + junk
        assert all(value >= 0 for value in read(body, names).values.values())
