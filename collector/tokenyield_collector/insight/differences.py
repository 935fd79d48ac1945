"""The difference of two costs, divided into effects that sum to it exactly. Pure.

In: what one row of a comparison consists of in both periods (`RowFacts`). Out: effect -> quanta (prices/money.py).

The way is price-volume-mix analysis as a chain: the cost of the first period is taken to that of the second one change
at a time, each state of the chain is rounded to a quantum, and an effect is the step between two states. So effects sum
to the difference whatever the figures are.

* `gone`, `new`: of a unit (a workload, or a vendor) that cost nothing in one of the two periods, everything
* `length`: the rest of the first period, as if it had been as long as the second
* work of which tokens are known: `volume` at the row's old cost per token; `mix` (each model at its own old cost per
  token; a model that was not there, at its new one); `cache` and `answers`, by the price book's token weights; `pace`
  (GPU time per weighted token, at the old cost of a GPU-hour); `energy` (its cost beyond that expected for the work);
  `price`, which is the rest
* other work by its GPU time: `volume`, `energy`, `price`
* capacity (`idle`, `unallocated`, `dark`), for each pool: its time at the old price; `energy`; `price`
* `charges`: what has neither tokens nor time; `shared`: what sharing moved
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from tokenyield_collector.prices.components import POWER_BILL
from tokenyield_collector.statements.buckets import ACTIVE_BUCKETS, IDLE_CAPACITY
from tokenyield_collector.statements.lines import LineKey, Sums
from tokenyield_collector.statements.names import model_name, workload_name
from tokenyield_wire.window import TOKEN_KINDS


class Part(NamedTuple):
    """What the lines of a row are compared by. `unit`: a workload of the own fleet, or a vendor; empty for capacity
    that nobody carries, which is neither new nor gone."""

    unit: str
    model: str
    pool: str | None


RowFacts = Mapping[Part, Sums]
"""A row of one period. The grain of its lines must have workloads."""
Weights = Mapping[str, int]
"""Kind of token -> how much it counts."""


def part_of(key: LineKey) -> Part:
    carrier = key.carrier
    if carrier.is_lost:
        return Part("", "", key.pool)
    unit = f"vendor {carrier.vendor}" if carrier.vendor else f"workload {workload_name(carrier)}"
    return Part(unit, model_name(carrier), key.pool)


def effects_of(before: RowFacts, after: RowFacts, length: Fraction, weights: Weights) -> dict[str, int]:
    """`length`: how many times as long the second period is. Effects of 0 are left out."""
    effects: Counter[str] = Counter()
    old_units, new_units = ({part.unit for part in facts if part.unit} for facts in (before, after))
    effects["gone"] = -sum(sums.total for part, sums in before.items() if part.unit and part.unit not in new_units)
    effects["new"] = sum(sums.total for part, sums in after.items() if part.unit and part.unit not in old_units)
    in_both = old_units & new_units
    old, new = (
        [(part, sums) for part, sums in facts.items() if not part.unit or part.unit in in_both]
        for facts in (before, after)
    )
    for chain in (
        *_work_chains(_work(old, length), _work(new), weights),
        *_capacity_chains(_capacity(old, length), _capacity(new)),
        _shared_chain(old, new, length),
    ):
        for effect, quanta in chain:
            effects[effect] += quanta
    return {effect: quanta for effect, quanta in effects.items() if quanta}


class _Quantities(NamedTuple):
    """Of work, or of capacity. `power`: the part of the cost that is a power bill; `counts`: tokens by kind."""

    cost: Fraction = Fraction()
    power: Fraction = Fraction()
    ms: Fraction = Fraction()
    counts: tuple[Fraction, ...] = (Fraction(),) * len(TOKEN_KINDS)
    unscaled: int = 0
    """The cost in the period's own length."""

    @property
    def tokens(self) -> Fraction:
        return sum(self.counts, Fraction())

    @property
    def rest(self) -> Fraction:
        """The cost without the power bill."""
        return self.cost - self.power

    def plus(self, other: "_Quantities") -> "_Quantities":
        return _Quantities(
            self.cost + other.cost,
            self.power + other.power,
            self.ms + other.ms,
            tuple(one + more for one, more in zip(self.counts, other.counts, strict=True)),
            self.unscaled + other.unscaled,
        )


