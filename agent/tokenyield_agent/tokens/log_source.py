"""Followed logs: a file or a pattern of files, and a unit of the journal; each with what its dialect remembers.

In: what the tail or the journal read. Out: token events that end now. `mark` is all that a later run needs to continue
where this one stopped.
"""

import glob
import itertools
import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec

from tokenyield_agent.tokens.containers import Unwrapper
from tokenyield_agent.tokens.dialects.registry import AutoDialect
from tokenyield_agent.tokens.event import Caller, Dialect, TokenCounts, TokenEvent, sum_kinds
from tokenyield_agent.tokens.open_file import ReadBudget
from tokenyield_agent.tokens.tail import POLL_BYTES_MAX, Tail, TailMark

MERGED_MS = 1_000
MODEL_BYTES = 1 << 20
"""Of the beginning of a log that is older than the agent's watch."""
FILES_MAX = 64
"""Files of one pattern; the newest are followed."""
MATCHES_MAX = 1024
RESCAN_S = 5.0
"""Between two searches for new files of a pattern."""


class SourceMark(msgspec.Struct, frozen=True, kw_only=True):
    """How far one file or unit is read, with all that its dialect remembers."""

    path: str
    dialect: str
    dialect_state: dict[str, Any]
    tail: TailMark | None = None
    container: dict[str, Any] | None = None


def kept_path(path: str) -> str:
    """A path as marks keep it: whoever names a file in bytes that are no UTF-8 must not cost the agent its memory."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class LogSource(Protocol):
    """Where one workload's or gateway's log comes from."""

    @property
    def problem(self) -> str | None:
        """Why nothing can be read now; None while all is well."""
        ...

    def poll(self, now_ms: int, now_mono_s: float, until_s: float = math.inf) -> list[TokenEvent]:
        """What was written since the last poll; in processor time of this thread until `until_s`."""
        ...

    def dialects(self) -> list[Dialect]:
        """Those that have recognised their log, the newest last."""
        ...

    def marks(self) -> list[SourceMark]: ...

    def close(self) -> None: ...


def to_events(workload: str, all_counts: Iterable[TokenCounts], now_ms: int) -> list[TokenEvent]:
    """Counts as events that end now. Those that took no longer than `MERGED_MS` are added up, method by method: they
    end in the same poll, and a busy server answers hundreds of requests in one."""
    merged: dict[str, tuple[dict[str, int], int]] = {}
    apart = []
    for counts in all_counts:
        if counts.caller is not None or counts.span_ms > MERGED_MS:
            apart.append(counts)
        else:
            kinds, span_ms = merged.get(counts.method, ({}, 0))
            merged[counts.method] = (
                sum_kinds(kinds, {**counts.kinds(), **counts.load()}),
                max(span_ms, counts.span_ms),
            )
    for method, (kinds, span_ms) in merged.items():
        apart.append(TokenCounts(method=method, span_ms=span_ms, **kinds))  # type: ignore[arg-type]
    return [
        TokenEvent(workload=workload, start_ms=now_ms - counts.span_ms, end_ms=now_ms, counts=counts)
        for counts in apart
    ]


def recognized_dialect(dialect: Dialect) -> Dialect | None:
    """The dialect that reads this log, once it is known."""
    if isinstance(dialect, AutoDialect):
        return dialect.chosen
    return dialect if dialect.recognised else None


def only_labels(all_counts: list[TokenCounts], allowed: frozenset[str]) -> list[TokenCounts]:
    """The same with only the `allowed` labels of callers; others do not leave this function."""
    return [
        counts
        if counts.caller is None
        else msgspec.structs.replace(
            counts,
            caller=Caller(
                model=counts.caller.model,
                labels=tuple((label, text) for label, text in counts.caller.labels if label in allowed),
            ),
        )
        for counts in all_counts
    ]


def read_block(dialect: Dialect, block: bytes | bytearray, now_s: float) -> tuple[list[TokenCounts], str | None]:
    """What `block` counts, or why it is left out. A server's users choose what it logs: no line may end the agent."""
    try:
        return dialect.feed(block, now_s), None
    except Exception as error:  # noqa: BLE001 - a fault of ours; it costs this block of this log
        fault = f"the dialect {dialect.name} failed with {type(error).__name__}"
        return [], f"{fault}: {len(block)} bytes are left out; report it"


