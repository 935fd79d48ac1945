"""What bought tokens cost that nobody billed: by an agreed price of the price book, else by the public list. Pure."""

from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from typing import NamedTuple, Protocol

from tokenyield_collector.prices.bought_prices import BoughtPrice, agreed_on
from tokenyield_collector.spend.list_prices import CURRENCY, ListPrice, ListPrices

REMEMBERED_MAX = 10_000


class AppliedPrice(NamedTuple):
    """`source`: what says so, for people."""

    price: ListPrice
    currency: str
    source: str


class UnbilledPrices(Protocol):
    """Prices by vendor, model (as it is named) and UTC day; None where there is none."""

    def of(self, vendor: str, model: str, day: date) -> AppliedPrice | None: ...


class PublicList:
    """The list alone, whose prices are those of its own date on every day."""

    def __init__(self, listed: ListPrices) -> None:
        self._listed = listed

    def of(self, vendor: str, model: str, day: date) -> AppliedPrice | None:
        price = self._listed.price(vendor, model)
        return None if price is None else AppliedPrice(price, CURRENCY, self._listed.text)


class AgreedOrListed:
    """`agreed` are of a price book whose currency is `currency`; they go before the list."""

    def __init__(self, agreed: Sequence[BoughtPrice], currency: str, listed: ListPrices) -> None:
        self._agreed = agreed
        self._currency = currency
        self._list = PublicList(listed)
        self.of = lru_cache(REMEMBERED_MAX)(self._of)

    def _of(self, vendor: str, model: str, day: date) -> AppliedPrice | None:
        plain = model.casefold()
        found = agreed_on(self._agreed, vendor, plain, day)
        if found is None:
            return self._list.of(vendor, model, day)
        i, prices = found
        entry = self._agreed[i]
        source = f"agreed price ({entry.source or f'bought_prices[{i}]'})"
        return AppliedPrice(ListPrice(*prices.pico()), entry.currency or self._currency, source)
