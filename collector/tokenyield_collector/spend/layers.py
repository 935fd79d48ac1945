"""One amount of each scope (vendor and account) and day, from layers that show the same tokens. Pure.

In: the slices of a day. Out: lines. The highest layer that a scope has (billed, reported, observed) fixes the amount of
the day. The keys of the next finer layer (team, person, task, key) divide it: tokens kind by kind, money by the part of
the tokens, or of the money, that the finer layer accounts for. What is left keeps the keys of the higher layer: billed,
and not observed. Sums are those of the highest layer, to the token and the millionth, whatever the finer layers say;
what these have beyond it is given apart, and is in no sum.

Of reports of one layer that show the same tokens the one with the highest rank counts where the layer is the highest;
of finer layers the first takes its part, and the next divides what is left.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from operator import itemgetter
from typing import NamedTuple

from tokenyield_collector.prices.money import rounded, split
from tokenyield_collector.prices.period import day_of
from tokenyield_collector.spend.format import SpendGrain, grain_family
from tokenyield_collector.spend.list_prices import plain_model
from tokenyield_collector.spend.slices import (
    EVIDENCE_SOURCE,
    INCLUDED,
    LAYERS,
    NO_AMOUNTS,
    TOKENS,
    UNNAMED,
    Layer,
    SpendAmounts,
    SpendFields,
    SpendSlice,
)
from tokenyield_collector.spend.token_costs import UnbilledPrices

_PARTS = ("fresh", "cache_read", "cache_write", "output", "requests")
"""What is divided; `reasoning` and `long_cache_write` are parts of these, and go with them."""
_FILLED = ("team", "product", "project", "api_key", "workload")
"""What a divided line takes from the higher layer, where that has one value for all of it."""


class ScopedLine(NamedTuple):
    """What was bought on a day. `layer` is where its keys are from; `price_source`: where its money is from, of what
    nobody billed; `is_unseen`: billed or reported, and by no finer layer observed."""

    account: str
    fields: SpendFields
    amounts: SpendAmounts
    layer: Layer
    price_source: str = ""
    is_unseen: bool = False


class Beyond(NamedTuple):
    """What a finer layer saw beyond the amount of its scope."""

    vendor: str
    account: str
    layer: Layer
    tokens: int
    requests: int


@dataclass
class DaySpend:
    """Of one day: lines, and what is beyond them."""

    lines: list[ScopedLine]
    beyond: list[Beyond]


_View = tuple[Layer, int, str, str]
"""(layer, rank, source, report)"""


def spend_of_day(
    slices: Iterable[SpendSlice], grains: Callable[[str, str], SpendGrain], prices: UnbilledPrices
) -> DaySpend:
    """`slices` of one day; `grains`: what a source's report is."""
    scopes: dict[tuple[str, str], dict[_View, list[ScopedLine]]] = defaultdict(lambda: defaultdict(list))
    for key, layer, lines in slices:
        if key.source == EVIDENCE_SOURCE:
            continue
        view = (layer, grains(key.source, key.grain).rank, key.source, grain_family(key.grain))
        for fields, amounts in lines:
            line = _priced(ScopedLine(key.account, fields, amounts, layer), prices, day_of(key.day_ms))
            scopes[fields.vendor, key.account][view].append(line)
    day = DaySpend([], [])
    for (vendor, account), views in sorted(scopes.items(), key=itemgetter(0)):
        ordered = sorted(views, key=lambda view: (LAYERS.index(view[0]), -view[1], view[2:]))
        top, whole = ordered[0][0], views[ordered[0]]
        for view in ordered[1:]:
            if view[0] == top:
                continue
            whole, beyond = _divided(whole, views[view], view[0])
            if beyond.tokens or beyond.requests:
                day.beyond.append(Beyond(vendor, account, view[0], beyond.tokens or 0, beyond.requests or 0))
        has_observed = any(view[0] == "observed" for view in ordered)
        day.lines += [line._replace(is_unseen=_is_unseen(line, has_observed)) for line in whole]
    return day


def _is_unseen(line: ScopedLine, has_observed: bool) -> bool:
    """Billed, or beside what was observed of the same scope: and observed by nothing. What a plan includes is paid with
    its seats."""
    if line.fields.service == INCLUDED or line.layer == "observed":
        return False
    return line.layer == "billed" or has_observed


