"""What the agent itself uses, under the names that Prometheus' clients give it (`process_*`)."""

import os
import resource
from collections.abc import Iterator

from tokenyield_agent.status.exposition import AgentFamily, MetricSamples
from tokenyield_agent.workloads.procfs import Procfs

VIRTUAL = AgentFamily("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.")
RESIDENT = AgentFamily("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.")
STARTED = AgentFamily("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.")
CPU = AgentFamily("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.")
OPEN_FILES = AgentFamily("process_open_fds", "gauge", "Number of open file descriptors.")
FILES_MAX = AgentFamily("process_max_fds", "gauge", "Maximum number of open file descriptors.")


def own_process(procfs: Procfs) -> Iterator[MetricSamples]:
    """None where there is no /proc. Fields of a process's stat: proc(5)."""
    fields = procfs.stat_fields(os.getpid())
    try:
        open_files = len(os.listdir(f"{procfs.root}/self/fd"))
    except OSError:
        return
    if fields is None or len(fields) < 22:
        return
    user, system, started, virtual, resident_pages = (int(fields[i]) for i in (11, 12, 19, 20, 21))
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    yield VIRTUAL.of(virtual)
    yield RESIDENT.of(resident_pages * os.sysconf("SC_PAGE_SIZE"))
    yield STARTED.of(procfs.boot_time_s() + started / ticks_per_s)
    yield CPU.of((user + system) / ticks_per_s)
    yield OPEN_FILES.of(open_files)
    yield FILES_MAX.of(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
