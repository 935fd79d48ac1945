"""List prices: what tokens cost that nobody billed, by vendor and model, each with where it is from. Pure.

The list is a cut of a public one (`.ci/list-prices` makes it). It is in no bill: whatever is priced with it says so. A
model that it does not have stays unpriced, and is named.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import NamedTuple, TypeVar

import msgspec

from tokenyield_collector.prices.money import rounded
from tokenyield_collector.spend.slices import SpendAmounts
from tokenyield_collector.spend.values import PICO_PER_MICRO

CURRENCY = "USD"
_VERSION = re.compile(r"(?:[-@:](?:20\d{6}|20\d\d-\d\d-\d\d|latest|v\d+(?::\d+)?))+$")
"""At the end of a model's name: which of its versions it is."""


Fresh = TypeVar("Fresh", int, int | None)


class ListPrice(NamedTuple):
    """Picos (values.py) a token; None where the list has no own price for it."""

    fresh: int | None
    cache_read: int | None
    cache_write: int | None
    long_cache_write: int | None
    output: int | None

    def of_caches(self, fresh: Fresh) -> tuple[int | Fresh, int | Fresh, int | Fresh]:
        """(read, written, written for long): what has no price of its own costs as other input, `fresh`."""
        write = fresh if self.cache_write is None else self.cache_write
        read = fresh if self.cache_read is None else self.cache_read
        return read, write, write if self.long_cache_write is None else self.long_cache_write

    def cost_micro(self, amounts: SpendAmounts) -> int | None:
        """What these tokens cost; None where the list has no price for some of them. What is read from or written to a
        cache and has no price of its own costs as other input."""
        read, write, long_write = self.of_caches(self.fresh)
        long = min(amounts.long_cache_write or 0, amounts.cache_write or 0)
        parts = (
            (amounts.fresh, self.fresh),
            (amounts.cache_read, read),
            ((amounts.cache_write or 0) - long, write),
            (long, long_write),
            (amounts.output, self.output),
        )
        if any(count and price is None for count, price in parts):
            return None
        return rounded(sum((count or 0) * (price or 0) for count, price in parts), PICO_PER_MICRO)


class ListPrices(msgspec.Struct, frozen=True):
    """`models`: vendor -> model, in small letters -> its price."""

    source: str
    date: str
    models: Mapping[str, Mapping[str, ListPrice]]

    @property
    def text(self) -> str:
        return f"list price ({self.source}, {self.date})"

    def price(self, vendor: str, model: str) -> ListPrice | None:
        """As the model is named, else without the version at the end of its name."""
        own = self.models.get(vendor, {})
        plain = model.casefold()
        return own.get(plain) or own.get(_VERSION.sub("", plain))


@lru_cache(1)
def bundled_list() -> ListPrices:
    """What the collector ships."""
    text = resources.files("tokenyield_collector.spend").joinpath("list_prices.json").read_bytes()
    return msgspec.json.decode(text, type=ListPrices)


@lru_cache(1 << 14)
def plain_model(model: str) -> str:
    """What a model is matched by between vendors' reports: without maker, region and version."""
    plain = model.casefold().rpartition("/")[2].replace(" ", "-")
    return _VERSION.sub("", plain.rpartition("anthropic.")[2] if "anthropic." in plain else plain)
