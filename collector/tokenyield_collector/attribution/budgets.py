"""Budgets by month: what was spent, what is left, what the month will come to. Pure.

In: a report of the month by day and the dimensions of the budgets. Out: one `BudgetState` each.

Forecast (finops practice): what was spent, and for each day still to
come the mean of the days with the same weekday among the last 28, or of all complete days while there are fewer than
14. The range is the forecast with the least and the most costly of these days. A day that has not ended counts by
what it has cost, or its mean, whichever is more.
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
class Forecast:
    """What a month will come to. `low` and `high`: with its cheapest and dearest days."""

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
    forecast: Forecast | None


def budget_states(
    budgets: Sequence[Budget], spent_by_day: Sequence[tuple[date, Mapping[str, str], int]], first: date, today: date
) -> list[BudgetState]:
    """`spent_by_day`: (day, dimensions, quanta) of the month that starts with `first` and of the weeks before it.

    `today` is the first day that has not ended.
    """
    found = []
    last = first.replace(day=monthrange(first.year, first.month)[1])
    for budget in budgets:
        quanta: dict[date, int] = {}
        for day, known, cost in spent_by_day:
            if fits(budget.match, known):
                quanta[day] = quanta.get(day, 0) + cost
        spent = decimal(sum(cost for day, cost in quanta.items() if first <= day <= last), 2)
        by_day = {day: decimal(cost) for day, cost in quanta.items()}
        forecast = _forecast(by_day, first, last, today)
        in_force = (budget.from_ is None or budget.from_ <= last) and (budget.until is None or first < budget.until)
        if not in_force:
            state = "not in force"
        elif spent > budget.monthly:
            state = "over"
        elif forecast is not None and forecast.expected > budget.monthly:
            state = "at risk"
        else:
            state = "ok"
        found.append(
            BudgetState(
                name=budget.name,
                month=first.strftime("%Y-%m"),
                monthly=budget.monthly,
                spent=spent,
                remaining=budget.monthly - spent,
                state=state,
                forecast=forecast,
            )
        )
    return found


def _forecast(by_day: Mapping[date, Decimal], first: date, last: date, today: date) -> Forecast | None:
    """None when the month is over or nothing is known to go by."""
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
    return Forecast(expected=expected.quantize(cent), low=low.quantize(cent), high=high.quantize(cent))


def _same_weekday(day: date, since: date, today: date) -> list[date]:
    start = max(since, today - timedelta(days=LOOK_BACK_DAYS))
    span = (start + timedelta(days=i) for i in range((today - start).days))
    return [past for past in span if past.weekday() == day.weekday()]
