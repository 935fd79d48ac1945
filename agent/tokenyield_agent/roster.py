"""The workloads and gateways of this node: configured ones and found ones, their tokens, and the GPUs they hold.

In: settings, readings of the GPUs, and what the last run remembered. Out: token events and holdings for the window.

Configured workloads stand first. What else holds a GPU is found by its processes (discovery.py), with its log and its
endpoint, every `REFRESH_S` and whenever a new process appears on a GPU. A found workload that has gone is followed for
`LINGER_S` more, so that the last lines of its log are read.
"""

import glob
import logging
import os
import re
import time
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tokenyield_agent.binding import Holder, Holding, bind
from tokenyield_agent.config import GatewaySettings, Settings, WorkloadSettings
from tokenyield_agent.discovery import MPS_SERVER, Group, group, names
from tokenyield_agent.gpu.reading import GpuReading
from tokenyield_agent.hostlogs import ContainerLog, HostLogs, pod_of_log_path
from tokenyield_agent.place import NOWHERE, Place, Process
from tokenyield_agent.pods import Pods
from tokenyield_agent.procfs import REFRESH_S, Procfs
from tokenyield_agent.servers import SERVERS as SERVER_KINDS
from tokenyield_agent.tokens.dialects.registry import GATEWAYS, SERVERS, new_dialect
from tokenyield_agent.tokens.event import Dialect, TokenEvent
from tokenyield_agent.tokens.journal import Journal
from tokenyield_agent.tokens.scrape import Scraper
from tokenyield_agent.tokens.source import JournalUnit, LogFiles, LogSource
from tokenyield_agent.tokens.workload import TokensMark, WorkloadTokens
from tokenyield_agent.window import WorkloadName

log = logging.getLogger(__name__)

LINGER_S = 60.0
MARKS_KEPT_S = 900.0
"""How long what the last run remembered of a found workload waits for it to be found again."""
FOUND_MAX = 64
"""Found workloads; a node has a handful. What is beyond holds its GPUs without a name."""
EPHEMERAL_PORT = 32_768
"""Ports from here on are chosen by the kernel: for rendezvous and messages between workers, not for HTTP."""
PORTS_MAX = 8
LOOK_S_MAX = 300.0
"""Between two looks at the sockets of a workload whose endpoint is not known: loading a model takes minutes."""
LABEL_CHARS_MAX = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundLog:
    """Where a found workload's log is: files, a unit of the journal, or nowhere. `how` says how it is known."""

    patterns: tuple[str, ...] = ()
    unit: str | None = None
    how: str


@dataclass(slots=True)
class Found:
    """One workload that nobody configured."""

    tokens: WorkloadTokens
    log_of: FoundLog
    labels: dict[str, str]
    place: str
    root_pids: frozenset[int] = frozenset()
    seen_s: float = 0.0
    addresses: list[str] = field(default_factory=list)
    look_at_s: float = 0.0
    """When its sockets are looked at again, while its endpoint is not known; and how long until then."""
    pause_s: float = REFRESH_S


