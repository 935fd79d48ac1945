"""What the agent sees on this host, what is missing, and how to fix it.

In: settings. Out: a `DoctorReport`: for each GPU who holds it and where its tokens come from, and a list of findings,
each `ok`, `note` or `fault`, in words. Changes nothing; scrapes servers' counters as the agent would.
"""

import time
from collections.abc import Iterator, Mapping

from tokenyield_agent.config import Settings
from tokenyield_agent.doctor.credential import findings_of_credential
from tokenyield_agent.doctor.gpus import findings_of_gpus
from tokenyield_agent.doctor.host import findings_of_collector, findings_of_state_dir
from tokenyield_agent.doctor.logs import findings_of_log
from tokenyield_agent.doctor.pods import findings_of_pods
from tokenyield_agent.doctor.report import DoctorFinding, DoctorReport, GpuRow
from tokenyield_agent.doctor.slurm import findings_of_slurm
from tokenyield_agent.doctor.token_sources import NO_TOKENS, TokenSource, source_of
from tokenyield_agent.gpu.reading import GpuReading
from tokenyield_agent.host.clock import HostClock
from tokenyield_agent.workloads.binding import UNTIED, Holding
from tokenyield_agent.workloads.roster import Roster
from tokenyield_agent.workloads.server_process import server_of

ROUNDS = 3
"""Of looking at the processes: a server found in the first round is scraped in the second."""


def examine(settings: Settings) -> DoctorReport:
    """The whole report, in the order in which data flows."""
    gpus: list[GpuReading] = []
    findings = list(findings_of_gpus(settings, gpus))
    roster = Roster(settings, marks={}, watched_since_s=float("inf"))
    try:
        roster.pods.wait_until_asked()
        findings += findings_of_pods(roster.pods)
        holdings: dict[str, Holding] = {}
        for _ in range(ROUNDS):
            holdings = roster.holdings(tuple(gpus), time.monotonic() + 3600)
            roster.poll(0, time.monotonic())
            _wait_for_endpoints(roster, settings)
        sources = _token_sources(holdings, roster, settings)
        rows = [row for gpu in gpus for row in _rows(gpu, holdings[gpu.uuid], roster, sources)]
        findings += findings_of_slurm(settings, roster.slurm)
        findings += _explicit(settings, gpus)
        findings += _untied(roster, holdings)
        findings += _servers(settings, roster, holdings)
        findings += _sources(settings, roster)
    finally:
        roster.close()
    findings += findings_of_state_dir(settings)
    findings += findings_of_credential(settings, HostClock().wall_ns())
    findings += findings_of_collector(settings)
    return DoctorReport(rows=rows, findings=findings)


def _wait_for_endpoints(roster: Roster, settings: Settings) -> None:
    deadline_s = time.monotonic() + settings.scrape_timeout_s + 1
    names = {name for name, tokens in roster.all_tokens().items() if tokens.has_endpoint}
    scraper = roster.scraper
    while time.monotonic() < deadline_s and names - scraper.answering().keys() - scraper.problems().keys():
        time.sleep(0.05)
    roster.poll(0, time.monotonic())


def _token_sources(holdings: Mapping[str, Holding], roster: Roster, settings: Settings) -> dict[str, TokenSource]:
    """Of each workload once, however many GPUs it holds: a log's or journal's end is read for it."""
    held = {workload for holding in holdings.values() for workload in holding.weights}
    return {name: source_of(tokens, roster, settings) for name, tokens in roster.all_tokens().items() if name in held}


def _rows(gpu: GpuReading, holding: Holding, roster: Roster, sources: Mapping[str, TokenSource]) -> Iterator[GpuRow]:
    name, model = str(gpu.index), gpu.model or "unknown"
    if holding.held is None:
        yield _row(name, model, "unknown", "-", change="the driver does not list processes of this GPU")
    elif not holding.held:
        yield _row(name, model, "nobody", "no process, no allocation")
    for workload, weight in holding.weights.items():
        part = weight / sum(holding.weights.values())
        share = "" if len(holding.weights) == 1 else f" ({part:.0%} by {holding.split})"
        if workload == UNTIED:
            change = "run the agent as root in the host's process namespace, or name its gpus in workloads"
            yield _row(name, model, f"a process we cannot tie{share}", "nothing", change=change)
            continue
        source = sources.get(workload, TokenSource(place="-", quality=NO_TOKENS))
        yield GpuRow(
            gpu=name,
            model=model,
            held_by=workload + share,
            known_by=_known_by(workload, gpu, roster),
            tokens=source.place,
            quality=source.quality,
            change=source.change,
        )


