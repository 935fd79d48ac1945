"""Figures to date sum to one total at every grain, and retention moves them by nothing, however often it comes."""

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from collector.fleet import HOUR_MS, policy
from collector.reports.test_sums import fleet_of, read_policy, signed_books
from collector.statements.test_statement_properties import HOURS, START, hours, policies
from tokenyield_collector.live.kept_months import MonthToDate
from tokenyield_collector.live.series import Series
from tokenyield_collector.live.to_date import GRAIN, MONEY, ToDate, month_to_date
from tokenyield_collector.prices.money import QUANTA_PER_NANO, rounded
from tokenyield_collector.statements.buckets import IDLE_CAPACITY
from tokenyield_collector.statements.gaps import gaps_of
from tokenyield_collector.statements.source import Grain, Span
from tokenyield_collector.statements.statement import fleet_statement

EXAMPLES = int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "4"))
END = START + HOURS * HOUR_MS


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(hours(least=4), signed_books(), policies, st.sets(st.integers(1, HOURS - 1), min_size=3, max_size=5))
def test_figures_to_date_sum_and_stay_through_retention(
    listed: list[dict[str, Any]], document: dict[str, Any], sharing: dict[str, Any], cuts: set[int]
) -> None:
    fleet, of = fleet_of(listed), policy(*read_policy(document, sharing))

    def compute(start_ms: int, end_ms: int) -> MonthToDate:
        return month_to_date(fleet_statement(fleet.ledger.usage(), of, Span(start_ms, end_ms), GRAIN, ()))

    exact = compute(START, END).values
    bases: Counter[str] = Counter()
    before = made(compute, bases)
    check_sums(exact, before)
    for cut in sorted(cuts):
        to_date = ToDate(compute, bases)
        to_date.bring_up_to(START, END)
        added = to_date.retire(START, START + cut * HOUR_MS)
        assert all(abs(value) < 2**63 for value in added.values()), "what a ledger holds"
        for key, value in added.items():
            bases[key] += value
        after = made(compute, bases)
        assert to_date.values() == after, "a restart shows the same"
        check_sums(exact, after)


token_prices = st.sampled_from(
    [
        [],
        [{"name": "x", "per_million": 3}],
        [{"name": "x", "match": {"model": "llama"}, "per_million": 3}],
        [{"name": "x", "match": {"team": "ads"}, "per_million": 3}, {"name": "y", "per_million": 1}],
        [{"name": "x", "from": "2026-10-06", "per_million": 3}],
        [
            {
                "name": "x",
                "per_million": [{"from": "2026-10-01", "completion": 3}, {"from": "2026-10-06", "completion": 9}],
            }
        ],
        [{"name": "x", "currency": "EUR", "per_million": 3}],
    ]
)
EUROS = {"exchange_rates": {"EUR": [{"from": "2026-10-06", "rate": 1.1}]}}
still = st.fixed_dictionaries({"gateway_models": st.sampled_from([{}, {"chat": "llama"}])})


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(hours(least=4), signed_books(), token_prices, st.booleans(), st.one_of(still, still, policies))
def test_a_span_as_a_whole_costs_and_lacks_what_its_days_do(
    listed: list[dict[str, Any]], document: dict[str, Any], sold: Any, has_no_count: bool, rest: dict[str, Any]
) -> None:
    if has_no_count:
        for terms in (pool.get("owned") or pool["rented"] for pool in document["pools"]):
            terms.pop("count", None), terms.pop("overflow_per_gpu_hour", None)
            if terms.get("kind") == "reserved":
                terms["kind"] = "on_demand"
    fleet, of = fleet_of(listed), policy(*read_policy(document | {"token_prices": sold} | EUROS, rest))

    def of_grain(grain: Grain) -> MonthToDate:
        return month_to_date(fleet_statement(fleet.ledger.usage(), of, Span(START, END), grain, ()))

    whole, by_day = of_grain(GRAIN), of_grain(GRAIN._replace(day=True))
    assert whole.values == by_day.values
    assert gaps_of(whole.gaps) == gaps_of(by_day.gaps)
    assert sorted(whole.gaps) == sorted(by_day.gaps)
    assert whole.references == by_day.references


def made(compute: Any, bases: Mapping[str, int]) -> Mapping[Series, int]:
    to_date = ToDate(compute, dict(bases))
    to_date.bring_up_to(START, END)
    return to_date.values()


def check_sums(exact: Mapping[Series, int], shown: Mapping[Series, int]) -> None:
    totals = {}
    for metric in MONEY:
        wanted, found = by_last_label(exact, metric), by_last_label(shown, metric)
        for label in wanted | found:
            assert abs(found[label] * QUANTA_PER_NANO - wanted[label]) <= QUANTA_PER_NANO, (metric, label)
        totals[metric] = sum(found.values())
        assert totals[metric] == rounded(sum(wanted.values()), QUANTA_PER_NANO), metric
    assert totals["attributed_cost"] == totals["cost"], "at every grain the same"
    idle = by_last_label(shown, "cost")
    assert abs(totals["idle_capacity_cost"] - sum(idle[name] for name in IDLE_CAPACITY)) <= len(IDLE_CAPACITY)


def by_last_label(values: Mapping[Series, int], metric: str) -> Counter[str]:
    sums: Counter[str] = Counter()
    for series, value in values.items():
        if series.metric == metric:
            sums[series.labels[-1]] += value
    return sums
