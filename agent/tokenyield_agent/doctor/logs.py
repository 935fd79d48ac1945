"""What a server's log shows: whether it can be read, in which dialect it is, and what is counted of it.

In: the end of a log file, or of a unit in the journal. Out: a `LogSample`, and findings about the configured logs.
"""

import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tokenyield_agent.config import GatewaySettings, WorkloadSettings
from tokenyield_agent.doctor.report import DoctorFinding
from tokenyield_agent.tokens.containers import Unwrapper
from tokenyield_agent.tokens.dialects.pattern import PatternSettings
from tokenyield_agent.tokens.dialects.registry import (
    GATEWAY_DIALECTS,
    SERVER_DIALECTS,
    SERVERS,
    log_advice,
    new_dialect,
)
from tokenyield_agent.tokens.event import Dialect, TokenCounts
from tokenyield_agent.tokens.journal import journal_matches
from tokenyield_agent.tokens.log_source import recognized_dialect
from tokenyield_wire.window import REQUEST_KINDS, TOKEN_KINDS, Method

SAMPLE_BYTES = 4 << 20
"""Of the end of each log: minutes of a busy server."""
HEAD_BYTES = 1 << 20
"""Of its beginning, where a server says how it is set up."""
JOURNAL_LINES = 20_000
JOURNAL_TIMEOUT_S = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSample:
    """The end of a log, as its dialect reads it."""

    size_bytes: int
    dialect: Dialect | None = None
    """The one that recognizes it; None where none does."""
    all_counts: tuple[TokenCounts, ...] = ()
    warning: str = ""
    """What a line of it says about its statistics, and what to do."""
    problem: str = ""
    """Why it cannot be read."""

    @property
    def token_methods(self) -> Mapping[str, frozenset[Method]]:
        """How the kinds of tokens are counted that are in it."""
        return {
            kind: frozenset(methods)
            for kind in TOKEN_KINDS
            if (methods := {counts.method for counts in self.all_counts if getattr(counts, kind) is not None})
        }

    @property
    def has_requests(self) -> bool:
        return any(getattr(counts, kind) for counts in self.all_counts for kind in REQUEST_KINDS)

    @property
    def has_only_requests(self) -> bool:
        return self.has_requests and not self.token_methods


def sample_of_file(path: str, dialect: Dialect, server: str | None = None) -> LogSample:
    """`server`: by the process, where its dialect does not recognize the log. Raises OSError."""
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    return _sample(end_of(path), head, dialect, server)


def sample_of_journal(unit: str, directory: str | None, dialect: Dialect, server: str | None = None) -> LogSample:
    """What the unit wrote last; the journal is only read from now on by the agent itself."""
    call = ["journalctl", "--output=cat", "--quiet", "--no-pager", f"--lines={JOURNAL_LINES}"]
    call += [f"--directory={directory}"] if directory is not None else []
    call += journal_matches([unit])
    try:
        done = subprocess.run(
            call, stdin=subprocess.DEVNULL, capture_output=True, timeout=JOURNAL_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        fix = "install systemd, or name a log file instead"
        return LogSample(size_bytes=0, problem=f"journalctl does not answer ({error}); {fix}")
    if done.returncode:
        message = done.stderr[:200].decode("utf-8", "replace").strip()
        return LogSample(size_bytes=0, problem=f"journalctl ends with {done.returncode}: {message}")
    lines = done.stdout[-SAMPLE_BYTES:]
    return _sample(lines[: lines.rfind(b"\n") + 1], b"", dialect, server)


def _sample(lines: bytes, head: bytes, dialect: Dialect, server: str | None) -> LogSample:
    all_counts = tuple(dialect.feed(lines, time.time_ns() / 1e9)) if lines else ()
    known = recognized_dialect(dialect)
    kind = SERVERS.get(known.name if known is not None else server or "")
    warning = kind.log_warning_in(head, lines) if kind is not None else ""
    return LogSample(size_bytes=len(lines), dialect=known, all_counts=all_counts, warning=warning)


def findings_of_log(
    source: WorkloadSettings | GatewaySettings, patterns: Iterable[PatternSettings], journal_dir: str | None
) -> Iterator[DoctorFinding]:
    """Nothing for a pattern of logs."""
    among = GATEWAY_DIALECTS if isinstance(source, GatewaySettings) else SERVER_DIALECTS
    own = {pattern.name for pattern in patterns}
    dialect = new_dialect(source.dialect if source.dialect in own else "auto", patterns=patterns, among=among)
    if source.journal is not None:
        about = f"{source.name}: journal of {source.journal}"
        sample = sample_of_journal(source.journal, journal_dir, dialect)
        if sample.problem:
            yield DoctorFinding("fault", "log", f"{about}: {sample.problem}")
        else:
            yield _finding(about, source.dialect, sample)
        return
    if source.log is None or "*" in source.log:
        return
    about = f"{source.name}: {source.log}"
    try:
        sample = sample_of_file(source.log, dialect)
    except FileNotFoundError:
        yield DoctorFinding("note", "log", f"{about} does not exist yet; it is read whole when it appears")
        return
    except OSError as error:
        fix = "let the agent's user read it (a group, or SupplementaryGroups= in the unit)"
        yield DoctorFinding("fault", "log", f"{about} cannot be read ({error.strerror}): {fix}")
        return
    yield _finding(about, source.dialect, sample)


def _finding(about: str, dialect_name: str, sample: LogSample) -> DoctorFinding:
    dialect = sample.dialect
    if dialect is None:
        fix = sample.warning or f"check that the server logs statistics ({log_advice()}), or name the dialect"
        size = f"the last {sample.size_bytes} bytes" if sample.size_bytes else "it, for it is empty"
        return DoctorFinding("note", "log", f"{about}: no statistics line in {size}; {fix}")
    if dialect_name not in ("auto", dialect.name):
        fix = f"set dialect: {dialect.name} or auto"
        return DoctorFinding("fault", "log", f"{about} looks like {dialect.name}, not {dialect_name}: {fix}")
    server = SERVERS.get(dialect.name)
    if server is not None and server.no_tokens:
        return DoctorFinding("note", "log", f"{about}: {server.no_tokens}")
    if server is not None and sample.has_only_requests:
        fix = sample.warning or server.log_advice or server.advice
        return DoctorFinding("note", "log", f"{about}: {server.name}, requests only, no tokens; {fix}")
    model = dialect.model or "not in this part of the log"
    read = f"{dialect.name}, model {model}, {dialect.recognised} statistics read"
    return DoctorFinding("ok", "log", f"{about}: {read}")


def end_of(path: str) -> bytes:
    """The last lines of a log, as its container wrote them. Raises OSError."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - SAMPLE_BYTES))
        sample = file.read(SAMPLE_BYTES)
    if size > SAMPLE_BYTES:
        sample = sample[sample.find(b"\n") + 1 :]
    return Unwrapper().feed(sample[: sample.rfind(b"\n") + 1])
