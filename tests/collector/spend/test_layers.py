"""One amount of each scope and day: that of the highest layer, to the token and the millionth, whatever finer ones say."""

import os
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenyield_collector.spend.layers import DaySpend, ScopedLine, spend_of_day
from tokenyield_collector.spend.list_prices import ListPrice, ListPrices, bundled_list, plain_model
from tokenyield_collector.spend.slices import (
    LAYERS,
    Layer,
    SpendAmounts,
    SpendFields,
    SpendKey,
    SpendLine,
    SpendSlice,
)
from tokenyield_collector.spend.sources import grain_of_slice
from tokenyield_collector.spend.token_costs import PublicList

DAY_MS = 20_000 * 86_400_000
NO_LIST = ListPrices("none", "2026-01-01", {})
REPORTS: dict[Layer, tuple[str, str]] = {
    "billed": ("anthropic", "cost_report"), "reported": ("anthropic", "messages"), "observed": ("litellm", "spend_log"),
}  # fmt: skip


def of(layer: Layer, *lines: SpendLine, source: str = "", grain: str = "", account: str = "a") -> SpendSlice:
    named = REPORTS[layer]
    return SpendSlice(SpendKey(source or named[0], account, DAY_MS, grain or named[1]), layer, lines)


def line(cost: int | None = None, fresh: int | None = None, output: int | None = None, **fields: str) -> SpendLine:
    named = {"vendor": "anthropic", "model": "m", **fields}
    return SpendLine(SpendFields(**named), SpendAmounts(fresh=fresh, output=output, cost_micro=cost))


def day(*slices: SpendSlice, prices: ListPrices = NO_LIST) -> DaySpend:
    return spend_of_day(slices, grain_of_slice, PublicList(prices))


def found(spend: DaySpend) -> list[tuple[str, int | None, int | None, bool]]:
    """(who, tokens, micro, whether nothing observed it)"""
    return [
        (one.fields.person or one.fields.project, one.amounts.tokens, one.amounts.cost_micro, one.is_unseen)
        for one in spend.lines
    ]


def test_who_used_it_divides_what_was_billed_and_the_rest_stays() -> None:
    spend = day(
        of("billed", line(1000, project="p")),
        of("reported", line(None, 60, 40, project="p")),
        of("observed", line(7, 30, 20, person="ada"), line(3, 20, 5, person="bob")),
    )
    assert found(spend) == [("ada", 50, 525, False), ("bob", 25, 225, False), ("p", 25, 250, True)]
    assert spend.lines[0].fields.project == "p", "the higher layer's key, where it has one"
    assert spend.beyond == []


def test_a_bill_without_tokens_is_divided_by_money_and_a_discount_is_passed_on() -> None:
    whole = day(of("billed", line(80)), of("observed", line(75, 10, person="ada"), line(25, 5, person="bob")))
    assert found(whole) == [("ada", 10, 60, False), ("bob", 5, 20, False)]
    part = day(of("billed", line(80)), of("observed", line(20, 10, person="ada")))
    assert found(part) == [("ada", 10, 20, False), ("", None, 60, True)]


def test_what_is_observed_beyond_the_bill_is_apart() -> None:
    spend = day(
        of("reported", line(5, 10, 10)),
        of("observed", line(9, 30, 4, person="ada"), line(1, 3, 4, person="bob", model="other")),
    )
    assert sum(one.amounts.tokens or 0 for one in spend.lines) == 20
    assert sum(one.amounts.cost_micro or 0 for one in spend.lines) == 5
    (beyond,) = spend.beyond
    assert (beyond.vendor, beyond.layer, beyond.tokens) == ("anthropic", "observed", 20 + 7)


def test_a_second_report_of_a_finer_layer_divides_what_the_first_left() -> None:
    session = of("observed", line(None, 80, 0, session="s"), source="claude-code", grain="session:s")
    spend = day(of("reported", line(100, 100, 0)), of("observed", line(None, 60, 0, person="ada")), session)
    assert [(one.fields.person, one.fields.session, one.amounts.tokens) for one in spend.lines] == [
        ("ada", "", 60), ("", "s", 40),
    ]  # fmt: skip
    assert spend.beyond[0].tokens == 40


def test_the_same_tokens_in_two_reports_of_one_layer_count_once() -> None:
    analytics = of("billed", line(900), grain="analytics_cost")
    assert found(day(of("billed", line(1000)), analytics)) == [("", None, 900, True)]
    usage = [of("reported", line(n, n), source="openai", grain=f"usage:{n}") for n in (1, 2)]
    assert sum(one.amounts.tokens or 0 for one in day(*usage).lines) == 3, "parts of one report add up"


def test_an_unnamed_bill_is_divided_by_any_use_and_a_named_service_by_none_but_its_own() -> None:
    observed = of("observed", line(60, 10, person="ada"))
    unnamed = of("billed", line(100, service="other", model=""), source="focus", grain="cost_and_usage")
    assert found(day(unnamed, observed)) == [("ada", 10, 60, False), ("", None, 40, True)]
    search = day(of("billed", line(100, service="web_search", model="")), observed)
    assert found(search) == [("", None, 100, True)]
    assert search.beyond[0].tokens == 10


