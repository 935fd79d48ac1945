"""SQL that sums roll-ups of days (days.py) of a ClickHouse ledger, to the same figures as those of hours (rated.py).

In: rows of days whose hours are all in the query's period, and `are_safe`. Out: one scan. Of a day on which a chain has
one segment there are sums already; where it has two, as with a tariff by hour, a row gives the sums of the day and of
the second segment; days that are cut more often are read by hours. What depends on a reference pace is computed of the
amounts by hour.

Lambdas of old servers see columns that are used beside them as well, and no others.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tokenyield_collector.ledger.clickhouse.rated import NO_PACE, OWN, Numbering, lookup, summed, work_columns
from tokenyield_collector.ledger.clickhouse.schema import by_hour
from tokenyield_collector.ledger.usage import CAPACITY_SUMS, UsageQuery
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR
from tokenyield_wire.window import TOKEN_KINDS

HOURS = MS_PER_DAY // MS_PER_HOUR
SEGMENTS_MAX = 2
NO_SEGMENT = -1
_SECOND = "_2"
"""The ending of amounts in hours of the second segment."""
_KEYS = ("day_ms", "cut", "chain", "node_no")
_PACED = ("active_ms", "active_mj", *TOKEN_KINDS)
"""Amounts by hour on which the part at a reference pace depends."""


class DayCut(NamedTuple):
    """The segments of a chain on a day."""

    first: int
    second: int = NO_SEGMENT
    hours: int = 0
    """Those of the second as bits."""


def _segments(query: UsageQuery) -> Iterator[tuple[str, int, dict[int, int]]]:
    """(chain, day, segment -> its hours as bits)."""
    for chain, segments in query.segments.items():
        days: dict[int, dict[int, int]] = {}
        hours = segments[: (query.end_ms - query.start_ms) // MS_PER_HOUR]
        for hour, segment in enumerate(hours, start=query.start_ms // MS_PER_HOUR):
            of_day = days.setdefault(hour // HOURS, {})
            of_day[segment] = of_day.get(segment, 0) | 1 << hour % HOURS
        for day, of_day in days.items():
            yield chain, day * MS_PER_DAY, of_day


def often_cut(query: UsageQuery) -> set[int]:
    """Starts of days on which a chain has more than `SEGMENTS_MAX` segments."""
    return {day_ms for _, day_ms, of_day in _segments(query) if len(of_day) > SEGMENTS_MAX}


class DaySums:
    """Statements over days of one query that are not `often_cut`, and what their rows say."""

    def __init__(self, numbering: Numbering) -> None:
        query = numbering.query
        self._numbering = numbering
        self._first_ms = query.start_ms - query.start_ms % MS_PER_DAY
        self._days = -(-(query.end_ms - self._first_ms) // MS_PER_DAY)
        self._cuts = [DayCut(0)]
        """By number; the first is of GPUs without a chain."""
        self._cut_of: dict[int, int] = {}
        """Number of a chain and a day -> number of a cut."""
        chain_no = {chain: i for i, chain in enumerate(numbering.chains)}
        numbers = {self._cuts[0]: 0}
        for chain, day_ms, of_day in _segments(query):
            (first, _), *rest = sorted(of_day.items())
            cut = DayCut(first, *(rest[0] if rest else ()))
            place = chain_no[chain] * self._days + (day_ms - self._first_ms) // MS_PER_DAY
            self._cut_of[place] = numbers.setdefault(cut, len(numbers))
        self._cuts = list(numbers)
        self._is_cut = any(cut.hours for cut in self._cuts)

    def work_sql(self, weights: Mapping[str, int], source: str, where: str) -> str:
        pace = self._numbering.pace
        rated: dict[str, str] = {}
        for ending in self._endings():
            own_ms, own_mj = f"active_ms{ending}", f"active_mj{ending}"
            rated |= {f"productive{ending}": own_ms, f"productive_of_mj{ending}": own_mj, f"unrated{ending}": own_ms}
            if pace is not None:
                rated |= {
                    f"productive{ending}": f"if(pace = {NO_PACE}, {own_ms}, {_in_hours('done_ms', ending)})",
                    f"productive_of_mj{ending}": f"if(pace = {NO_PACE}, {own_mj}, {_in_hours('done_mj', ending)})",
                    f"unrated{ending}": f"if(pace = {NO_PACE}, {own_ms}, toInt64(0))",
                }
        by_hours = OWN if self._is_cut else _PACED if pace is not None else ()
        raw = ("gpus", *OWN, *map(by_hour, by_hours))
        levels = [*self._numbering.numbers(of_work=True), {**self._cut(), **self._numbering.paces()}]
        if pace is not None:
            levels += [{"pace": pace, **_expected(weights)}, _DONE]
        levels.append(self._seconds(OWN) | rated)
        return self._summed((*_KEYS, "grp"), work_columns, raw, levels, f"{source} WHERE {where}")

    def capacity_sql(self, source: str, where: str) -> str:
        raw = (*CAPACITY_SUMS, *(map(by_hour, CAPACITY_SUMS) if self._is_cut else ()))
        levels = [*self._numbering.numbers(of_work=False), self._cut(), self._seconds(CAPACITY_SUMS)]

        def columns(ending: str) -> list[str]:
            return [f"{name}{ending}" for name in CAPACITY_SUMS]

        return self._summed(_KEYS, columns, raw, levels, f"{source} WHERE {where}")

    def rows(self, answer: Sequence[Sequence[Any]], keys: int) -> Iterator[tuple[Any, ...]]:
        """With `keys` columns of keys, of which the second is a segment, and the sums."""
        for day_ms, number, *others in answer:
            cut, amounts = self._cuts[number], others[keys - 2 :]
            if not self._is_cut:
                yield (day_ms, cut.first, *others)
                continue
            count = len(amounts) // 2 - 1
            whole, second = amounts[:count], amounts[count : 2 * count]
            in_first, in_second = amounts[-2:]
            if in_first:
                first = (one - part for one, part in zip(whole, second, strict=True))
                yield (day_ms, cut.first, *others[: keys - 2], *first)
            if in_second:
                yield (day_ms, cut.second, *others[: keys - 2], *second)

    def _endings(self) -> tuple[str, ...]:
        return ("", _SECOND) if self._is_cut else ("",)

    def _cut(self) -> dict[str, str]:
        day_no = f"chain * {self._days} + intDiv(first_ms - {self._first_ms}, {MS_PER_DAY})"
        return {"day_ms": "first_ms", "cut": f"if(chain < 0, toInt64(0), {lookup(day_no, self._cut_of)})"}

    def _seconds(self, amounts: Sequence[str]) -> dict[str, str]:
        """Amounts in hours of the second segment, and whether a row has hours in either."""
        if not self._is_cut:
            return {}
        bits = lookup("cut", {number: cut.hours for number, cut in enumerate(self._cuts)})
        return {
            "bits": bits,
            "is_second": "arrayMap(x -> toInt64(bitAnd(bitShiftRight(bits, x), 1)), hours)",
            "in_first": "has(is_second, 0)",
            "in_second": "has(is_second, 1)",
            **{name + _SECOND: _in_hours(by_hour(name), _SECOND) for name in amounts},
        }

    def _summed(
        self,
        keys: Sequence[str],
        columns: Callable[[str], Sequence[str]],
        raw: Sequence[str],
        levels: Sequence[Mapping[str, str]],
        rows: str,
    ) -> str:
        sums = [column for ending in self._endings() for column in columns(ending)]
        if not self._is_cut:
            return summed(keys, sums, ("first_ms", *raw), levels, rows)
        return summed(keys, [*sums, "in_first", "in_second"], ("first_ms", "hours", *raw), levels, rows)


def _in_hours(amounts: str, ending: str) -> str:
    """The sum of an array by hour, or of its hours in the second segment."""
    return f"arraySum((x, y) -> x * y, {amounts}, is_second)" if ending else f"arraySum({amounts})"


def units_by_hour(weights: Mapping[str, int]) -> str:
    """Thousandths of weighted tokens by hour."""
    names = [f"x{i}" for i in range(len(weights))]
    weighted = " + ".join(f"{int(weight)} * {name}" for name, weight in zip(names, weights.values(), strict=True))
    return f"arrayMap(({', '.join(names)}) -> {weighted}, {', '.join(map(by_hour, weights))})"


def _expected(weights: Mapping[str, int]) -> dict[str, str]:
    """As `work_sql` of hours has it: millionths of weighted tokens, and those of the reference pace."""
    return {
        "made": f"arrayMap(x -> x * 1000, {units_by_hour(weights)})",
        "expected": "arrayMap(x -> x * greatest(pace, toInt64(0)), active_ms_by_hour)",
    }


_DONE = {
    "is_whole": "arrayMap((x, y) -> x >= y AND (y > 0 OR x > 0), made, expected)",
    "about": (
        "arrayMap((x, y, z) -> toInt64(floor(toFloat64(x) * (toFloat64(y) / toFloat64(greatest(z, 1))))), "
        "active_mj_by_hour, made, expected)"
    ),
    "left_over": (
        "arrayMap((x, y, z, w) -> toUInt64(x) * toUInt64(y) - toUInt64(z) * toUInt64(w), "
        "active_mj_by_hour, made, about, expected)"
    ),
    "done_ms": (
        "arrayMap((x, y, z) -> if(x, y, if(pace > 0, intDiv(z, greatest(pace, toInt64(1))), toInt64(0))), "
        "is_whole, active_ms_by_hour, made)"
    ),
    "done_mj": (
        "arrayMap((x, y, z, w, v) -> if(x, y, if(z > 0, w - (v < 0) + (v >= z), toInt64(0))), "
        "is_whole, active_mj_by_hour, expected, about, left_over)"
    ),
}
"""And what of active time and energy is productive."""
