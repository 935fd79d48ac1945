"""Budgets: what was spent, what is left, what the month will come to."""

import json
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.fleet import HOUR_MS, Fleet, Gpu, Held, Server, ms, prices, rules
from tokenyield_collector.attribution.budgets import BudgetState, DaySpent, budget_states
from tokenyield_collector.attribution.rules import Budget
from tokenyield_collector.prices.money import QUANTA_PER_UNIT
from tokenyield_collector.reports.maker import budget_document
from tokenyield_settings.loader import SettingsError

SEARCH = {"team": "search"}


def state(monthly: int, spent: dict[date, int], today: date, *, first: date = date(2026, 10, 1)) -> BudgetState:
    days = [DaySpent(day, SEARCH, amount * QUANTA_PER_UNIT, 0) for day, amount in spent.items()]
    (only,) = budget_states([Budget(name="b", match=SEARCH, monthly=Decimal(monthly))], days, first, today, "USD")
    return only


def days(first: date, amounts: list[int]) -> dict[date, int]:
    return {first + timedelta(days=i): amount for i, amount in enumerate(amounts)}


def test_the_run_rate_of_a_young_month() -> None:
    """800 a day for 10 of 31 days: 8,000 spent, and 21 x 800 = 16,800 to come."""
    october = state(20_000, days(date(2026, 10, 1), [800] * 10), date(2026, 10, 11))
    assert october.state == "at risk"
    assert [october.spent, october.remaining] == [8000, 12_000]
    assert october.forecast is not None
    assert [october.forecast.expected, october.forecast.low, october.forecast.high] == [24_800] * 3


def test_weekdays_count_by_themselves_when_two_weeks_are_known() -> None:
    """Four weeks of 100 on workdays and 10 at the weekend: October has 22 workdays and 9 days of weekend = 2,290."""
    start = date(2026, 9, 21)
    past = {start + timedelta(days=i): 10 if (start + timedelta(days=i)).weekday() >= 5 else 100 for i in range(28)}
    october = state(2290, past, date(2026, 10, 19))
    assert october.forecast is not None
    assert [october.forecast.expected, october.forecast.low, october.forecast.high] == [2290] * 3, (
        "weekdays never differed"
    )
    assert october.state == "ok"


def test_a_month_that_is_over_has_no_forecast() -> None:
    october = state(100, days(date(2026, 10, 1), [10] * 31), date(2026, 11, 2))
    assert october.spent == 310
    assert (october.state, october.forecast) == ("over", None)


def test_others_do_not_count_and_a_budget_has_its_time() -> None:
    spent = [DaySpent(date(2026, 10, 1), {"team": "ads"}, 5 * QUANTA_PER_UNIT, 5)]
    ended = Budget(name="b", match=SEARCH, monthly=Decimal(1), until=date(2026, 10, 1))
    (october,) = budget_states([ended], spent, date(2026, 10, 1), date(2026, 10, 2), "USD")
    assert october.spent == 0
    assert october.state == "not in force"


def test_from_the_ledger(tmp_path: Path) -> None:
    """2 an hour, 24 h a day, 10 days: 480 spent of 1,000, and 48 x 21 = 1,008 to come."""
    fleet = Fleet()
    for hour in range(240):
        held = [Held(workload="w", active_min=60)]
        fleet.hour(ms("2026-10-01") + hour * HOUR_MS, [Gpu(held=held)], [Server(key="w", labels=SEARCH)])
    policy = rules(tmp_path, {"budgets": [{"name": "b", "match": SEARCH, "monthly": 1000}]})
    price_book = prices(tmp_path, "pools: [{name: p, rented: {per_gpu_hour: 2}}]")
    (october,) = fleet.maker(price_book, policy, now="2026-10-11").budgets()
    assert october.forecast is not None
    assert (october.month, october.state) == ("2026-10", "at risk")
    assert [october.spent, october.forecast.expected] == [480, 1488]


