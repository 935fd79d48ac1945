"""Rows become slices: added up by their fields, money rounded once, people as the setting allows. Pure.

Money of a slice is the exact sum of its rows, rounded to a millionth; its lines sum to that, by largest remainder. A
slice with too many lines loses its finest fields, one after the other; what it counts stays.
"""

from collections.abc import Callable
from operator import itemgetter

from tokenyield_collector.prices.money import rounded
from tokenyield_collector.spend.format import SpendRow, grain_family
from tokenyield_collector.spend.slices import (
    COST_MICRO_MAX,
    FOLDED,
    SLICE_LINES_MAX,
    Layer,
    SpendAmounts,
    SpendFields,
    SpendKey,
    SpendLine,
    SpendSlice,
    sum_of_two,
)
from tokenyield_collector.spend.values import PICO_PER_MICRO, UnusableSpend
from tokenyield_wire.window import COUNT_MAX

DEFAULT_ACCOUNT = "default"
LINES_MAX = 2_000_000
"""Lines of one import, in memory."""
_LineKey = tuple[SpendFields, bool]
"""Fields, and whether the money is known: what has a price never hides what has none."""
_Sums = tuple[SpendAmounts, int | None]


class _SliceLines:
    """The lines of one slice."""

    def __init__(self) -> None:
        self.lines: dict[_LineKey, _Sums] = {}
        self.folded: list[str] = []

    def add(self, fields: SpendFields, amounts: SpendAmounts, cost_pico: int | None) -> None:
        if self.folded:
            fields = fields._replace(**dict.fromkeys(self.folded, ""))
        key = (fields, cost_pico is None)
        before = self.lines.get(key)
        if before is None:
            self.lines[key] = amounts, cost_pico
        else:
            self.lines[key] = before[0].plus(amounts), sum_of_two(before[1], cost_pico)
        while len(self.lines) > SLICE_LINES_MAX and len(self.folded) < len(FOLDED):
            self._fold(FOLDED[len(self.folded)])

    def _fold(self, field: str) -> None:
        lines, self.lines = self.lines, {}
        self.folded.append(field)
        for (fields, _), (amounts, cost_pico) in lines.items():
            key = (fields._replace(**{field: ""}), cost_pico is None)
            before = self.lines.get(key)
            self.lines[key] = (
                (amounts, cost_pico) if before is None else (before[0].plus(amounts), sum_of_two(before[1], cost_pico))
            )


class SliceBuilder:
    """Of one import of one source. `account`: of all rows, instead of those that they name."""

    def __init__(
        self,
        source: str,
        layers: Callable[[str], Layer],
        *,
        account: str = "",
        people: Callable[[SpendFields, int], SpendFields] = lambda fields, day_ms: fields,
        lines_max: int = LINES_MAX,
    ) -> None:
        self._source = source
        self._layers = layers
        self._account = account
        self._people = people
        self._slices: dict[SpendKey, _SliceLines] = {}
        self._count = 0
        self._lines_max = lines_max

    def add(self, row: SpendRow) -> None:
        """Raises `UnusableSpend` where there are too many lines."""
        key = SpendKey(self._source, self._account or row.account or DEFAULT_ACCOUNT, row.day_ms, row.grain)
        own = self._slices.get(key)
        if own is None:
            own = self._slices[key] = _SliceLines()
        before = len(own.lines)
        own.add(self._people(row.fields, row.day_ms), row.amounts, row.cost_pico)
        self._count += len(own.lines) - before
        if self.is_full:
            raise UnusableSpend("files", expected=f"at most {self._lines_max} lines in one import", found="more",
                                fix="import fewer days at once")  # fmt: skip

    @property
    def is_full(self) -> bool:
        """Whether lines are missing."""
        return self._count > self._lines_max

    @property
    def folded(self) -> dict[SpendKey, list[str]]:
        """Slices that were too large -> the fields that they lost."""
        return {key: own.folded for key, own in self._slices.items() if own.folded}

    def slices(self) -> list[SpendSlice]:
        return [
            SpendSlice(key, self._layers(grain_family(key.grain)), _rounded_lines(own.lines))
            for key, own in sorted(self._slices.items(), key=itemgetter(0))
        ]


def _rounded_lines(lines: dict[_LineKey, _Sums]) -> tuple[SpendLine, ...]:
    """In the order of their fields; those without money after those with it."""
    ordered = sorted(lines.items(), key=itemgetter(0))
    micros: dict[int, int] = {}
    for currency in {fields.currency for fields, _ in lines}:
        own = [(i, pico) for i, ((fields, _), (_, pico)) in enumerate(ordered)
               if fields.currency == currency and pico is not None]  # fmt: skip
        micros.update(_micros(own))
    return tuple(
        SpendLine(fields, _bounded(amounts)._replace(cost_micro=micros.get(i)))
        for i, ((fields, _), (amounts, _)) in enumerate(ordered)
    )


def _micros(picos: list[tuple[int, int]]) -> dict[int, int]:
    """(number, picos) -> number -> micros, which sum to the rounded sum."""
    floors = {i: pico // PICO_PER_MICRO for i, pico in picos}
    missing = rounded(sum(pico for _, pico in picos), PICO_PER_MICRO) - sum(floors.values())
    for i, _ in sorted(picos, key=lambda one: (-(one[1] % PICO_PER_MICRO), one[0]))[:missing]:
        floors[i] += 1
    return {i: max(-COST_MICRO_MAX, min(COST_MICRO_MAX, micro)) for i, micro in floors.items()}


def _bounded(amounts: SpendAmounts) -> SpendAmounts:
    """A sum is at most what a column takes, as in all of the ledger."""
    return SpendAmounts(*(None if value is None else min(value, COUNT_MAX) for value in amounts))