class FollowedFile:
    """Events of one file. `mark` continues the last run when it is of the same path and dialect."""

    def __init__(
        self,
        *,
        workload: str,
        path: str,
        dialect_name: str,
        dialect: Dialect,
        from_end: bool,
        mark: SourceMark | None,
        roots: tuple[str, ...] = (),
        owner: int | None = None,
    ) -> None:
        self.workload = workload
        self.path = path
        self.dialect = dialect
        self._dialect_name = dialect_name
        self._container = Unwrapper()
        if mark is not None and mark.tail is not None and (mark.path, mark.dialect) == (kept_path(path), dialect_name):
            self.dialect.restore(mark.dialect_state)
            self.tail = Tail(path, mark=mark.tail, roots=roots, owner=owner)
            if mark.container is not None:
                self._container.restore(mark.container, self.tail.read_again)
        else:
            self.tail = Tail(path, from_end=from_end, roots=roots, owner=owner)
            if from_end:
                self._learn_model(self.tail.first_bytes(MODEL_BYTES))

    def _learn_model(self, head: bytes) -> None:
        """The model, which servers log once as they start; what else is there was before the agent's watch."""
        whole = head[: head.rfind(b"\n") + 1]
        if whole:
            read_block(self.dialect, self._container.feed(whole), 0.0)
        self.dialect.forget_counts()
        self._container.forget_parts()

    def poll(self, now_s: float, now_mono_s: float, budget: ReadBudget) -> list[TokenCounts]:
        """What was written since the last poll, as far as the budget reaches. Never raises."""
        all_counts: list[TokenCounts] = []
        try:
            for block in self.tail.poll(now_mono_s, budget):
                counts, fault = read_block(self.dialect, self._container.feed(block, self.tail.at), now_s)
                all_counts += counts
                if fault is not None:
                    self.tail.set_problem(fault)
        except OSError as error:
            self.tail.set_problem(str(error))
        return all_counts

    def mark(self) -> SourceMark:
        return SourceMark(
            path=kept_path(self.path),
            dialect=self._dialect_name,
            dialect_state=self.dialect.state(),
            tail=self.tail.mark(),
            container=self._container.state(),
        )