def test_money_and_tokens_are_two_budgets_of_one_name() -> None:
    """100 M tokens and 10 a day, 20 of 31 days: 2,000 M of 2,500 M are 80 %, and 3,100 M to come; 200 of 500 are 40 %."""
    spent = [
        DaySpent(date(2026, 10, 1) + timedelta(days=i), SEARCH, 10 * QUANTA_PER_UNIT, 100_000_000) for i in range(20)
    ]
    both = Budget(name="b", match=SEARCH, monthly=Decimal(500), tokens=2_500_000_000)
    money, tokens = budget_states([both], spent, date(2026, 10, 1), date(2026, 10, 21), "EUR")
    assert [money.unit, money.spent, money.spent_percent, money.step, money.state] == ["EUR", 200, 40.0, None, "ok"]
    assert [tokens.unit, tokens.spent, tokens.remaining] == ["tokens", 2_000_000_000, 500_000_000]
    assert [tokens.spent_percent, tokens.step, tokens.state] == [80.0, 80, "at risk"]
    assert tokens.forecast is not None
    assert tokens.forecast.expected == 3_100_000_000


@given(st.decimals("0.001", "1000", places=3), st.integers(-(10**23), 10**24))
def test_what_is_spent_and_what_remains_sum_to_the_budget(monthly: Decimal, quanta: int) -> None:
    """Exactly, and in the cents that people see."""
    spent = [DaySpent(date(2026, 10, 1), SEARCH, quanta, 0)]
    budget = Budget(name="b", match=SEARCH, monthly=monthly)
    (october,) = budget_states([budget], spent, date(2026, 10, 1), date(2026, 10, 2), "USD")
    assert abs(october.spent * QUANTA_PER_UNIT - quanta) <= QUANTA_PER_UNIT // 10**9, "exact to a nano-unit"
    document = json.loads(json.dumps(budget_document([october], "USD"), default=str))["budgets"][0]
    for amounts in (document, document["shown"]):
        assert Decimal(amounts["spent"]) + Decimal(amounts["remaining"]) == Decimal(amounts["monthly"])
    assert all(Decimal(value).as_tuple().exponent == -2 for value in document["shown"]["forecast"].values())


@pytest.mark.parametrize(
    ("spent", "step"), [(49, None), (50, 50), (79, 50), (80, 80), (99, 80), (100, 100), (250, 100)]
)
def test_a_step_holds_until_the_next(spent: int, step: int | None) -> None:
    assert state(100, {date(2026, 10, 1): spent}, date(2026, 10, 2)).step == step


def test_a_budget_that_is_not_in_force_has_no_step() -> None:
    ended = Budget(name="b", tokens=1, until=date(2026, 10, 1))
    spent = [DaySpent(date(2026, 10, 1), {}, 0, 5)]
    (october,) = budget_states([ended], spent, date(2026, 10, 1), date(2026, 10, 2), "USD")
    assert (october.state, october.step) == ("not in force", None)


def test_tokens_from_the_ledger(tmp_path: Path) -> None:
    """All kinds count, whoever has a price: 10 hours of 7 computed, 2 cached and 1 made, of which 100 are 80 % of 125."""
    fleet = Fleet()
    for hour in range(10):
        server = Server(key="w", labels=SEARCH, prompt_computed=7, prompt_cached=2, completion=1)
        fleet.hour(ms("2026-10-01") + hour * HOUR_MS, [Gpu(held=[Held(workload="w", active_min=60)])], [server])
    policy = rules(tmp_path, {"budgets": [{"name": "b", "match": SEARCH, "tokens": 125}]})
    (october,) = fleet.maker(prices(tmp_path, "pools: []"), policy, now="2026-10-11").budgets()
    assert [october.unit, october.spent, october.step] == ["tokens", 100, 80]


@pytest.mark.parametrize(
    ("budget", "fault"),
    [
        ({}, "budgets[0] (b): expected monthly (money) or tokens, found neither; write what a month may spend"),
        ({"tokens": 0}, "budgets[0] (b).tokens: expected a whole number from 1 to"),
        ({"monthly": 0}, "budgets[0] (b).monthly: expected a number greater than 0"),
        ({"tokens": 5, "steps": [50, 50]}, "budgets[0] (b).steps: expected up to 10 different percentages"),
        ({"tokens": 5, "steps": [101]}, "budgets[0] (b).steps: expected up to 10 different percentages"),
    ],
)
def test_a_budget_that_cannot_be_used(tmp_path: Path, budget: dict[str, object], fault: str) -> None:
    with pytest.raises(SettingsError) as refused:
        rules(tmp_path, {"budgets": [{"name": "b", **budget}]})
    assert fault in str(refused.value)
