"""What the agent finds on this host, what is missing, and the mend: `tokenyield-agent doctor`.

In: settings. Out: a `Report`: for each GPU who holds it and where its tokens come from, and a list of findings, each
`ok`, `note` or `fault`, in words. Changes nothing; asks servers for their counters as the agent would.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tokenyield_agent.config import Settings
from tokenyield_agent.errors import SetUpError
from tokenyield_agent.gpu.readers import open_reader
from tokenyield_agent.gpu.reading import GpuReading, ReaderOptions
from tokenyield_agent.tokens.containers import Unwrapper
from tokenyield_agent.tokens.dialects.registry import SERVERS, AutoDialect, log_advice, new_dialect
from tokenyield_agent.tokens.log_source import LogFiles, recognised
from tokenyield_agent.tokens.workload_tokens import WorkloadTokens
from tokenyield_agent.workloads.binding import UNTIED, Holding
from tokenyield_agent.workloads.roster import Roster
from tokenyield_agent.workloads.server_process import server_of
from tokenyield_wire.window import Method

SAMPLE_BYTES = 4 << 20
"""Of the end of each log: minutes of a busy server."""
SAMPLES_APART_S = 0.3
"""Between two readings of the GPUs."""
ROUNDS = 3
"""Looks at the processes, so that what is found in the first is asked in the second."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report."""

    level: str
    about: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRow:
    """One holder of one GPU. `tokens` says where its tokens come from, `quality` how good that is."""

    gpu: str
    model: str
    held_by: str
    known_by: str
    tokens: str
    quality: str
    change: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    rows: list[GpuRow] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def examine(settings: Settings) -> Report:
    """Everything found, in the order in which data flows."""
    gpus: list[GpuReading] = []
    findings = list(_gpus(settings, gpus))
    roster = Roster(settings, marks={}, watched_since_s=float("inf"))
    try:
        holdings: dict[str, Holding] = {}
        for _ in range(ROUNDS):
            holdings = roster.holdings(tuple(gpus), time.monotonic() + 3600)
            roster.poll(0, time.monotonic())
            _wait_for_endpoints(roster, settings)
        rows = [row for gpu in gpus for row in _rows(gpu, holdings[gpu.uuid], roster)]
        findings += _explicit(settings, gpus)
        findings += _untied(roster, holdings)
        findings += _servers(settings, roster, holdings)
        findings += _sources(settings, roster)
    finally:
        roster.close()
    findings += _state_dir(settings)
    findings += _collector(settings)
    return Report(rows=rows, findings=findings)


def _wait_for_endpoints(roster: Roster, settings: Settings) -> None:
    deadline_s = time.monotonic() + settings.scrape_timeout_s + 1
    wanted = {name for name, tokens in roster.all_tokens().items() if tokens.has_endpoint}
    while time.monotonic() < deadline_s and wanted - roster.scraper.known().keys() - roster.scraper.problems().keys():
        time.sleep(0.05)
    roster.poll(0, time.monotonic())


