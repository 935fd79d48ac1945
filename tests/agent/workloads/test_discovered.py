"""Which log belongs to which of the servers that were found, with real processes that look like servers."""

import contextlib
import os
import pty
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.workloads.test_process_groups import lay_out
from harness import wait_until
from test_whole_way import LINE
from tokenyield_agent.config import Settings, WorkloadSettings
from tokenyield_agent.gpu.reading import GpuProcess, GpuReading
from tokenyield_agent.workloads.procfs import ProcessOutput, Procfs
from tokenyield_agent.workloads.roster import Roster

APART = Settings(
    discover_endpoints=False, pod_resources_socket="", slurm_jobs_dir="", pods_dir="/none", docker_dir="/none"
)
"""Knows no containers and pods of this machine."""


@pytest.fixture
def server(tmp_path: Path) -> str:
    """A program called llama-server, which takes any arguments and sleeps."""
    program, source = tmp_path / "llama-server", tmp_path / "server.c"
    source.write_text("#include <unistd.h>\nint main(void) { sleep(60); return 0; }\n")
    subprocess.run(["cc", "-o", program, source], check=True)
    return str(program)


@pytest.fixture
def shell() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(command: str, **options: int) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(["bash", "-c", command], start_new_session=True, **options))  # type: ignore[call-overload]
        return started[-1]

    yield start
    for process in started:
        for pid in [*Procfs().descendants_of(process.pid), process.pid]:  # some have a session of their own
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def servers_below(pid: int, count: int) -> list[int]:
    procfs, pids = Procfs(), list[int]()

    def are_there() -> bool:
        pids[:] = sorted(
            p for p in procfs.descendants_of(pid) if "".join(procfs.argv_of(p)[:1]).endswith("llama-server")
        )
        return len(pids) == count

    wait_until(are_there, what=f"{count} servers run")
    return pids


def logs_of(roster: Roster, pids: list[int], mono_s: float = 0.0) -> dict[str, tuple[tuple[str, ...], str]]:
    """Name -> files of its log, and how they are known, with each of `pids` on a GPU of its own."""
    gpus = tuple(GpuReading(uuid=f"GPU-{i}", index=i, processes=(GpuProcess(pid=pid),)) for i, pid in enumerate(pids))
    roster.holdings(gpus, time.monotonic() + mono_s)
    return {name: (one.log_of.patterns, one.log_of.how) for name, one in roster.discovery.workloads.items()}


@pytest.fixture
def roster() -> Iterator[Roster]:
    started = Roster(APART, marks={})
    yield started
    started.close()


WRAPPERS = (
    "{0}", "exec {0}", "sh -c '{0}'", "bash -lc 'exec {0}'", "bash -c '{0}; true'", "timeout 60 {0}", "nohup {0}", "env A=B {0}",
    "nice {0}", "stdbuf -oL {0}", "setsid -w {0}", "script -qfc '{0}' /dev/null", "sudo -n {0}", "flock -s /tmp {0}",
    "busybox sh -c '{0}'", "tini -- {0}", "dumb-init -- {0}", "numactl -N 0 {0}",
    "echo {0} | xargs -I % sh -c %", "python3 -c 'import subprocess, sys; subprocess.run(sys.argv[1:])' {0}",
)  # fmt: skip


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_whatever_started_it_the_workload_is_the_process_that_executes_it(
    wrapper: str, server: str, shell: Callable[..., subprocess.Popen[bytes]], roster: Roster
) -> None:
    """Two of them in one shell are two."""
    if shutil.which(wrapper.split()[0]) is None and not wrapper.startswith(("{", "exec")):
        pytest.skip(f"there is no {wrapper.split()[0]} here")
    if subprocess.run(["bash", "-c", wrapper.format("true")], check=False, capture_output=True, timeout=20).returncode:
        pytest.skip(f"{wrapper.split()[0]} does not run here")
    bash = shell(" & ".join(wrapper.format(f"{server} --port {port}") for port in (8081, 8082)) + " & wait")
    pids = servers_below(bash.pid, 2)
    logs_of(roster, pids)
    ports = {pid: Procfs().argv_of(pid)[-1] for pid in pids}
    roots = {name: set(one.root_pids) for name, one in roster.discovery.workloads.items()}
    assert roots == {f"llamacpp:{port}": {pid} for pid, port in ports.items()}


