"""The unit prices of rows, as the price book lists them: of tokens, and of a pool's GPU-hour. Pure.

No price is a cost divided by a quantity: the cost of a row may be more or less than its quantity at this price. Where
the list has no price for tokens, they are priced by the GPU-hours that made them.
"""

from collections.abc import Sequence
from decimal import Decimal, localcontext
from typing import NamedTuple

from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.book import Rented
from tokenyield_collector.prices.calendar import in_force
from tokenyield_collector.prices.money import QUANTA_PER_UNIT, rounded, scaled
from tokenyield_collector.prices.period import day_of
from tokenyield_collector.prices.rates import PICO, Rates
from tokenyield_collector.reports.focus.columns import PRICE_DECIMALS
from tokenyield_collector.statements.lines import LineKey, Sums
from tokenyield_collector.statements.revenue import TOKENS_PER_PRICE, DayTier, Revenue
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR
from tokenyield_wire.window import TOKEN_KINDS

TOKENS_UNIT = f"{TOKENS_PER_PRICE} Tokens"
HOURS_UNIT = "Hours"
_CATEGORY_OF = {"reserved": "Committed", "spot": "Dynamic"}


class UnitPrice(NamedTuple):
    """What one `unit` costs by the list. `name` distinguishes it from the other prices of a SKU."""

    name: str
    unit: str
    amount: Decimal
    """In the price book's currency."""
    currency: str
    """The one in which the list has it."""
    amount_in_currency: Decimal
    exchange: Decimal
    """The value of one unit of `currency` in the price book's."""
    pool: str = ""
    """The pool whose hours it prices."""


class PoolPrice(NamedTuple):
    """A pool on one day. `category` is FOCUS's PricingCategory."""

    gpu_hour: UnitPrice
    category: str
    is_committed: bool


class PriceList:
    """What was looked up once is remembered: a month has as many prices as pools, tiers and days."""

    def __init__(self, policy: Policy) -> None:
        self._prices = policy.prices
        self._rates = Rates(policy.prices)
        self._revenue = Revenue(policy)
        self._pools = {pool.name: pool for pool in policy.prices.pools}
        self._pool_days: dict[tuple[str, int], PoolPrice | None] = {}
        self._tier_days: dict[tuple[str, int], Sequence[UnitPrice]] = {}

    def of_tokens(self, key: LineKey, sums: Sums) -> Sequence[UnitPrice] | None:
        """By number of the kind; None where the line's revenue is not that of one price of the list."""
        day_ms = key.start_ms - key.start_ms % MS_PER_DAY
        tier = self._revenue.named(key.carrier.tier, day_ms)
        if not tier.name or tier.exchange is None:
            return None
        if sum(sums.get(TOKEN_KINDS[i]) * quanta for i, quanta in tier.quanta) != sums.get("revenue"):
            return None
        if (tier.name, day_ms) not in self._tier_days:
            self._tier_days[tier.name, day_ms] = _unit_prices(tier, tier.exchange)
        return self._tier_days[tier.name, day_ms]

    def of_pool(self, name: str | None, start_ms: int) -> PoolPrice | None:
        """None where the day has no price for it. A rate that changes within the day is the mean of its hours."""
        if name not in self._pools:
            return None
        day_ms = start_ms - start_ms % MS_PER_DAY
        if (name, day_ms) not in self._pool_days:
            self._pool_days[name, day_ms] = self._pool_day(name, day_ms)
        return self._pool_days[name, day_ms]

    def _pool_day(self, name: str, day_ms: int) -> PoolPrice | None:
        pool, day = self._pools[name], day_of(day_ms)
        hours = [self._rates.of(pool, hour_ms) for hour_ms in range(day_ms, day_ms + MS_PER_DAY, MS_PER_HOUR)]
        rates = [rate for rate in hours if rate is not None]
        if not rates:
            return None
        pico = rounded(sum(rate.pico_per_gpu_hour for rate in rates), len(rates))
        amount = scaled(max(0, pico), PRICE_DECIMALS)  # a tariff may be negative, a price of FOCUS may not
        terms = in_force(pool.terms, day)
        currency = (terms.currency if terms else None) or self._prices.currency
        exchange = self._rates.exchange(currency, day)
        if exchange is None:
            currency, exchange = self._prices.currency, Decimal(1)
        price = UnitPrice(f"{name}/gpu-hour", HOURS_UNIT, amount, currency, divided(amount, exchange), exchange, name)
        kind = rates[0].kind if isinstance(terms, Rented) else "owned"
        return PoolPrice(price, _CATEGORY_OF.get(kind, "Standard"), kind == "reserved")

    def of_cost(self, quanta: int, tokens: int) -> UnitPrice | None:
        """For tokens that no list prices and no GPU of ours made: what they cost. None where that is not known."""
        if not quanta:
            return None
        pico = rounded(quanta * TOKENS_PER_PRICE * PICO, tokens * QUANTA_PER_UNIT)
        amount, currency = scaled(pico, PRICE_DECIMALS), self._prices.currency
        return UnitPrice("cost", TOKENS_UNIT, amount, currency, amount, Decimal(1))


def _unit_prices(tier: DayTier, exchange: Decimal) -> list[UnitPrice]:
    by_number = dict(tier.quanta)
    prices = []
    for i, kind in enumerate(TOKEN_KINDS):
        pico = by_number.get(i, 0) * TOKENS_PER_PRICE * PICO // QUANTA_PER_UNIT
        amount = scaled(pico, PRICE_DECIMALS)
        prices.append(UnitPrice(tier.name, TOKENS_UNIT, amount, tier.currency, tier.per_million[kind], exchange))
    return prices


def divided(amount: Decimal, by: Decimal) -> Decimal:
    """To as many decimals as a price has."""
    if by == 1:
        return amount
    with localcontext() as context:
        context.prec = 50
        return (amount / by).quantize(Decimal(1).scaleb(-PRICE_DECIMALS))
