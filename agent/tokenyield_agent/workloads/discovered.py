"""Workloads that are in no settings: discovered when their processes appear on a GPU, forgotten when they are gone.

In: groups of processes (process_groups.py), and what the configured workloads follow already. Out: a
`DiscoveredWorkload` for each, with its log and the addresses where its counters may be, and what is left to count of
one that is forgotten. One whose processes are gone is followed for `LINGER_S` more, so that the last lines of its log
are read. A log to which two servers write is followed for neither: its lines cannot be assigned.
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
from tokenyield_agent.workloads.process_groups import ProcessGroup, group_names
from tokenyield_agent.workloads.process_location import NOWHERE, Place
from tokenyield_agent.workloads.procfs import REFRESH_S, ProcessOutput, Procfs
from tokenyield_agent.workloads.workload_name import slurm_workload

log = logging.getLogger(__name__)

LINGER_S = 60.0
DISCOVERED_MAX = 64
"""Discovered workloads; a node has a handful. One more holds its GPUs without a name."""
EPHEMERAL_PORT = 32_768
"""Ports from here on are chosen by the kernel: for rendezvous and messages between workers, not for HTTP."""
PORTS_MAX = 8
SOCKETS_PAUSE_S_MAX = 300.0
"""Between two looks at the sockets of a workload whose endpoint is not known: loading a model takes minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredSources:
    """What configured workloads and gateways have: a discovered one must not count it again."""

    names: Set[str]
    files: Set[tuple[int, int]]
    """(device, inode) of the files they follow."""
    units: Set[str]
    addresses: Set[str]
    """`host:port` of the endpoints at which they are scraped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveredLog:
    """Where a discovered workload's log is: files, a unit of the journal, or nowhere. `how`: how that is known."""

    patterns: tuple[str, ...] = ()
    unit: str | None = None
    how: str
    owners: Mapping[str, int] = field(default_factory=dict, compare=False)
    """File -> the uid that owned it while the process wrote to it."""
    shared: tuple[str, ...] = ()
    """Files, or the place, to which another server writes too: they are followed for neither."""
    is_on_terminal: bool = False


@dataclass(slots=True)
class DiscoveredWorkload:
    """One workload that is in no settings."""

    tokens: WorkloadTokens
    log_of: DiscoveredLog
    labels: dict[str, str]
    place: str
    root_pids: frozenset[int] = frozenset()
    seen_s: float = 0.0
    addresses: dict[str, str | None] = field(default_factory=dict)
    """URL -> the folder of /proc that shows the connections of its network namespace; None for the agent's own."""
    sockets_due_s: float = 0.0
    """When its sockets are looked at again, while its endpoint is not known; and how long until then."""
    sockets_pause_s: float = REFRESH_S


