"""A process and where it runs, read off its cgroup: container, pod, systemd unit, Slurm job. Pure.

In: the text of /proc/PID/cgroup. Out: a `Place`. The forms, with cgroup v1 (a line for each controller) and v2 (`0::`):

    /kubepods/burstable/pod3a1b.../0f3c...(64)                                    kubelet's cgroupfs driver
    /kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod3a1b_....slice/cri-containerd-0f3c....scope
    systemd's /docker/0f3c...    /system.slice/docker-0f3c....scope    /machine.slice/libpod-0f3c....scope
    /system.slice/vllm.service    /user.slice/user-1000.slice/user@1000.service/app.slice/vllm.service
    /system.slice/vllm.service/libpod-payload-0f3c...                    Podman's Quadlet: a container in a unit
    /system.slice/containerd.service/kubepods-pod3a1b_....slice:cri-containerd:0f3c...      mismatched drivers
    /slurm/uid_1000/job_42/step_0    /slurm_gpu-7/uid_1000/job_42/step_batch      Slurm; Debian's names the node
    /system.slice/slurmstepd.scope/job_42/step_0/user/task_0    /system.slice/gpu-7_slurmstepd.scope/job_42/...

A job is what slurmd made at the top of the hierarchy: whoever may make groups below one of their own (a user's manager,
a job's step) cannot name another job there.

On v1 the controllers may disagree: any of them may show a container or a job, and a unit is what systemd's own
hierarchy shows, however long the path is that another tool made in another controller. A login session's scope is not a
place of its own: what runs there is distinguished by its processes.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_CONTAINER = re.compile(r"(?:^|[/:-])(?P<id>[0-9a-f]{64})(?:\.scope)?(?=/|$)")
_POD = re.compile(
    r"[/-]pod(?P<uid>[0-9a-f]{8}[_-][0-9a-f]{4}[_-][0-9a-f]{4}[_-][0-9a-f]{4}[_-][0-9a-f]{12}|[0-9a-f]{32})"
)
_UNIT = re.compile(r"/(?P<unit>[^/]+\.service)(?=/|$)")
_SLURM = re.compile(
    r"^(?:/\.\.)*(?:/slurm(?:_[^/]+)?/uid_\d+|(?:/[^/]+\.slice)*/(?:[^/]+_)?slurmstepd\.scope)/job_(?P<job>\d{1,10})(?=/|$)",
    re.ASCII,
)
_QUADLET = re.compile(r"/(?P<unit>[^/]+\.service)/libpod-(?:payload-)?[0-9a-f]{64}(?=/|$)")
_USER_MANAGER = re.compile(r"^user@\d+\.service$")
_SYSTEMD = ("name=systemd", "")
"""The hierarchies in which systemd itself keeps units: its own of v1, and v2's."""


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
    argv: tuple[str, ...]
    """Its command line, word by word; one word where the process gave itself a title. Empty: a kernel thread."""
    name: str
    """The kernel's short name (comm)."""
    place: Place
    executable: str = ""
    """The file that it executes, as the kernel resolved it; empty where that may not be read."""

    @property
    def command(self) -> str:
        return " ".join(self.argv)


def place_of(cgroup: str) -> Place:
    """The place that `cgroup` (the text of /proc/PID/cgroup) shows."""
    by_controllers = {fields[1]: fields[2] for line in cgroup.splitlines() if len(fields := line.split(":", 2)) == 3}
    systemd = [path for hierarchy in _SYSTEMD if (path := by_controllers.get(hierarchy, "/")) != "/"]
    # Of several paths the one that shows most; a nested container is the innermost.
    paths = sorted(by_controllers.values(), key=lambda path: (len(_CONTAINER.findall(path)), len(path)), reverse=True)
    # A container that a job made in its own group is the job's.
    if job := next((match["job"] for path in paths if (match := _SLURM.search(path))), None):
        return Place(slurm_job=job)
    container = next((ids[-1] for path in paths if (ids := _CONTAINER.findall(path))), None)
    pod = next((match["uid"].replace("_", "-") for path in paths if (match := _POD.search(path))), None)
    if container or pod:
        quadlet = next((match["unit"] for path in paths if (match := _QUADLET.search(path))), None)
        return Place(container=container, pod_uid=pod, unit=quadlet)
    unit = _unit(systemd or paths)
    return Place(unit=unit) if unit else NOWHERE


def _unit(paths: Iterable[str]) -> str | None:
    """The innermost unit of the first path that shows one."""
    for path in paths:
        if units := [unit for unit in _UNIT.findall(path) if not _USER_MANAGER.match(unit)]:
            return str(units[-1])
    return None