class Roster:
    """Everything that makes tokens or holds GPUs on this node. `watched_since_s` (Unix time) is when watching began."""

    def __init__(
        self,
        settings: Settings,
        *,
        marks: Mapping[str, TokensMark],
        journal_cursor: str | None = None,
        watched_since_s: float = 0.0,
    ) -> None:
        self._procfs = Procfs(settings.proc_dir)
        self._marks = dict(marks)
        self._marks_until_s = time.monotonic() + MARKS_KEPT_S
        self._watched_since_s = watched_since_s
        self.journal = Journal(settings.journal_dir, journal_cursor)
        self.scraper = Scraper(interval_s=settings.scrape_interval_s, timeout_s=settings.scrape_timeout_s)
        self.pods = Pods(settings)
        self.found: dict[str, Found] = {}
        self._roots: dict[str, frozenset[int]] = {}
        self._refresh_at_s = 0.0
        self._known_pids: set[int] = set()
        self._mps_servers: frozenset[int] = frozenset()
        self._leftover: list[TokenEvent] = []
        self.unsaved = False
        """Something began to be counted from where it stands now: a kill must not move that beginning."""
        self._apply(settings)

    # --- which
    # ----------------------------------------------------------------------------------------------------------

    def reload(self, settings: Settings) -> None:
        """Other workloads and gateways from now on; the rest of the settings takes effect at the next start."""
        self._marks.update(self.marks())
        for tokens in [*self.configured.values(), *self.gateways.values()]:
            tokens.close()
        for name in list(self.found):
            self._forget(name)
        self._apply(settings)
        self._refresh_at_s = 0.0

    def _apply(self, settings: Settings) -> None:
        self.settings = settings
        self._labels = frozenset(settings.asker_labels)
        self._host_logs = HostLogs(settings.pods_dir, settings.docker_dir)
        self.workloads = {workload.name: workload for workload in settings.workloads}
        self.configured = {
            workload.name: WorkloadTokens(
                workload.name,
                self._log_of(workload),
                has_endpoint=workload.metrics is not None,
                mark=self._marks.pop(workload.name, None),
            )
            for workload in settings.workloads
        }
        self.gateways = {
            gateway.name: WorkloadTokens(
                gateway.name, self._log_of(gateway), has_endpoint=False, mark=self._marks.pop(gateway.name, None)
            )
            for gateway in settings.gateways
        }
        self._retarget()

    def _log_of(self, source: WorkloadSettings | GatewaySettings) -> LogSource | None:
        is_gateway = isinstance(source, GatewaySettings)
        fields = source.fields if isinstance(source, GatewaySettings) else {}
        return self._open_log(
            source.name,
            (source.log,) if source.log else (),
            source.journal,
            source.dialect,
            from_end=source.start == "end",
            among=GATEWAYS if is_gateway else SERVERS,
            fields=fields,
        )

    def _open_log(
        self,
        name: str,
        patterns: tuple[str, ...],
        unit: str | None,
        dialect: str,
        *,
        from_end: bool,
        among: Mapping[str, type[Dialect]] = SERVERS,
        fields: Mapping[str, str] | None = None,
    ) -> LogSource | None:
        def make() -> Dialect:
            return new_dialect(dialect, patterns=self.settings.dialects, fields=fields, among=among)

        mark = self._marks.get(name)
        marks = mark.logs if mark is not None else []
        if unit is not None:
            return JournalUnit(
                workload=name, unit=unit, dialect_name=dialect, dialect=make(), marks=marks, labels=self._labels
            )
        if not patterns:
            return None
        return LogFiles(
            workload=name,
            patterns=patterns,
            dialect_name=dialect,
            make_dialect=make,
            from_end=from_end,
            marks=marks,
            labels=self._labels,
        )

    def all_tokens(self) -> dict[str, WorkloadTokens]:
        return {
            **self.configured,
            **{name: found.tokens for name, found in self.found.items()},
            **self.gateways,
        }

    def _retarget(self) -> None:
        """Tell the scraper and the journal whom to ask and follow."""
        targets: dict[str, Iterable[str]] = {
            workload.name: [workload.metrics] for workload in self.workloads.values() if workload.metrics
        }
        targets |= {name: found.addresses for name, found in self.found.items() if found.addresses}
        self.scraper.set_targets(targets)
        logs = [tokens.log for tokens in self.all_tokens().values()]
        self.journal.set_units(frozenset(log.unit for log in logs if isinstance(log, JournalUnit)))

    # --- who holds what
    # -------------------------------------------------------------------------------------------------

    def holdings(self, gpus: tuple[GpuReading, ...], mono_s: float) -> dict[str, Holding]:
        """uuid -> who holds the GPU."""
        pids = {process.pid for gpu in gpus for process in gpu.processes or ()}
        ancestors = self._procfs.ancestors_of(pids, mono_s)
        if mono_s >= self._refresh_at_s or not pids <= self._known_pids:
            named = {str(gpu) for workload in self.workloads.values() for gpu in workload.gpus}
            by_settings = {
                process.pid
                for gpu in gpus
                if gpu.uuid in named or str(gpu.index) in named
                for process in gpu.processes or ()
            }
            self._refresh(pids, ancestors, by_settings, mono_s)
        return bind(gpus, self.holders(gpus), ancestors, self._mps_servers)

    def holders(self, gpus: tuple[GpuReading, ...]) -> list[Holder]:
        """What `bind` needs to know of each workload."""
        allocations = self.pods.allocations()
        present = {gpu.uuid for gpu in gpus}
        holders = [
            Holder(
                workload=workload.name,
                gpus=tuple(str(gpu) for gpu in workload.gpus),
                root_pids=self._roots.get(workload.name, frozenset()),
                allocated=allocations.get(_pod_key(workload), frozenset()) & present,
            )
            for workload in self.workloads.values()
        ]
        named = {_pod_key(workload) for workload in self.workloads.values()}
        for name, found in self.found.items():
            allocated = allocations.get(name, frozenset()) & present
            holders.append(Holder(workload=name, root_pids=found.root_pids, allocated=allocated))
        return holders + [
            Holder(workload=pod, allocated=uuids & present)
            for pod, uuids in allocations.items()
            if pod not in self.found and pod not in named and uuids & present
        ]

    def _refresh(
        self, pids: set[int], ancestors: Mapping[int, tuple[int, ...]], by_settings: set[int], mono_s: float
    ) -> None:
        """`by_settings`: the processes on GPUs that the settings give to a workload."""
        self._refresh_at_s = mono_s + REFRESH_S
        self._known_pids = pids
        wanted = pids.union(*(ancestors[pid] for pid in pids))
        processes = {pid: process for pid in wanted if (process := self._procfs.process(pid)) is not None}
        self._mps_servers = frozenset(
            pid for pid, process in processes.items() if process.name.startswith(MPS_SERVER[:15])
        )
        self._roots = {
            workload.name: frozenset(pid for pid in processes if self._is_root(workload, processes[pid]))
            for workload in self.workloads.values()
            if not workload.gpus
        }
        for name, roots in self._roots.items():
            self.configured[name].process_started_s = min((processes[pid].started_s for pid in roots), default=None)
        taken = {pid for roots in self._roots.values() for pid in roots} | by_settings
        if self.settings.discover:
            self._discover(group(pids, processes, ancestors, taken), mono_s)
        if mono_s > self._marks_until_s:
            self._marks.clear()

    def _is_root(self, workload: WorkloadSettings, process: Process) -> bool:
        tokens = self.configured[workload.name]
        files: set[tuple[int, int]] = tokens.log.open_files() if isinstance(tokens.log, LogFiles) else set()
        return is_root(self._procfs, workload, process, files)

    # --- discovery -------------------------------------------------------------------------------------------------

    def _discover(self, groups: list[Group], mono_s: float) -> None:
        logs = {one.place: self._host_logs.of(one.place) for one in groups if one.place != NOWHERE}
        where = {place: _container_name(found) for place, found in logs.items() if _container_name(found)}
        for one, name in zip(groups, names(groups, where), strict=True):
            if name in self.workloads or name in self.gateways:
                continue
            roots = frozenset(process.pid for process in one.roots)
            known = self.found.get(name)
            if known is None or known.root_pids != roots:
                container = logs.get(one.place, ContainerLog())
                log_of = self._log_found(one, container)
                if known is not None and known.log_of != log_of:
                    self._forget(name)  # started anew, and writes elsewhere
                    known = None
                if known is None and len(self.found) >= FOUND_MAX:
                    continue
                if known is None:
                    known = self.found[name] = self._meet(name, one, container, log_of)
            known.tokens.process_started_s = one.started_s
            asks = self.settings.discover_endpoints and name not in self.scraper.known()
            if asks and (mono_s >= known.look_at_s or known.root_pids != roots):
                known.look_at_s, known.pause_s = mono_s + known.pause_s, min(2 * known.pause_s, LOOK_S_MAX)
                known.addresses = self._addresses(one)
                known.tokens.has_endpoint = known.tokens.has_endpoint or bool(known.addresses)
                if not known.addresses:
                    self._leftover += known.tokens.unreachable()
            known.root_pids, known.seen_s = roots, mono_s
            if known.labels.get("pod"):
                labels = self.pods.labels(known.labels["namespace"], known.labels["pod"])
                known.labels = {**known.labels, **labels}
        for name in [name for name, found in self.found.items() if mono_s - found.seen_s > LINGER_S]:
            self._forget(name)
        self._retarget()

    def _meet(self, name: str, one: Group, container: ContainerLog, log_of: FoundLog) -> Found:
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
            self._open_log(name, log_of.patterns, log_of.unit, "auto", from_end=True),
            has_endpoint=False,
            is_new=one.started_s > self._watched_since_s,
            mark=self._marks.pop(name, None),
        )
        self.unsaved = True
        log.info("workload=%s found: %s", name, log_of.how)
        return Found(tokens=tokens, log_of=log_of, labels=labels, place=_place(labels, one.place))

    def _log_found(self, one: Group, container: ContainerLog) -> FoundLog:
        """Where the log of a group is, unless a configured workload follows it already."""
        if one.server is None and (one.place.is_bare or one.place.slurm_job):
            return FoundLog(how="process tree")  # whatever it writes is its own affair
        if container.pattern is not None and not one.shares_place:
            if not self._is_followed(glob.glob(container.pattern)):
                return FoundLog(patterns=(container.pattern,), how="container log")
            return FoundLog(how="process tree; its log is followed by a workload of the settings")
        files = tuple(path for root in one.roots for path in self._procfs.output_files(root.pid))
        if files and not self._is_followed(files):
            return FoundLog(patterns=files, how="standard output")
        units = {workload.journal for workload in self.workloads.values()}
        if one.place.unit is not None and one.place.unit not in units and not files and not one.shares_place:
            return FoundLog(unit=one.place.unit, how="systemd journal")
        return FoundLog(how="process tree; its log is shared" if one.shares_place else "process tree")

    def _is_followed(self, paths: Iterable[str]) -> bool:
        followed: set[tuple[int, int]] = set()
        for tokens in [*self.configured.values(), *self.gateways.values()]:
            if isinstance(tokens.log, LogFiles):
                followed |= tokens.log.open_files()
        for path in paths:
            try:
                status = os.stat(path)
            except OSError:
                continue
            if (status.st_dev, status.st_ino) in followed:
                return True
        return False

    def _addresses(self, one: Group) -> list[str]:
        """Where the group's server may show its counters, the likeliest first."""
        pids = {root.pid for root in one.roots}
        for root in one.roots:
            pids.update(self._procfs.descendants_of(root.pid))
        listening = self._procfs.listening(pids)
        ports = [address for address in listening if int(address.rpartition(":")[2]) < EPHEMERAL_PORT]
        likely = [address for address in listening if one.port and address.endswith(f":{one.port}")]
        asked = {urlsplit(workload.metrics).netloc for workload in self.workloads.values() if workload.metrics}
        found = [address for address in dict.fromkeys(likely + ports) if address not in asked]
        return [f"http://{address}" for address in found][:PORTS_MAX]

    def _forget(self, name: str) -> None:
        found = self.found.pop(name)
        self._leftover += found.tokens.finish()
        self._marks[name] = found.tokens.mark()
        found.tokens.close()

    # --- tokens
    # --------------------------------------------------------------------------------------------------------

    def poll(self, now_ms: int, mono_s: float) -> list[TokenEvent]:
        """What every log and endpoint gave since the last poll."""
        events, self._leftover = self._leftover, []
        everyone = self.all_tokens()
        by_unit = {tokens.log.unit: tokens.log for tokens in everyone.values() if isinstance(tokens.log, JournalUnit)}
        had_cursor = self.journal.cursor is not None
        for unit, block in self.journal.poll(mono_s):
            if unit in by_unit:
                by_unit[unit].give(block)
        self.unsaved |= self.journal.cursor is not None and not had_cursor
        for tokens in everyone.values():
            events += tokens.poll(now_ms, mono_s)
        # Logs first: what stands in them was made before their server could refuse an answer.
        for answer in self.scraper.take():
            if (asked := everyone.get(answer.target)) is not None:
                self.unsaved |= asked.is_first(answer)
                events += asked.answered(answer, now_ms - round((mono_s - answer.asked_mono_s) * 1000))
        return events

    def names(self) -> dict[str, WorkloadName]:
        node = self.settings.node_name
        named = {
            name: WorkloadName(
                server=tokens.server,
                place=node,
                model=self.workloads[name].model or tokens.model,
                labels=_clipped(self.workloads[name].labels),
            )
            for name, tokens in self.configured.items()
        }
        for name, found in self.found.items():
            named[name] = WorkloadName(
                server=found.tokens.server, place=found.place, model=found.tokens.model, labels=_clipped(found.labels)
            )
        for pod in self.pods.allocations():
            if pod not in named:
                parts = dict(zip(("namespace", "pod", "container"), pod.split("/"), strict=False))
                named[pod] = WorkloadName(server="unknown", place=pod, model=None, labels=parts)
        return named

    def marks(self) -> dict[str, TokensMark]:
        """What must outlive the process: of everyone followed, and of found workloads not met again yet."""
        return {**self._marks, **{name: tokens.mark() for name, tokens in self.all_tokens().items()}}

    def is_root_of_any(self, pid: int) -> bool:
        """Whether a configured workload takes `pid` for its server, whether or not that holds a GPU."""
        process = self._procfs.process(pid)
        return process is not None and any(self._is_root(workload, process) for workload in self.workloads.values())

    def source_counts(self) -> dict[str, dict[str, int]]:
        """workload -> what was counted of its sources, for the agent's own metrics."""
        counts = {}
        for name, tokens in self.all_tokens().items():
            own: dict[str, int] = tokens.log.counts if isinstance(tokens.log, LogFiles) else {}
            by_counters = int(tokens.counted_by == "counters")
            counts[name] = {**own, "events": tokens.events, "counted_by_endpoint": by_counters}
        return counts

    def close(self) -> None:
        self.scraper.stop()
        self.pods.stop()
        self.journal.close()
        for tokens in self.all_tokens().values():
            tokens.close()