def _gpus(settings: Settings, gpus: list[GpuReading]) -> Iterator[Finding]:
    if settings.gpu_reader == "none":
        yield Finding("note", "gpu", "gpu_reader is none: no energy and no GPU time will be reported")
        return
    try:
        reader = open_reader(settings.gpu_reader, ReaderOptions(trace_file=settings.gpu_trace_file))
    except SetUpError as error:
        yield Finding("fault", "gpu", str(error))
        return
    try:
        reader.read()
        time.sleep(SAMPLES_APART_S)
        snapshot = reader.read()  # activity is what performance counters moved by between two readings
    finally:
        reader.close()
    if snapshot.problem:
        yield Finding("fault", "gpu", snapshot.problem)
    elif not snapshot.gpus:
        yield Finding("fault", "gpu", "the driver lists no GPU; check `nvidia-smi` and the container's device access")
    for gpu in snapshot.gpus:
        gpus.append(gpu)
        absent = [
            name
            for name in ("energy_mj", "power_mw", "utilization_percent", "memory_used_mib", "processes")
            if getattr(gpu, name) is None
        ]
        text = f"GPU {gpu.index} {gpu.model or 'of unknown model'} {gpu.uuid}"
        if gpu.energy_mj is None and gpu.power_mw is None:
            yield Finding("fault", "gpu", f"{text}: neither energy nor power can be read, so no joules")
        elif gpu.energy_mj is None:
            yield Finding("note", "gpu", f"{text}: no energy counter; {_integrated(gpu)}")
        elif absent:
            yield Finding("note", "gpu", f"{text}: does not report {', '.join(absent)}")
        else:
            yield Finding("ok", "gpu", f"{text}: energy by its counter; {_counted(gpu)}")
    for uuid, reason in snapshot.lost.items():
        yield Finding("fault", "gpu", f"{uuid}: {reason}; see dmesg for XID errors, then reset the GPU or the node")


def _integrated(gpu: GpuReading) -> str:
    if gpu.power_samples is not None:
        return "power is integrated from the sensor's buffer of samples"
    if gpu.power_average is not None:
        return "its mean power over each second is taken"
    if gpu.power_instant is not None:
        return "its present power is integrated, which misses bursts shorter than a poll"
    return "its power reading is integrated, which misses bursts shorter than a poll"


def _counted(gpu: GpuReading) -> str:
    if gpu.activity is None:
        return "no GPM (before Hopper, or a profiler holds the counters), so SM, tensor and memory activity are unknown"
    return "GPM counts SM, tensor and memory activity"


