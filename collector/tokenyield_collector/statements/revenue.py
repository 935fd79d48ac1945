"""Which tier of the price book's `token_prices` a piece of work is sold at on a day, and for how much. Pure.

This is the one place where a tier is looked up: the revenue of lines, the column `tier` and FOCUS's price list read it.
A tier is chosen in two steps. Which entries fit a piece of work, and in which order, does not depend on the day and is
found once for each identity (`fitting`); the first of them that holds on a day is the tier of that day (`on`).
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from tokenyield_collector.attribution.rules import fits
from tokenyield_collector.ledger.usage import WorkIdentity
from tokenyield_collector.policy import Policy, names_of_work
from tokenyield_collector.prices.money import QUANTA_PER_UNIT
from tokenyield_collector.prices.period import day_of
from tokenyield_collector.prices.rates import PICO, Rates
from tokenyield_collector.prices.token_prices import TokenPrice, names_matched, with_plain_names
from tokenyield_collector.statements.gaps import NO_TOKEN_EXCHANGE_RATE, NO_TOKEN_PRICE, GapKind
from tokenyield_collector.statements.lines import Carrier
from tokenyield_collector.statements.names import names_of
from tokenyield_wire.window import TOKEN_KINDS

_QUANTA_PER_PICO = QUANTA_PER_UNIT // PICO
TOKENS_PER_PRICE = 10**6
"""Prices are of a million tokens."""

KindPrices = Sequence[tuple[int, int]]
"""(number of the kind, quanta a token)."""
Fitting = tuple[int, ...]
"""Numbers of the entries of `token_prices` that fit, in order."""


class DayTier(NamedTuple):
    """A tier on one day. `name` is empty where none holds."""

    name: str = ""
    quanta: KindPrices = ()
    currency: str = ""
    """In which the list has the price."""
    exchange: Decimal | None = Decimal(1)
    """The value of one unit of it in the price book's; None where that is not known."""
    per_million: Mapping[str, Decimal] = {}  # never changed
    """By kind of the ledger, in `currency`."""
    gap: GapKind | None = None
    """Why the revenue of the tokens is not known; None where it is, or where the price book sells nothing."""


NO_TIER = DayTier()
_UNSOLD = DayTier(gap=NO_TOKEN_PRICE)


class Revenue:
    """The first tier that fits a piece of work and holds on a day. What was looked up once is remembered."""

    def __init__(self, policy: Policy) -> None:
        self._listed = policy.prices.token_prices
        self._currency = policy.prices.currency
        self._dimensions = policy.rules.dimensions
        self._rates = Rates(policy.prices)
        matched = names_matched(self._listed)
        self._of_carrier = [name for name in matched if name in (*self._dimensions, "model", "cluster")]
        self._of_facts = [name for name in matched if name not in self._of_carrier]
        self._fitting: dict[tuple[str | None, ...], Fitting] = {}
        self._tiers: dict[tuple[int, int], DayTier | None] = {}
        self._by_name: dict[tuple[str, int], DayTier] = {}

    def fitting(self, identity: WorkIdentity, carrier: Carrier) -> Fitting:
        """`carrier` is that of the identity, at whatever grain."""
        if not self._listed:
            return ()
        names: dict[str, str] = {}
        if self._of_facts:
            names = with_plain_names(names_of_work(*identity))
        names |= names_of(carrier._replace(cluster=identity.cluster), self._dimensions)
        known = tuple(names.get(name) for name in (*self._of_carrier, *self._of_facts))
        if known not in self._fitting:
            self._fitting[known] = tuple(i for i, tier in enumerate(self._listed) if fits(tier.match, names))
        return self._fitting[known]

    def on(self, fitting: Fitting, day_ms: int) -> DayTier:
        for i in fitting:
            if (tier := self._tier(i, day_ms)) is not None:
                return tier
        return _UNSOLD if self._listed else NO_TIER

    def named(self, name: str, day_ms: int) -> DayTier:
        """The tier of a name on a day: entries of one name that hold at once ask the same."""
        if not name:
            return NO_TIER
        if (name, day_ms) not in self._by_name:
            of_name = tuple(i for i, tier in enumerate(self._listed) if tier.name == name)
            self._by_name[name, day_ms] = self.on(of_name, day_ms)
        return self._by_name[name, day_ms]

    def _tier(self, i: int, day_ms: int) -> DayTier | None:
        if (i, day_ms) not in self._tiers:
            self._tiers[i, day_ms] = self._look_up(self._listed[i], day_ms)
        return self._tiers[i, day_ms]

    def _look_up(self, tier: TokenPrice, day_ms: int) -> DayTier | None:
        """None where it does not hold on that day."""
        day = day_of(day_ms)
        price = tier.on(day)
        if price is None:
            return None
        currency = tier.currency or self._currency
        exchange, per_million = self._rates.exchange(currency, day), price.by_kind()
        if exchange is None:
            return DayTier(tier.name, (), currency, None, per_million, NO_TOKEN_EXCHANGE_RATE)
        return DayTier(tier.name, per_token(per_million, exchange), currency, exchange, per_million)


def per_token(per_million: Mapping[str, Decimal], exchange: Decimal) -> list[tuple[int, int]]:
    return [
        (TOKEN_KINDS.index(kind), round(amount * exchange * PICO / TOKENS_PER_PRICE) * _QUANTA_PER_PICO)
        for kind, amount in per_million.items()
        if amount
    ]
