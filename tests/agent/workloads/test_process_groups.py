"""Workloads recognized by the processes that hold GPUs, over whole /proc trees of hosts that people run.

The trees stand in tests/fixtures/proc.yaml, a process a line, and are laid out as files before the test reads them.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from recordings import COMMANDS
from tokenyield_agent.gpu.reading import GpuPartition, GpuProcess, GpuReading
from tokenyield_agent.workloads.binding import UNTIED, Holder, bind
from tokenyield_agent.workloads.host_logs import HostLogs, pod_of_log_path
from tokenyield_agent.workloads.process_groups import ProcessGroup, group_names, group_processes
from tokenyield_agent.workloads.process_location import Place
from tokenyield_agent.workloads.procfs import Procfs
from tokenyield_agent.workloads.server_process import model_of, port_of, server_of

TREES: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "fixtures" / "proc.yaml").read_text())


def lay_out(root: Path, processes: list[dict[str, Any]]) -> Procfs:
    """The tree as files under `root`, as the kernel shows them."""
    (root / "stat").write_text("cpu 1 2 3\nbtime 1795000000\n")
    for process in processes:
        folder = root / str(process["pid"])
        (folder / "task" / folder.name).mkdir(parents=True)
        children = [str(p["pid"]) for p in processes if p["parent"] == process["pid"]]
        (folder / "task" / folder.name / "children").write_text(" ".join(children))
        argv = process.get("argv") or process["command"].split()
        name = process.get("name", Path(argv[0].split()[0]).name)[:15]
        ticks = process.get("started", 100) * 100
        stat = (
            f"{process['pid']} ({name}) S {process['parent']} 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 {ticks} 0 0\n"
        )
        (folder / "stat").write_text(stat)
        (folder / "comm").write_text(f"{name}\n")
        (folder / "cmdline").write_text("\0".join(argv) + "\0")
        (folder / "exe").symlink_to(process.get("exe", argv[0]))
        (folder / "cgroup").write_text(process["cgroup"] + "\n")
        uid = process.get("uid", 0)
        (folder / "status").write_text(f"Name:\t{name}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")
        environment = process.get("environment", {})
        (folder / "environ").write_text("".join(f"{name}={value}\0" for name, value in environment.items()))
    return Procfs(str(root))


def discovered_in(
    tree: dict[str, Any], root: Path
) -> tuple[list[ProcessGroup], list[str], list[GpuReading], dict[str, Any]]:
    procfs = lay_out(root, tree["processes"])
    gpus = [
        GpuReading(
            uuid=f"GPU-{index}",
            index=index,
            processes=tuple(GpuProcess(**process) for process in held["processes"]),
            partitions={n: GpuPartition(slices=k) for n, k in held.get("mig_slices", {}).items()},
            is_partitioned="mig_slices" in held,
        )
        for index, held in enumerate(tree["gpus"])
    ]
    pids = {process.pid for gpu in gpus for process in gpu.processes or ()}
    ancestors = procfs.ancestors_of(pids, 0.0)
    wanted = pids.union(*(ancestors[pid] for pid in pids))
    processes = {pid: process for pid in wanted if (process := procfs.process(pid)) is not None}
    groups = group_processes(sorted(pids), processes, ancestors, set())
    where = {one.place: tree["where"] for one in groups if one.place.container} if "where" in tree else {}
    called = group_names(groups, where)
    holders = [
        Holder(workload=name, root_pids=frozenset(root.pid for root in one.roots))
        for name, one in zip(called, groups, strict=True)
    ]
    mps = {pid for pid, process in processes.items() if process.name == "nvidia-cuda-mps"}
    holdings = bind(gpus, holders, ancestors, mps)
    held = {gpu.uuid: (holdings[gpu.uuid].split, dict(holdings[gpu.uuid].weights)) for gpu in gpus}
    return groups, called, gpus, held


@pytest.mark.parametrize("name", TREES)
def test_who_holds_the_gpus_of_this_host(name: str, tmp_path: Path) -> None:
    tree = TREES[name]
    groups, called, _, held = discovered_in(tree, tmp_path)
    expected = tree["expected"]
    assert dict(zip(called, [one.server and one.server.name for one in groups], strict=True)) == expected["workloads"]
    assert held == {uuid: (split, weights) for uuid, (split, weights) in expected["held"].items()}


def test_a_configured_server_is_not_discovered_again(tmp_path: Path) -> None:
    tree = TREES["tensor-parallel vLLM, bare"]
    procfs = lay_out(tmp_path, tree["processes"])
    pids = {201, 202}
    ancestors = procfs.ancestors_of(pids, 0.0)
    processes = {pid: process for pid in (200, 201, 202, 100) if (process := procfs.process(pid)) is not None}
    assert group_processes(pids, processes, ancestors, {100}) == []


def test_processes_that_are_gone_are_unknown(tmp_path: Path) -> None:
    procfs = lay_out(tmp_path, [])
    assert procfs.process(4711) is None
    assert group_processes([4711], {}, procfs.ancestors_of([4711], 0.0), set()) == []
    gpu = GpuReading(uuid="GPU-0", index=0, processes=(GpuProcess(pid=4711),))
    assert bind([gpu], [], {})["GPU-0"].weights == {UNTIED: 1}


@pytest.mark.parametrize(
    ("command", "server", "port"),
    [
        *COMMANDS,
        ("vim notes-about-vllm.txt", None, None),
        ("tokenyield-agent run --config vllm serve", None, None),
        ("bash -c sleep 5", None, None),
        ("uvx sentence-transformers serve --model all-MiniLM-L6-v2 --port 8080", None, None),
    ],
)
def test_servers_by_their_command_line(command: str, server: str | None, port: int | None) -> None:
    kind = server_of(command.split())
    assert (kind and kind.name) == server
    assert (port_of(command.split(), kind) if kind else None) == port


def test_the_log_of_a_pod_is_found_with_its_names(tmp_path: Path) -> None:
    uid, container = "3a1bc2d4-5e6f-4a7b-8c9d-0e1f2a3b4c5d", "ab" * 32
    pod = tmp_path / "pods" / f"prod_chat-7c9_{uid}"
    for name in ("server", "sidecar"):
        (pod / name).mkdir(parents=True)
        (pod / name / "0.log").write_text("")
    links = tmp_path / "containers"
    links.mkdir()
    (links / f"chat-7c9_prod_server-{container}.log").symlink_to(pod / "server" / "0.log")
    logs = HostLogs(str(tmp_path / "pods"), str(tmp_path / "docker"))
    container_log = logs.of(Place(container=container, pod_uid=uid))
    assert (container_log.namespace, container_log.pod, container_log.container) == ("prod", "chat-7c9", "server")
    assert container_log.pattern == str(pod / "server" / "*.log")
    unknown = logs.of(Place(container="cd" * 32, pod_uid=uid))
    assert (unknown.pod, unknown.pattern) == ("chat-7c9", None), "which of two containers is unknown"
    assert pod_of_log_path(f"/var/log/pods/prod_chat-7c9_{uid}/server/0.log") == ("prod", "chat-7c9", uid, "server")
    assert pod_of_log_path("/var/log/vllm.log") is None


def test_the_log_of_a_docker_container_is_found_with_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "docker" / ("ab" * 32)
    folder.mkdir(parents=True)
    (folder / f"{'ab' * 32}-json.log").write_text("")
    logs = HostLogs(str(tmp_path / "pods"), str(tmp_path / "docker"))
    assert logs.of(Place(container="ab" * 32)).container == "abababababab"
    (folder / "config.v2.json").write_text('{"Name":"/chat","State":{}}')
    container_log = logs.of(Place(container="ab" * 32))
    assert (container_log.container, container_log.pattern) == ("chat", str(folder / f"{'ab' * 32}-json.log"))
    assert logs.of(Place()).pattern is None


@pytest.mark.parametrize(
    ("command", "model"),
    [
        ("llama-server -m /models/tiny.gguf --port 1", "tiny.gguf"),
        ("llama-server --port 1 --model tiny.gguf", "tiny.gguf"),
        ("llama-server -m", None),
        ("llama-server -m /models/", None),
        ("llama-server --models-dir /models", None),
        ("vllm serve llama --model other", None),  # its counters name it
    ],
)
def test_the_model_that_a_command_names(command: str, model: str | None) -> None:
    argv = command.split()
    server = server_of(argv)
    assert server is not None
    assert model_of(argv, server) == model
