"""Ray Serve LLM: its replicas by their command line.

Its log and its counters are those of the vLLM inside, which the vllm dialect reads, also as Ray exports them.
"""

import re

from tokenyield_agent.tokens.dialects.base import PathReport, Server

SERVER = Server(
    name="ray",
    title="Ray Serve LLM",
    process=re.compile(r"^ray::ServeReplica:|^ray::RayWorkerWrapper|^ray::_EngineCore"),
    counters_report=PathReport(caveat="as Ray exports them (`ray_vllm...`), only when configured"),
    engines=("vllm",),
)