def test_two_servers_of_one_shell_have_their_own_logs(
    server: str, shell: Callable[..., subprocess.Popen[bytes]], roster: Roster, tmp_path: Path
) -> None:
    bash = shell(
        f"{server} --port 8081 >{tmp_path}/a.log 2>&1 & {server} --port 8082 2>&1 | tee {tmp_path}/b.log & wait"
    )
    pids = servers_below(bash.pid, 2)
    wait_until(lambda: (tmp_path / "b.log").exists(), what="tee runs")
    assert logs_of(roster, pids) == {
        "llamacpp:8081": ((f"{tmp_path}/a.log",), "standard output"),
        "llamacpp:8082": ((f"{tmp_path}/b.log",), "standard output"),
    }


@pytest.mark.parametrize(
    ("to", "files", "copies", "is_whole"),
    [
        (">{0}/a 2>&1", "a", "", True),
        (">{0}/a 2>{0}/b", "ab", "", True),
        (">{0}/a", "a", "", False),
        ("2>&1 | tee {0}/a >/dev/null", "", "a", False),
        ("2>&1 | tee {0}/a >{0}/b", "b", "", True),
        ("2>{0}/a | tee {0}/b >/dev/null", "a", "b", False),
        ("2>&1 | cat >{0}/a", "a", "", True),
        (">/dev/null 2>&1", "", "", False),
        ("</dev/null 2>&1 | sleep 60", "", "", False),
    ],
)
def test_a_line_that_is_printed_is_in_one_file(
    to: str,
    files: str,
    copies: str,
    is_whole: bool,
    server: str,
    shell: Callable[..., subprocess.Popen[bytes]],
    tmp_path: Path,
) -> None:
    bash = shell(f"{server} {to.format(tmp_path)}; true")
    (pid,) = servers_below(bash.pid, 1)
    expected = ProcessOutput(
        files=tuple(f"{tmp_path}/{name}" for name in files),
        copies=tuple(f"{tmp_path}/{name}" for name in copies),
        is_whole=is_whole,
    )
    wait_until(lambda: Procfs().output_of(pid) == expected, what=f"{Procfs().output_of(pid)}")


