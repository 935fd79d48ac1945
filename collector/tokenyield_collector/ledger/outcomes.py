"""Outcomes: counts of what was done with tokens (tickets closed, documents answered), as others report them. Pure.

They are kept by slice: one source, day and name. An import replaces the whole slice and never adds to it, so that the
same file twice changes nothing, and a corrected one corrects.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tokenyield_collector.prices.period import day_of
from tokenyield_wire.units import MS_PER_DAY
from tokenyield_wire.window import COUNT_MAX

SLICE_ROWS_MAX = 10_000
"""Counts of one slice: sets of labels."""
DAY_ROWS_MAX = 20_000
"""Counts of a day, over all slices, so that a report of a month reads them in seconds."""


class SliceKey(NamedTuple):
    """What an import replaces. `day_ms` is the start of a UTC day."""

    source: str
    day_ms: int
    name: str

    @property
    def text(self) -> str:
        return f"{self.name} of {day_of(self.day_ms).isoformat()} from {self.source}"


class OutcomeSlice(NamedTuple):
    """Counts by labels (a JSON object, its keys sorted), in the order of the labels, each once."""

    key: SliceKey
    counts: tuple[tuple[str, int], ...]

    @property
    def is_empty(self) -> bool:
        return not self.counts

    @property
    def total(self) -> int:
        return sum(count for _, count in self.counts)


def slices_of(rows: Iterable[tuple[SliceKey, str, int]]) -> list[OutcomeSlice]:
    """Rows of (slice, labels, count) by slice; counts with equal labels are added up."""
    counts: dict[SliceKey, dict[str, int]] = {}
    for key, labels, count in rows:
        of_slice = counts.setdefault(key, {})
        of_slice[labels] = of_slice.get(labels, 0) + count
    return [OutcomeSlice(key, tuple(sorted(counts[key].items()))) for key in sorted(counts)]


def outcome_findings(slices: Iterable[OutcomeSlice]) -> Iterator[str]:
    """What cannot be, in words: for `verify`."""
    for key, counts in slices:
        if key.day_ms % MS_PER_DAY:
            yield f"outcomes: {key.text} begins at {key.day_ms} ms, not with a day"
        if len({labels for labels, _ in counts}) != len(counts):
            yield f"outcomes: {key.text} has the same labels more than once: their counts are in reports twice"
        if any(not 0 <= count <= COUNT_MAX for _, count in counts):
            yield f"outcomes: {key.text} has a count below 0 or above {COUNT_MAX}"
