"""What the tokens of a carrier are sold for, by the price book's `token_prices`. Pure."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal

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
"""Prices are of a million tokens."""

KindPrices = Sequence[tuple[int, int]]
"""(number of the kind, quanta a token)."""


class Revenue:
    """The first price that fits a carrier and holds on a day. What was looked up once is remembered."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._rates = Rates(policy.prices)
        self._fitting: dict[Carrier, list[int]] = {}
        self._prices: dict[tuple[int, int], KindPrices | None] = {}

    def prices_of(self, carrier: Carrier, day_ms: int) -> KindPrices:
        listed = self._policy.prices.token_prices
        if not listed:
            return ()
        if carrier not in self._fitting:
            names = names_of(carrier, self._policy.rules.dimensions)
            self._fitting[carrier] = [i for i, price in enumerate(listed) if fits(price.match, names)]
        for i in self._fitting[carrier]:
            if (i, day_ms) not in self._prices:
                self._prices[i, day_ms] = self._in_force(listed[i], day_of(day_ms))
            if (found := self._prices[i, day_ms]) is not None:
                return found
        return ()

    def _in_force(self, price: TokenPrice, day: date) -> KindPrices | None:
        """None where it does not hold on that day."""
        if not holds(price, day):
            return None
        exchange = self._rates.exchange(price.currency, day)
        return per_token(price, exchange) if exchange is not None else ()


def holds(price: TokenPrice, day: date) -> bool:
    return in_force((price,), day) is not None and (price.until is None or day < price.until)


def per_million(price: TokenPrice) -> dict[str, Decimal]:
    """By kind of the ledger, in the currency of the price."""
    amounts = price.prices()
    cached = amounts.prompt if amounts.cached is None else amounts.cached
    return {
        "prompt_computed": amounts.prompt,
        "prompt_cached": cached,
        "prompt_unsplit": amounts.prompt,
        "completion": amounts.completion,
    }


def per_token(price: TokenPrice, exchange: Decimal) -> list[tuple[int, int]]:
    return [
        (TOKEN_KINDS.index(kind), round(amount * exchange * PICO / TOKENS_PER_PRICE) * _QUANTA_PER_PICO)
        for kind, amount in per_million(price).items()
        if amount
    ]
