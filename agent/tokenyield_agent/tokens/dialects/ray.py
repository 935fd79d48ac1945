"""Ray Serve LLM: its replicas by their command line.

Its log and its counters are those of the vLLM inside, which the vllm dialect reads, also as Ray exports them.
"""

from tokenyield_agent.tokens.dialects.base import PathReport, ProcessNames, Server

SERVER = Server(
    name="ray",
    title="Ray Serve LLM",
    process=ProcessNames(
        titles=(
            "ray::ServeReplica:",
            "ray::RayWorkerWrapper",
            "ray::RayWorkerProc",
            "ray::_EngineCore",
            "ray::EngineCoreActor",
            "ray::DPEngineCoreActor",
            "ray::DPMoEEngineCoreActor",
        )
    ),
    counters_report=PathReport(caveat="as Ray exports them (`ray_vllm...`), only when configured"),
    engines=("vllm",),
)