def test_models_are_matched_by_their_plain_names() -> None:
    names = ["claude-x-5", "anthropic/claude-x-5", "Claude X 5", "claude-x-5-20260101", "us.anthropic.claude-x-5-v1:0",
             "claude-x-5@20260101"]  # fmt: skip
    assert {plain_model(name) for name in names} == {"claude-x-5"}


def test_accounts_are_scopes_of_their_own() -> None:
    other = of("observed", line(60, 10, person="ada"), account="b")
    assert found(day(of("billed", line(100)), other)) == [("", None, 100, True), ("ada", 10, 60, False)]


LIST = ListPrices("test", "2026-01-01", {"anthropic": {"m": ListPrice(2_000_000, 200_000, None, None, 10_000_000)}})


def test_tokens_without_money_have_the_list_price_and_say_so() -> None:
    amounts = SpendAmounts(1_000_000, 2_000_000, 500_000, 100_000, 300_000)
    spend = day(of("reported", SpendLine(SpendFields("anthropic", model="m-20260101"), amounts)), prices=LIST)
    (one,) = spend.lines
    assert (one.amounts.cost_micro, one.price_source) == (6_400_000, "list price (test, 2026-01-01)")
    (unknown,) = day(of("reported", line(None, 5, model="x")), prices=LIST).lines
    assert (unknown.amounts.cost_micro, unknown.price_source) == (None, "")
    (billed,) = day(of("billed", line(7, 5)), prices=LIST).lines
    assert (billed.amounts.cost_micro, billed.price_source) == (7, "")


def test_the_bundled_list_has_its_source_and_prices_an_hour_of_cache_apart() -> None:
    bundled = bundled_list()
    assert bundled.text.startswith("list price (litellm ")
    price = bundled.price("anthropic", "claude-sonnet-5")
    assert price is not None
    assert price.cost_micro(SpendAmounts(fresh=10**6, output=10**6)) == 12_000_000
    assert price.cost_micro(SpendAmounts(cache_write=10**6, long_cache_write=10**6)) == 4_000_000
    assert bundled.price("anthropic", "no-such-model") is None
    assert set(bundled.models) == {"anthropic", "aws", "azure", "deepseek", "google", "mistral", "openai"}


COUNTS = st.none() | st.integers(0, 50)
LINES = st.tuples(
    st.sampled_from(["tokens", "web_search", "other", "included"]),
    st.sampled_from(["", "m", "n"]),
    st.sampled_from(["", "ada", "bob"]),
    st.sampled_from(["USD", "EUR"]),
    st.tuples(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS),
    st.none() | st.integers(-20, 1000),
).map(
    lambda row: SpendLine(
        SpendFields("anthropic", row[0], row[1], person=row[2], currency=row[3]),
        SpendAmounts(row[4][0], row[4][1], row[4][2], None, row[4][3], None, row[4][4], row[5]),
    )
)
SLICES = st.lists(
    st.tuples(st.sampled_from(LAYERS), st.lists(LINES, min_size=1, max_size=5), st.sampled_from("ab")).map(
        lambda row: of(row[0], *row[1], account=row[2])
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda one: (one.key, one.layer),
)


@settings(max_examples=int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "50")), deadline=None)
@given(SLICES, st.sampled_from([NO_LIST, LIST]))
def test_sums_are_those_of_the_highest_layer(slices: list[SpendSlice], prices: ListPrices) -> None:
    spend = day(*slices, prices=prices)
    for account in {one.key.account for one in slices}:
        own = [one for one in slices if one.key.account == account]
        top = min(own, key=lambda one: LAYERS.index(one.layer))
        whole = _of_lines(day(top, prices=prices).lines)
        made = _of_lines([one for one in spend.lines if one.account == account])
        assert {name: count for name, count in made.items() if "micro" in name and count} == {
            name: count for name, count in whole.items() if "micro" in name and count
        }, "to the millionth, in each currency"
        known = {
            name
            for name in ("fresh", "cache_read", "cache_write", "output", "requests")
            if all(getattr(one.amounts, name) is not None for one in top.lines)
        }
        assert {name: made[name] for name in known} == {name: whole[name] for name in known}, "to the token"
    assert all(value is None or value >= 0 for one in spend.lines for value in one.amounts[:-1])


def _of_lines(lines: list[ScopedLine]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for one in lines:
        for name in ("fresh", "cache_read", "cache_write", "output", "requests"):
            sums[name] += getattr(one.amounts, name) or 0
        if one.amounts.cost_micro is not None:
            sums[f"{one.fields.currency}_micro"] += one.amounts.cost_micro
    return sums


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_alone_is_shown_as_it_is(layer: Layer) -> None:
    (one,) = day(of(layer, line(5, 3, 2, person="ada"))).lines
    assert one == ScopedLine("a", line(5, 3, 2, person="ada").fields, line(5, 3, 2).amounts, layer, "",
                             layer == "billed")  # fmt: skip
