"""How long callers waited, added up: means, and bounds of percentiles. Pure.

In: sums and counts in the buckets of the wire. Out: a `LatencyHistogram`, which adds up with others of its kind.

A percentile is given as the upper edge of the bucket that it falls into: callers waited at most so long. It is never
interpolated, so it is never below what was observed, and at most one bucket above it. None where it lies above the last
edge, or where nothing was observed.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import add
from typing import Protocol, TypeVar, cast

from tokenyield_collector.http.schemas import LatencyDocument
from tokenyield_wire.latency import LATENCY_EDGES_MS, LatencyKind

PERCENTILES = (50, 95, 99)


class LatencyRow(Protocol):
    """Whatever holds sums of one kind: facts of a stretch, usage of a period."""

    @property
    def kind(self) -> str: ...
    @property
    def sum_ms(self) -> int: ...
    @property
    def counts(self) -> Sequence[int]: ...


Key = TypeVar("Key", bound=Hashable)
Row = TypeVar("Row", bound=LatencyRow)


@dataclass(frozen=True, slots=True)
class LatencyHistogram:
    """Waits of one kind."""

    kind: LatencyKind
    sum_ms: int
    counts: tuple[int, ...]

    def __add__(self, other: "LatencyHistogram") -> "LatencyHistogram":
        assert self.kind == other.kind, "the buckets of two kinds are not the same"
        return LatencyHistogram(self.kind, self.sum_ms + other.sum_ms, tuple(map(add, self.counts, other.counts)))

    @property
    def observations(self) -> int:
        return sum(self.counts)

    @property
    def mean_ms(self) -> float | None:
        return self.sum_ms / self.observations if self.observations else None

    def at_most_ms(self, percentile: int) -> int | None:
        """What so many percent of all waits did not exceed."""
        wanted = -(-self.observations * percentile // 100)
        for edge_ms, upto in zip(LATENCY_EDGES_MS[self.kind], accumulate(self.counts), strict=False):
            if upto >= wanted > 0:
                return edge_ms
        return None

    def document(self) -> LatencyDocument:
        p50_ms, p95_ms, p99_ms = (self.at_most_ms(percentile) for percentile in PERCENTILES)
        return {
            "observations": self.observations,
            "mean_ms": self.mean_ms,
            "p50_ms": p50_ms,
            "p95_ms": p95_ms,
            "p99_ms": p99_ms,
        }


def histograms(rows: Iterable[Row], key_of: Callable[[Row], Key]) -> dict[tuple[Key, LatencyKind], LatencyHistogram]:
    """The rows added up by their key and kind; without those in which nothing was observed."""
    sums: dict[tuple[Key, LatencyKind], LatencyHistogram] = {}
    for row in rows:
        kind = cast(LatencyKind, row.kind)
        if any(row.counts):
            histogram = LatencyHistogram(kind, row.sum_ms, tuple(row.counts))
            at = (key_of(row), kind)
            sums[at] = sums[at] + histogram if at in sums else histogram
    return sums
