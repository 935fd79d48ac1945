"""NVIDIA NIM for LLMs: its Prometheus names.

Its log is that of the engine inside (vLLM, SGLang or TensorRT-LLM), which the engine's own dialect reads. It shows its
counters without a prefix on /v1/metrics (docs.nvidia.com/nim, Observability); NIM since 2.0 shows vLLM's.
"""

from tokenyield_agent.tokens.dialects.base import PathReport, ProcessNames, Server
from tokenyield_agent.tokens.endpoint import CounterNames, SeriesName
from tokenyield_agent.tokens.latency import LatencyNames

COUNTERS = CounterNames(
    server="nim",
    paths=("/v1/metrics", "/metrics"),
    known_by=(SeriesName("generation_tokens_total"),),
    completion=(SeriesName("generation_tokens_total"),),
    prompt=(SeriesName("prompt_tokens_total"),),
    requests=(SeriesName("request_success_total"),),
    requests_failed=(SeriesName("request_failure_total"),),
    running=(SeriesName("num_requests_running"),),
    waiting=(SeriesName("num_requests_waiting"),),
    cache_used=(SeriesName("gpu_cache_usage_perc"),),
    latency=LatencyNames(
        first_token=("time_to_first_token_seconds",),
        inter_token=("inter_token_latency_seconds", "time_per_output_token_seconds"),
        end_to_end=("e2e_request_latency_seconds",),
    ),
    fallback=True,
)

SERVER = Server(
    name="nim",
    title="NVIDIA NIM for LLMs",
    process=ProcessNames(modules=("nim_llm", "nim_llm_sdk", "vllm_nvext"), folders=("/opt/nim/",)),
    port=8000,
    counters=COUNTERS,
    counters_report=PathReport(caveat="at `/v1/metrics`; since 2.0 the engine's"),
    engines=("vllm", "sglang", "trtllm"),
    last=True,  # its names have no prefix, and its folder is in the engine's command line
)
