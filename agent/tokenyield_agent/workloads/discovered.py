"""Workloads that nobody configured: met when their processes appear on a GPU, forgotten when they are gone.

In: groups of processes (discovery.py), and what the configured workloads follow already. Out: `Found` workloads, each
with its log and the addresses where its counters may be, and what is left to count of one that is forgotten. A found
workload whose processes are gone is followed for `LINGER_S` more, so that the last lines of its log are read.
"""

import glob
import logging
import os
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Set
from dataclasses import dataclass, field

from tokenyield_agent.config import Settings
from tokenyield_agent.tokens.event import TokenEvent
from tokenyield_agent.tokens.log_source import LogSource
from tokenyield_agent.tokens.workload_tokens import TokensMark, WorkloadTokens
from tokenyield_agent.workloads.host_logs import ContainerLog, HostLogs
from tokenyield_agent.workloads.pods import Pods
from tokenyield_agent.workloads.process_groups import ProcessGroup, group_names
from tokenyield_agent.workloads.process_location import NOWHERE, Place
from tokenyield_agent.workloads.procfs import REFRESH_S, Procfs

log = logging.getLogger(__name__)

LINGER_S = 60.0
FOUND_MAX = 64
"""Found workloads; a node has a handful. What is beyond holds its GPUs without a name."""
EPHEMERAL_PORT = 32_768
"""Ports from here on are chosen by the kernel: for rendezvous and messages between workers, not for HTTP."""
PORTS_MAX = 8
LOOK_S_MAX = 300.0
"""Between two looks at the sockets of a workload whose endpoint is not known: loading a model takes minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredSources:
    """What configured workloads and gateways have: a found one must not count it again."""

    names: Set[str]
    files: Set[tuple[int, int]]
    """(device, inode) of the files they follow."""
    units: Set[str]
    addresses: Set[str]
    """`host:port` of the endpoints they are asked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveredLog:
    """Where a found workload's log is: files, a unit of the journal, or nowhere. `how` says how it is known."""

    patterns: tuple[str, ...] = ()
    unit: str | None = None
    how: str


@dataclass(slots=True)
class DiscoveredWorkload:
    """One workload that nobody configured."""

    tokens: WorkloadTokens
    log_of: DiscoveredLog
    labels: dict[str, str]
    place: str
    root_pids: frozenset[int] = frozenset()
    seen_s: float = 0.0
    addresses: list[str] = field(default_factory=list)
    look_at_s: float = 0.0
    """When its sockets are looked at again, while its endpoint is not known; and how long until then."""
    pause_s: float = REFRESH_S


