"""Reading a whole log file at once and summing what it holds: `tokenyield-agent tokens FILE`.

In: a path, plain or gzip. Out: `LogTotals`. Raises `UnrecognizedLog` when no dialect recognizes the log.
"""

import gzip
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from tokenyield_agent.tokens.containers import Unwrapper
from tokenyield_agent.tokens.dialects.base import Exactness
from tokenyield_agent.tokens.dialects.registry import SERVERS, AutoDialect, log_advice, names, new_dialect, why_silent
from tokenyield_agent.tokens.event import KINDS, Caller, TokenCounts, sum_kinds
from tokenyield_wire.window import REQUEST_KINDS

CHUNK_BYTES = 256 * 1024
"""Fits the processor's second-level cache, where searching is fastest."""


class UnrecognizedLog(Exception):
    """The log is in no known dialect, or holds no statistics."""


class LogTotals(msgspec.Struct, kw_only=True):
    """What one log holds. A count that the log does not report is None; timestamps are ISO 8601 in UTC."""

    dialect: str
    model: str | None
    prompt_computed: int | None
    prompt_cached: int | None
    completion: int | None
    requests: int | None
    method: str | None
    first_timestamp: str | None
    last_timestamp: str | None
    events: int
    prompt_unsplit: int | None
    requests_aborted: int | None
    requests_failed: int | None
    callers: list[dict[str, Any]]
    """Of a gateway's log: each caller's labels and counts."""
    exactness: dict[str, Exactness] = {}
    """How well each kind that the log reports is counted: exact, a lower bound, or a rate."""


def read_log(path: Path, dialect_name: str) -> LogTotals:
    """Totals of `path`. Raises OSError, `UnrecognizedLog`, or `UnknownDialect`."""
    dialect, container = new_dialect(dialect_name), Unwrapper()
    arrival_s = os.stat(path).st_mtime
    all_counts: list[TokenCounts] = []
    sample = b""
    for block in _blocks(path):
        lines = container.feed(bytes(block)) if container.format != "plain" else block
        sample = sample or bytes(lines)
        all_counts += dialect.feed(lines, arrival_s)
    all_counts += dialect.finish()
    if isinstance(dialect, AutoDialect):
        if dialect.chosen is None:
            if reason := why_silent(sample):
                raise UnrecognizedLog(f"{path}: {reason}")
            known = ", ".join(names())
            raise UnrecognizedLog(
                f"{path}: expected lines of a known dialect ({known}) or a metrics page, found none; if you know the "
                f"server, name it with --dialect, and check that it logs statistics ({log_advice()})"
            )
        name = dialect.chosen.name
    else:
        name = dialect.name
    return _totals(name, dialect.model, all_counts)


def why_no_tokens(dialect_name: str) -> str:
    """That logs of this dialect report no tokens, and what to do; empty where they do."""
    return SERVERS[dialect_name].no_tokens if dialect_name in SERVERS else ""


def _blocks(path: Path) -> Iterator[bytearray]:
    """Whole lines, a chunk at a time; the last line may lack its newline."""
    opened = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb", buffering=0)  # noqa: SIM115
    buffer, kept, skipping = bytearray(CHUNK_BYTES), 0, False
    with opened as file:
        while length := file.readinto(memoryview(buffer)[kept:]):
            filled = kept + length
            end = buffer.rfind(b"\n", 0, filled) + 1
            if end:
                start = buffer.find(b"\n") + 1 if skipping else 0
                skipping = False
                yield buffer[start:end]
                buffer[: filled - end] = buffer[end:filled]
            kept = filled - end
            if kept == CHUNK_BYTES:
                kept, skipping = 0, True  # a line as long as this is a logged prompt, not statistics
    if kept and not skipping:
        yield buffer[:kept] + b"\n"


def _totals(name: str, model: str | None, all_counts: list[TokenCounts]) -> LogTotals:
    sums: dict[str, int] = {}
    callers: dict[Caller, dict[str, int]] = {}
    for counts in all_counts:
        kinds = counts.kinds()
        sums = sum_kinds(sums, kinds)
        if counts.caller is not None:
            callers[counts.caller] = sum_kinds(callers.get(counts.caller, {}), kinds)
    tokens = [counts for counts in all_counts if counts.kinds().keys() - REQUEST_KINDS]
    instants = [counts.at_s for counts in all_counts if counts.at_s is not None]
    if any(counts.prompt_computed is not None and counts.prompt_cached is None for counts in all_counts):
        sums.pop("prompt_cached", None)  # of some prompts it is not known: a part is not the whole
    report = SERVERS[name].log_report if name in SERVERS else None
    exactness = {kind: "exact" if report is None else report.exactness(kind) for kind in KINDS if kind in sums}
    return LogTotals(
        dialect=name,
        model=model,
        **{kind: sums.get(kind) for kind in KINDS},
        method=tokens[0].method if tokens else None,
        first_timestamp=iso_timestamp(min(instants)) if instants else None,
        last_timestamp=iso_timestamp(max(instants)) if instants else None,
        events=len(tokens),
        callers=[{"model": caller.model, **dict(caller.labels), **kinds} for caller, kinds in callers.items()],
        exactness={kind: how for kind, how in exactness.items() if how is not None},
    )


def iso_timestamp(instant_s: float) -> str:
    """ISO 8601 in UTC."""
    return datetime.fromtimestamp(instant_s, UTC).isoformat().replace("+00:00", "Z")
