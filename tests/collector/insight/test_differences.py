"""Each effect alone, from facts in which only its cause changed; and what always holds: effects sum to the difference."""

import os
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenyield_collector.insight.differences import Part, effects_of
from tokenyield_collector.insight.effects import NAMES
from tokenyield_collector.prices.components import COMPONENTS
from tokenyield_collector.statements.buckets import BUCKETS, COSTS
from tokenyield_collector.statements.lines import COST_AT, FIELDS, Sums
from tokenyield_wire.window import TOKEN_KINDS

WEIGHTS = {"prompt_computed": 1000, "prompt_cached": 100, "prompt_unsplit": 1000, "completion": 4000}
CHAT = Part("workload chat", "llama", "h100")
SMALL = CHAT._replace(model="tiny")
OTHER = Part("workload other", "llama", "h100")
NOBODY = Part("", "", "h100")
VENDOR = Part("vendor anthropic", "opus", "anthropic")
FEES = VENDOR._replace(model="")
SAME = Fraction(1)


def sums(**values: int) -> Sums:
    """`productive`, `idle`, ...: cost in the component hardware; `productive__energy`: in another."""
    made = Sums()
    for name, value in values.items():
        bucket, _, component = name.partition("__")
        if bucket in COSTS:
            made[COST_AT[bucket] + COMPONENTS.index(component or "hardware")] += value
        else:
            made.add(name, value)
    return made


def work(**values: int) -> Sums:
    return sums(**{"productive": 1000, "productive_ms": 100, "prompt_computed": 80, "completion": 20, **values})


@pytest.mark.parametrize(
    ("before", "after", "effects"),
    [
        ({CHAT: work()}, {CHAT: work()}, {}),
        ({CHAT: work()}, {}, {"gone": -1000}),
        ({}, {CHAT: work(idle=5)}, {"new": 1005}),
        ({CHAT: work()}, {OTHER: work(productive=700)}, {"gone": -1000, "new": 700}),
        (
            {CHAT: work()},
            {CHAT: work(productive=2000, productive_ms=200, prompt_computed=160, completion=40)},
            {"volume": 1000},
        ),
        ({CHAT: work()}, {CHAT: work(productive=1500, productive_ms=150)}, {"pace": 500}),
        ({CHAT: work()}, {CHAT: work(productive=1500)}, {"price": 500}),
        ({CHAT: work(productive__energy=100)}, {CHAT: work(productive__energy=250)}, {"energy": 150}),
        # A half of the old prompts is cached: their weight goes from 160 to 124.
        (
            {CHAT: work()},
            {CHAT: work(productive=775, prompt_computed=40, prompt_cached=40, productive_ms=0)},
            {"cache": -225},
        ),
        # As many tokens, half of them of answers: the weight goes from 160 to 250.
        (
            {VENDOR: work(productive_ms=0)},
            {VENDOR: work(productive=1562, prompt_computed=50, completion=50, productive_ms=0)},
            {"answers": 562},
        ),
        # What part of it is cached is not known now: that is no effect of the cache.
        (
            {VENDOR: work(productive_ms=0, prompt_computed=40, prompt_cached=40)},
            {VENDOR: work(productive_ms=0, prompt_computed=0, prompt_unsplit=80)},
            {},
        ),
        # All of it goes to a model at half the price: the volume is the same.
        (
            {CHAT: work(), SMALL: work(productive=500)},
            {SMALL: work(productive=1000, productive_ms=200, prompt_computed=160, completion=40)},
            {"mix": -500},
        ),
        # To a model that was not there.
        ({CHAT: work()}, {SMALL: work(productive=400)}, {"mix": -600}),
        # No tokens: by the time.
        (
            {CHAT: sums(productive=1000, productive_ms=100)},
            {CHAT: sums(productive=3000, productive_ms=150)},
            {"volume": 500, "price": 1500},
        ),
        # Tokens were not counted before: nothing is known but the time.
        (
            {CHAT: sums(productive=1000, productive_ms=100)},
            {CHAT: work(productive=2000, productive_ms=200)},
            {"volume": 1000},
        ),
        ({FEES: sums(productive=70)}, {FEES: sums(productive=100)}, {"charges": 30}),
        ({VENDOR: work()}, {VENDOR: work(), FEES: sums(productive=100)}, {"charges": 100}),
        ({NOBODY: sums(unallocated=100, unallocated_ms=10)}, {}, {"unallocated": -100}),
        (
            {NOBODY: sums(dark=100, dark_ms=10)},
            {NOBODY: sums(dark=300, dark_ms=15)},
            {"dark": 50, "price": 150},
        ),
        (
            {CHAT: work(idle=100, idle_ms=10, idle__energy=10)},
            {CHAT: work(idle=200, idle_ms=20, idle__energy=5)},
            {"idle": 100, "energy": -5},
        ),
        # A site that is larger than what its GPUs take has no time.
        ({NOBODY: sums(unallocated=100)}, {NOBODY: sums(unallocated=130)}, {"unallocated": 30}),
        ({CHAT: work(shared=10)}, {CHAT: work(shared=25)}, {"shared": 15}),
        # It had no price before: a price is what it got.
        ({CHAT: work(productive=0)}, {CHAT: work()}, {"price": 1000}),
    ],
)  # fmt: skip
def test_what_changed_is_what_is_said(
    before: dict[Part, Sums], after: dict[Part, Sums], effects: dict[str, int]
) -> None:
    assert effects_of(before, after, SAME, WEIGHTS) == effects