def _priced(line: ScopedLine, prices: UnbilledPrices, day: date) -> ScopedLine:
    """With its agreed or list price where it has tokens and no money."""
    fields, amounts = line.fields, line.amounts
    if amounts.cost_micro is not None or amounts.tokens is None or fields.service != TOKENS:
        return line
    applied = prices.of(fields.vendor, fields.model, day)
    cost_micro = None if applied is None else applied.price.cost_micro(amounts)
    if applied is None or cost_micro is None:
        return line
    own = fields._replace(currency=applied.currency)
    return line._replace(fields=own, amounts=amounts._replace(cost_micro=cost_micro), price_source=applied.source)


# --- dividing --------------------------------------------------------------------------------------------------------


class _Pool:
    """Lines of the higher layer that are of one thing, and the finer lines that divide them."""

    def __init__(self) -> None:
        self.lines: list[ScopedLine] = []
        self.finer: list[ScopedLine] = []


def _divided(
    lines: Sequence[ScopedLine], finer: Sequence[ScopedLine], layer: Layer
) -> tuple[list[ScopedLine], SpendAmounts]:
    """`lines` with the keys of `finer` where these account for them; and what `finer` has beyond them."""
    rank = LAYERS.index(layer)
    kept: list[ScopedLine] = []
    pools: dict[tuple[str, str, str, bool], _Pool] = defaultdict(_Pool)
    for line in lines:
        fields, amounts = line.fields, line.amounts
        if LAYERS.index(line.layer) >= rank or (amounts.cost_micro or 0) < 0:
            kept.append(line)  # divided already, or a credit
        else:
            key = (fields.service, plain_model(fields.model), fields.currency, amounts.cost_micro is not None)
            pools[key].lines.append(line)
    places = _Places(pools)
    beyond = NO_AMOUNTS
    for one in finer:
        pool = places.of(one.fields)
        if pool is None:
            beyond = beyond.plus(one.amounts)
        else:
            pool.finer.append(one)
    for pool in pools.values():
        more, left = _divide(pool, layer)
        kept += more
        beyond = beyond.plus(left)
    return kept, beyond._replace(cost_micro=None)


class _Places:
    """Which pool a finer line falls to: of its service and model; of its service, where the higher layer names no
    model; of what is not named. Of several with money in other currencies the first."""

    def __init__(self, pools: dict[tuple[str, str, str, bool], _Pool]) -> None:
        self._pools: dict[tuple[str, str], _Pool] = {}
        for (service, model, _, _), pool in sorted(pools.items(), key=lambda one: (not one[0][3], one[0])):
            self._pools.setdefault((service, model), pool)

    def of(self, fields: SpendFields) -> _Pool | None:
        model = plain_model(fields.model)
        wanted = ((fields.service, model), (fields.service, ""), (UNNAMED, model), (UNNAMED, ""))
        return next((self._pools[place] for place in wanted if place in self._pools), None)


def _divide(pool: _Pool, layer: Layer) -> tuple[list[ScopedLine], SpendAmounts]:
    """The lines of a pool, divided; and what its finer lines have beyond it."""
    if not pool.finer:
        return pool.lines, NO_AMOUNTS
    whole, seen = _sum(pool.lines), _sum(pool.finer)
    taken = {name: _taken(getattr(whole, name), getattr(seen, name)) for name in _PARTS}
    parts = {
        name: split(count, [getattr(line.amounts, name) or 0 for line in pool.finer]) if count is not None else None
        for name, count in taken.items()
    }
    cost, currency = whole.cost_micro, pool.lines[0].fields.currency
    seen_cost = None
    if cost is not None:
        numerator, denominator = _coverage(whole, _sum(_of_currency(pool.finer, currency)), seen, taken, layer)
        seen_cost = rounded(cost * numerator, denominator)
    costs = None if seen_cost is None else split(seen_cost, _weights(pool.finer))
    shared = {
        name: values.pop() for name in _FILLED if len(values := {getattr(x.fields, name) for x in pool.lines}) == 1
    }
    price_source = next((line.price_source for line in pool.lines if line.price_source), "")
    divided = []
    for i, one in enumerate(pool.finer):
        amounts = one.amounts._replace(
            **{name: None if own is None else own[i] for name, own in parts.items()},
            cost_micro=None if costs is None else costs[i],
        )
        fields = one.fields._replace(
            **{name: value for name, value in shared.items() if not getattr(one.fields, name)}, currency=currency
        )
        own_amounts = _with_parts(amounts)
        divided.append(one._replace(fields=fields, amounts=own_amounts, layer=layer, price_source=price_source))
    rest_cost = None if cost is None or seen_cost is None else cost - seen_cost
    rest = {name: _less(getattr(whole, name), count) for name, count in taken.items()}
    left = [*_rest(pool.lines, rest, rest_cost)]
    more = {name: _less(getattr(seen, name), count) for name, count in taken.items()}
    return [*divided, *left], SpendAmounts(**more)