Chain = Iterator[tuple[str, int]]
_Lines = Sequence[tuple[Part, Sums]]


def _work(lines: _Lines, length: Fraction = Fraction(1)) -> dict[tuple[str, str], _Quantities]:
    """By unit and model."""
    whole: dict[tuple[str, str], _Quantities] = defaultdict(_Quantities)
    for part, sums in lines:
        if sums.direct or sums.tokens or sums.active_ms:
            quantities = _scaled(sums, ACTIVE_BUCKETS, sums.active_ms, length)
            counts = tuple(length * sums.get(kind) for kind in TOKEN_KINDS)
            at = (part.unit, part.model)
            whole[at] = whole[at].plus(quantities._replace(counts=counts))
    return whole


def _capacity(lines: _Lines, length: Fraction = Fraction(1)) -> dict[tuple[str, str | None], _Quantities]:
    """By bucket and pool."""
    whole: dict[tuple[str, str | None], _Quantities] = defaultdict(_Quantities)
    for part, sums in lines:
        for bucket in IDLE_CAPACITY:
            ms = sums.get(f"{bucket}_ms")
            if ms or sums.cost(bucket):
                whole[bucket, part.pool] = whole[bucket, part.pool].plus(_scaled(sums, (bucket,), ms, length))
    return whole


def _scaled(sums: Sums, buckets: Sequence[str], ms: int, length: Fraction) -> _Quantities:
    cost = sum(sums.cost(bucket) for bucket in buckets)
    power = sum(sums.cell(bucket, component) for bucket in buckets for component in POWER_BILL)
    return _Quantities(length * cost, length * power, length * ms, unscaled=cost)


def _steps(states: Iterable[tuple[str, Fraction | int]]) -> Chain:
    """The steps between rounded states; the effect of the first state is not used."""
    before: int | None = None
    for effect, state in states:
        rounded = round(state)
        if before is not None:
            yield effect, rounded - before
        before = rounded


# --- work --------------------------------------------------------------------------------------------------------


def _work_chains(
    before: Mapping[tuple[str, str], _Quantities], after: Mapping[tuple[str, str], _Quantities], weights: Weights
) -> Iterator[Chain]:
    by_tokens = []
    for at in sorted(before.keys() | after.keys(), key=repr):
        old, new = before.get(at, _Quantities()), after.get(at, _Quantities())
        if _is_measured(old.tokens, old.cost) and _is_measured(new.tokens, new.cost) and (old.tokens or new.tokens):
            by_tokens.append((old, new))
        elif _is_measured(old.ms, old.cost) and _is_measured(new.ms, new.cost) and (old.ms or new.ms):
            yield _timed_chain("volume", old, new)
        else:
            yield _steps([("", old.unscaled), ("length", old.cost), ("charges", new.cost)])
    if by_tokens:
        yield _token_chain(by_tokens, weights)


def _is_measured(quantity: Fraction, cost: Fraction) -> bool:
    """Whether all cost has a quantity that it is for."""
    return bool(quantity) or not cost


def _timed_chain(effect: str, old: _Quantities, new: _Quantities) -> Chain:
    """Its time at the old price; without the power bill, which comes after."""
    at_old_price = old.rest * new.ms / old.ms if old.ms and new.ms else new.rest
    return _steps(
        [
            ("", old.unscaled),
            ("length", old.cost),
            (effect, at_old_price + old.power),
            ("energy", at_old_price + new.power),
            ("price", new.cost),
        ]
    )


