"""Months to date as the ledger keeps them (ledger/kept.py): each computed once for a policy and the facts of then.

In: a `FigureStore`. Out: `KeptMonth`s. Their names are `to date/<policy>/<month>`, or `earlier` in the place of the
month for the sum of all but the newest. The figure `to date` has what was shown last, so that the next start shows it
at once, however many months that are, also while another policy is being applied.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import msgspec

from tokenyield_collector.ledger.kept import FigureStore, KeptFigure, packed, unpacked
from tokenyield_collector.live.series import Series, of_rows, rows_of
from tokenyield_collector.statements.gaps import DayGap
from tokenyield_collector.statements.references import AppliedReference

PREFIX = "to date/"
SHOWN = "to date"
"""The name of the figure that has what was shown last."""


@dataclass(frozen=True, kw_only=True)
class MonthToDate:
    """A statement as series. Money is still in quanta, so that months add up exactly."""

    values: dict[Series, int] = field(default_factory=dict)
    references: list[AppliedReference] = field(default_factory=list)
    gaps: list[DayGap] = field(default_factory=list)


class KeptMonth(NamedTuple):
    """What was computed of one month. `content` is its series and what is beside them, packed: a year of 10,000 GPUs
    has 400,000 series, which take 200 MB as Python's objects and 6 MB so."""

    month: str
    start_ms: int
    end_ms: int
    inputs: str
    content: str

    @classmethod
    def of(cls, month: str, span: tuple[int, int], inputs: str, computed: MonthToDate) -> "KeptMonth":
        document = {"start_ms": span[0], "end_ms": span[1]} | _document(computed)
        return cls(month, *span, inputs, packed(document))

    def unpacked(self) -> MonthToDate:
        """Of 10,000 GPUs this takes a while: once for each use."""
        return _of_document(unpacked(self.content))

    def is_of(self, start_ms: int, end_ms: int, inputs: str) -> bool:
        return (self.start_ms, self.end_ms, self.inputs) == (start_ms, end_ms, inputs)


def _document(figures: MonthToDate) -> dict[str, Any]:
    return {
        "values": rows_of(figures.values),
        "references": msgspec.to_builtins(figures.references),
        "gaps": msgspec.to_builtins(figures.gaps),
    }


def _of_document(document: Any) -> MonthToDate:
    return MonthToDate(
        values=of_rows(document["values"]),
        references=msgspec.convert(document["references"], list[AppliedReference]),
        gaps=msgspec.convert(document["gaps"], list[DayGap]),
    )


class ShownLast(NamedTuple):
    """What was shown last, with what it needs to be shown."""

    policy: str
    dimensions: tuple[str, ...]
    currency: str
    end_ms: int
    figures: MonthToDate
    """Its values are those of all months and bases, as they are shown; the rest is the newest month's."""


class KeptMonths:
    """Those of one policy, and what was shown last. Reads at once; what is to be written waits for `write`."""

    def __init__(self, store: FigureStore, policy: str, dimensions: tuple[str, ...], currency: str) -> None:
        self._store = store
        self._policy = policy
        self._dimensions = dimensions
        self._currency = currency
        self._unwritten: list[KeptFigure] = []
        self._forget_others_than: set[str] | None = None

    def month(self, month: str, inputs: str) -> KeptMonth | None:
        """The one that was computed from these inputs."""
        name = self._name(month)
        if self._store.inputs(name).get(name) != inputs:
            return None
        return _month(name, inputs, self._store.contents([name]).get(name, ""))

    def add(self, month: KeptMonth) -> None:
        self._unwritten.append(KeptFigure(self._name(month.month), month.inputs, month.content))

    def show(self, months: Iterable[KeptMonth], values: Mapping[Series, int]) -> None:
        """These (the newest last) are shown from now on, as `values`; others go, their sum as well."""
        names, newest = set(), None
        for newest in months:
            names.add(self._name(newest.month))
        of_newest = newest.unpacked() if newest is not None else MonthToDate()
        document = {
            "dimensions": list(self._dimensions),
            "currency": self._currency,
            "end_ms": newest.end_ms if newest is not None else -1,
        }
        document |= _document(replace(of_newest, values=dict(values)))
        self._unwritten.append(KeptFigure(SHOWN, self._policy, packed(document)))
        self._forget_others_than = names

    def write(self) -> None:
        """In the writing thread, while no month is computed."""
        kept = self._forget_others_than
        gone = [] if kept is None else [name for name in self._store.inputs(PREFIX) if name not in kept]
        if self._unwritten or gone:
            self._store.keep(self._unwritten, gone)
        self._unwritten, self._forget_others_than = [], None

    def shown(self) -> ShownLast | None:
        """What was shown last; None where that is unknown."""
        policy, content = self._store.inputs(SHOWN).get(SHOWN), self._store.contents([SHOWN]).get(SHOWN)
        document = unpacked(content) if content else None
        if policy is None or document is None or "values" not in document:
            return None
        dimensions, currency, end_ms = tuple(document["dimensions"]), document["currency"], document["end_ms"]
        return ShownLast(policy, dimensions, currency, end_ms, _of_document(document))

    def _name(self, month: str) -> str:
        return f"{PREFIX}{self._policy}/{month}"


def _month(name: str, inputs: str, content: str) -> KeptMonth | None:
    document: Any = unpacked(content) if content else None
    if document is None:
        return None
    return KeptMonth(name.rpartition("/")[2], document["start_ms"], document["end_ms"], inputs, content)
