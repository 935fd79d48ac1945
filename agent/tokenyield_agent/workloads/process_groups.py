"""The workloads that hold this node's GPUs, recognized by its processes. Pure.

In: the processes that hold a GPU and their ancestors, and which of them belong to configured workloads. Out: a
`ProcessGroup` for each workload that is in no settings, named so that it keeps its name over restarts.

A group is one server: the highest ancestor, in the same container, unit or job, that *executes* a known server, with
all below it. A shell, terminal multiplexer or supervisor that started two servers executes neither: they are two
groups. Ranks of one program under a launcher (mpirun, torchrun, Ray) are one. Where no ancestor is known, the
container, unit or job is the group; where there is none either, the processes of one command. Two servers in one
container or unit are two groups, and its log, whose lines cannot be assigned, belongs to neither.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile

from tokenyield_agent.tokens.dialects.base import Server
from tokenyield_agent.workloads.executed_program import embeds, launches_ranks
from tokenyield_agent.workloads.process_location import NOWHERE, Place, Process
from tokenyield_agent.workloads.server_process import has_title_of, model_of, port_of, server_of
from tokenyield_agent.workloads.workload_name import OWN_NAME_CHARS_MAX, slurm_workload
from tokenyield_wire.bounded import fitting_name

MPS_SERVER = "nvidia-cuda-mps-server"
"""Holds a GPU for the clients of CUDA's multi-process service, which NVML lists beside it."""
_RANK = re.compile(r"--local[-_]rank[= ]\d+|(?<=\w)\.[a-z_]\w*$")
"""What differs between ranks of one program: the number; in the title of a Ray actor, the method that it runs now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessGroup:
    """Processes of one workload. `roots` are those from which all others descend."""

    roots: tuple[Process, ...]
    place: Place
    server: Server | None
    shares_place: bool = False
    """Another server runs in the same container, unit or job."""

    @property
    def root_pids(self) -> frozenset[int]:
        return frozenset(root.pid for root in self.roots)

    @property
    def started_s(self) -> float:
        return min(root.started_s for root in self.roots)

    @property
    def port(self) -> int | None:
        return port_of(self.roots[0].argv, self.server) if self.server is not None else None

    @property
    def model(self) -> str | None:
        return model_of(self.roots[0].argv, self.server) if self.server is not None else None


def group_processes(
    gpu_pids: Iterable[int], processes: Mapping[int, Process], ancestors: Mapping[int, tuple[int, ...]], taken: set[int]
) -> list[ProcessGroup]:
    """The groups of the processes that hold a GPU and do not descend from any of `taken`."""
    roots_of: dict[tuple[object, ...], dict[int, Process]] = defaultdict(dict)
    servers: dict[tuple[object, ...], Server | None] = {}
    chains = []
    for pid in gpu_pids:
        line = [pid, *ancestors.get(pid, ())]
        if pid not in processes or taken.intersection(line) or processes[pid].name.startswith(MPS_SERVER[:15]):
            continue
        chains.append([processes[p] for p in line if p in processes])
    for root, server in _roots(chains):
        key: tuple[object, ...]
        if server is not None:
            launcher = processes.get(root.parent)
            is_rank = launcher is not None and launches_ranks(launcher.argv)
            key = (root.place, root.parent, _RANK.sub("", root.command)) if is_rank else (root.place, root.pid)
        elif root.place != NOWHERE:
            key = (root.place,)
        else:
            key = (NOWHERE, root.name)
        roots_of[key][root.pid] = root
        servers[key] = server
    servers_at = Counter(key[0] for key, server in servers.items() if server is not None)
    return [
        ProcessGroup(
            roots=tuple(roots[pid] for pid in sorted(roots)),
            place=key[0] if isinstance(key[0], Place) else NOWHERE,
            server=servers[key],
            shares_place=key[0] != NOWHERE and servers_at[key[0]] > (servers[key] is not None),
        )
        for key, roots in roots_of.items()
    ]


def group_names(groups: Iterable[ProcessGroup], where: Mapping[Place, str]) -> list[str]:
    """A name for each group. `where` names the containers: `namespace/pod/container`, or Docker's name."""
    plain = [fitting_name(_name(group, where), OWN_NAME_CHARS_MAX) for group in groups]
    return [
        name if plain.count(name) == 1 else f"{name}:{group.roots[0].pid}"
        for name, group in zip(plain, groups, strict=True)
    ]


def _roots(chains: list[list[Process]]) -> list[tuple[Process, Server | None]]:
    """The root of each of `chains`. A server that one of them shows as its root is that of all who descend from it: a
    program that runs an engine as a library can hold a GPU itself, and executes no server."""
    roots = [_root(chain) for chain in chains]
    servers = {root.pid: (root, server) for root, server in roots if server is not None}
    return [
        root if root[1] is not None else next((servers[p.pid] for p in reversed(_own(chain)) if p.pid in servers), root)
        for chain, root in zip(chains, roots, strict=True)
    ]


def _own(chain: list[Process]) -> list[Process]:
    """The part of `chain` in the same container, unit or job as its first process."""
    return list(takewhile(lambda process: process.place == chain[0].place, chain))


def _root(chain: list[Process]) -> tuple[Process, Server | None]:
    """The server's process: the highest of `chain` (a process and its parents) in the same place that executes one."""
    own = _own(chain)
    found = [(process, server) for process in own if (server := server_of(process.argv, process.executable))]
    if not found:
        return chain[0], None
    root, server = found[-1]
    parent = next((process for process in own if process.pid == root.parent), None)
    if parent is not None and has_title_of(root.argv, server) and embeds(parent.argv):
        return parent, server  # a Python program that runs the server's engine as a library
    return root, server


def _name(group: ProcessGroup, where: Mapping[Place, str]) -> str:
    place = group.place
    name = where.get(place) or place.unit or (slurm_workload(place.slurm_job) if place.slurm_job else None)
    if name is None and place.container is not None:
        name = place.container[:12]
    if name is None:
        name = group.server.name if group.server is not None else group.roots[0].name or "process"
        return f"{name}:{group.port}" if group.port is not None else name
    return f"{name}:{group.port}" if group.shares_place and group.port is not None else name
