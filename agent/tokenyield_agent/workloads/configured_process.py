"""Which process is the server of a workload that the settings name, and of which pod that is.

In: the workload's settings and processes. Out: which of them are the server's: by its pid file, by its command line,
by the unit or pod whose log is followed, by the port that is scraped, or as the writer of its log. A shell or terminal
multiplexer in which the server was started matches as the server does, by its arguments or by the log that it handed
on; it is not the server, for other servers may run below it.
"""

import re
from collections.abc import Collection, Iterable, Set
from pathlib import Path
from urllib.parse import urlsplit

from tokenyield_agent.config import WorkloadSettings
from tokenyield_agent.workloads.executed_program import carries_others
from tokenyield_agent.workloads.host_logs import HostLogs, pod_of_log_path
from tokenyield_agent.workloads.process_location import Process
from tokenyield_agent.workloads.procfs import Procfs
from tokenyield_agent.workloads.server_process import server_of
from tokenyield_agent.workloads.workload_name import OWN_NAME_CHARS_MAX
from tokenyield_wire.bounded import fitting_name


class ConfiguredProcesses:
    """Looks at the processes of this host, and at the names of its containers."""

    def __init__(self, procfs: Procfs, host_logs: HostLogs) -> None:
        self._procfs = procfs
        self._host_logs = host_logs

    def roots_of(
        self, workload: WorkloadSettings, processes: Iterable[Process], log_files: Set[tuple[int, int]]
    ) -> frozenset[int]:
        """Those of `processes` that are the workload's server. `log_files`: (device, inode) of those followed."""
        roots = [process for process in processes if self.is_root(workload, process, log_files)]
        if workload.pid_file or any(self._is_in_its_place(workload, process) for process in roots):
            return frozenset(process.pid for process in roots)
        servers = [process for process in roots if server_of(process.argv, process.executable) is not None]
        own = servers or [process for process in roots if not carries_others(process.argv)] or roots
        return frozenset(process.pid for process in own)

    def is_root(self, workload: WorkloadSettings, process: Process, log_files: Set[tuple[int, int]]) -> bool:
        """Whether `process` is the workload's server, or one in which the server was started."""
        if workload.pid_file:
            return _pid_in(workload.pid_file) == process.pid
        if workload.process:
            return re.search(workload.process, process.command) is not None
        if self._is_in_its_place(workload, process):
            return True
        if process.place.pod_uid is not None and workload.log and pod_of_log_path(workload.log):
            return False  # of another pod, or of another container of the same
        if workload.metrics is not None and server_of(process.argv, process.executable) is not None:
            pids = [process.pid, *self._procfs.descendants_of(process.pid)]
            if _is_at(workload.metrics, self._procfs.listening(pids)):
                return True
        return self._procfs.writes_to(process.pid, log_files)

    def _is_in_its_place(self, workload: WorkloadSettings, process: Process) -> bool:
        """Whether it runs in the unit or container whose log is followed, all of which is the workload."""
        if workload.journal is not None and process.place.unit == workload.journal:
            return True
        pod = pod_of_log_path(workload.log) if workload.log else None
        uid = process.place.pod_uid
        if pod is None or uid is None or uid.replace("-", "") != pod[2].replace("-", ""):
            return False
        return self._host_logs.of(process.place).container in (pod[3], None)


def pod_key(workload: WorkloadSettings) -> str:
    """`namespace/pod/container` of a workload whose pod's log is followed, as the kubelet's allocations are keyed;
    empty for any other."""
    pod = pod_of_log_path(workload.log) if workload.log else None
    return fitting_name(f"{pod[0]}/{pod[1]}/{pod[3]}", OWN_NAME_CHARS_MAX) if pod else ""


def _is_at(url: str, listening: Collection[str]) -> bool:
    """Whether `url` is one of these addresses. Pods listen on the same port, each at an address of its own."""
    split = urlsplit(url)
    host = split.hostname or ""
    port = split.port or (443 if split.scheme == "https" else 80)
    if host in ("localhost", "127.0.0.1", "::1"):
        hosts = {"127.0.0.1", "[::1]"}
    elif re.fullmatch(r"[\d.]+|.*:.*", host):
        hosts = {host, f"[{host}]", "127.0.0.1"}  # what listens everywhere is listed as 127.0.0.1
    else:
        return any(address.endswith(f":{port}") for address in listening)
    return any(f"{one}:{port}" in listening for one in hosts)


def _pid_in(pid_file: str) -> int | None:
    try:
        return int(Path(pid_file).read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None
