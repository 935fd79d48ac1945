"""NVIDIA Dynamo: its workers by their command line, its frontend by its Prometheus names.

A worker's log is that of the engine inside (vLLM, SGLang or TensorRT-LLM), which the engine's own dialect reads, and
its page passes the engine's counters on. The frontend counts the tokens of all its workers, wherever they run, and
holds no GPU itself: it is scraped only when configured.
"""

from tokenyield_agent.tokens.dialects.base import PathReport, ProcessNames, Server
from tokenyield_agent.tokens.endpoint import CounterNames, SeriesName
from tokenyield_agent.tokens.latency import LatencyNames

_CANCELLED = "cancelled|canceled"

COUNTERS = CounterNames(
    server="dynamo",
    known_by=(SeriesName("dynamo_frontend_requests_total"), SeriesName("dynamo_frontend_output_sequence_tokens_sum")),
    prefixes=("dynamo_frontend_",),
    shows_late=True,
    # Versions 1.4 and 1.6 leave streams out of output_tokens_total and of input_sequence_tokens, some or all of them.
    # The sum of output_sequence_tokens has every answer, once it has ended, and every version has it: until the first
    # has ended only output_tokens_total may be shown, which is no alternative. The tokenizer's two counters have every
    # prompt: `cached` there is about the tokenizer's own cache, not about the KV cache.
    completion=(SeriesName("dynamo_frontend_output_sequence_tokens_sum"),),
    prompt=(
        (
            SeriesName("dynamo_frontend_tokenizer_cache_cached_tokens_total"),
            SeriesName("dynamo_frontend_tokenizer_cache_uncached_tokens_total"),
        ),
        SeriesName("dynamo_frontend_input_sequence_tokens_sum"),
    ),
    prompt_cached=(SeriesName("dynamo_frontend_cached_tokens_sum"),),
    requests=(SeriesName("dynamo_frontend_requests_total", status="success"),),
    requests_aborted=(SeriesName("dynamo_frontend_requests_total", error_type=_CANCELLED),),
    requests_failed=(SeriesName("dynamo_frontend_requests_total", status="error", error_type=f"!{_CANCELLED}"),),
    latency=LatencyNames(
        first_token=("dynamo_frontend_time_to_first_token_seconds",),
        inter_token=("dynamo_frontend_inter_token_latency_seconds",),
        end_to_end=("dynamo_frontend_request_duration_seconds",),
    ),
    fallback=True,
)

SERVER = Server(
    name="dynamo",
    title="NVIDIA Dynamo",
    process=ProcessNames(modules=("dynamo.vllm", "dynamo.sglang", "dynamo.trtllm")),
    port=8081,
    counters=COUNTERS,
    counters_report=PathReport(
        caveat="workers show the engine's; the frontend's, which are the totals of its workers, only when configured"
    ),
    engines=("vllm", "sglang", "trtllm"),
)
