"""The workloads and gateways of this node: configured and discovered ones, their tokens, and the GPUs they hold.

In: settings, readings of the GPUs, and what the last run remembered. Out: token events and holdings for the window.

Configured workloads come first. What else holds a GPU is discovered (discovered.py), every `REFRESH_S` and whenever a
new process appears on a GPU.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from urllib.parse import urlsplit

from tokenyield_agent.config import GatewaySettings, Settings, WorkloadSettings
from tokenyield_agent.gpu.reading import GpuReading
from tokenyield_agent.supervision import Supervisor
from tokenyield_agent.tokens.event import TokenEvent
from tokenyield_agent.tokens.journal import Journal
from tokenyield_agent.tokens.log_source import JournalUnit, LogFiles, LogSource, SourceMark
from tokenyield_agent.tokens.page_request import EndpointAddress, WhenIdle
from tokenyield_agent.tokens.scrape import Scraper
from tokenyield_agent.tokens.workload_tokens import TokensMark, WorkloadTokens
from tokenyield_agent.workloads.binding import Holder, Holding, bind
from tokenyield_agent.workloads.configured_process import ConfiguredProcesses, pod_key
from tokenyield_agent.workloads.discovered import ConfiguredSources, DiscoveredLog, Discovery
from tokenyield_agent.workloads.host_logs import HostLogs
from tokenyield_agent.workloads.open_log import open_configured, open_discovered
from tokenyield_agent.workloads.pods import Pods
from tokenyield_agent.workloads.process_groups import MPS_SERVER, group_processes
from tokenyield_agent.workloads.procfs import REFRESH_S, Procfs
from tokenyield_agent.workloads.server_process import model_of, server_of
from tokenyield_agent.workloads.slurm_jobs import JOB, SlurmJobs
from tokenyield_agent.workloads.workload_name import WorkloadName, slurm_workload
from tokenyield_wire.bounded import fitting_name

log = logging.getLogger(__name__)

MARKS_KEPT_S = 900.0
"""How long what the last run remembered of a discovered workload waits for it to be discovered again."""
LABEL_CHARS_MAX = 256
READ_S_MAX, READ_ALL_S_MAX = 0.2, 0.5
"""Processor time at one poll for reading one log, and all of them. The rest is read at the next polls."""
FAULTS_MAX = 128
"""Names under which faults are counted; those of later ones are counted under `(other)`."""


class Roster:
    """Everything that makes tokens or holds GPUs on this node. `watched_since_s` (Unix time) is when watching began."""

    def __init__(
        self,
        settings: Settings,
        *,
        marks: Mapping[str, TokensMark],
        journal_cursor: str | None = None,
        watched_since_s: float = 0.0,
        supervisor: Supervisor | None = None,
    ) -> None:
        supervisor = supervisor or Supervisor()
        self.procfs = Procfs(settings.proc_dir)
        self._processes = ConfiguredProcesses(self.procfs, HostLogs(settings.pods_dir, settings.docker_dir))
        self._marks = dict(marks)
        self._marks_until_s = time.monotonic() + MARKS_KEPT_S
        self._watched_since_s = watched_since_s
        self.journal = Journal(settings.journal_dir, journal_cursor)
        self.scraper = Scraper(
            interval_s=settings.scrape_interval_s, timeout_s=settings.scrape_timeout_s, supervisor=supervisor
        )
        self.pods = Pods(settings, supervisor=supervisor)
        self.slurm = SlurmJobs(settings.slurm_jobs_dir, self.procfs, believes_environment=settings.slurm_environment)
        self._roots: dict[str, frozenset[int]] = {}
        self._server_pids: dict[str, frozenset[int]] = {}
        """The server's processes of each configured workload, also of those that name their GPUs."""
        self._refresh_at_s = 0.0
        self._known_pids: set[int] = set()
        self._mps_servers: frozenset[int] = frozenset()
        self._leftover: list[TokenEvent] = []
        self.faults: Counter[str] = Counter()
        """Workload -> how often counting its tokens failed."""
        self.unsaved = False
        """Something is counted from its present position on: a kill of the agent must not move that beginning."""
        self._apply(settings)

    # --- which workloads ---------------------------------------------------------------------------------------------

    def reload(self, settings: Settings) -> None:
        """Other workloads and gateways from now on; the rest of the settings takes effect at the next start."""
        self._marks.update(self.marks())
        for tokens in [*self.configured.values(), *self.gateways.values()]:
            tokens.close()
        self.discovery.close()  # what is still there is discovered again, and continues where it was
        self._apply(settings)
        self._refresh_at_s = 0.0

    def _apply(self, settings: Settings) -> None:
        self.settings = settings
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
        self.discovery = Discovery(
            settings,
            self.procfs,
            open_log=self._log_of_discovered,
            marks=self._marks,
            watched_since_s=self._watched_since_s,
        )
        self._retarget()

    def _log_marks(self, name: str) -> list[SourceMark]:
        mark = self._marks.get(name)
        return mark.logs if mark is not None else []

    def _log_of(self, source: WorkloadSettings | GatewaySettings) -> LogSource | None:
        return open_configured(source, self.settings, self._log_marks(source.name))

    def _log_of_discovered(self, name: str, log: DiscoveredLog) -> LogSource | None:
        return open_discovered(name, log, self.settings, self._log_marks(name))

    def all_tokens(self) -> dict[str, WorkloadTokens]:
        return {
            **self.configured,
            **{name: workload.tokens for name, workload in self.discovery.workloads.items()},
            **self.gateways,
        }

    def _when_idle(self, *, has_log: bool) -> WhenIdle:
        """By the settings; without a log nothing would show that an endpoint that is never asked is used again."""
        when_idle = self.settings.scrape_when_idle
        return "rarely" if when_idle == "never" and not has_log else when_idle

    def _retarget(self) -> None:
        """Set what the scraper scrapes and the journal follows."""
        targets: dict[str, Iterable[EndpointAddress]] = {
            workload.name: [
                EndpointAddress(
                    url=workload.metrics,
                    token_file=workload.metrics_token_file,
                    ca_file=workload.metrics_ca_file,
                    when_idle=workload.metrics_when_idle
                    or self._when_idle(has_log=bool(workload.log or workload.journal)),
                    is_configured=True,
                )
            ]
            for workload in self.workloads.values()
            if workload.metrics
        }
        for name, one in self.discovery.workloads.items():
            if one.addresses:
                when_idle = self._when_idle(has_log=one.tokens.log is not None)
                targets[name] = [
                    EndpointAddress(url=url, when_idle=when_idle, network=network)
                    for url, network in one.addresses.items()
                ]
        self.scraper.set_targets(targets)
        logs = [tokens.log for tokens in self.all_tokens().values()]
        self.journal.set_units(frozenset(log.unit for log in logs if isinstance(log, JournalUnit)))

    # --- which GPUs they hold ----------------------------------------------------------------------------------------

    def holdings(self, gpus: tuple[GpuReading, ...], mono_s: float) -> dict[str, Holding]:
        """uuid -> which workloads hold the GPU."""
        pids = {process.pid for gpu in gpus for process in gpu.processes or ()}
        ancestors = self.procfs.ancestors_of(pids, mono_s)
        is_due = mono_s >= self._refresh_at_s
        if self.slurm.refresh(is_due=is_due) or is_due or not pids <= self._known_pids:
            by_settings = {
                workload.name: {
                    process.pid
                    for gpu in gpus
                    if {gpu.uuid, str(gpu.index)}.intersection(map(str, workload.gpus))
                    for process in gpu.processes or ()
                }
                for workload in self.workloads.values()
                if workload.gpus
            }
            self._refresh(pids, ancestors, by_settings, mono_s)
        return bind(gpus, self.holders(gpus), ancestors, self._mps_servers)

    def holders(self, gpus: tuple[GpuReading, ...]) -> list[Holder]:
        """What `bind` needs to know of each workload."""
        allocations = {**self.pods.allocations(), **self.slurm.allocations(gpus)}
        present = {gpu.uuid for gpu in gpus}
        holders = [
            Holder(
                workload=workload.name,
                gpus=tuple(str(gpu) for gpu in workload.gpus),
                root_pids=self._roots.get(workload.name, frozenset()),
                allocated=allocations.get(pod_key(workload), frozenset()) & present,
            )
            for workload in self.workloads.values()
        ]
        named = {pod_key(workload) for workload in self.workloads.values()}
        for name, discovered in self.discovery.workloads.items():
            allocated = allocations.get(name, frozenset()) & present
            holders.append(Holder(workload=name, root_pids=discovered.root_pids, allocated=allocated))
        return holders + [
            Holder(workload=pod, allocated=uuids & present)
            for pod, uuids in allocations.items()
            if pod not in self.discovery.workloads and pod not in named and uuids & present
        ]

    def _refresh(
        self,
        pids: set[int],
        ancestors: Mapping[int, tuple[int, ...]],
        by_settings: Mapping[str, set[int]],
        mono_s: float,
    ) -> None:
        """`by_settings`: the processes on the GPUs that the settings give to a workload, by its name."""
        self._refresh_at_s = mono_s + REFRESH_S
        self._known_pids = pids
        related = pids.union(*(ancestors[pid] for pid in pids))
        processes = {pid: process for pid in related if (process := self.procfs.process(pid)) is not None}
        processes = self.slurm.placed(pids, processes, ancestors)
        self._mps_servers = frozenset(
            pid for pid, process in processes.items() if process.name.startswith(MPS_SERVER[:15])
        )
        self._roots = {
            workload.name: self._processes.roots_of(workload, processes.values(), self._followed_files(workload))
            for workload in self.workloads.values()
            if not workload.gpus
        }
        for name, roots in self._roots.items():
            self.configured[name].process_started_s = min((processes[pid].started_s for pid in roots), default=None)
        on_named_gpus = {
            name: frozenset(
                pid
                for group in group_processes(own, processes, ancestors, set())
                if group.server is not None
                for pid in group.root_pids
            )
            for name, own in by_settings.items()
        }
        self._server_pids = {**self._roots, **on_named_gpus}
        for name, servers in self._server_pids.items():
            own = [processes[pid] for pid in sorted(servers)]
            of_server = ((process, kind) for process in own if (kind := server_of(process.argv, process.executable)))
            process, server = next(of_server, (None, None))
            self.configured[name].process_server = server.name if server is not None else None
            if process is not None and server is not None:
                self.configured[name].process_model = model_of(process.argv, server)
        taken = {pid for roots in (*self._roots.values(), *by_settings.values()) for pid in roots}
        if self.settings.discover:
            groups = group_processes(pids, processes, ancestors, taken)
            sources, answering = self._configured_sources(), self.scraper.answering().keys()
            update = partial(self.discovery.update, groups, mono_s, sources, answering)
            self._leftover += self._counted("(discovered)", update)
            self.unsaved, self.discovery.has_new = self.unsaved or self.discovery.has_new, False
            self._retarget()
        if mono_s > self._marks_until_s:
            self._marks.clear()

    def _followed_files(self, workload: WorkloadSettings) -> set[tuple[int, int]]:
        tokens = self.configured[workload.name]
        return tokens.log.open_files() if isinstance(tokens.log, LogFiles) else set()

    def _configured_sources(self) -> ConfiguredSources:
        logs = [tokens.log for tokens in [*self.configured.values(), *self.gateways.values()]]
        return ConfiguredSources(
            names=self.workloads.keys() | self.gateways.keys(),
            files=set().union(*(log.open_files() for log in logs if isinstance(log, LogFiles))),
            units={log.unit for log in logs if isinstance(log, JournalUnit)},
            addresses={urlsplit(workload.metrics).netloc for workload in self.workloads.values() if workload.metrics},
        )

    # --- tokens ------------------------------------------------------------------------------------------------------

    def poll(self, now_ms: int, mono_s: float) -> list[TokenEvent]:
        """What every log and endpoint gave since the last poll."""
        events, self._leftover = self._leftover, []
        every = self.all_tokens()
        by_unit = {tokens.log.unit: tokens.log for tokens in every.values() if isinstance(tokens.log, JournalUnit)}
        had_cursor = self.journal.cursor is not None
        for unit, block in self.journal.poll(mono_s):
            if unit in by_unit:
                by_unit[unit].add(block)
        for unit, start in self.journal.take_starts().items():
            if unit in by_unit:
                by_unit[unit].learn_model(start)
        self.unsaved |= self.journal.cursor is not None and not had_cursor
        # Scrapes first: each was made just after the logs were last read, so what is read now came after it.
        for result in self.scraper.take():
            if (scraped := every.get(result.target)) is not None:
                self.unsaved |= scraped.is_first(result)
                at_ms = now_ms - round((mono_s - result.scraped_mono_s) * 1000)
                events += self._counted(result.target, partial(scraped.from_endpoint, result, at_ms))
        # Those that took least at the last poll first: what is hard to read costs itself only.
        until_s = time.thread_time() + READ_ALL_S_MAX
        for name, tokens in sorted(every.items(), key=lambda item: item[1].read_s):
            began_s = time.thread_time()
            if began_s >= until_s:  # it goes first the next time
                tokens.read_s = 0.0
                continue
            events += self._counted(name, partial(tokens.poll, now_ms, mono_s, min(until_s, began_s + READ_S_MAX)))
            tokens.read_s = time.thread_time() - began_s
            if tokens.log_moved:
                self.scraper.stir(name)
        self.scraper.trigger()
        return events

    def _counted(self, name: str, count: Callable[[], list[TokenEvent]]) -> list[TokenEvent]:
        """What a workload made. A fault of ours costs this workload this poll, whatever its server wrote."""
        try:
            return count()
        except Exception as error:
            name = name if name in self.faults or len(self.faults) < FAULTS_MAX else "(other)"
            self.faults[name] += 1
            if self.faults[name] == 1:
                log.error("workload=%s its tokens cannot be counted; report it", name, exc_info=error)
            return []

    def quiet_since_ms(self, now_ms: int) -> dict[str, int]:
        """workload -> when it made its last token, or was first read; without those whose tokens are not read."""
        servers = {**self.configured, **{name: one.tokens for name, one in self.discovery.workloads.items()}}
        return {
            name: since_ms
            for name, tokens in servers.items()
            if (since_ms := tokens.quiet_since_ms(now_ms)) is not None
        }

    def clock_stepped(self, by_ms: int) -> None:
        """The wall clock was set: how long workloads have been quiet is as before."""
        for tokens in self.all_tokens().values():
            if tokens.last_token_ms is not None:
                tokens.last_token_ms += by_ms

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
        for name, one in self.discovery.workloads.items():
            labels = _clipped(self._with_known_labels(one.labels))
            named[name] = WorkloadName(server=one.tokens.server, place=one.place, model=one.tokens.model, labels=labels)
        for pod in self.pods.allocations():
            if pod not in named:
                parts = dict(zip(("namespace", "pod", "container"), pod.split("/"), strict=False))
                labels = _clipped(self._with_known_labels(parts))
                named[pod] = WorkloadName(server="unknown", place=pod, model=None, labels=labels)
        for job in self.slurm.known():
            if (name := slurm_workload(job)) not in named:
                labels = _clipped(self.slurm.labels(job))
                named[name] = WorkloadName(server="unknown", place=name, model=None, labels=labels)
        return named

    def _with_known_labels(self, labels: Mapping[str, str]) -> dict[str, str]:
        """With those of the Slurm job or the pod that it is in, as they are known now."""
        if JOB in labels:
            return {**labels, **self.slurm.labels(labels[JOB])}
        if "namespace" not in labels or "pod" not in labels:
            return dict(labels)
        return {**labels, **self.pods.labels(labels["namespace"], labels["pod"])}

    def marks(self) -> dict[str, TokensMark]:
        """What must outlive the process: of all that are followed, and of workloads not discovered again yet."""
        return {**self._marks, **{name: tokens.mark() for name, tokens in self.all_tokens().items()}}

    def is_root_of_any(self, pid: int) -> bool:
        """Whether `pid` is the server of a configured workload, whether or not it holds a GPU."""
        process = self.procfs.process(pid)
        return process is not None and any(
            self._processes.is_root(workload, process, self._followed_files(workload))
            for workload in self.workloads.values()
        )

    def arguments_of(self, name: str) -> tuple[str, ...]:
        """The command line of the workload's server, as far as its process is known."""
        discovered = self.discovery.workloads.get(name)
        roots = discovered.root_pids if discovered is not None else self._server_pids.get(name, frozenset())
        return tuple(word for pid in sorted(roots) for text in self.procfs.argv_of(pid) for word in text.split())

    def source_counts(self) -> dict[str, dict[str, int]]:
        """workload -> counts of its sources, for the agent's own metrics."""
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


def _clipped(labels: Mapping[str, str]) -> dict[str, str]:
    return {key: fitting_name(value, LABEL_CHARS_MAX) for key, value in labels.items()}