def test_a_file_in_a_container_is_read_below_its_root(
    server: str, shell: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("mount namespaces cannot be made here: run as root")
    (tmp_path / "m").mkdir()
    bash = shell(
        f"unshare --mount bash -c 'mount -t tmpfs x {tmp_path}/m && {server} >{tmp_path}/m/a.log 2>&1; true'; true"
    )
    (pid,) = servers_below(bash.pid, 1)
    assert Procfs().output_of(pid).files == (f"/proc/{pid}/root{tmp_path}/m/a.log",)


@pytest.mark.parametrize(
    ("descriptors", "expected"),
    [
        ({"1": "a.log", "2": "a.log"}, ["a.log"]),
        ({"1": "a.log", "2": "pipe:[77]"}, ["a.log", "json"]),
        ({"1": "pipe:[77]", "2": "pipe:[77]"}, ["json"]),
    ],
)
def test_in_a_container_each_line_is_read_once(
    descriptors: dict[str, str], expected: list[str], tmp_path: Path
) -> None:
    """What goes to a file is not in the container's log, and the rest is."""
    container = "0f3c" * 16
    paths = {"a.log": tmp_path / "a.log", "json": tmp_path / "docker" / container / f"{container}-json.log"}
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    proc = tmp_path / "proc"
    proc.mkdir()
    lay_out(proc, [{"pid": 100, "parent": 1, "command": "llama-server", "cgroup": f"0::/docker/{container}"}])
    for folder in ("fd", "fdinfo"):
        (proc / "100" / folder).mkdir()
    for descriptor, target in descriptors.items():
        (proc / "100" / "fd" / descriptor).symlink_to(paths.get(target, target))
        (proc / "100" / "fdinfo" / descriptor).write_text("pos:\t0\nflags:\t0102001\n")
    settings = replace(APART, proc_dir=str(proc), docker_dir=str(tmp_path / "docker"))
    roster = Roster(settings, marks={})
    try:
        ((patterns, _),) = logs_of(roster, [100]).values()
        assert sorted(patterns) == sorted(str(paths[name]) for name in expected)
    finally:
        roster.close()


@pytest.mark.parametrize("to", [">{} 2>&1", "2>&1 | cat >{}"])
def test_a_log_of_two_servers_is_nobodys(
    to: str, server: str, shell: Callable[..., subprocess.Popen[bytes]], roster: Roster, tmp_path: Path
) -> None:
    bash = shell(f"({server} --port 8081 & {server} --port 8082) {to.format(tmp_path / 'both.log')}; wait; true")
    pids = servers_below(bash.pid, 2)
    wait_until(lambda: (tmp_path / "both.log").exists())
    shared = ((), "process tree; its log is shared")
    assert logs_of(roster, pids) == {"llamacpp:8081": shared, "llamacpp:8082": shared}


def test_only_the_part_of_the_output_that_is_shared_is_nobodys(
    server: str, shell: Callable[..., subprocess.Popen[bytes]], roster: Roster, tmp_path: Path
) -> None:
    a, b, errors = (tmp_path / name for name in ("a.log", "b.log", "errors.log"))
    bash = shell(f"{server} --port 8081 >{a} 2>>{errors} & {server} --port 8082 >{b} 2>>{errors} & wait")
    assert logs_of(roster, servers_below(bash.pid, 2)) == {
        "llamacpp:8081": ((str(a),), "standard output"),
        "llamacpp:8082": ((str(b),), "standard output"),
    }
    assert {one.log_of.shared for one in roster.discovery.workloads.values()} == {(str(errors),)}


def test_a_log_is_left_and_taken_up_again_as_another_server_comes_and_goes(
    server: str, shell: Callable[..., subprocess.Popen[bytes]], roster: Roster, tmp_path: Path
) -> None:
    log = tmp_path / "both.log"
    bash = shell(f"{server} --port 8081 >>{log} & {server} --port 8082 >>{log} & wait")
    pids = servers_below(bash.pid, 2)
    own, shared = ((str(log),), "standard output"), ((), "process tree; its log is shared")
    first = "llamacpp:8081" if "8081" in Procfs().argv_of(pids[0]) else "llamacpp:8082"
    assert logs_of(roster, pids[:1])[first] == own
    assert logs_of(roster, pids, 20)[first] == shared
    assert logs_of(roster, pids[:1], 40)[first] == own


def test_a_server_that_gets_another_name_continues_where_it_was(
    server: str, shell: Callable[..., subprocess.Popen[bytes]], roster: Roster, tmp_path: Path
) -> None:
    """Two servers of one port, as in two containers, are distinguished by their process."""
    log = tmp_path / "a.log"
    bash = shell(f"{server} >>{log} & {server} >>{tmp_path}/b.log & wait")
    pids = servers_below(bash.pid, 2)
    first = next(pid for pid in pids if Procfs().output_of(pid).files == (str(log),))
    assert list(logs_of(roster, [first])) == ["llamacpp:8080"]
    made = 0
    for i in range(2):
        with log.open("a") as file:
            file.write(LINE.format(n=i, p=5, c=7, length=11))
        if i == 1:
            assert set(logs_of(roster, pids, 20)) == {f"llamacpp:8080:{pid}" for pid in pids}
        made += sum(event.counts.completion or 0 for event in roster.poll(1000, time.monotonic()))
        assert made == 7 * (i + 1)


def test_what_goes_to_a_terminal_is_no_log(
    server: str, shell: Callable[..., subprocess.Popen[bytes]], roster: Roster
) -> None:
    ours, theirs = pty.openpty()
    bash = shell(f"{server} --port 8081 & wait", stdout=theirs, stderr=theirs)
    try:
        how = logs_of(roster, servers_below(bash.pid, 1))["llamacpp:8081"]
        assert how == ((), "process tree; its output goes to a terminal")
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize(
    "workload",
    [
        WorkloadSettings(name="chat", process="llama-server.*8081", metrics="http://127.0.0.1:9"),
        WorkloadSettings(name="chat", log="{}/a.log"),
    ],
    ids=["by its command line", "by its log"],
)
def test_a_configured_server_takes_nothing_of_its_neighbour_in_the_same_shell(
    workload: WorkloadSettings, server: str, shell: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """The shell's arguments name both, and its output is the first one's log."""
    bash = shell(f"exec >{tmp_path}/a.log; {server} --port 8081 & {server} --port 8082 >{tmp_path}/b.log & wait")
    pids = servers_below(bash.pid, 2)
    if workload.log:
        workload = replace(workload, log=workload.log.format(tmp_path))
    roster = Roster(replace(APART, workloads=(workload,)), marks={})
    gpus = tuple(GpuReading(uuid=f"GPU-{i}", index=i, processes=(GpuProcess(pid=pid),)) for i, pid in enumerate(pids))
    try:
        holdings = roster.holdings(gpus, time.monotonic())
        held = {Procfs().argv_of(pid)[-1]: dict(holdings[f"GPU-{i}"].weights) for i, pid in enumerate(pids)}
        assert held == {"8081": {"chat": 1}, "8082": {"llamacpp:8082": 1}}
        assert roster.discovery.workloads["llamacpp:8082"].log_of.patterns == (f"{tmp_path}/b.log",)
    finally:
        roster.close()
