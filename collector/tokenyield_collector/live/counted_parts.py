"""What counters stand at, as the ledger keeps it (ledger/kept.py): parts of an hour or of a day, and the sum of all.

A part has what its hours added to each series, and of each hour the revision of the facts that were counted. So a
start reads the sum alone, and an hour whose facts are others by then is counted again in the place of its part. The sum
names the parts that it is of: where a kill left another one, the parts are added up again.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from tokenyield_collector.ledger.kept import SETTLED_PREFIX, FigureStore, KeptFigure, packed, unpacked
from tokenyield_collector.live.series import Series, of_rows, rows_of
from tokenyield_collector.live.series_names import Labels, name_of
from tokenyield_wire.units import MS_PER_DAY

PREFIX = "counted/"
HOUR, DAY = "hour", "day"
"""Kinds of parts. Their names are `counted/<kind>/<start in ms>`."""
assert f"{PREFIX}{DAY}/" == SETTLED_PREFIX
SUM = "counted"
"""The name of the figure that has the sum of all parts."""
Names = dict[tuple[str, Labels], int]
"""(class, name) of series -> the hour (ms) in which it was first seen; 0 before all that are kept."""


class _Prepared(NamedTuple):
    """What is to be written, and what is stored then."""

    figures: list[KeptFigure]
    gone: list[str]
    stored: dict[str, str]


class CountedParts:
    """All parts, and what they come to. What is to be written waits for `write`."""

    def __init__(self, store: FigureStore | None, from_ms: int) -> None:
        """Hours before `from_ms` are in the bases of the ledger."""
        self._store = store
        self._stored: dict[str, str] = dict(store.inputs(PREFIX)) if store is not None else {}
        """Name -> inputs."""
        self._unwritten: dict[str, KeptFigure] = {}
        self._prepared: _Prepared | None = None
        self.revisions: dict[str, dict[int, int]] = {}
        """Part -> its hours and their revisions."""
        self.part_of: dict[int, str] = {}
        """Hour -> the part that has it."""
        self.sums: dict[Series, int] = defaultdict(int)
        self.names: Names = {}
        for name, inputs in self._stored.items():
            revisions = dict(json.loads(inputs))
            if revisions and min(revisions) >= from_ms and not self.part_of.keys() & revisions.keys():
                self._list(name, revisions)
        if not self._read_sum():
            self._add_up()

    # --- which hours are in which part -----------------------------------------------------------------------------

    def revision(self, hour_ms: int) -> int | None:
        name = self.part_of.get(hour_ms)
        return self.revisions[name][hour_ms] if name is not None else None

    def hours_of(self, name: str) -> list[int]:
        return sorted(self.revisions[name])

    def hours_beside(self, hour_ms: int) -> set[int]:
        """All of the part that has this hour; none where none has it."""
        name = self.part_of.get(hour_ms)
        return set(self.revisions[name]) if name is not None else set()

    def parts_of_day(self, day_ms: int) -> list[str]:
        return sorted({name for h, name in self.part_of.items() if h - h % MS_PER_DAY == day_ms})

    def days_of_hours(self, before_ms: int) -> list[int]:
        """Days before that instant of which hours are kept one by one."""
        hours = (min(self.revisions[name]) for name in self.revisions if name.startswith(f"{PREFIX}{HOUR}/"))
        return sorted({hour_ms - hour_ms % MS_PER_DAY for hour_ms in hours if hour_ms < before_ms})

    def before(self, before_ms: int) -> list[str]:
        """Parts that end up to there."""
        return sorted(name for name, revisions in self.revisions.items() if max(revisions) < before_ms)

    def whole_until_ms(self, before_ms: int) -> int:
        """The same instant, or the start of its day where a part goes over it."""
        crossing = any(min(hours) < before_ms <= max(hours) for hours in self.revisions.values())
        return before_ms - before_ms % MS_PER_DAY if crossing else before_ms

    # --- parts -----------------------------------------------------------------------------------------------------

    def add(self, kind: str, start_ms: int, revisions: Mapping[int, int], values: Mapping[Series, int]) -> None:
        name = f"{PREFIX}{kind}/{start_ms}"
        self._unwritten[name] = KeptFigure(name, _inputs(revisions), packed(rows_of(values)))
        self._list(name, dict(revisions))
        for series, value in values.items():
            self.sums[series] += value

    def take(self, name: str) -> dict[Series, int]:
        """Take a part out; returns what it had."""
        figure = self._unwritten.pop(name, None)
        rows = unpacked(figure.content if figure is not None else self._content(name))
        values = of_rows(rows or ())
        for series, value in values.items():
            self.sums[series] -= value
        for hour_ms in self.revisions.pop(name):
            del self.part_of[hour_ms]
        return values

    def _list(self, name: str, revisions: dict[int, int]) -> None:
        self.revisions[name] = revisions
        self.part_of |= dict.fromkeys(revisions, name)

    # --- what is written -------------------------------------------------------------------------------------------

    def prepare(self, names: Names) -> None:
        """What `write` is to write, where anything is other than in the ledger."""
        gone = [name for name in self._stored if name not in self.revisions]
        if not gone and not self._unwritten:
            return
        stored = self._wanted()
        first_seen = [[name_class, *name, at_ms] for (name_class, name), at_ms in names.items()]
        content = packed({"values": rows_of(self.sums), "names": first_seen})
        total = KeptFigure(SUM, _digest(stored), content)
        self._prepared = _Prepared([*self._unwritten.values(), total], gone, stored)

    def write(self) -> None:
        """In the writing thread, while nothing is counted. Raises `LedgerError`; it is tried again then."""
        if self._prepared is not None and self._store is not None:
            self._store.keep(self._prepared.figures, self._prepared.gone)
            self._stored, self._unwritten = self._prepared.stored, {}
        self._prepared = None

    def _wanted(self) -> dict[str, str]:
        return {name: _inputs(revisions) for name, revisions in self.revisions.items()}

    # --- the start -------------------------------------------------------------------------------------------------

    def _read_sum(self) -> bool:
        """Whether it is there, and of just these parts."""
        if not self.revisions:
            return True
        if self._store is None or self._store.inputs(SUM).get(SUM) != _digest(self._wanted()):
            return False
        document: Any = unpacked(self._content(SUM))
        if document is None:
            return False
        self.sums = defaultdict(int, of_rows(document["values"]))
        self.names = {(name_class, tuple(name)): at_ms for name_class, *name, at_ms in document["names"]}
        return True

    def _add_up(self) -> None:
        """A part that cannot be read is counted again."""
        for name in list(self.revisions):
            first_ms, rows = min(self.revisions[name]), unpacked(self._content(name))
            if rows is None:
                for hour_ms in self.revisions.pop(name):
                    del self.part_of[hour_ms]
                continue
            for series, value in of_rows(rows).items():
                self.sums[series] += value
                if (named := name_of(series.metric, series.labels)) is not None:
                    self.names[named] = min(first_ms, self.names.get(named, first_ms))

    def _content(self, name: str) -> str:
        return self._store.contents([name]).get(name, "") if self._store is not None else ""


def _inputs(revisions: Mapping[int, int]) -> str:
    return json.dumps(sorted(revisions.items()), separators=(",", ":"))


def _digest(stored: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(stored.items())).encode()).hexdigest()[:32]
