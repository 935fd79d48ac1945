"""Which process is the server of a workload that the settings name, and of which pod that is.

In: the workload's settings and a process. Out: whether it is the server's: by its pid file, by its command line, by the
unit or pod whose log is followed, by the port that is scraped, or as the writer of its log.
"""

import re
from collections.abc import Set
from pathlib import Path
from urllib.parse import urlsplit

from tokenyield_agent.config import WorkloadSettings
from tokenyield_agent.workloads.host_logs import pod_of_log_path
from tokenyield_agent.workloads.process_location import Process
from tokenyield_agent.workloads.procfs import Procfs
from tokenyield_agent.workloads.server_process import server_of


def is_root(procfs: Procfs, workload: WorkloadSettings, process: Process, log_files: Set[tuple[int, int]]) -> bool:
    """Whether `process` is the workload's server. `log_files`: (device, inode) of the files that are followed."""
    if workload.pid_file:
        return _pid_in(workload.pid_file) == process.pid
    if workload.process:
        return re.search(workload.process, process.command) is not None
    if workload.journal is not None and process.place.unit == workload.journal:
        return True
    pod = pod_of_log_path(workload.log) if workload.log else None
    if pod is not None and process.place.pod_uid is not None:
        return process.place.pod_uid.replace("-", "") == pod[2].replace("-", "")
    if workload.metrics is not None and server_of(process.command) is not None:
        port = urlsplit(workload.metrics).netloc.rpartition(":")[2]
        pids = [process.pid, *procfs.descendants_of(process.pid)]
        if any(address.endswith(f":{port}") for address in procfs.listening(pids)):
            return True
    return procfs.writes_to(process.pid, log_files)


def pod_key(workload: WorkloadSettings) -> str:
    """`namespace/pod/container` of a workload whose pod's log is followed, as the kubelet's allocations are keyed;
    empty for any other."""
    pod = pod_of_log_path(workload.log) if workload.log else None
    return f"{pod[0]}/{pod[1]}/{pod[3]}" if pod else ""


def _pid_in(pid_file: str) -> int | None:
    try:
        return int(Path(pid_file).read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None
