"""Which process is the server of a workload that the settings name."""

from dataclasses import replace
from pathlib import Path

import pytest

from tokenyield_agent.config import WorkloadSettings
from tokenyield_agent.workloads.configured_process import ConfiguredProcesses
from tokenyield_agent.workloads.host_logs import HostLogs
from tokenyield_agent.workloads.process_location import NOWHERE, Place, Process
from tokenyield_agent.workloads.procfs import Procfs

UID = "3a1bc2d4-5e6f-4a7b-8c9d-0e1f2a3b4c5d"


class Listening(Procfs):
    """Processes that listen at these addresses, and have no descendants."""

    def __init__(self, by_pid: dict[int, list[str]]) -> None:
        super().__init__("/nowhere")
        self._by_pid = by_pid

    def listening(self, pids: object) -> dict[str, str | None]:
        assert isinstance(pids, list)
        return dict.fromkeys(self._by_pid.get(pids[0], []))


def process(pid: int, command: str, place: Place = NOWHERE, parent: int = 1) -> Process:
    return Process(pid=pid, parent=parent, started_s=1.0, argv=tuple(command.split()), name="x", place=place)


def roots(workload: WorkloadSettings, processes: list[Process], procfs: Procfs, host_logs: HostLogs) -> set[int]:
    return set(ConfiguredProcesses(procfs, host_logs).roots_of(workload, processes, set()))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("vllm serve", {100, 200}),
        ("vllm serve.*8001", {100}),
        ("start.sh", {60}),
        ("my_server.py", {300}),
        ("nothing like it", set[int]()),
    ],
)
def test_a_command_line_is_the_servers_own(pattern: str, expected: set[int]) -> None:
    """Not a shell's or tmux's that mentions it, unless nothing else does."""
    processes = [
        process(50, "tmux new -d vllm serve --port 8001"),
        process(60, "bash start.sh"),
        process(70, "bash -c vllm serve --port 8001 & vllm serve --port 8002 & python my_server.py"),
        process(80, "sudo -u llm vllm serve --port 8001"),
        process(100, "python3 /usr/bin/vllm serve --port 8001"),
        process(200, "python3 /usr/bin/vllm serve --port 8002"),
        process(300, "python my_server.py"),
    ]
    workload = WorkloadSettings(name="chat", process=pattern)
    assert roots(workload, processes, Listening({}), HostLogs()) == expected


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ("http://127.0.0.1:8000", {100}),
        ("http://localhost:8000/metrics", {100}),
        ("http://10.0.0.7:8000", {100, 200}),  # the host itself may have this address
        ("http://10.0.0.9:8000", {100}),
        ("http://chat.prod.svc:8000", {100, 200}),
        ("http://127.0.0.1:8001", set[int]()),
    ],
)
def test_an_endpoint_is_the_one_at_its_address(metrics: str, expected: set[int]) -> None:
    """Pods listen on one port, each at an address of its own."""
    processes = [process(100, "vllm serve a"), process(200, "vllm serve b"), process(300, "python x.py")]
    procfs = Listening({100: ["127.0.0.1:8000"], 200: ["10.0.0.7:8000"], 300: ["127.0.0.1:8000"]})
    assert roots(WorkloadSettings(name="chat", metrics=metrics), processes, procfs, HostLogs()) == expected


def test_the_containers_of_one_pod_are_told_apart(tmp_path: Path) -> None:
    ids = {"chat": "ab" * 32, "embed": "cd" * 32}
    (tmp_path / "containers").mkdir()
    for name, container in ids.items():
        log = tmp_path / "pods" / f"prod_both-0_{UID}" / name / "0.log"
        log.parent.mkdir(parents=True)
        log.touch()
        (tmp_path / "containers" / f"both-0_prod_{name}-{container}.log").symlink_to(log)
    places = {name: Place(container=container, pod_uid=UID) for name, container in ids.items()}
    processes = [
        process(100, "vllm serve a", places["chat"]),
        process(110, "helper", places["chat"]),
        process(200, "vllm serve b", places["embed"]),
        process(300, "vllm serve c", replace(places["embed"], pod_uid=UID.replace("3a", "3b"))),
    ]
    log_path = f"{tmp_path}/pods/prod_both-0_{UID}/chat/0.log"
    workload = WorkloadSettings(name="chat", log=log_path)
    host_logs = HostLogs(str(tmp_path / "pods"), "")
    assert roots(workload, processes, Procfs("/nowhere"), host_logs) == {100, 110}
