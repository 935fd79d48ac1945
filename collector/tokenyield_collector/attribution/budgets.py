"""Budgets by month, of money or of tokens: what was spent, what is left, what the month will come to. Pure.

In: the cost and the tokens of each day of the month and of the weeks before it, by dimensions. Out: a `BudgetState` for
each budget and unit.

The forecast is what was spent, and for each day still to come the mean of the days with the same weekday among the last
28, or of all complete days while there are fewer than 14. Its range takes the cheapest and the most expensive of these
days. A day that has not ended counts with what it has spent, or with its mean, whichever is more.
"""

from calendar import monthrange
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

from tokenyield_collector.attribution.rules import TOKENS, Budget, fits
from tokenyield_collector.prices.money import decimal

WEEKLY_FROM_DAYS = 14
LOOK_BACK_DAYS = 28
_SMALLEST, _CENT = Decimal("1e-9"), Decimal("0.01")


class DaySpent(NamedTuple):
    """What those with the same names spent on one day. `tokens` are those that were reported."""

    day: date
    names: Mapping[str, str]
    quanta: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetForecast:
    """What a month will come to. `low` and `high`: with its cheapest and its most expensive days."""

    expected: Decimal
    low: Decimal
    high: Decimal

    def rounded(self, smallest: Decimal) -> "BudgetForecast":
        expected, low, high = (_nearest(amount, smallest) for amount in (self.expected, self.low, self.high))
        return BudgetForecast(expected=expected, low=low, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetState:
    """One budget in one month, exactly. `state`: ok, at risk (the forecast is above it), over, or not in force."""

    name: str
    month: str
    unit: str
    """`TOKENS`, or the currency of the price book."""
    monthly: Decimal
    spent: Decimal
    remaining: Decimal
    state: str
    forecast: BudgetForecast | None
    steps: tuple[int, ...]
    """Percent of the budget at which an alert fires, in order."""

    @property
    def spent_percent(self) -> float:
        return float(100 * self.spent / self.monthly)

    @property
    def shown(self) -> "BudgetState":
        """The same in cents, for people: what is spent and what remains sum to the budget. Tokens are whole anyway."""
        if self.unit == TOKENS:
            return self
        monthly, spent = _nearest(self.monthly, _CENT), _nearest(self.spent, _CENT)
        forecast = None if self.forecast is None else self.forecast.rounded(_CENT)
        return replace(self, monthly=monthly, spent=spent, remaining=monthly - spent, forecast=forecast)

    @property
    def step(self) -> int | None:
        """The highest of `steps` that was reached; None before the first, and while it is not in force."""
        if self.state == "not in force":
            return None
        return max((step for step in self.steps if 100 * self.spent >= step * self.monthly), default=None)


def budget_states(
    budgets: Sequence[Budget], spent_by_day: Sequence[DaySpent], first: date, today: date, currency: str
) -> list[BudgetState]:
    """`spent_by_day` is of the month that starts with `first` and of the weeks before it.

    `today` is the first day that has not ended.
    """
    return [state for budget in budgets for state in _states(budget, spent_by_day, first, today, currency)]


def _states(
    budget: Budget, spent_by_day: Sequence[DaySpent], first: date, today: date, currency: str
) -> Iterator[BudgetState]:
    fitting = [one for one in spent_by_day if fits(budget.match, one.names)]
    if budget.monthly is not None:
        money = _by_day((one.day, one.quanta) for one in fitting)
        yield _Month(first, today, currency).state(budget, budget.monthly, money)
    if budget.tokens is not None:
        tokens = _by_day((one.day, one.tokens) for one in fitting)
        yield _Month(first, today, TOKENS).state(budget, Decimal(budget.tokens), tokens)


def _by_day(spent: Iterable[tuple[date, int]]) -> dict[date, int]:
    by_day: dict[date, int] = {}
    for day, amount in spent:
        by_day[day] = by_day.get(day, 0) + amount
    return by_day


class _Month:
    """One month in one unit."""

    def __init__(self, first: date, today: date, unit: str) -> None:
        self._first = first
        self._last = first.replace(day=monthrange(first.year, first.month)[1])
        self._today = today
        self._unit = unit

    def state(self, budget: Budget, monthly: Decimal, by_day: Mapping[date, int]) -> BudgetState:
        first, last = self._first, self._last
        spent = self._exact(sum(amount for day, amount in by_day.items() if first <= day <= last))
        forecast = self._forecast({day: self._exact(amount) for day, amount in by_day.items()})
        in_force = (budget.from_ is None or budget.from_ <= last) and (budget.until is None or first < budget.until)
        if not in_force:
            state = "not in force"
        elif spent > monthly:
            state = "over"
        elif forecast is not None and forecast.expected > monthly:
            state = "at risk"
        else:
            state = "ok"
        return BudgetState(
            name=budget.name,
            month=first.strftime("%Y-%m"),
            unit=self._unit,
            monthly=monthly,
            spent=spent,
            remaining=monthly - spent,
            state=state,
            forecast=forecast,
            steps=tuple(sorted(budget.steps)),
        )

    def _exact(self, amount: int) -> Decimal:
        return Decimal(amount) if self._unit == TOKENS else decimal(amount)

    def _forecast(self, by_day: Mapping[date, Decimal]) -> BudgetForecast | None:
        """None when the month is over, or when there is no complete day."""
        first, last, today = self._first, self._last, self._today
        complete = {day: spent for day, spent in by_day.items() if day < today and (today - day).days <= LOOK_BACK_DAYS}
        if today > last or not complete:
            return None
        so_far = sum((spent for day, spent in by_day.items() if first <= day < today), Decimal(0))
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
        forecast = BudgetForecast(expected=expected, low=low, high=high)
        return forecast.rounded(Decimal(1) if self._unit == TOKENS else _SMALLEST)


def _nearest(amount: Decimal, smallest: Decimal) -> Decimal:
    return amount.quantize(smallest, ROUND_HALF_UP)


def _same_weekday(day: date, since: date, today: date) -> list[date]:
    start = max(since, today - timedelta(days=LOOK_BACK_DAYS))
    span = (start + timedelta(days=i) for i in range((today - start).days))
    return [past for past in span if past.weekday() == day.weekday()]
