"""The latency histograms of a server's metrics page into additive counts. Pure.

In: the text of one scrape and the names that a server gives its histograms. Out: a `LatencyReading`, in the buckets of
the wire; two of them give what was observed in between.

A server's bucket that spans several of ours is laid into the one that holds its upper edge: a wait is never shown
shorter than it was, and at most as much longer as the two edges differ (tokenyield_wire/latency.py).

Each series is compared with itself, as counters are. One that a page lacks goes on from its last value when it comes
back; one with fewer observations than before has begun again from 0 if the next page says so too, for an old page may
be shown; and so has every series where the start time is that of a server that was started since. Where it is that of
another server which was there before, its page is only a beginning. Series whose buckets moved in both directions at
once (lines are missing, or the buckets are others) give nothing until the next page: what is not clear is not counted.

A histogram that is there from the first page on is only a beginning, unless the server has made nothing yet.

What is observed is gathered and given once a minute: a window each minute carries it, not each window, which is a
quarter of the bytes and of the collector's work, and fine enough for a percentile.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from tokenyield_wire.latency import (
    LATENCY_BUCKETS,
    LATENCY_KINDS,
    LATENCY_SUM_MS_MAX,
    OBSERVATIONS_MAX,
    LatencyKind,
    upper_bucket,
)

SERIES_MAX = 256
"""Of one server: its engines, times the kinds. What comes later is not read."""
SAMPLES_MAX = 16_384
"""Lines of one page."""
LABELS_BYTES_MAX = 1024
TOTAL_MAX = 2**48
"""Observations, and ms, of one series since the server's start."""
START_S = 1.0
"""By how much two start times of one process may differ."""
STARTUP_MS = 120_000
"""A server may be started so long before the one that it replaces gave its last page."""
MS_PER_MINUTE = 60_000
_LE = re.compile(rb'(?:^|,)le="([^"]*)"')

LatencySums = list[int]
"""Sum in ms, then the observations of each bucket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyNames:
    """What one server calls its histograms of seconds, newest first: the first that is on the page is read."""

    first_token: tuple[str, ...] = ()
    inter_token: tuple[str, ...] = ()
    end_to_end: tuple[str, ...] = ()

    @property
    def kinds(self) -> tuple[LatencyKind, ...]:
        return tuple(kind for kind in LATENCY_KINDS if getattr(self, kind))


NO_LATENCY = LatencyNames()


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyReading:
    """The histograms of one page: kind and labels, joined by a tab, -> all that was observed since the server's
    start."""

    series: Mapping[str, LatencySums] = field(default_factory=dict)


NOTHING_READ = LatencyReading()


class LatencyState(msgspec.Struct, kw_only=True):
    """What is remembered of one workload's latency; plain values for the spool."""

    series: dict[str, list[int]] = msgspec.field(default_factory=dict)
    begun: list[str] = msgspec.field(default_factory=list)
    """Kinds of which what is new is counted; of others the next page is only a beginning."""
    started_s: float | None = None
    read_at_ms: int = 0
    doubted: dict[str, list[int]] = msgspec.field(default_factory=dict)
    """Series that were lower on the last page than before: an old page, or a restart that the next page confirms."""
    gathered: dict[LatencyKind, list[int]] = msgspec.field(default_factory=dict)
    """What was observed and is not given yet, and when the newest of it was read."""
    gathered_at_ms: int = 0


def read_latency(body: bytes, names: LatencyNames) -> LatencyReading:
    """The histograms in `body` that are whole: with a sum, every count a number, and none below the one before it. A
    last line without its newline is left out: a page that was cut there shows a number that is too small."""
    alternatives = {name.encode(): kind for kind in names.kinds for name in getattr(names, kind)}
    if not alternatives:
        return NOTHING_READ
    samples = re.compile(
        rb"^(" + b"|".join(map(re.escape, alternatives)) + rb")_(bucket|sum)(?:\{([^\n]*)\})?"
        rb" +([0-9][0-9.eE+-]*)(?:[ \t][^\n]*)?\r?\n",
        re.MULTILINE,
    )
    pages: dict[bytes, dict[bytes, _Samples]] = {}
    for number, match in enumerate(samples.finditer(body)):
        if number >= SAMPLES_MAX:
            break
        name, part, labels, value = match.groups(b"")
        if len(labels) <= LABELS_BYTES_MAX:
            _take(pages.setdefault(name, {}), part, labels, value)
    series: dict[str, LatencySums] = {}
    for kind in names.kinds:
        chosen = next((page for name in getattr(names, kind) if (page := pages.get(name.encode()))), {})
        for labels, histogram in chosen.items():
            sums = histogram.sums(kind)
            if sums is not None and len(series) < SERIES_MAX:
                series[f"{kind}\t{labels.decode('utf-8', 'replace')}"] = sums
    return LatencyReading(series=series)