def test_a_longer_period_costs_more_by_its_days_alone() -> None:
    before = {CHAT: work(idle=300, idle_ms=30), NOBODY: sums(dark=90, dark_ms=9), FEES: sums(productive=30)}
    after = {
        CHAT: work(productive=1500, productive_ms=150, prompt_computed=120, completion=30, idle=450, idle_ms=45),
        NOBODY: sums(dark=135, dark_ms=13),
        FEES: sums(productive=45),
    }
    after[NOBODY].add("dark_ms", 0)
    effects = effects_of(before, after, Fraction(3, 2), WEIGHTS)
    assert effects.pop("length") == 710
    assert effects == {"dark": -5, "price": 5}, "13 ms are not 13.5"
    assert effects_of({CHAT: work()}, {}, Fraction(3, 2), WEIGHTS) == {"gone": -1000}


def test_several_causes_at_once() -> None:
    """Half of the tokens more, of which a third goes to the small model, at a worse pace and a better price."""
    before = {CHAT: work(), SMALL: work(productive=200, productive_ms=20)}
    after = {
        CHAT: work(productive=1210, productive_ms=110, prompt_computed=80, completion=20),
        SMALL: work(productive=360, productive_ms=40, prompt_computed=160, completion=40),
    }
    effects = effects_of(before, after, SAME, WEIGHTS)
    assert effects == {"volume": 600, "mix": -400, "pace": 100, "price": 70}
    assert sum(effects.values()) == 1570 - 1200


amounts = st.integers(-(10**24), 10**24)
counts = st.one_of(st.just(0), st.integers(0, 10**13))
sums_drawn = st.builds(
    lambda costs, times, tokens: sums(**costs, **times, **tokens),
    st.dictionaries(
        st.sampled_from([f"{bucket}__{component}" for bucket in COSTS for component in ("rent", "energy", "purchase")]),
        amounts, max_size=5,
    ),
    st.dictionaries(st.sampled_from([f"{bucket}_ms" for bucket in BUCKETS]), counts, max_size=3),
    st.dictionaries(st.sampled_from(TOKEN_KINDS), counts, max_size=4),
)  # fmt: skip
rows_drawn = st.dictionaries(st.sampled_from([CHAT, SMALL, OTHER, NOBODY, VENDOR, FEES]), sums_drawn, max_size=6)


@settings(max_examples=int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "100")), deadline=None)
@given(rows_drawn, rows_drawn, st.fractions(Fraction(1, 400), 400, max_denominator=1000))
def test_effects_sum_to_the_difference_whatever_the_facts(
    before: dict[Part, Any], after: dict[Part, Any], length: Fraction
) -> None:
    effects = effects_of(before, after, length, WEIGHTS)
    whole = [sum(one.total for one in facts.values()) for facts in (before, after)]
    assert sum(effects.values()) == whole[1] - whole[0]
    assert set(effects) <= set(NAMES)
    assert all(effects.values())
    assert effects_of(before, before, SAME, WEIGHTS) == {}
    assert len(next(iter(before.values()), Sums())) == len(FIELDS), "nothing is changed by it"