class LogFiles:
    """Files, named or by patterns with `*`, `?` or `[...]`. A file that appears later is read whole."""

    def __init__(
        self,
        *,
        workload: str,
        patterns: tuple[str, ...],
        dialect_name: str,
        make_dialect: Callable[[], Dialect],
        from_end: bool,
        marks: Iterable[SourceMark] = (),
        labels: frozenset[str] = frozenset(),
        roots: tuple[str, ...] = (),
        owners: Mapping[str, int] | None = None,
    ) -> None:
        """`roots`: folders to which links may lead; `owners`: path -> uid of its writer, where that is known."""
        self._roots = roots
        self._owners = owners or {}
        self._workload = workload
        self._patterns = patterns
        self._has_patterns = any(glob.has_magic(pattern) for pattern in patterns)
        self._dialect_name = dialect_name
        self._make_dialect = make_dialect
        self._labels = labels
        self._rescan_at_s = 0.0
        self.files: dict[str, FollowedFile] = {}
        self._turn = 0
        """Which file is read first."""
        known = {mark.path: mark for mark in marks}
        for path in self._paths():
            # With marks of an earlier run, a file without one has appeared since.
            self._open(path, from_end=from_end and not known, mark=known.get(kept_path(path)))

    @property
    def problem(self) -> str | None:
        if not self.files:
            return f"{', '.join(self._patterns)}: no such file yet"
        problems = [file.tail.problem for file in self.files.values() if file.tail.problem]
        return problems[0] if problems else None

    @property
    def counts(self) -> dict[str, int]:
        sums: dict[str, int] = {}
        for file in self.files.values():
            for name, count in file.tail.counts.items():
                sums[name] = sums.get(name, 0) + count
        return sums

    def poll(self, now_ms: int, now_mono_s: float, until_s: float = math.inf) -> list[TokenEvent]:
        if self._has_patterns and now_mono_s >= self._rescan_at_s:
            self._rescan_at_s = now_mono_s + RESCAN_S
            self._rescan()
        all_counts: list[TokenCounts] = []
        budget = ReadBudget(POLL_BYTES_MAX, until_s)
        files = list(self.files.values())
        for file in [*files[self._turn :], *files[: self._turn]]:
            all_counts += file.poll(now_ms / 1000, now_mono_s, budget)
            if budget.is_over:  # the others have their turn at the next poll
                self._turn = (files.index(file) + 1) % len(files)
                break
        return to_events(self._workload, only_labels(all_counts, self._labels), now_ms)

    def open_files(self) -> set[tuple[int, int]]:
        """(device, inode) of every file being followed."""
        return set().union(*(file.tail.files() for file in self.files.values()))

    def dialects(self) -> list[Dialect]:
        known = [(file, recognized_dialect(file.dialect)) for _, file in sorted(self.files.items())]
        return [dialect for _, dialect in known if dialect is not None]

    def marks(self) -> list[SourceMark]:
        return [file.mark() for file in self.files.values()]

    def close(self) -> None:
        for file in self.files.values():
            file.tail.close()

    def _paths(self) -> list[str]:
        """The files of all patterns, the newest first; a path without a pattern is followed before it exists."""
        by_mtime = []
        for pattern in self._patterns:
            for path in itertools.islice(glob.iglob(pattern), MATCHES_MAX) if glob.has_magic(pattern) else ():
                try:
                    by_mtime.append((os.stat(path).st_mtime_ns, path))
                except OSError:
                    continue
        newest = [path for _, path in sorted(by_mtime, reverse=True) if not path.endswith(".gz")]
        return ([pattern for pattern in self._patterns if not glob.has_magic(pattern)] + newest)[:FILES_MAX]

    def _rescan(self) -> None:
        paths = self._paths()
        for path in paths:
            if path not in self.files:
                self._open(path, from_end=False, mark=None)
        for path in [path for path in self.files if path not in paths and not os.path.exists(path)]:
            self.files.pop(path).tail.close()

    def _open(self, path: str, *, from_end: bool, mark: SourceMark | None) -> None:
        self.files[path] = FollowedFile(
            workload=self._workload,
            path=path,
            dialect_name=self._dialect_name,
            dialect=self._make_dialect(),
            from_end=from_end,
            mark=mark,
            roots=self._roots,
            owner=self._owners.get(path),
        )


class JournalUnit:
    """Events of one unit of the journal, which the agent's one journal reader passes on."""

    def __init__(
        self,
        *,
        workload: str,
        unit: str,
        dialect_name: str,
        dialect: Dialect,
        marks: Iterable[SourceMark] = (),
        labels: frozenset[str] = frozenset(),
    ) -> None:
        self.unit = unit
        self.problem: str | None = None
        self._workload = workload
        self._dialect_name = dialect_name
        self._dialect = dialect
        self._labels = labels
        self._blocks: list[bytes] = []
        self._path = f"journal:{unit}"
        self._is_new = True
        for mark in marks:
            if (mark.path, mark.dialect) == (self._path, dialect_name):
                self._dialect.restore(mark.dialect_state)
                self._is_new = False

    def learn_model(self, start: bytes) -> None:
        """The model, from what the unit logged as it started; its tokens were before the agent's watch."""
        if self._is_new and start:
            read_block(self._dialect, start, 0.0)
            self._dialect.forget_counts()

    def add(self, block: bytes) -> None:
        """Whole lines of this unit, to be read at the next poll."""
        self._blocks.append(block)

    def poll(self, now_ms: int, now_mono_s: float, until_s: float = math.inf) -> list[TokenEvent]:
        if not self._blocks:
            return []
        block, self._blocks = b"".join(self._blocks), []
        all_counts, self.problem = read_block(self._dialect, block, now_ms / 1000)
        return to_events(self._workload, only_labels(all_counts, self._labels), now_ms)

    def dialects(self) -> list[Dialect]:
        known = recognized_dialect(self._dialect)
        return [] if known is None else [known]

    def marks(self) -> list[SourceMark]:
        return [SourceMark(path=self._path, dialect=self._dialect_name, dialect_state=self._dialect.state())]

    def close(self) -> None:
        self._blocks = []