@dataclass(slots=True)
class _Samples:
    """One series as the page shows it."""

    sum_s: float = -1.0
    upto_s: dict[float, float] = field(default_factory=dict)
    """Upper edge -> observations up to it."""

    def sums(self, kind: LatencyKind) -> LatencySums | None:
        """In the buckets of the wire; None where the series is not whole."""
        if not 0 <= self.sum_s * 1000 <= TOTAL_MAX or math.inf not in self.upto_s:
            return None
        counts, before = [0] * LATENCY_BUCKETS, 0
        for upto_s, value in sorted(self.upto_s.items()):
            if not before <= value <= TOTAL_MAX:
                return None
            counts[upper_bucket(kind, round(upto_s * 1000, 6))] += int(value) - before
            before = int(value)
        return [int(self.sum_s * 1000), *counts]


def _take(page: dict[bytes, _Samples], part: bytes, labels: bytes, value: bytes) -> None:
    """One line into the series that it belongs to; of a line that is there twice the larger value. A line that is
    broken is left out, and with it what needs it."""
    try:
        if part == b"sum":
            series = page.setdefault(labels, _Samples())
            series.sum_s = max(series.sum_s, float(value))
        elif (match := _LE.search(labels)) and (upto_s := float(match[1])) >= 0:
            own = (labels[: match.start()] + labels[match.end() :]).removeprefix(b",")
            counts = page.setdefault(own, _Samples()).upto_s
            counts[upto_s] = max(counts.get(upto_s, 0.0), float(value))
    except ValueError:
        return


def is_same_start(one_s: float | None, other_s: float | None) -> bool:
    """Whether two start times may be those of one process, as far as they are known."""
    return one_s is None or other_s is None or abs(one_s - other_s) <= START_S


def added(before: Sequence[int] | None, sums: Sequence[int]) -> LatencySums:
    """`sums`, and what was there before."""
    return list(sums) if before is None else [one + other for one, other in zip(before, sums, strict=True)]


def latency_between(
    state: LatencyState,
    reading: LatencyReading,
    *,
    at_ms: int = 0,
    started_s: float | None = None,
    is_new: bool = False,
    has_made_nothing: bool = False,
) -> tuple[LatencyState, dict[LatencyKind, LatencySums]]:
    """What was observed since `state`, by kind, and the state after it. `at_ms`: when the page was read. `is_new`: the
    server was started after it was last looked at, so that all it shows is new. `has_made_nothing`: all that later
    pages show will be."""
    is_other = not is_same_start(state.started_s, started_s)
    is_successor = is_other and (started_s or 0) > max(state.started_s or 0, (state.read_at_ms - STARTUP_MS) / 1000)
    kept = {} if is_other else dict(state.series)
    begun = set(LATENCY_KINDS) if is_new or is_successor else set() if is_other else set(state.begun)
    doubted: dict[str, list[int]] = {}
    observed: dict[LatencyKind, LatencySums] = {}
    shown = {key: _kind_of(key) for key in reading.series}
    for key, kind in shown.items():
        sums, before = reading.series[key], kept.get(key)
        if before is None and len(kept) >= SERIES_MAX:
            continue
        if before is not None and sum(sums[1:]) < sum(before[1:]):
            lower = state.doubted.get(key)
            if is_other or lower is None or sum(sums[1:]) < sum(lower[1:]):
                doubted[key] = sums
                continue
            before = None
        kept[key] = sums
        moved = _moved(before, sums) if kind in begun else None
        if moved is not None and any(moved):
            observed[kind] = added(observed.get(kind), moved)
    after = LatencyState(
        series=kept,
        doubted=doubted,
        begun=[kind for kind in LATENCY_KINDS if has_made_nothing or kind in begun or kind in shown.values()],
        started_s=started_s,
        read_at_ms=at_ms,
        gathered=state.gathered,
        gathered_at_ms=state.gathered_at_ms,
    )
    return after, {kind: bounded(sums) for kind, sums in observed.items() if any(sums[1:])}


def gather(state: LatencyState, observed: Mapping[LatencyKind, Sequence[int]], at_ms: int) -> LatencyState:
    """The state with what was `observed` by `at_ms` to be given."""
    if not observed:
        return state
    gathered = dict(state.gathered)
    for kind, sums in observed.items():
        gathered[kind] = bounded(added(gathered.get(kind), sums))
    return msgspec.structs.replace(state, gathered=gathered, gathered_at_ms=at_ms)


def is_due(state: LatencyState, now_ms: int) -> bool:
    """Whether what was gathered is to be given: it is of a minute that has passed."""
    return bool(state.gathered) and now_ms // MS_PER_MINUTE != state.gathered_at_ms // MS_PER_MINUTE


def _kind_of(key: str) -> LatencyKind:
    kind = key.partition("\t")[0]
    return next(known for known in LATENCY_KINDS if known == kind)


def _moved(before: Sequence[int] | None, sums: LatencySums) -> LatencySums | None:
    """By how much one series moved; None where that is not clear."""
    if before is None:
        return sums
    moved = [now - then for now, then in zip(sums, before, strict=True)]
    return moved if min(moved) >= 0 else None


def bounded(sums: Sequence[int]) -> LatencySums:
    """What the wire takes: a server that reports nonsense must not cost the node its batch."""
    counts = [min(count, OBSERVATIONS_MAX) for count in sums[1:]]
    return [min(sums[0], LATENCY_SUM_MS_MAX), *counts]
