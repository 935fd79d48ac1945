"""Budgets by month: what was spent, what is left, what the month will come to. Pure.

In: the cost of each day of the month and of the weeks before it, by dimensions. Out: a `BudgetState` for each budget.

The forecast is what was spent, and for each day still to come the mean of the days with the same weekday among the last
28, or of all complete days while there are fewer than 14. Its range takes the cheapest and the most expensive of these
days. A day that has not ended counts with what it has cost, or with its mean, whichever is more.
"""

from calendar import monthrange
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from tokenyield_collector.attribution.rules import Budget, fits
from tokenyield_collector.prices.money import decimal

WEEKLY_FROM_DAYS = 14
LOOK_BACK_DAYS = 28


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetForecast:
    """What a month will come to. `low` and `high`: with its cheapest and its most expensive days."""

    expected: Decimal
    low: Decimal
    high: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetState:
    """One budget in one month. `state`: ok, at risk (the forecast is above it), over, or not in force."""

    name: str
    month: str
    monthly: Decimal
    spent: Decimal
    remaining: Decimal
    state: str
    forecast: BudgetForecast | None


def budget_states(
    budgets: Sequence[Budget], spent_by_day: Sequence[tuple[date, Mapping[str, str], int]], first: date, today: date
) -> list[BudgetState]:
    """`spent_by_day`: (day, dimensions, quanta) of the month that starts with `first` and of the weeks before it.

    `today` is the first day that has not ended.
    """
    return [_state(budget, spent_by_day, first, today) for budget in budgets]


def _state(
    budget: Budget, spent_by_day: Sequence[tuple[date, Mapping[str, str], int]], first: date, today: date
) -> BudgetState:
    last = first.replace(day=monthrange(first.year, first.month)[1])
    quanta: dict[date, int] = {}
    for day, names, cost in spent_by_day:
        if fits(budget.match, names):
            quanta[day] = quanta.get(day, 0) + cost
    spent = decimal(sum(cost for day, cost in quanta.items() if first <= day <= last), 2)
    forecast = _forecast({day: decimal(cost) for day, cost in quanta.items()}, first, last, today)
    in_force = (budget.from_ is None or budget.from_ <= last) and (budget.until is None or first < budget.until)
    if not in_force:
        state = "not in force"
    elif spent > budget.monthly:
        state = "over"
    elif forecast is not None and forecast.expected > budget.monthly:
        state = "at risk"
    else:
        state = "ok"
    return BudgetState(
        name=budget.name,
        month=first.strftime("%Y-%m"),
        monthly=budget.monthly,
        spent=spent,
        remaining=budget.monthly - spent,
        state=state,
        forecast=forecast,
    )


def _forecast(by_day: Mapping[date, Decimal], first: date, last: date, today: date) -> BudgetForecast | None:
    """None when the month is over, or when there is no complete day."""
    complete = {day: cost for day, cost in by_day.items() if day < today and (today - day).days <= LOOK_BACK_DAYS}
    if today > last or not complete:
        return None
    so_far = sum((cost for day, cost in by_day.items() if first <= day < today), Decimal(0))
    expected = low = high = so_far
    days = sorted(complete)
    known_since = days[0]
    day = max(today, first)
    while day <= last:
        like = list(complete.values())
        if (today - known_since).days >= WEEKLY_FROM_DAYS:
            same = [complete.get(past, Decimal(0)) for past in _same_weekday(day, known_since, today)]
            like = same or like
        mean = sum(like, Decimal(0)) / len(like)
        begun = by_day.get(day, Decimal(0))
        expected, low, high = expected + max(mean, begun), low + max(min(like), begun), high + max(*like, begun)
        day += timedelta(days=1)
    cent = Decimal("0.01")
    return BudgetForecast(expected=expected.quantize(cent), low=low.quantize(cent), high=high.quantize(cent))


def _same_weekday(day: date, since: date, today: date) -> list[date]:
    start = max(since, today - timedelta(days=LOOK_BACK_DAYS))
    span = (start + timedelta(days=i) for i in range((today - start).days))
    return [past for past in span if past.weekday() == day.weekday()]