class Discovery:
    """The discovered workloads. `open_log` follows a log; `marks` is what is remembered of them from an earlier run, or
    from before they were forgotten."""

    def __init__(
        self,
        settings: Settings,
        procfs: Procfs,
        *,
        open_log: Callable[[str, DiscoveredLog], LogSource | None],
        marks: MutableMapping[str, TokensMark],
        watched_since_s: float,
    ) -> None:
        self.workloads: dict[str, DiscoveredWorkload] = {}
        self.marks = marks
        self.has_new = False
        """A workload was discovered since this was last set to False."""
        self._procfs = procfs
        self._open_log = open_log
        self._watched_since_s = watched_since_s
        self._host_logs = HostLogs(settings.pods_dir, settings.docker_dir)
        self._finds_endpoints = settings.discover_endpoints

    def update(
        self, groups: list[ProcessGroup], mono_s: float, configured: ConfiguredSources, answering: Set[str]
    ) -> list[TokenEvent]:
        """Take these groups for all there are. `answering`: workloads whose endpoint answers. Returns what is left to
        count of those that are forgotten, or that cannot be scraped any more."""
        left: list[TokenEvent] = []
        logs = {group.place: self._host_logs.of(group.place) for group in groups if group.place != NOWHERE}
        where = {place: name for place, container in logs.items() if (name := _container_name(container))}
        outputs = {group.root_pids: self._output_of(group) for group in groups if _may_have_log(group)}
        written = [
            (group, _identities((*output.files, *output.copies)))
            for group in groups
            if group.server is not None
            for output in (outputs[group.root_pids],)
        ]
        names = dict(zip(group_names(groups, where), groups, strict=True))
        left += self._rename(names)
        for name, group in names.items():
            if name in configured.names:
                continue
            container = logs.get(group.place, ContainerLog())
            elsewhere = {identity for other, files in written if other != group for identity in files}
            log_of = self._log_of(group, container, configured, outputs.get(group.root_pids), elsewhere)
            workload, left_of_it = self._workload_of(name, group, container, log_of)
            left += left_of_it
            if workload is None:
                continue
            workload.tokens.process_started_s = group.started_s
            workload.tokens.process_server = group.server.name if group.server is not None else None
            workload.tokens.process_model = group.model
            if self._finds_endpoints and name not in answering:
                left += self._look_for_endpoint(workload, group, mono_s, configured)
            workload.root_pids, workload.seen_s = group.root_pids, mono_s
        for name in [name for name, workload in self.workloads.items() if mono_s - workload.seen_s > LINGER_S]:
            left += self.forget(name)
        return left

    def forget(self, name: str) -> list[TokenEvent]:
        """Stop following it; what is remembered of it waits in `marks`. Returns what is left to count."""
        gone = self.workloads.pop(name)
        left = gone.tokens.finish()
        self.marks[name] = gone.tokens.mark()
        gone.tokens.close()
        return left

    def close(self) -> None:
        """Stop following all, without taking it for their end."""
        for workload in self.workloads.values():
            workload.tokens.close()

    def _rename(self, names: Mapping[str, ProcessGroup]) -> list[TokenEvent]:
        """Forget those whose processes are there and have another name now, since a second server of the same name
        runs: under the new one they continue where they were."""
        left: list[TokenEvent] = []
        new_names = {group.root_pids: name for name, group in names.items()}
        for name, workload in list(self.workloads.items()):
            new_name = new_names.get(workload.root_pids)
            if name not in names and new_name is not None and new_name not in self.workloads:
                left += self.forget(name)
                self.marks[new_name] = self.marks.pop(name)
        return left

    def _workload_of(
        self, name: str, group: ProcessGroup, container: ContainerLog, log_of: DiscoveredLog
    ) -> tuple[DiscoveredWorkload | None, list[TokenEvent]]:
        """The workload of a group, new where it is not known; None where there are too many. With what is left to
        count of the one that had this name before."""
        left: list[TokenEvent] = []
        workload = self.workloads.get(name)
        is_same = workload is not None and workload.root_pids == group.root_pids
        if workload is not None and is_same and workload.log_of.shared == log_of.shared:
            return workload, left
        if workload is not None and workload.log_of != log_of:
            left = self.forget(name)  # it was restarted, and writes to another log
            workload = None
        if workload is None and len(self.workloads) < DISCOVERED_MAX:
            workload = self.workloads[name] = self._add(name, group, container, log_of)
        return workload, left

    def _add(
        self, name: str, group: ProcessGroup, container: ContainerLog, log_of: DiscoveredLog
    ) -> DiscoveredWorkload:
        labels = {
            key: value
            for key, value in (
                ("namespace", container.namespace),
                ("pod", container.pod),
                ("container", container.container),
                ("unit", group.place.unit),
                ("slurm_job", group.place.slurm_job),
            )
            if value
        }
        tokens = WorkloadTokens(
            name,
            # From its end: what a server wrote before it was discovered is about its start, not about tokens.
            self._open_log(name, log_of),
            has_endpoint=False,
            is_new=group.started_s > self._watched_since_s,
            mark=self.marks.pop(name, None),
        )
        self.has_new = True
        log.info("workload=%s discovered: %s", name, log_of.how)
        return DiscoveredWorkload(tokens=tokens, log_of=log_of, labels=labels, place=_place(labels, group.place))

    def _output_of(self, group: ProcessGroup) -> ProcessOutput:
        outputs = [self._procfs.output_of(root.pid) for root in group.roots]
        return ProcessOutput(
            files=tuple(dict.fromkeys(path for output in outputs for path in output.files)),
            copies=tuple(dict.fromkeys(path for output in outputs for path in output.copies)),
            is_whole=all(output.is_whole for output in outputs),
            owners={path: owner for output in outputs for path, owner in output.owners.items()},
        )

    def _log_of(
        self,
        group: ProcessGroup,
        container: ContainerLog,
        configured: ConfiguredSources,
        output: ProcessOutput | None,
        elsewhere: Set[tuple[int, int]],
    ) -> DiscoveredLog:
        """Where the log of a group is, unless a configured workload follows it already. `elsewhere`: (device, inode) of
        the files to which other groups write. `output`: None where it need not be a server's log."""
        if output is None:
            return DiscoveredLog(how="process tree")
        container_log = (container.pattern,) if container.pattern is not None and not group.shares_place else ()
        files = (*output.files, *(container_log or output.copies if not output.is_whole else ()))
        shared = tuple(file for file in files if _any_of(glob.glob(file), elsewhere))
        free = [file for file in files if file not in shared and not _any_of(glob.glob(file), configured.files)]
        if free:
            how = "standard output" if output.files or not container_log else "container log"
            return DiscoveredLog(patterns=tuple(free), how=how, shared=shared, owners=output.owners)
        if len(files) > len(shared):
            return DiscoveredLog(how="process tree; its log is followed by a workload of the settings")
        unit = group.place.unit
        if unit is not None and unit not in configured.units and not files and not group.shares_place:
            return DiscoveredLog(unit=unit, how="systemd journal")
        if shared or group.shares_place:
            return DiscoveredLog(how="process tree; its log is shared", shared=shared or ("place",))
        if any(self._procfs.output_is_terminal(root.pid) for root in group.roots):
            return DiscoveredLog(how="process tree; its output goes to a terminal", is_on_terminal=True)
        return DiscoveredLog(how="process tree")

    def _look_for_endpoint(
        self, workload: DiscoveredWorkload, group: ProcessGroup, mono_s: float, configured: ConfiguredSources
    ) -> list[TokenEvent]:
        """Look at its sockets, if that is due or its processes are others. Returns what is counted now if there are
        none."""
        if mono_s < workload.sockets_due_s and workload.root_pids == group.root_pids:
            return []
        workload.sockets_due_s = mono_s + workload.sockets_pause_s
        workload.sockets_pause_s = min(2 * workload.sockets_pause_s, SOCKETS_PAUSE_S_MAX)
        workload.addresses = self._addresses(group, configured)
        if not workload.addresses:
            return workload.tokens.unreachable()
        workload.tokens.has_endpoint = True
        return []

    def _addresses(self, group: ProcessGroup, configured: ConfiguredSources) -> dict[str, str | None]:
        """Where the group's server may show its counters, the likeliest first."""
        pids = {root.pid for root in group.roots}
        for root in group.roots:
            pids.update(self._procfs.descendants_of(root.pid))
        listening = self._procfs.listening(pids)
        ports = [address for address in listening if int(address.rpartition(":")[2]) < EPHEMERAL_PORT]
        likely = [address for address in listening if group.port and address.endswith(f":{group.port}")]
        addresses = [address for address in dict.fromkeys(likely + ports) if address not in configured.addresses]
        return {f"http://{address}": listening[address] for address in addresses[:PORTS_MAX]}


def _any_of(paths: Iterable[str], files: Set[tuple[int, int]]) -> bool:
    """Whether any of `paths` is one of `files`."""
    return bool(files) and not _identities(paths).isdisjoint(files)


def _may_have_log(group: ProcessGroup) -> bool:
    """Whether its output is a server's log. That of other programs is read where a container or a unit keeps it."""
    return group.server is not None or not (group.place.is_bare or group.place.slurm_job)


def _identities(paths: Iterable[str]) -> set[tuple[int, int]]:
    """(device, inode) of those that exist."""
    identities = set()
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue
        identities.add((status.st_dev, status.st_ino))
    return identities


def _container_name(container: ContainerLog) -> str:
    if container.pod is not None:
        return "/".join(part for part in (container.namespace, container.pod, container.container) if part)
    return f"docker/{container.container}" if container.container else ""


def _place(labels: Mapping[str, str], place: Place) -> str:
    if "pod" in labels:
        return f"{labels['namespace']}/{labels['pod']}"
    return labels.get("container") or place.unit or (slurm_workload(place.slurm_job) if place.slurm_job else "process")
