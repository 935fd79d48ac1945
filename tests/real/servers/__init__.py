"""Real inference servers, each started by one function of one file: name -> start(folder, cache)."""

from collections.abc import Callable
from pathlib import Path

from real.servers import dynamo, llama, ollama, vllm
from real.servers.server import RealServer

SERVERS: dict[str, Callable[[Path, Path], RealServer]] = {
    "llama-server": llama.start,
    "llama-serve": llama.start_serve,
    "llama-router": llama.start_router,
    "ollama": ollama.start,
    "dynamo": dynamo.start,
    "vllm": vllm.start,
    "vllm-two-api-servers": vllm.start_two_api_servers,
    "vllm-lora": vllm.start_lora,
}