def is_root(procfs: Procfs, workload: WorkloadSettings, process: Process, log_files: Set[tuple[int, int]]) -> bool:
    """Whether `process` is the workload's server: by its pid file, by its command line, by the unit or pod whose log is
    followed, by the port that is scraped, or as the writer of its log."""
    if workload.pid_file:
        try:
            return int(Path(workload.pid_file).read_text(encoding="ascii").split()[0]) == process.pid
        except (OSError, ValueError, IndexError):
            return False
    if workload.process:
        return re.search(workload.process, process.command) is not None
    if workload.journal is not None and process.place.unit == workload.journal:
        return True
    pod = pod_of_log_path(workload.log) if workload.log else None
    if pod is not None and process.place.pod_uid is not None:
        return process.place.pod_uid.replace("-", "") == pod[2].replace("-", "")
    if workload.metrics is not None and any(kind.pattern.search(process.command) for kind in SERVER_KINDS):
        port = workload.metrics.partition("://")[2].partition("/")[0].rpartition(":")[2]
        pids = [process.pid, *procfs.descendants_of(process.pid)]
        if any(address.endswith(f":{port}") for address in procfs.listening(pids)):
            return True
    return procfs.writes_to(process.pid, log_files)


def _pod_key(workload: WorkloadSettings) -> str:
    """`namespace/pod/container` of a workload whose pod's log is followed, as the kubelet's allocations are keyed."""
    pod = pod_of_log_path(workload.log) if workload.log else None
    return f"{pod[0]}/{pod[1]}/{pod[3]}" if pod else ""


def _container_name(found: ContainerLog) -> str:
    if found.pod is not None:
        return "/".join(part for part in (found.namespace, found.pod, found.container) if part)
    return f"docker/{found.container}" if found.container else ""


def _place(labels: Mapping[str, str], place: Place) -> str:
    if "pod" in labels:
        return f"{labels['namespace']}/{labels['pod']}"
    return labels.get("container") or place.unit or (f"slurm/{place.slurm_job}" if place.slurm_job else "process")


def _clipped(labels: Mapping[str, str]) -> dict[str, str]:
    return {key: value[:LABEL_CHARS_MAX] for key, value in labels.items()}
