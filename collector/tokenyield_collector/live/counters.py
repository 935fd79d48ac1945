"""What the exported counters stand at. Pure but for the parts that the ledger keeps.

In: what hours add to each series (counting.py). Out: series -> integer (ms, mJ, tokens).

A Prometheus counter may never go back, not even across a restart, an upgrade or other prices. These do not: an hour is
recomputed from windows that are only added; those that the ledger has written down are kept with what they added
(counted_parts.py); those given up by retention go into a *base* kept in the ledger. Other prices name pools of what is
counted from then on. Money can be corrected, so it is no counter; see to_date.py.
"""

from array import array
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from tokenyield_collector.live.counted_parts import DAY, HOUR, CountedParts, Names
from tokenyield_collector.live.counting import METRICS, PLACE_METRICS, CountedHours
from tokenyield_collector.live.series import Series
from tokenyield_collector.live.series_names import Labels, name_of
from tokenyield_wire.units import MS_PER_DAY

COUNTED_FROM = Series("counted_from_ms", ())
"""In the bases: hours before that are in them."""
YOUNG_DAYS = 2
"""Of the newest days, hours are kept one by one, for late windows come to them."""


def counted_from_ms(bases: Mapping[str, int]) -> int:
    """Up to where hours are in the bases."""
    return bases.get(COUNTED_FROM.key(), 0)


GROWS = -1
"""The revision of an hour that is kept before its facts are written down: of no facts, so that it is counted again."""


class _CountedHour(NamedTuple):
    """What one hour adds to each series: 12 bytes each, where a dict takes 200."""

    revision: int | None
    """Of the facts that were counted; None while the hour still grows in memory."""
    numbers: "array[int]"
    values: "array[int] | list[int]"
    """A list where a sum does not fit 64 bits: nobody made so many tokens, but whoever said so costs only memory."""


