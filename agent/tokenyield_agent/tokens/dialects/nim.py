"""NVIDIA NIM for LLMs and NVIDIA Dynamo's frontend: their Prometheus names.

Their logs are those of the engine inside (vLLM, SGLang or TensorRT-LLM), which the engine's own dialect reads. NIM
shows its counters without a prefix on /v1/metrics (docs.nvidia.com/nim, Observability); NIM since 2.0 shows vLLM's.

Dynamo's frontend counts the tokens of all its workers, wherever they run, and holds no GPU itself: it is scraped only
when configured. Its workers are found by the engine's names, which Dynamo passes on.
"""

from tokenyield_agent.tokens.endpoint import CounterNames, Series

NIM_COUNTERS = CounterNames(
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
)

DYNAMO_COUNTERS = CounterNames(
    server="dynamo",
    known_by=(Series("dynamo_frontend_requests_total"), Series("dynamo_frontend_output_sequence_tokens_sum")),
    # The total counts while a request streams; the sum of the histogram only once it is answered.
    completion=(Series("dynamo_frontend_output_tokens_total"), Series("dynamo_frontend_output_sequence_tokens_sum")),
    prompt=(Series("dynamo_frontend_input_sequence_tokens_sum"),),
    prompt_cached=(Series("dynamo_frontend_cached_tokens_sum"),),
    requests=(Series("dynamo_frontend_requests_total", status="success"),),
    requests_failed=(Series("dynamo_frontend_requests_total", status="error"),),
)
