"""What the agent finds on this host, what is missing, and the mend: `tokenyield-agent doctor`.

In: settings. Out: a list of findings, each `ok`, `note` or `fault`, in words. Changes nothing.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenyield_agent.binding import UNTIED, Holder, bind
from tokenyield_agent.config import Settings, WorkloadSettings
from tokenyield_agent.daemon import is_root, open_reader
from tokenyield_agent.errors import SetUpError
from tokenyield_agent.gpu.reading import GpuReading
from tokenyield_agent.procfs import Procfs
from tokenyield_agent.tokens.dialects.registry import AutoDialect

SAMPLE_BYTES = 4 << 20
"""Of the end of each log: minutes of a busy server."""

SERVERS = {
    "vllm": r"vllm[ ./](entrypoints|serve)|\bvllm serve\b",
    "sglang": r"sglang[./](launch_server|srt)",
    "llamacpp": r"\bllama-server\b",
    "tgi": r"\btext-generation-(launcher|server|router)\b",
    "trtllm": r"\btrtllm-serve\b|\btritonserver\b",
    "ollama": r"\bollama (serve|runner)\b",
}
"""Command lines of inference servers that people run."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report."""

    level: str
    about: str
    text: str


def examine(settings: Settings) -> list[Finding]:
    """Everything found, in the order in which data flows."""
    gpus: list[GpuReading] = []
    findings = list(_gpus(settings, gpus))
    findings += _servers(settings)
    findings += _logs(settings)
    findings += _bindings(settings, gpus)
    findings += _state_dir(settings)
    findings += _collector(settings)
    return findings


def _gpus(settings: Settings, gpus: list[GpuReading]) -> Iterator[Finding]:
    if settings.gpu_reader == "none":
        yield Finding("note", "gpu", "gpu_reader is none: no energy and no GPU time will be reported")
        return
    try:
        reader = open_reader(settings)
    except SetUpError as error:
        yield Finding("fault", "gpu", str(error))
        return
    try:
        snapshot = reader.read()
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
            yield Finding("note", "gpu", f"{text}: no energy counter, power is integrated instead")
        elif absent:
            yield Finding("note", "gpu", f"{text}: does not report {', '.join(absent)}")
        else:
            yield Finding("ok", "gpu", text)
    for uuid, reason in snapshot.lost.items():
        yield Finding("fault", "gpu", f"{uuid}: {reason}; see dmesg for XID errors, then reset the GPU or the node")


def _servers(settings: Settings) -> Iterator[Finding]:
    """Inference servers that run here, followed or not."""
    import psutil

    procfs = Procfs()
    found = 0
    children: set[int] = set()
    for process in sorted(psutil.process_iter(["pid", "ppid", "cmdline"]), key=lambda p: p.info["pid"]):
        command = " ".join(process.info["cmdline"] or ())
        pid, parent = process.info["pid"], process.info["ppid"]
        kind = next((kind for kind, pattern in SERVERS.items() if re.search(pattern, command)), None)
        if kind is None or "tokenyield-agent" in command or "tokenyield_agent" in command:
            continue
        children.add(pid)
        if parent in children:
            continue  # a worker of a server that was already named
        found += 1
        followed = [w.name for w in settings.workloads if _is_followed(procfs, w, pid)]
        if followed:
            yield Finding("ok", "server", f"{kind} pid {pid} is workload {', '.join(followed)}")
        else:
            mend = "add it to workloads with its log; its tokens are not counted"
            yield Finding("note", "server", f"{kind} pid {pid} is followed by no workload: {mend}")
    if not found:
        yield Finding("note", "server", f"no inference server is running that we know ({', '.join(SERVERS)})")


def _is_followed(procfs: Procfs, workload: WorkloadSettings, pid: int) -> bool:
    files = _log_files(workload)
    return is_root(procfs, workload, pid, files) or procfs.writes_to(pid, files)


def _log_files(workload: WorkloadSettings) -> set[tuple[int, int]]:
    try:
        status = os.stat(workload.log)
    except OSError:
        return set()
    return {(status.st_dev, status.st_ino)}


def _logs(settings: Settings) -> Iterator[Finding]:
    if not settings.workloads:
        yield Finding("fault", "log", "no workloads are configured, so no tokens are counted; see agent.yaml")
    for workload in settings.workloads:
        about = f"{workload.name}: {workload.log}"
        try:
            with open(workload.log, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(max(0, size - SAMPLE_BYTES))
                sample = file.read(SAMPLE_BYTES)
                modified_s = os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            yield Finding("note", "log", f"{about} does not exist yet; it is read whole when it appears")
            continue
        except OSError as error:
            mend = "let the agent's user read it (a group, or SupplementaryGroups= in the unit)"
            yield Finding("fault", "log", f"{about} cannot be read ({error.strerror}): {mend}")
            continue
        dialect = AutoDialect()
        dialect.feed(sample[sample.find(b"\n") + 1 :], modified_s)
        if dialect.chosen is None:
            mend = "check that the server logs statistics (vLLM: not --disable-log-stats), or name the dialect"
            yield Finding("note", "log", f"{about}: no statistics line in the last {len(sample)} bytes; {mend}")
        elif workload.dialect not in ("auto", dialect.chosen.name):
            mend = f"set dialect: {dialect.chosen.name} or auto"
            yield Finding("fault", "log", f"{about} looks like {dialect.chosen.name}, not {workload.dialect}: {mend}")
        else:
            model = dialect.model or workload.model or "not told in this part of the log"
            lines = dialect.recognised
            yield Finding("ok", "log", f"{about}: {dialect.chosen.name}, model {model}, {lines} statistics read")


def _bindings(settings: Settings, gpus: list[GpuReading]) -> Iterator[Finding]:
    procfs = Procfs()
    pids = {process.pid for gpu in gpus for process in gpu.processes or ()}
    ancestors = procfs.ancestors_of(pids, 0.0)
    candidates = pids.union(*(ancestors[pid] for pid in pids))
    holders = [
        Holder(
            workload=w.name,
            gpus=tuple(map(str, w.gpus)),
            root_pids=frozenset(pid for pid in candidates if not w.gpus and is_root(procfs, w, pid, _log_files(w))),
        )
        for w in settings.workloads
    ]
    names = {str(gpu.index) for gpu in gpus} | {gpu.uuid for gpu in gpus}
    for workload in settings.workloads:
        for wanted in map(str, workload.gpus):
            if gpus and wanted not in names:
                yield Finding("fault", "binding", f"{workload.name}: names GPU {wanted}, which this node does not have")
    for uuid, holding in bind(gpus, holders, ancestors).items():
        workloads = [workload for workload in holding.weights if workload != UNTIED]
        if workloads:
            yield Finding("ok", "binding", f"{uuid} is held by {', '.join(workloads)} (split: {holding.split})")
        if UNTIED in holding.weights:
            mend = "name its GPUs, pid_file or process in workloads, or run as root to see its open files"
            yield Finding("note", "binding", f"{uuid} is held by a process that belongs to no workload: {mend}")


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
