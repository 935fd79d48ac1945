"""Inference servers by their command line. Pure.

A server's workers often do not name it (they are forked, or rename themselves), but one of their parents does.
"""

import re
from dataclasses import dataclass

_OWN = re.compile(r"\btokenyield[-_](?:agent|collector)\b")
_PORT = re.compile(r"--(?:http[-_])?port[= ](?P<port>\d{1,5})\b")


@dataclass(frozen=True, slots=True)
class ServerKind:
    """A server that people run: its name here, its command line, and the port it takes when none is named."""

    name: str
    pattern: re.Pattern[str]
    port: int | None


SERVERS = (
    ServerKind("dynamo", re.compile(r"\bdynamo\.(?:vllm|sglang|trtllm)\b"), 8081),
    ServerKind("ray", re.compile(r"^ray::ServeReplica:|^ray::RayWorkerWrapper|^ray::_EngineCore"), None),
    ServerKind("vllm", re.compile(r"\bvllm[./](?:entrypoints|serve)|\bvllm serve\b"), 8000),
    ServerKind("sglang", re.compile(r"\bsglang[./](?:launch_server|srt)|\bsglang serve\b"), 30000),
    ServerKind("tgi", re.compile(r"\btext-generation-(?:launcher|router|server)\b"), 3000),
    ServerKind("trtllm", re.compile(r"\btrtllm-serve\b|\btensorrt_llm[./]commands[./]serve\b"), 8000),
    ServerKind("triton", re.compile(r"\btritonserver\b"), 8002),
    ServerKind("lmdeploy", re.compile(r"\blmdeploy serve\b|\blmdeploy[./]serve\b"), 23333),
    ServerKind("ollama", re.compile(r"\bollama serve\b"), None),  # has no counters to ask for
    ServerKind("llamacpp", re.compile(r"\bllama-server\b"), 8080),
    ServerKind("nim", re.compile(r"\bnim_llm\b|/opt/nim/"), 8000),
)


def server_of(command: str) -> ServerKind | None:
    """The server that `command` starts; None for any other command, and for our own programs."""
    if _OWN.search(command):
        return None
    return next((kind for kind in SERVERS if kind.pattern.search(command)), None)


def port_of(command: str, kind: ServerKind) -> int | None:
    """The port that the command line names, or the server's usual one."""
    match = _PORT.search(command)
    return int(match["port"]) if match else kind.port
