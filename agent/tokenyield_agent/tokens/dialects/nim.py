"""NVIDIA NIM for LLMs: its Prometheus names.

Its log is that of the engine inside (vLLM, SGLang or TensorRT-LLM), which the engine's own dialect reads. It shows its
counters without a prefix on /v1/metrics (docs.nvidia.com/nim, Observability); NIM since 2.0 shows vLLM's.
"""

import re

from tokenyield_agent.tokens.dialects.base import PathReport, Server
from tokenyield_agent.tokens.endpoint import CounterNames, Series

COUNTERS = CounterNames(
    server="nim",
    paths=("/v1/metrics", "/metrics"),
    known_by=(Series("generation_tokens_total"),),
    completion=(Series("generation_tokens_total"),),
    prompt=(Series("prompt_tokens_total"),),
    requests=(Series("request_success_total"),),
    requests_failed=(Series("request_failure_total"),),
    running=(Series("num_requests_running"),),
    waiting=(Series("num_requests_waiting"),),
    cache_used=(Series("gpu_cache_usage_perc"),),
    fallback=True,
)

SERVER = Server(
    name="nim",
    title="NVIDIA NIM for LLMs",
    process=re.compile(r"\bnim_llm\b|/opt/nim/"),
    port=8000,
    counters=COUNTERS,
    counters_report=PathReport(caveat="at `/v1/metrics`; since 2.0 the engine's"),
    engines=("vllm", "sglang", "trtllm"),
    last=True,  # its names have no prefix, and its folder stands in the engine's command line
)
