"""Run it here or buy it: the tokens of each model at the price of an API, beside what they cost here. Pure.

Both sides are of the same days: those on which the API has a price. Tokens of other days are counted apart, and are a
gap of the report.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase

from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.prices.calendar import in_force
from tokenyield_collector.prices.money import amount, plain
from tokenyield_collector.prices.period import day_of
from tokenyield_collector.prices.rates import Rates
from tokenyield_collector.prices.token_prices import ApiPrice
from tokenyield_collector.reports.rounding import EXACT
from tokenyield_collector.statements.gaps import NO_API_EXCHANGE_RATE, NO_API_PRICE, DayGap, GapAmounts
from tokenyield_collector.statements.lines import Sums
from tokenyield_wire.units import MS_PER_SECOND
from tokenyield_wire.window import TOKEN_KINDS

_MEGA = 10**6
DayPrices = Mapping[str, Decimal]
"""Kind of the ledger -> a million tokens in the price book's currency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuyOrRun:
    """One model and one API; money in the price book's currency."""

    model: str
    api: str
    source: str
    as_of: str
    tokens: int
    """On days on which the API has a price; costs and paces are of these days too."""
    tokens_without_price: int
    api_cost: Decimal
    allocated_cost: Decimal
    loaded_cost: Decimal
    tokens_per_second: float | None
    """What a GPU made, of a second that the model held it."""
    break_even_tokens_per_second: float | None
    """What it must make for the API to cost as much as the GPU-hour."""


def buy_or_run(models: Mapping[tuple[str, int], Sums], prices: PriceBook) -> list[BuyOrRun]:
    """For each model and each API that offers it, of tokens whose cost here is known. By model and day (ms)."""
    by_model: dict[str, dict[date, Sums]] = defaultdict(dict)
    for (model, day_ms), sums in models.items():
        by_model[model][day_of(day_ms)] = sums
    rates = Rates(prices)
    comparisons = []
    for model, days in sorted(by_model.items()):
        for api in prices.api_prices:
            if fnmatchcase(model, api.model):
                comparison = _comparison(model, days, api, rates)
                if comparison is not None:
                    comparisons.append(comparison)
    return comparisons


def api_gaps(models: Mapping[tuple[str, int], Sums], prices: PriceBook) -> Iterator[DayGap]:
    """What of each model's tokens an API that offers it has no price for."""
    rates = Rates(prices)
    for (model, day_ms), sums in models.items():
        for api in prices.api_prices:
            if not fnmatchcase(model, api.model) or not _tokens(sums):
                continue
            day = day_of(day_ms)
            if _on(api, day, rates) is None:
                kind = NO_API_PRICE if in_force(api.per_million, day) is None else NO_API_EXCHANGE_RATE
                yield DayGap(kind.name, f"{api.name} for {model}", day_ms, GapAmounts(tokens=_tokens(sums)))


def _comparison(model: str, days: Mapping[date, Sums], api: ApiPrice, rates: Rates) -> BuyOrRun | None:
    """None where the API has no price for any of the tokens."""
    compared, api_cost, tokens_without_price = Sums(), Decimal(0), 0
    for day, sums in days.items():
        price = _on(api, day, rates)
        if price is None:
            tokens_without_price += _tokens(sums)
        else:
            compared.take(sums)
            api_cost += sum((sums.priced(kind) * one for kind, one in price.items()), Decimal(0)) / _MEGA
    tokens = _tokens(compared)
    if not tokens:
        return None
    held_s = compared.priced_ms("active", "idle") / MS_PER_SECOND
    is_comparable = bool(api_cost and held_s)
    return BuyOrRun(
        model=model,
        api=api.name,
        source=api.source,
        as_of=api.as_of.isoformat() if api.as_of else "",
        tokens=tokens,
        tokens_without_price=tokens_without_price,
        api_cost=plain(round(api_cost, EXACT.digits)),
        allocated_cost=EXACT.plain(EXACT.whole(compared.allocated)),
        loaded_cost=EXACT.plain(EXACT.whole(compared.get("loaded"))),
        tokens_per_second=tokens / held_s if held_s else None,
        break_even_tokens_per_second=(
            amount(compared.allocated) / held_s / (float(api_cost) / tokens) if is_comparable else None
        ),
    )


def _on(api: ApiPrice, day: date, rates: Rates) -> DayPrices | None:
    """None where the API has no price on that day, or its currency no exchange rate."""
    price, exchange = in_force(api.per_million, day), rates.exchange(api.currency, day)
    if price is None or exchange is None:
        return None
    return {kind: one * exchange for kind, one in price.by_kind().items()}


def _tokens(sums: Sums) -> int:
    return sum(sums.priced(kind) for kind in TOKEN_KINDS)