def _token_chain(pairs: Sequence[tuple[_Quantities, _Quantities]], weights: Weights) -> Chain:
    old_cost, old_tokens, new_tokens = (
        sum(values, Fraction())
        for values in zip(*((old.cost, old.tokens, new.tokens) for old, new in pairs), strict=True)
    )
    models = [_model_states(old, new, weights) for old, new in pairs]
    mix, *later = (sum(map(round, states)) for states in zip(*models, strict=True))  # a sum of fractions is slow
    effects = ("cache", "answers", "pace", "energy", "price")
    return _steps(
        [
            ("", sum(old.unscaled for old, _ in pairs)),
            ("length", old_cost),
            ("volume", old_cost * new_tokens / old_tokens if old_tokens else mix),
            ("mix", mix),
            *zip(effects, later, strict=True),
        ]
    )


def _model_states(old: _Quantities, new: _Quantities, weights: Weights) -> tuple[Fraction, ...]:
    """The cost of the new tokens: at the old cost per token, then with the new part from the cache, the new ratio of
    prompt to completion, the new pace, the new power bill, as it is."""
    if not old.tokens or not new.tokens:
        return (new.cost,) * 6
    mix = old.cost * new.tokens / old.tokens
    old_counts, new_counts = old.counts, tuple(count * old.tokens / new.tokens for count in new.counts)
    if old.counts[_UNSPLIT] or new.counts[_UNSPLIT]:  # how much of a prompt was from the cache is not known
        old_counts, new_counts = _without_cache(old_counts), _without_cache(new_counts)
    old_weight = _weight(old_counts, weights)
    cached, answered = (
        mix * _weight(counts, weights) / old_weight if old_weight else mix
        for counts in (_with_cache_of(new_counts, old_counts), new_counts)
    )
    paced = answered
    if old.ms and new.ms and old.cost:
        expected_ms = old.ms * answered / old.cost
        paced += old.rest / old.ms * (new.ms - expected_ms)
    expected_power = old.power * answered / old.cost if old.cost else Fraction()
    return mix, cached, answered, paced, paced + new.power - expected_power, new.cost


def _weight(counts: Sequence[Fraction], weights: Weights) -> Fraction:
    return sum((weights[kind] * count for kind, count in zip(TOKEN_KINDS, counts, strict=True)), Fraction())


_COMPUTED, _CACHED, _UNSPLIT = (TOKEN_KINDS.index(f"prompt_{kind}") for kind in ("computed", "cached", "unsplit"))


def _without_cache(counts: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """All prompts as if they had been computed."""
    prompts = (_COMPUTED, _CACHED, _UNSPLIT)
    whole = sum((counts[i] for i in prompts), Fraction())
    return tuple(whole if i == _COMPUTED else Fraction() if i in prompts else count for i, count in enumerate(counts))


def _with_cache_of(new: Sequence[Fraction], old: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """The old tokens, of whose prompts as large a part is from the cache as now."""
    prompts, now = (counts[_COMPUTED] + counts[_CACHED] for counts in (old, new))
    counts = list(old)
    if prompts and now:
        counts[_CACHED] = prompts * new[_CACHED] / now
        counts[_COMPUTED] = prompts - counts[_CACHED]
    return tuple(counts)


# --- the rest ----------------------------------------------------------------------------------------------------


def _capacity_chains(
    before: Mapping[tuple[str, str | None], _Quantities], after: Mapping[tuple[str, str | None], _Quantities]
) -> Iterator[Chain]:
    for at in sorted(before.keys() | after.keys(), key=repr):
        old, new = before.get(at, _Quantities()), after.get(at, _Quantities())
        yield _timed_chain(at[0], old, new)


def _shared_chain(old: _Lines, new: _Lines, length: Fraction) -> Chain:
    shared = sum(sums.cost("shared") for _, sums in old)
    return _steps([("", shared), ("length", length * shared), ("shared", sum(sums.cost("shared") for _, sums in new))])