def _coverage(
    whole: SpendAmounts, priced: SpendAmounts, seen: SpendAmounts, taken: dict[str, int | None], layer: Layer
) -> tuple[int, int]:
    """The part (numerator, denominator) of the higher layer's money that the finer one accounts for: by tokens, else by
    the money of `priced`, its lines in the same currency; nothing where neither can be compared. What a vendor reports
    is all of what it bills, where its bill has no tokens."""
    if whole.tokens and seen.tokens:
        return sum(taken[name] or 0 for name in _PARTS[:-1] if getattr(whole, name) is not None), whole.tokens
    if layer == "reported" and (seen.tokens or seen.requests):
        return 1, 1
    if whole.cost_micro and priced.cost_micro and priced.cost_micro > 0:
        return min(priced.cost_micro, whole.cost_micro), whole.cost_micro
    return (0, 1) if whole.cost_micro else (1, 1)


def _of_currency(lines: Sequence[ScopedLine], currency: str) -> list[ScopedLine]:
    return [line for line in lines if line.fields.currency == currency]


def _weights(lines: Sequence[ScopedLine]) -> list[int]:
    """By money where all of it is known, else by tokens, else by requests."""
    costs = [line.amounts.cost_micro for line in lines]
    is_one_currency = len({line.fields.currency for line in lines}) == 1
    if is_one_currency and all(cost is not None and cost >= 0 for cost in costs) and any(costs):
        return [cost or 0 for cost in costs]
    tokens = [line.amounts.tokens or 0 for line in lines]
    return tokens if any(tokens) else [line.amounts.requests or 0 for line in lines]


def _taken(whole: int | None, seen: int | None) -> int | None:
    """What of the finer layer's count is within the higher one's; all of it where that has none."""
    return seen if whole is None else min(whole, seen or 0)


def _less(count: int | None, taken: int | None) -> int | None:
    """What is left; None where nothing is known of it."""
    return None if count is None else count - min(count, taken or 0)


def _rest(lines: Sequence[ScopedLine], rest: dict[str, int | None], rest_cost: int | None) -> Iterator[ScopedLine]:
    """Of each line the same part of what is left."""
    parts = {
        name: split(count, [getattr(line.amounts, name) or 0 for line in lines]) if count is not None else None
        for name, count in rest.items()
    }
    costs = None if rest_cost is None else split(rest_cost, [line.amounts.cost_micro or 0 for line in lines])
    for i, line in enumerate(lines):
        amounts = line.amounts._replace(
            **{name: None if own is None else own[i] for name, own in parts.items()},
            cost_micro=None if costs is None else costs[i],
        )
        if any(amounts):
            yield line._replace(amounts=_with_parts(amounts))


def _with_parts(amounts: SpendAmounts) -> SpendAmounts:
    """`reasoning` and `long_cache_write` are at most what they are parts of."""
    return amounts._replace(
        reasoning=_at_most(amounts.reasoning, amounts.output),
        long_cache_write=_at_most(amounts.long_cache_write, amounts.cache_write),
    )


def _at_most(part: int | None, whole: int | None) -> int | None:
    return None if part is None else min(part, whole or 0)


def _sum(lines: Iterable[ScopedLine]) -> SpendAmounts:
    whole: SpendAmounts = NO_AMOUNTS
    for line in lines:
        whole = whole.plus(line.amounts)
    return whole
