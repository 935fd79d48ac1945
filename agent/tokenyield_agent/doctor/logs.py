"""Whether the configured logs can be read, and in which dialect they are."""

import os
from collections.abc import Iterator

from tokenyield_agent.doctor.report import DoctorFinding
from tokenyield_agent.tokens.containers import Unwrapper
from tokenyield_agent.tokens.dialects.registry import SERVERS, AutoDialect, log_advice, new_dialect, why_silent

SAMPLE_BYTES = 4 << 20
"""Of the end of each log: minutes of a busy server."""


def findings_of_log(name: str, path: str | None, dialect_name: str) -> Iterator[DoctorFinding]:
    """Nothing for a pattern of logs."""
    if path is None or "*" in path:
        return
    about = f"{name}: {path}"
    try:
        sample = end_of(path)
    except FileNotFoundError:
        yield DoctorFinding("note", "log", f"{about} does not exist yet; it is read whole when it appears")
        return
    except OSError as error:
        fix = "let the agent's user read it (a group, or SupplementaryGroups= in the unit)"
        yield DoctorFinding("fault", "log", f"{about} cannot be read ({error.strerror}): {fix}")
        return
    dialect = new_dialect("auto")
    assert isinstance(dialect, AutoDialect)
    dialect.feed(sample, os.stat(path).st_mtime)
    if dialect.chosen is None:
        fix = why_silent(sample) or f"check that the server logs statistics ({log_advice()}), or name the dialect"
        yield DoctorFinding("note", "log", f"{about}: no statistics line in the last {len(sample)} bytes; {fix}")
    elif dialect_name not in ("auto", dialect.chosen.name):
        fix = f"set dialect: {dialect.chosen.name} or auto"
        yield DoctorFinding("fault", "log", f"{about} looks like {dialect.chosen.name}, not {dialect_name}: {fix}")
    elif (server := SERVERS.get(dialect.chosen.name)) is not None and server.no_tokens:
        yield DoctorFinding("note", "log", f"{about}: {server.no_tokens}")
    else:
        model = dialect.model or "not in this part of the log"
        read = f"{dialect.chosen.name}, model {model}, {dialect.recognised} statistics read"
        yield DoctorFinding("ok", "log", f"{about}: {read}")


def end_of(path: str) -> bytes:
    """The last lines of a log, as its container wrote them. Raises OSError."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - SAMPLE_BYTES))
        sample = file.read(SAMPLE_BYTES)
    if size > SAMPLE_BYTES:
        sample = sample[sample.find(b"\n") + 1 :]
    return Unwrapper().feed(sample[: sample.rfind(b"\n") + 1])
