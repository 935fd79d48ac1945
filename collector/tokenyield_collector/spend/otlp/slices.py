"""The points of a day become its slices. Pure.

What one client shows by several signals counts once: of spans, events and metrics the first, the finest, that has at
least `FINE_ENOUGH` of the tokens of the one with most. So a signal that is sampled, or was off for a while, does not
hide what another counted, and what falls to the other side of midnight changes nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from tokenyield_collector.spend.builder import DEFAULT_ACCOUNT, SliceBuilder
from tokenyield_collector.spend.format import SpendRow
from tokenyield_collector.spend.otlp.points import SIGNALS, ObservedAmounts
from tokenyield_collector.spend.slices import SpendAmounts, SpendFields, SpendKey, SpendSlice, sum_of_two
from tokenyield_wire.window import COUNT_MAX

SOURCE = "otlp"
GRAIN = "received"
FINE_ENOUGH = Fraction(9, 10)
_PICO_PER_NANO = 1000


class ObservedSum(NamedTuple):
    """What the points of a day sum to that have all this in common."""

    account: str
    sender: str
    signal: str
    client: str
    fields: SpendFields
    amounts: ObservedAmounts


def slices_of_day(day_ms: int, sums: Iterable[ObservedSum], stored: Iterable[SpendKey]) -> list[SpendSlice]:
    """Those of the day, and empty ones in the place of what is stored and has no points any more."""
    clients: dict[tuple[str, str, str], dict[str, list[ObservedSum]]] = defaultdict(lambda: defaultdict(list))
    for one in sums:
        clients[one.account, one.sender, one.client][one.signal].append(one)
    lines: dict[tuple[str, str, SpendFields, bool], ObservedAmounts] = {}
    for signals in clients.values():
        for one in signals[shown_signal(signals)]:
            is_unpriced = one.signal != "metrics" and one.amounts.cost_nano is None
            line = (one.account, one.sender, one.fields, is_unpriced)
            before = lines.get(line)
            lines[line] = one.amounts if before is None else ObservedAmounts(*map(sum_of_two, before, one.amounts))
    builder = SliceBuilder(SOURCE, lambda _: "observed")
    for (account, sender, fields, _), amounts in lines.items():
        builder.add(_row(day_ms, account, sender, fields, amounts))
    slices = {one.key: one for one in builder.slices()}
    for key in stored:
        if key.source == SOURCE and key.day_ms == day_ms and key not in slices:
            slices[key] = SpendSlice(key, "observed", ())
    return [slices[key] for key in sorted(slices)]


def shown_signal(signals: Mapping[str, Sequence[ObservedSum]]) -> str:
    """Of one client. Tokens decide; where none has any, money."""
    tokens = {signal: sum(_tokens(one.amounts) for one in sums) for signal, sums in signals.items()}
    costs = {signal: sum(one.amounts.cost_nano or 0 for one in sums) for signal, sums in signals.items()}
    weights = tokens if any(tokens.values()) else costs
    enough = max(weights.values()) * FINE_ENOUGH
    return next(signal for signal in (*SIGNALS, *signals) if signal in weights and weights[signal] >= enough)


def _tokens(amounts: ObservedAmounts) -> int:
    return sum(count or 0 for count in (amounts.fresh, amounts.cache_read, amounts.cache_write, amounts.output))


def _row(day_ms: int, account: str, sender: str, fields: SpendFields, amounts: ObservedAmounts) -> SpendRow:
    counts = {name: _bounded(getattr(amounts, name)) for name in ObservedAmounts._fields[:-1]}
    cost_pico = None if amounts.cost_nano is None else amounts.cost_nano * _PICO_PER_NANO
    grain = f"{GRAIN}:{sender}"
    return SpendRow(grain, day_ms, fields, SpendAmounts(**counts), cost_pico, account or DEFAULT_ACCOUNT)


def _bounded(count: int | None) -> int | None:
    """Below 0 where the whole of a part has not come in."""
    return None if count is None else min(max(count, 0), COUNT_MAX)
