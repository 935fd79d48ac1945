"""What the tokens of a carrier are sold for, by the price book's `token_prices`. Pure."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from tokenyield_collector.attribution.rules import fits
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.book import TokenPrice
from tokenyield_collector.prices.calendar import in_force
from tokenyield_collector.prices.money import QUANTA_PER_UNIT
from tokenyield_collector.prices.period import day_of
from tokenyield_collector.prices.rates import PICO, Rates
from tokenyield_collector.statements.lines import Carrier
from tokenyield_collector.statements.names import names_of
from tokenyield_wire.window import TOKEN_KINDS

_QUANTA_PER_PICO = QUANTA_PER_UNIT // PICO
TOKENS_PER_PRICE = 10**6
"""Prices of tokens are per million."""

KindPrices = Sequence[tuple[int, int]]
"""(number of the kind, quanta a token)."""


class ListPrice(NamedTuple):
    """An entry of the price list as it holds on a day, by number of the kind."""

    name: str
    currency: str
    per_million: tuple[Decimal, ...]
    """In `currency`, as the list has it."""
    exchange: Decimal
    """The value of one unit of `currency` in the price book's."""
    quanta_per_token: tuple[int, ...]


class Revenue:
    """The first price that fits a carrier and holds on a day. What was looked up once is remembered."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._rates = Rates(policy.prices)
        self._fitting: dict[Carrier, list[int]] = {}
        self._prices: dict[tuple[int, int], tuple[ListPrice | None, KindPrices] | None] = {}

    def prices_of(self, carrier: Carrier, day_ms: int) -> KindPrices:
        return self._found(carrier, day_ms)[1]

    def list_price(self, carrier: Carrier, day_ms: int) -> ListPrice | None:
        """None where the list has no price, or there is no exchange rate for it; a free tier has prices of 0."""
        return self._found(carrier, day_ms)[0]

    def _found(self, carrier: Carrier, day_ms: int) -> tuple[ListPrice | None, KindPrices]:
        listed = self._policy.prices.token_prices
        if not listed:
            return None, ()
        if carrier not in self._fitting:
            names = names_of(carrier, self._policy.rules.dimensions)
            self._fitting[carrier] = [i for i, price in enumerate(listed) if fits(price.match, names)]
        for i in self._fitting[carrier]:
            if (i, day_ms) not in self._prices:
                self._prices[i, day_ms] = self._in_force(listed[i], day_of(day_ms))
            if (found := self._prices[i, day_ms]) is not None:
                return found
        return None, ()

    def _in_force(self, price: TokenPrice, day: date) -> tuple[ListPrice | None, KindPrices] | None:
        """None where it does not hold on that day."""
        if in_force((price,), day) is None or (price.until is not None and day >= price.until):
            return None
        exchange = self._rates.exchange(price.currency, day)
        if exchange is None:
            return None, ()
        listed = _listed(price, price.currency or self._policy.prices.currency, exchange)
        return listed, [(i, quanta) for i, quanta in enumerate(listed.quanta_per_token) if quanta]


def _listed(price: TokenPrice, currency: str, exchange: Decimal) -> ListPrice:
    amounts = price.prices()
    cached = amounts.prompt if amounts.cached is None else amounts.cached
    by_kind = {
        "prompt_computed": amounts.prompt,
        "prompt_cached": cached,
        "prompt_unsplit": amounts.prompt,
        "completion": amounts.completion,
    }
    per_million = tuple(by_kind[kind] for kind in TOKEN_KINDS)
    quanta = (round(amount * exchange * PICO / TOKENS_PER_PRICE) * _QUANTA_PER_PICO for amount in per_million)
    return ListPrice(price.name, currency, per_million, exchange, tuple(quanta))