def _row(gpu: str, model: str, held_by: str, known_by: str, change: str = "") -> GpuRow:
    return GpuRow(gpu=gpu, model=model, held_by=held_by, known_by=known_by, tokens="-", quality="-", change=change)


def _known_by(workload: str, gpu: GpuReading, roster: Roster) -> str:
    configured = roster.workloads.get(workload)
    if configured is not None:
        if configured.gpus:
            return "workloads.gpus"
        for setting in ("pid_file", "process", "journal"):
            if getattr(configured, setting):
                return f"workloads.{setting}"
        return "who writes its log" if configured.log else "who listens on its port"
    found = roster.discovery.workloads.get(workload)
    if found is not None and gpu.processes:
        return "its processes; " + found.log_of.how
    return "Slurm's allocation" if workload in roster.slurm.allocations((gpu,)) else "the kubelet's allocation"


def _explicit(settings: Settings, gpus: list[GpuReading]) -> Iterator[DoctorFinding]:
    known = {str(gpu.index) for gpu in gpus} | {gpu.uuid for gpu in gpus}
    for workload in settings.workloads:
        for gpu in map(str, workload.gpus):
            if gpus and gpu not in known:
                yield DoctorFinding(
                    "fault", "binding", f"{workload.name}: names GPU {gpu}, which this node does not have"
                )


def _untied(roster: Roster, holdings: dict[str, Holding]) -> Iterator[DoctorFinding]:
    """Configured workloads that count tokens, while a server that was found holds the GPU they may run on."""
    held = {workload for holding in holdings.values() for workload in holding.weights}
    found = roster.discovery.workloads
    servers = sorted(name for name in held & found.keys() if found[name].tokens.server != "unknown")
    for name in sorted(roster.workloads.keys() - held):
        if servers:
            fix = "if they are one server its tokens count twice: give it metrics, gpus, pid_file or process"
            yield DoctorFinding("fault", "binding", f"{name} holds no GPU, and {', '.join(servers)} was found: {fix}")


def _servers(settings: Settings, roster: Roster, holdings: dict[str, Holding]) -> Iterator[DoctorFinding]:
    """Inference servers that run here and hold no GPU by the driver's list of processes."""
    import psutil

    procfs = roster.procfs
    psutil.PROCFS_PATH = procfs.root
    held = {workload for holding in holdings.values() for workload in holding.weights}
    followed = len(held - {UNTIED}) + len(settings.workloads)
    processes = [process for pid in psutil.pids() if (process := procfs.process(pid)) is not None]
    servers = {process.pid: kind for process in processes if (kind := server_of(process.argv, process.executable))}
    ancestors = procfs.ancestors_of(servers, time.monotonic())
    discovered = {pid for workload in roster.discovery.workloads.values() for pid in workload.root_pids}
    others = [
        (f"{kind.name} pid {pid}", kind.no_tokens)
        for pid, kind in sorted(servers.items())
        if not any(parent in servers for parent in ancestors[pid])  # else a worker of one that is named
        and pid not in discovered
        and not roster.is_root_of_any(pid)
    ]
    for other, no_tokens in others:
        fix = "the driver lists no GPU of it; if it holds one, add it to workloads with its log or metrics"
        yield DoctorFinding("note", "server", f"{other} is followed by no workload: {no_tokens or fix}")
    if not others and not followed:
        yield DoctorFinding("note", "server", "no known inference server is running")


def _sources(settings: Settings, roster: Roster) -> Iterator[DoctorFinding]:
    if not settings.workloads and not roster.discovery.workloads and not settings.gateways:
        text = "no workloads are configured and none is found on a GPU, so no tokens are counted now; see agent.yaml"
        yield DoctorFinding("note" if settings.discover else "fault", "log", text)
    for workload in settings.workloads:
        yield from findings_of_log(workload, settings.dialects, settings.journal_dir)
        if workload.metrics:
            known = roster.scraper.answering().get(workload.name)
            problem = roster.scraper.problems().get(workload.name, "no answer yet")
            if known:
                yield DoctorFinding("ok", "endpoint", f"{workload.name}: {known[1]} counters at {known[0]}")
            else:
                has_log = bool(workload.log or workload.journal)
                text = f"{workload.name}: {problem}" + ("; the log counts until it answers" if has_log else "")
                is_known = workload.name in roster.scraper.recognized()
                yield DoctorFinding("note" if has_log or is_known else "fault", "endpoint", text)
    for gateway in settings.gateways:
        yield from findings_of_log(gateway, settings.dialects, settings.journal_dir)