class Discovery:
    """The found workloads. `open_log` follows a log; `marks` is what an earlier run, or an earlier life, remembered."""

    def __init__(
        self,
        settings: Settings,
        procfs: Procfs,
        pods: Pods,
        *,
        open_log: Callable[[str, DiscoveredLog], LogSource | None],
        marks: MutableMapping[str, TokensMark],
        watched_since_s: float,
    ) -> None:
        self.workloads: dict[str, DiscoveredWorkload] = {}
        self.marks = marks
        self.met = False
        """A workload was met since this was last set to False."""
        self._procfs = procfs
        self._pods = pods
        self._open_log = open_log
        self._watched_since_s = watched_since_s
        self._host_logs = HostLogs(settings.pods_dir, settings.docker_dir)
        self._asks_endpoints = settings.discover_endpoints

    def update(
        self, groups: list[ProcessGroup], mono_s: float, others: ConfiguredSources, known: Set[str]
    ) -> list[TokenEvent]:
        """Take these groups for all there are. `known`: found workloads whose endpoint answers. Gives what is left to
        count of those that are forgotten, or that cannot be asked any more."""
        left: list[TokenEvent] = []
        logs = {one.place: self._host_logs.of(one.place) for one in groups if one.place != NOWHERE}
        where = {place: name for place, log_of in logs.items() if (name := _container_name(log_of))}
        for one, name in zip(groups, group_names(groups, where), strict=True):
            if name in others.names:
                continue
            container = logs.get(one.place, ContainerLog())
            roots = frozenset(process.pid for process in one.roots)
            met = self.workloads.get(name)
            if met is None or met.root_pids != roots:
                log_of = self._log_found(one, container, others)
                if met is not None and met.log_of != log_of:
                    left += self.forget(name)  # started anew, and writes elsewhere
                    met = None
                if met is None and len(self.workloads) >= FOUND_MAX:
                    continue
                if met is None:
                    met = self.workloads[name] = self._meet(name, one, container, log_of)
            met.tokens.process_started_s = one.started_s
            met.tokens.process_server = one.server.name if one.server is not None else None
            if self._asks_endpoints and name not in known and (mono_s >= met.look_at_s or met.root_pids != roots):
                met.look_at_s, met.pause_s = mono_s + met.pause_s, min(2 * met.pause_s, LOOK_S_MAX)
                met.addresses = self._addresses(one, others)
                met.tokens.has_endpoint = met.tokens.has_endpoint or bool(met.addresses)
                if not met.addresses:
                    left += met.tokens.unreachable()
            met.root_pids, met.seen_s = roots, mono_s
            if "pod" in met.labels:
                met.labels = {**met.labels, **self._pods.labels(met.labels["namespace"], met.labels["pod"])}
        for name in [name for name, met in self.workloads.items() if mono_s - met.seen_s > LINGER_S]:
            left += self.forget(name)
        return left

    def forget(self, name: str) -> list[TokenEvent]:
        """Follow it no longer; what it remembers waits in `marks`. Gives what is left to count."""
        gone = self.workloads.pop(name)
        left = gone.tokens.finish()
        self.marks[name] = gone.tokens.mark()
        gone.tokens.close()
        return left

    def close(self) -> None:
        """Follow nobody any longer, without taking it for their end."""
        for met in self.workloads.values():
            met.tokens.close()

    def _meet(self, name: str, one: ProcessGroup, container: ContainerLog, log_of: DiscoveredLog) -> DiscoveredWorkload:
        labels = {
            key: value
            for key, value in (
                ("namespace", container.namespace),
                ("pod", container.pod),
                ("container", container.container),
                ("unit", one.place.unit),
                ("slurm_job", one.place.slurm_job),
            )
            if value
        }
        tokens = WorkloadTokens(
            name,
            # From its end: what a server wrote before it was found is about its start, not about tokens.
            self._open_log(name, log_of),
            has_endpoint=False,
            is_new=one.started_s > self._watched_since_s,
            mark=self.marks.pop(name, None),
        )
        self.met = True
        log.info("workload=%s found: %s", name, log_of.how)
        return DiscoveredWorkload(tokens=tokens, log_of=log_of, labels=labels, place=_place(labels, one.place))

    def _log_found(self, one: ProcessGroup, container: ContainerLog, others: ConfiguredSources) -> DiscoveredLog:
        """Where the log of a group is, unless a configured workload follows it already."""
        if one.server is None and (one.place.is_bare or one.place.slurm_job):
            return DiscoveredLog(how="process tree")  # whatever it writes is its own affair
        if container.pattern is not None and not one.shares_place:
            if not _any_of(glob.glob(container.pattern), others.files):
                return DiscoveredLog(patterns=(container.pattern,), how="container log")
            return DiscoveredLog(how="process tree; its log is followed by a workload of the settings")
        files = tuple(path for root in one.roots for path in self._procfs.output_files(root.pid))
        if files and not _any_of(files, others.files):
            return DiscoveredLog(patterns=files, how="standard output")
        if one.place.unit is not None and one.place.unit not in others.units and not files and not one.shares_place:
            return DiscoveredLog(unit=one.place.unit, how="systemd journal")
        return DiscoveredLog(how="process tree; its log is shared" if one.shares_place else "process tree")

    def _addresses(self, one: ProcessGroup, others: ConfiguredSources) -> list[str]:
        """Where the group's server may show its counters, the likeliest first."""
        pids = {root.pid for root in one.roots}
        for root in one.roots:
            pids.update(self._procfs.descendants_of(root.pid))
        listening = self._procfs.listening(pids)
        ports = [address for address in listening if int(address.rpartition(":")[2]) < EPHEMERAL_PORT]
        likely = [address for address in listening if one.port and address.endswith(f":{one.port}")]
        found = [address for address in dict.fromkeys(likely + ports) if address not in others.addresses]
        return [f"http://{address}" for address in found][:PORTS_MAX]


def _any_of(paths: Iterable[str], files: Set[tuple[int, int]]) -> bool:
    """Whether any of `paths` is one of `files`."""
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue
        if (status.st_dev, status.st_ino) in files:
            return True
    return False


def _container_name(found: ContainerLog) -> str:
    if found.pod is not None:
        return "/".join(part for part in (found.namespace, found.pod, found.container) if part)
    return f"docker/{found.container}" if found.container else ""


def _place(labels: Mapping[str, str], place: Place) -> str:
    if "pod" in labels:
        return f"{labels['namespace']}/{labels['pod']}"
    return labels.get("container") or place.unit or (f"slurm/{place.slurm_job}" if place.slurm_job else "process")
