"""Budgets: what was spent, what is left, what the month will come to."""

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

from collector.fleet import HOUR_MS, Fleet, Gpu, Held, Server, ms, prices, rules
from tokenyield_collector.attribution.budgets import BudgetState, budget_states
from tokenyield_collector.attribution.rules import Budget
from tokenyield_collector.prices.money import QUANTA_PER_UNIT

SEARCH = {"team": "search"}


def state(monthly: int, spent: dict[date, int], today: date, *, first: date = date(2026, 10, 1)) -> BudgetState:
    days = [(day, SEARCH, amount * QUANTA_PER_UNIT) for day, amount in spent.items()]
    (only,) = budget_states([Budget(name="b", match=SEARCH, monthly=Decimal(monthly))], days, first, today)
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
    spent = [(date(2026, 10, 1), {"team": "ads"}, 5 * QUANTA_PER_UNIT)]
    ended = Budget(name="b", match=SEARCH, monthly=Decimal(1), until=date(2026, 10, 1))
    (october,) = budget_states([ended], spent, date(2026, 10, 1), date(2026, 10, 2))
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