def _rows(gpu: GpuReading, holding: Holding, roster: Roster) -> Iterator[GpuRow]:
    name, model = str(gpu.index), gpu.model or "unknown"
    if holding.held is None:
        yield _row(name, model, "cannot be told", "-", change="the driver does not list processes of this GPU")
    elif not holding.held:
        yield _row(name, model, "nobody", "no process, no allocation")
    for workload, weight in holding.weights.items():
        part = weight / sum(holding.weights.values())
        share = "" if len(holding.weights) == 1 else f" ({part:.0%} by {holding.split})"
        if workload == UNTIED:
            change = "run the agent as root in the host's process namespace, or name its gpus in workloads"
            yield _row(name, model, f"a process we cannot tie{share}", "nothing", change=change)
            continue
        tokens = roster.all_tokens().get(workload)
        source, quality, change = ("-", "no tokens", "") if tokens is None else _source(tokens, roster)
        yield GpuRow(
            gpu=name,
            model=model,
            held_by=workload + share,
            known_by=_known_by(workload, gpu, roster),
            tokens=source,
            quality=quality,
            change=change,
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
    found = roster.finder.found.get(workload)
    return "its processes; " + found.log_of.how if found is not None and gpu.processes else "the kubelet's allocation"


def _source(tokens: WorkloadTokens, roster: Roster) -> tuple[str, str, str]:
    """(where tokens come from, how good that is, what to change)."""
    if tokens.name in roster.scraper.known():
        url, server = roster.scraper.known()[tokens.name]
        return f"{server} counters, {url}", "exact", ""
    problem = roster.scraper.problems().get(tokens.name, "")
    kind = SERVERS.get(tokens.server)
    if kind is not None and kind.no_tokens:
        return "-", "no tokens", kind.no_tokens
    mend = kind.advice if kind is not None else ""
    if tokens.log is None:
        return "-", "no tokens", problem or mend or "no log and no endpoint was found: name them in workloads"
    methods, log_server, where = _sample(tokens)
    if log_server is None:
        change = tokens.log.problem or "no statistics in its log: check that it logs them, or name its endpoint"
        return where, "no tokens yet", change
    if not methods:
        return f"{log_server} log, {where}", "no tokens yet", mend
    if "count" in methods and "rate" not in methods:
        return f"{log_server} log, {where}", "exact, per request", ""
    return f"{log_server} log, {where}", "rates x intervals, about 1 % off", mend


def _sample(tokens: WorkloadTokens) -> tuple[set[Method], str | None, str]:
    """How the log counts tokens, of which server it is, and where it stands."""
    if not isinstance(tokens.log, LogFiles):
        server = SERVERS.get(tokens.server)
        report = server.log_report if server is not None else None
        method: Method = "count" if report is not None and "completion" in report.exact else "rate"
        return {method}, tokens.server if tokens.server != "unknown" else None, f"journal of {tokens.name}"
    for path, file in tokens.log.files.items():
        known = recognised(file.dialect)  # where the beginning of the log has told it
        dialect = new_dialect("auto" if known is None else known.name)
        try:
            found = dialect.feed(_end_of(path), time.time_ns() / 1e9)
        except OSError:
            continue
        chosen = recognised(dialect)
        if chosen is not None:
            kinds = {counted.method for counted in found if counted.completion is not None}
            return kinds, chosen.name, path
    return set(), None, next(iter(tokens.log.files), "-")


def _explicit(settings: Settings, gpus: list[GpuReading]) -> Iterator[Finding]:
    known = {str(gpu.index) for gpu in gpus} | {gpu.uuid for gpu in gpus}
    for workload in settings.workloads:
        for wanted in map(str, workload.gpus):
            if gpus and wanted not in known:
                yield Finding("fault", "binding", f"{workload.name}: names GPU {wanted}, which this node does not have")


def _untied(roster: Roster, holdings: dict[str, Holding]) -> Iterator[Finding]:
    """Configured workloads that count tokens, while a server that was found holds the GPU they may run on."""
    held = {workload for holding in holdings.values() for workload in holding.weights}
    found = roster.finder.found
    servers = sorted(name for name in held & found.keys() if found[name].tokens.server != "unknown")
    for name in sorted(roster.workloads.keys() - held):
        if servers:
            mend = "if they are one server its tokens count twice: give it metrics, gpus, pid_file or process"
            yield Finding("fault", "binding", f"{name} holds no GPU, and {', '.join(servers)} was found: {mend}")


def _servers(settings: Settings, roster: Roster, holdings: dict[str, Holding]) -> Iterator[Finding]:
    """Inference servers that run here and hold no GPU that the driver tells of."""
    import psutil

    held = {workload for holding in holdings.values() for workload in holding.weights}
    followed = len(held - {UNTIED}) + len(settings.workloads)
    others: list[tuple[str, str]] = []
    families: set[int] = set()
    for process in sorted(psutil.process_iter(["pid", "ppid", "cmdline"]), key=lambda p: int(p.info["pid"])):
        pid, parent = process.info["pid"], process.info["ppid"]
        kind = server_of(" ".join(process.info["cmdline"] or ()))
        if kind is None or parent in families:
            families.update({pid} if parent in families else ())
            continue  # no server, or a worker of one that was named
        families.add(pid)
        if not any(pid in found.root_pids for found in roster.finder.found.values()) and not roster.is_root_of_any(pid):
            others.append((f"{kind.name} pid {pid}", kind.no_tokens))
    for other, no_tokens in others:
        mend = "it holds no GPU that the driver tells of; if it does, add it to workloads with its log or metrics"
        mend = no_tokens or mend
        yield Finding("note", "server", f"{other} is followed by no workload: {mend}")
    if not others and not followed:
        yield Finding("note", "server", "no inference server is running that we know")


def _sources(settings: Settings, roster: Roster) -> Iterator[Finding]:
    if not settings.workloads and not roster.finder.found and not settings.gateways:
        mend = "no workloads are configured and none is found on a GPU, so no tokens are counted now; see agent.yaml"
        yield Finding("note" if settings.discover else "fault", "log", mend)
    for workload in settings.workloads:
        yield from _log(workload.name, workload.log, workload.dialect)
        if workload.metrics:
            known = roster.scraper.known().get(workload.name)
            problem = roster.scraper.problems().get(workload.name, "no answer yet")
            if known:
                yield Finding("ok", "endpoint", f"{workload.name}: {known[1]} counters at {known[0]}")
            else:
                level = "note" if workload.log or workload.journal else "fault"
                yield Finding(level, "endpoint", f"{workload.name}: {problem}; the log counts until it answers")
    for gateway in settings.gateways:
        yield from _log(gateway.name, gateway.log, gateway.dialect)


def _log(name: str, path: str | None, dialect_name: str) -> Iterator[Finding]:
    if path is None or "*" in path:
        return
    about = f"{name}: {path}"
    try:
        sample = _end_of(path)
    except FileNotFoundError:
        yield Finding("note", "log", f"{about} does not exist yet; it is read whole when it appears")
        return
    except OSError as error:
        mend = "let the agent's user read it (a group, or SupplementaryGroups= in the unit)"
        yield Finding("fault", "log", f"{about} cannot be read ({error.strerror}): {mend}")
        return
    dialect = new_dialect("auto")
    assert isinstance(dialect, AutoDialect)
    dialect.feed(sample, os.stat(path).st_mtime)
    if dialect.chosen is None:
        mend = f"check that the server logs statistics ({log_advice()}), or name the dialect"
        yield Finding("note", "log", f"{about}: no statistics line in the last {len(sample)} bytes; {mend}")
    elif dialect_name not in ("auto", dialect.chosen.name):
        mend = f"set dialect: {dialect.chosen.name} or auto"
        yield Finding("fault", "log", f"{about} looks like {dialect.chosen.name}, not {dialect_name}: {mend}")
    elif (server := SERVERS.get(dialect.chosen.name)) is not None and server.no_tokens:
        yield Finding("note", "log", f"{about}: {server.no_tokens}")
    else:
        model = dialect.model or "not told in this part of the log"
        read = f"{dialect.chosen.name}, model {model}, {dialect.recognised} statistics read"
        yield Finding("ok", "log", f"{about}: {read}")


def _end_of(path: str) -> bytes:
    """The last lines of a log, as its container wrote them. Raises OSError."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - SAMPLE_BYTES))
        sample = file.read(SAMPLE_BYTES)
    if size > SAMPLE_BYTES:
        sample = sample[sample.find(b"\n") + 1 :]
    return Unwrapper().feed(sample[: sample.rfind(b"\n") + 1])


def _state_dir(settings: Settings) -> Iterator[Finding]:
    folder = Path(settings.state_dir)
    existing = folder
    while not existing.exists():
        existing = existing.parent
    if not os.access(existing, os.W_OK):
        yield Finding("fault", "state", f"{folder} cannot be written by this user: create it and give it to the agent")
        return
    free = os.statvfs(existing)
    free_bytes = free.f_bavail * free.f_frsize
    if free_bytes < settings.spool_bytes_max:
        text = f"{folder} has {free_bytes >> 20} MiB free, the spool may take {settings.spool_bytes_max >> 20} MiB"
        yield Finding("note", "state", text)
    else:
        yield Finding("ok", "state", f"{folder} is writable")


def _collector(settings: Settings) -> Iterator[Finding]:
    import urllib.error
    import urllib.request

    url = f"{settings.collector_url.rstrip('/')}/readyz"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - the scheme was checked by the settings
            yield Finding("ok", "collector", f"{url} answers {answer.status}")
    except urllib.error.HTTPError as error:
        yield Finding("fault", "collector", f"{url} answers {error.code}: see the collector's log")
    except OSError as error:
        mend = "check collector_url and the network; batches wait in the spool until it answers"
        yield Finding("fault", "collector", f"{url} does not answer ({error}): {mend}")
