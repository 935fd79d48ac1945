"""NVIDIA Triton with its TensorRT-LLM backend: its Prometheus names.

Its log is TensorRT-LLM's, which the trtllm dialect reads (`--log-verbose`).
"""

from tokenyield_agent.tokens.dialects.base import PathReport, ProcessNames, Server
from tokenyield_agent.tokens.endpoint import CounterNames, SeriesName

COUNTERS = CounterNames(
    server="triton",
    known_by=(SeriesName("nv_llm_output_token_len_sum"),),
    prefixes=("nv_inference_", "nv_llm_"),
    model_labels=("model",),
    completion=(SeriesName("nv_llm_output_token_len_sum"),),
    prompt_unsplit=(SeriesName("nv_llm_input_token_len_sum"),),
    requests=(SeriesName("nv_llm_output_token_len_count"),),
)
"""Histograms of tokens per request, on the metrics port (8002)."""

SERVER = Server(
    name="triton",
    title="Triton with TensorRT-LLM",
    process=ProcessNames(programs=("tritonserver",)),
    port=8002,
    counters=COUNTERS,
    counters_report=PathReport(caveat="on the metrics port"),
    log_report=PathReport(turned_on_by="--log-verbose"),
    engines=("trtllm",),
)
