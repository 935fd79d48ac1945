"""A process and where it runs, read off its cgroup: container, pod, systemd unit, Slurm job. Pure.

In: the text of /proc/PID/cgroup. Out: a `Place`. The forms, with cgroup v1 (a line for each controller) and v2 (`0::`):

    /kubepods/burstable/pod3a1b.../0f3c...(64)                                    kubelet's cgroupfs driver
    /kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod3a1b_....slice/cri-containerd-0f3c....scope
    systemd's /docker/0f3c...    /system.slice/docker-0f3c....scope    /machine.slice/libpod-0f3c....scope
    /system.slice/vllm.service    /user.slice/user-1000.slice/user@1000.service/app.slice/vllm.service
    /slurm/uid_1000/job_42/step_0    /system.slice/slurmstepd.scope/job_42/step_0/user/task_0

A login session's scope is not a place of its own: what runs there is distinguished by its processes.
"""

import re
from dataclasses import dataclass

_CONTAINER = re.compile(r"(?:^|[/-])(?P<id>[0-9a-f]{64})(?:\.scope)?(?=/|$)")
_POD = re.compile(
    r"[/-]pod(?P<uid>[0-9a-f]{8}[_-][0-9a-f]{4}[_-][0-9a-f]{4}[_-][0-9a-f]{4}[_-][0-9a-f]{12}|[0-9a-f]{32})"
)
_UNIT = re.compile(r"/(?P<unit>[^/]+\.service)(?=/|$)")
_SLURM = re.compile(r"(?:^|/)(?:slurm|slurmstepd\.scope|[^/]*_slurmstepd\.scope)(?:/[^/]+)*?/job_(?P<job>\d+)(?=/|$)")
_USER_MANAGER = re.compile(r"^user@\d+\.service$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a process runs. All None: in no container, unit or job of its own."""

    container: str | None = None
    """The runtime's id, 64 hexadecimal digits."""
    pod_uid: str | None = None
    """As the kubelet names folders: with dashes."""
    unit: str | None = None
    slurm_job: str | None = None

    @property
    def is_bare(self) -> bool:
        return self == NOWHERE


NOWHERE = Place()


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process. `started_s` is Unix time, to a hundredth of a second."""

    pid: int
    parent: int
    started_s: float
    command: str
    name: str
    """The kernel's short name (comm)."""
    place: Place


def place_of(cgroup: str) -> Place:
    """The place that `cgroup` (the text of /proc/PID/cgroup) shows."""
    paths = [line.split(":", 2)[2] for line in cgroup.splitlines() if line.count(":") >= 2]
    # On v1 every controller has a path; the longest shows most. A nested container is the innermost.
    path = max(paths, key=len, default="")
    containers, pod = _CONTAINER.findall(path), _POD.search(path)
    if containers or pod:
        uid = pod["uid"].replace("_", "-") if pod else None
        return Place(container=containers[-1] if containers else None, pod_uid=uid)
    if job := _SLURM.search(path):
        return Place(slurm_job=job["job"])
    units = [unit for unit in _UNIT.findall(path) if not _USER_MANAGER.match(unit)]
    return Place(unit=units[-1]) if units else NOWHERE