class Counters:
    """Sums over all hours. `bases` are the ledger's, of which others are left alone."""

    def __init__(self, bases: Mapping[str, int], parts: CountedParts | None = None) -> None:
        known = {Series.of_key(key): value for key, value in bases.items()}
        self._bases = {series: value for series, value in known.items() if series.metric in METRICS}
        self._from_ms = counted_from_ms(bases)
        self._parts = parts or CountedParts(None, self._from_ms)
        self._hours: dict[int, _CountedHour] = {}
        """Those that are in no part."""
        self._mixed: set[int] = set()
        """Of these, those that were counted under several price books: only their sum knows which pools that were."""
        self._numbers: dict[Series, int] = {}
        self._listed: list[Series] = []
        self._sums: dict[Series, int] = defaultdict(int)
        """Of `_hours`."""
        self._first_seen: Names = dict(self._parts.names)
        for series in self._bases:
            if (named := name_of(series.metric, series.labels)) is not None:
                self._first_seen[named] = 0
        self._names: dict[str, tuple[Labels, ...]] | None = None
        """What `names` last made, while it holds."""

    # --- counting --------------------------------------------------------------------------------------------------

    def due(self, changed: Collection[int], revisions: Mapping[int, int | None]) -> list[int]:
        """The hours to count (again): those that changed, and whose facts have another revision than was counted."""
        due = {
            hour_ms
            for hour_ms, revision in revisions.items()
            if self._revision(hour_ms) != (GROWS if revision is None else revision) or not self._is_counted(hour_ms)
        }
        due.update(changed)
        for hour_ms in list(due):
            due |= self._parts.hours_beside(hour_ms)
        return sorted(hour_ms for hour_ms in due if hour_ms >= self._from_ms)

    def update(
        self, hours: Mapping[int, Mapping[Series, int]], revisions: Mapping[int, int | None] | None = None
    ) -> None:
        """Take what these hours add in the place of what they added before. Of a day that is kept as a whole all hours
        must be there."""
        values: CountedHours = dict(hours)
        for name in sorted({name for hour_ms in hours if (name := self._parts.part_of.get(hour_ms)) is not None}):
            of_part = self._parts.hours_of(name)
            whole = _sum({}, *(hours[hour_ms] for hour_ms in of_part))
            if stays := _difference(settled(self._parts.take(name), whole), whole):
                values[of_part[0]] = _sum(hours[of_part[0]], stays)
        for hour_ms, fresh in values.items():
            before = dict(self._unpacked(self._hours.get(hour_ms)))
            result = settled(before, fresh)
            if result is not hours[hour_ms]:
                self._mixed.add(hour_ms)
            self._put(hour_ms, result, (revisions or {}).get(hour_ms))

    def prices_changed(self) -> None:
        """What is counted so far stays with the pools of the prices before."""
        self._mixed.update(self._hours)

    def _put(self, hour_ms: int, values: Mapping[Series, int], revision: int | None) -> None:
        for series, value in self._unpacked(self._hours.get(hour_ms)):
            self._sums[series] -= value
        for series, value in values.items():
            self._sums[series] += value
            named = name_of(series.metric, series.labels)
            if named is not None and hour_ms < self._first_seen.get(named, hour_ms + 1):
                self._first_seen[named] = hour_ms
                self._names = None
        self._hours[hour_ms] = self._packed(values, revision)

    def _is_counted(self, hour_ms: int) -> bool:
        return hour_ms in self._hours or hour_ms in self._parts.part_of

    def _revision(self, hour_ms: int) -> int:
        """That was counted last; `GROWS` where it was none."""
        hour = self._hours.get(hour_ms)
        revision = hour.revision if hour is not None else self._parts.revision(hour_ms)
        return GROWS if revision is None else revision

    # --- what is shown ---------------------------------------------------------------------------------------------

    def values(self) -> dict[Series, int]:
        """What to show."""
        return _sum(self._parts.sums, self._sums, self._bases)

    def names(self) -> dict[str, tuple[Labels, ...]]:
        """Class -> names (series_names.py), the first seen first: the same after every restart."""
        if self._names is None:
            names: dict[str, list[Labels]] = defaultdict(list)
            for name_class, name in sorted(self._first_seen, key=lambda named: (self._first_seen[named], named)):
                names[name_class].append(name)
            self._names = {name_class: tuple(of_class) for name_class, of_class in names.items()}
        return self._names

    # --- what is kept ----------------------------------------------------------------------------------------------

    def keep(self, revisions: Mapping[int, int | None], *, open_ones: bool = False) -> None:
        """Prepare what `write` writes: hours whose facts are in the ledger with the revision that was counted; with
        `open_ones`, and of hours that several price books named pools of, also those that still grow."""
        settled_hours = [
            hour_ms
            for hour_ms, hour in sorted(self._hours.items())
            if hour.revision is not None and hour.revision == revisions.get(hour_ms)
        ]
        others = self._hours.keys() - set(settled_hours)
        for hour_ms in sorted(others if open_ones else others & self._mixed):
            self._keep(HOUR, hour_ms, [hour_ms])
        if not settled_hours:
            self._parts.prepare(self._first_seen)
            return
        young_from_ms = _day_of(max(revisions)) - (YOUNG_DAYS - 1) * MS_PER_DAY
        days: dict[int, list[int]] = defaultdict(list)
        for hour_ms in settled_hours:
            days[_day_of(hour_ms)].append(hour_ms)
        for day_ms, hours_ms in days.items():
            if day_ms >= young_from_ms:
                for hour_ms in hours_ms:
                    self._keep(HOUR, hour_ms, [hour_ms])
            else:
                self._keep(DAY, day_ms, hours_ms)
        for day_ms in self._parts.days_of_hours(before_ms=young_from_ms):
            self._keep(DAY, day_ms, [])
        self._parts.prepare(self._first_seen)

    def _keep(self, kind: str, start_ms: int, hours_ms: list[int]) -> None:
        """Of a day with what is kept of it already."""
        values: dict[Series, int] = defaultdict(int)
        revisions = {}
        for hour_ms in hours_ms:
            hour = self._hours.pop(hour_ms)
            self._mixed.discard(hour_ms)
            revisions[hour_ms] = GROWS if hour.revision is None else hour.revision
            for series, value in self._unpacked(hour):
                values[series] += value
                self._sums[series] -= value
        if kind == DAY:
            for name in self._parts.parts_of_day(start_ms):
                revisions |= self._parts.revisions[name]
                for series, value in self._parts.take(name).items():
                    values[series] += value
        self._parts.add(kind, start_ms, revisions, values)

    def write(self) -> None:
        """In the writing thread, while nothing is counted."""
        self._parts.write()

    def retirable_ms(self, before_ms: int) -> int:
        """The same, or the start of its day where that is kept as a whole."""
        return self._parts.whole_until_ms(before_ms)

    def retire(self, before_ms: int) -> dict[str, int]:
        """Move hours before `before_ms` (see `retirable_ms`) into the bases; returns what is added, for
        `Ledger.retire`."""
        added: dict[Series, int] = defaultdict(int)
        for hour_ms in [hour for hour in self._hours if hour < before_ms]:
            for series, value in self._unpacked(self._hours.pop(hour_ms)):
                added[series] += value
                self._sums[series] -= value
        for name in self._parts.before(before_ms):
            for series, value in self._parts.take(name).items():
                added[series] += value
        for series, value in added.items():
            self._bases[series] = self._bases.get(series, 0) + value
        if added:
            added[COUNTED_FROM] = before_ms - self._from_ms
            self._from_ms = before_ms
        self._parts.prepare(self._first_seen)
        return {series.key(): value for series, value in added.items()}

    def _packed(self, values: Mapping[Series, int], revision: int | None) -> _CountedHour:
        numbers = array("I")
        for series in values:
            number = self._numbers.setdefault(series, len(self._listed))
            if number == len(self._listed):
                self._listed.append(series)
            numbers.append(number)
        try:
            return _CountedHour(revision, numbers, array("q", values.values()))
        except OverflowError:
            return _CountedHour(revision, numbers, list(values.values()))

    def _unpacked(self, hour: _CountedHour | None) -> Iterator[tuple[Series, int]]:
        if hour is not None:
            for number, value in zip(hour.numbers, hour.values, strict=True):
                yield self._listed[number], value


