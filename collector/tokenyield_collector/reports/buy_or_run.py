"""Run it here or buy it: the tokens of each model at the price of an API, beside what they cost here. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase

from tokenyield_collector.prices.book import ApiPrice, PriceBook
from tokenyield_collector.prices.money import amount
from tokenyield_collector.prices.rates import Rates
from tokenyield_collector.statements.lines import Sums
from tokenyield_wire.units import MS_PER_SECOND
from tokenyield_wire.window import TOKEN_KINDS

_MEGA = 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class BuyOrRun:
    """One model and one API; money in the price book's currency."""

    model: str
    api: str
    source: str
    as_of: str
    api_cost: float
    allocated_cost: float
    loaded_cost: float
    break_even_tokens_per_second: float | None
    """Tokens a second and active GPU at which the API costs as much as the GPU-hour."""


def buy_or_run(models: Mapping[str, Sums], prices: PriceBook, day: date) -> list[BuyOrRun]:
    """For each model and each API that offers it, at the exchange rates of `day`."""
    rates = Rates(prices)
    comparisons = []
    for model, sums in sorted(models.items()):
        tokens = sum(sums.get(kind) for kind in TOKEN_KINDS)
        for api in prices.api_prices:
            exchange = rates.exchange(api.currency, day)
            if exchange is not None and tokens and fnmatchcase(model, api.model):
                comparisons.append(_comparison(model, sums, api, _api_cost(api, sums) * float(exchange), tokens))
    return comparisons


def _comparison(model: str, sums: Sums, api: ApiPrice, api_cost: float, tokens: int) -> BuyOrRun:
    per_second = None
    if api_cost and sums.held_ms:
        per_second = amount(sums.allocated) / (sums.held_ms / MS_PER_SECOND) / (api_cost / tokens)
    return BuyOrRun(
        model=model,
        api=api.name,
        source=api.source,
        as_of=api.as_of.isoformat() if api.as_of else "",
        api_cost=round(api_cost, 6),
        allocated_cost=round(amount(sums.allocated), 6),
        loaded_cost=round(amount(sums.get("loaded")), 6),
        break_even_tokens_per_second=per_second,
    )


def _api_cost(api: ApiPrice, sums: Sums) -> float:
    price = api.per_million
    cached = price.prompt if price.cached is None else price.cached
    prompt = sums.get("prompt_computed") + sums.get("prompt_unsplit")
    whole = price.prompt * prompt + cached * sums.get("prompt_cached") + price.completion * sums.get("completion")
    return float(whole) / _MEGA
