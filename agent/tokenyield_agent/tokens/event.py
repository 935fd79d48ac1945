"""Token counts as a dialect reads them, and as a window takes them. Pure.

`TokenCounts` are what one dialect read off its log, or what a server's counters moved by. A `TokenEvent` is the same on
the node's timeline. A kind that the source does not report is None.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from tokenyield_wire.latency import LatencyKind
from tokenyield_wire.window import LOAD_KINDS, REQUEST_KINDS, TOKEN_KINDS, Method

LINE_COUNT_MAX = 2**40
"""The most that one line may count: far above what any answer holds, and thousands of them still sum into a batch."""
SPAN_S_MAX = 86_400.0
"""Longer than any request, and than any interval of statistics: a line beyond it is implausible and not counted."""
KINDS = (*TOKEN_KINDS, *REQUEST_KINDS)
"""What is counted. The prompt is `computed` + `cached`, or `unsplit` where the source does not separate these two."""


class Caller(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who called a gateway, as its log shows it. `labels`: at most those of `json_lines.LABELS`."""

    model: str | None = None
    labels: tuple[tuple[str, str], ...] = ()


class TokenCounts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Tokens of one line or request. `at_s` is the line's own time (Unix seconds), None where the log has none.

    A Struct, because making one is five times as fast as a frozen dataclass, and a log gives one a line.
    """

    method: Method
    at_s: float | None = None
    span_ms: int = 0
    """How long these tokens took: a rate's interval, a request's processing time."""
    prompt_computed: int | None = None
    prompt_cached: int | None = None
    prompt_unsplit: int | None = None
    completion: int | None = None
    requests: int | None = None
    requests_aborted: int | None = None
    requests_failed: int | None = None
    load_known_ms: int | None = None
    """How loaded the server was meanwhile, see `tokenyield_wire.window.LOAD_KINDS`."""
    running_request_ms: int | None = None
    waiting_request_ms: int | None = None
    cache_used_ms: int | None = None
    caller: Caller | None = None
    """Set by gateways. Their tokens were made, and are counted, by the servers that they call."""

    def kinds(self) -> dict[str, int]:
        """The kinds that are known."""
        return {kind: value for kind in KINDS if (value := getattr(self, kind)) is not None}

    def load(self) -> dict[str, int]:
        """How loaded the server was, as far as it is known."""
        return {kind: value for kind in LOAD_KINDS if (value := getattr(self, kind)) is not None}

    @property
    def has_tokens(self) -> bool:
        return any(getattr(self, kind) for kind in TOKEN_KINDS)


def load_over(
    span_ms: int, *, running: float, waiting: float | None = None, cache_used: float | None = None
) -> dict[str, int]:
    """`LOAD_KINDS` of a server that was loaded so for `span_ms`; `cache_used` is a part of 1."""
    load = {"running_request_ms": running, "waiting_request_ms": waiting, "cache_used_ms": cache_used}
    known = {kind: round(value * span_ms) for kind, value in load.items() if value is not None and value >= 0}
    return {"load_known_ms": span_ms, **known}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEvent:
    """Tokens of one workload, or requested from one gateway, over [start_ms, end_ms) of the node's timeline; an instant
    when both are equal."""

    workload: str
    start_ms: int
    end_ms: int
    counts: TokenCounts
    latency: Mapping[LatencyKind, Sequence[int]] | None = None
    """Of each kind the sum of waits in ms, then how many fell into each bucket."""


class Dialect(Protocol):
    """One log format: whole lines in, counts out. Holds no file and no clock."""

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> str | None:
        """The served model, once the log has shown it."""
        ...

    @property
    def recognised(self) -> int:
        """Statistics lines read so far; 0 means that this is perhaps not this server's log."""
        ...

    def feed(self, block: bytes | bytearray, arrival_s: float) -> list[TokenCounts]:
        """Counts in `block`: whole lines, each ending in a newline; the block is not kept. `arrival_s` is when it was
        read."""
        ...

    def finish(self) -> list[TokenCounts]:
        """What was kept back waiting for a line that will not come: the log is at its end for good."""
        ...

    def forget_counts(self) -> None:
        """Keep the model and forget everything else: what was fed only served to learn it."""
        ...

    def state(self) -> dict[str, Any]:
        """All that `feed` remembers, as plain JSON values, so that a restart continues as if nothing had happened."""
        ...

    def restore(self, state: dict[str, Any]) -> None: ...


def sum_kinds(parts: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """Both added, kind by kind."""
    return {kind: parts.get(kind, 0) + more.get(kind, 0) for kind in (*parts, *more)}