def settled(before: Mapping[Series, int], fresh: Mapping[Series, int]) -> Mapping[Series, int]:
    """What an hour (or a day) adds now that it is counted again: `fresh`, unless a series would go back by it. That is
    so where other prices name other pools; then what is new of the time and energy of a cluster goes to pools that have
    more than before, and the rest stays where it was counted: sums over pools are exact."""
    if all(fresh.get(series, 0) >= value for series, value in before.items()):
        return fresh
    result, new = dict(before), defaultdict[tuple[str, ...], int](int)
    for sign, values in ((1, fresh), (-1, before)):
        for series, value in values.items():
            new[_beside_pool(series)] += sign * value
    for series, value in sorted(fresh.items()):
        more = max(0, value - before.get(series, 0))
        if series.metric in PLACE_METRICS:
            more = max(0, min(more, new[_beside_pool(series)]))
            new[_beside_pool(series)] -= more
        result[series] = before.get(series, 0) + more
    return result


def _beside_pool(series: Series) -> tuple[str, ...]:
    """All that distinguishes it but for the pool, the second label."""
    return (series.metric, *series.labels[:1], *series.labels[2:])


def _sum(*parts: Mapping[Series, int]) -> dict[Series, int]:
    whole = dict(parts[0])
    for part in parts[1:]:
        for series, value in part.items():
            whole[series] = whole.get(series, 0) + value
    return whole


def _difference(values: Mapping[Series, int], of: Mapping[Series, int]) -> dict[Series, int]:
    every = values.keys() | of.keys()
    return {s: more for s in every if (more := values.get(s, 0) - of.get(s, 0))}


def _day_of(hour_ms: int) -> int:
    return hour_ms - hour_ms % MS_PER_DAY
