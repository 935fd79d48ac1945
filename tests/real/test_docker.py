"""Containers of a real dockerd: named by Docker, their tokens read from its json-file logs through rotation and restarts."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import Stack, wait_until
from nvml.stand_in import Scenario, gpu_lines
from real.docker_host import DockerHost
from real.llama_server import LlamaServer

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="dockerd makes cgroups and mounts: run as root"),
]


@pytest.fixture
def server(tmp_path: Path) -> LlamaServer:
    return LlamaServer(tmp_path, tmp_path / "unused.log", starts=False)


@pytest.fixture
def docker(server: LlamaServer) -> Iterator[DockerHost]:
    assert shutil.which("dockerd"), "apt install docker.io"
    host = DockerHost(server.program, Path("/bin/sleep"))
    try:
        host.start()
        yield host
    finally:
        host.stop()


def releases(log: Path) -> int:
    """Requests whose last line Docker has written, to the log or to what it rotated away."""
    return sum(file.read_bytes().count(b"stop processing: ") for file in log.parent.glob(log.name + "*"))


def test_tokens_are_those_of_the_containers_log(
    docker: DockerHost, server: LlamaServer, tmp_path: Path, nvml_library: Path, scenario: Scenario
) -> None:
    """Counters are not asked: each token is from the log, which Docker rotates, over kills of agent and container."""
    rotation = ("--log-opt=max-size=20k", "--log-opt=max-file=5")
    call = server.command_as(f"/bin/{server.program.name}")
    container = docker.start_container("chat", call, f"--volume={tmp_path}:{tmp_path}:ro", *rotation)
    docker.start_container("train", "/bin/sleep 3600")
    server.wait()

    def show() -> None:
        pids = (docker.pid_of("chat"), docker.pid_of("train"))
        scenario.replace(line for gpu, pid in enumerate(pids) for line in gpu_lines(gpu, pid=pid))

    show()
    stack = Stack(
        tmp_path,
        agent={
            "docker_dir": str(docker.containers),
            "discover_endpoints": False,
            "slurm_jobs_dir": "",
            "pod_resources_socket": "",
            "window_length_s": 1,
            "window_settle_s": 1,
            "poll_interval_ms": 200,
        },
        agent_env=scenario.environment(nvml_library, follows=True),
    )
    log = docker.containers / container / f"{container}-json.log"
    try:
        stack.start_collector()
        stack.start_agent()
        wait_until(lambda: "workload=docker/chat discovered: container log" in stack.agent.said())
        said = [server.complete(f"request {number}", 20) for number in range(3)]
        stack.wait_for_tokens(sum(usage["completion_tokens"] for usage in said))
        stack.agent.kill()
        said += [server.complete(f"while the agent is down {number}", 20) for number in range(2)]
        stack.start_agent()
        first = log.stat().st_ino
        while log.stat().st_ino == first:  # as Docker rotates, at 20 kB
            said.append(server.complete(f"request {len(said)}", 20))
            assert len(said) < 200, "the log is rotated"
        said.append(server.complete("into the new file", 20))
        wait_until(lambda: releases(log) == len(said), what="Docker has written what the server printed before its end")
        docker.run("restart --time=1 chat")
        server.wait()
        show()
        said.append(server.complete("after a restart", 20))
        stack.wait_for_tokens(sum(usage["completion_tokens"] for usage in said))
        stack.stop()
    finally:
        stack.kill_all()
    prompt, completion = (sum(usage[f"{kind}_tokens"] for usage in said) for kind in ("prompt", "completion"))
    cached = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in said)
    assert stack.query(
        "SELECT workload, server, sum(completion), sum(prompt_computed), sum(prompt_cached), sum(requests) "
        "FROM token_windows GROUP BY 1, 2"
    ) == [("docker/chat", "llamacpp", completion, prompt - cached, cached, len(said))]
    shares = dict(stack.query("SELECT workload, sum(active_ms + idle_ms) > 0 FROM share_windows GROUP BY 1"))
    assert shares == {"docker/chat": True, "docker/train": True}
