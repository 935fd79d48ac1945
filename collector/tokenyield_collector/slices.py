"""Slices: what one report of one source says of a day, as outcomes and spend are kept. Pure.

An import replaces whole slices and never adds to them, so that the same file twice changes nothing, and a corrected one
corrects.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from tokenyield_wire.units import MS_PER_DAY


class Slice(Protocol):
    """Two are the same slice where their keys are equal; a key has the start of its UTC day, `day_ms`."""

    @property
    def key(self) -> Any: ...

    @property
    def is_empty(self) -> bool: ...


SliceT = TypeVar("SliceT", bound=Slice)


class SliceChanges(NamedTuple, Generic[SliceT]):
    """What an import does to the slices that it names. `replaced`: (before, after)."""

    added: list[SliceT]
    replaced: list[tuple[SliceT, SliceT]]
    unchanged: list[SliceT]

    @property
    def to_write(self) -> list[SliceT]:
        return [*self.added, *(after for _, after in self.replaced)]


def slice_changes(stored: Iterable[SliceT], given: Sequence[SliceT]) -> SliceChanges[SliceT]:
    """An empty slice removes the one before it; where there is none, nothing changes."""
    known = {one.key: one for one in stored}
    changes = SliceChanges[SliceT]([], [], [])
    for one in given:
        before = known.get(one.key)
        if before is None and not one.is_empty:
            changes.added.append(one)
        elif before is None or before == one:
            changes.unchanged.append(one)
        else:
            changes.replaced.append((before, one))
    return changes


def span_of(slices: Iterable[Slice]) -> tuple[int, int]:
    """[start_ms, end_ms) of their days; empty where there are none."""
    days = [one.key.day_ms for one in slices]
    return (min(days), max(days) + MS_PER_DAY) if days else (0, 0)
