"""Agreed prices of bought tokens, by vendor, model and day: used where no bill has their money. Pure.

An entry goes before the public list (spend/list_prices.py). Days are UTC days, as those of `token_prices`.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase

import msgspec

from tokenyield_collector.prices.calendar import in_force
from tokenyield_collector.prices.token_prices import RecordReader

PICO_PER_TOKEN = 10**6
"""Of a price of one unit of a currency for a million tokens."""


class BoughtPerMillion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prices of a million tokens by kind, from a UTC day on. A kind without a price has none, but for what a cache
    reads or is written: as prompt."""

    from_: date | None = msgspec.field(name="from", default=None)
    prompt: Decimal | None = None
    cached: Decimal | None = None
    cache_write: Decimal | None = None
    long_cache_write: Decimal | None = None
    """None: as `cache_write`."""
    completion: Decimal | None = None

    def pico(self) -> tuple[int | None, ...]:
        """Of a token, in the order of the fields."""
        return tuple(
            None if price is None else int(price * PICO_PER_TOKEN)
            for price in (self.prompt, self.cached, self.cache_write, self.long_cache_write, self.completion)
        )


KINDS = ("prompt", "cached", "cache_write", "long_cache_write", "completion")
PRICE_MAX = Decimal(10**6)
"""Of a million tokens: no vendor asks near as much, and no sum of a day overflows by it."""


class BoughtPrice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one vendor was agreed to be paid. `model`: a shell pattern, in small letters; `source`: where it is from."""

    vendor: str
    model: str = "*"
    currency: str | None = None
    source: str = ""
    per_million: tuple[BoughtPerMillion, ...] = ()


def read_bought(reader: RecordReader, value: object) -> tuple[BoughtPrice, ...]:
    """The entries of `bought_prices`; `per_million` is a mapping, or a list of such by day."""
    entries = []
    for i, raw in enumerate(reader.list("bought_prices", value)):
        at = f"bought_prices[{i}]"
        if not isinstance(raw, dict):
            reader.faults.append(f"{at}: expected a mapping, found {type(raw).__name__}")
            continue
        prices: tuple[BoughtPerMillion, ...] = ()
        if raw.get("per_million") is None:
            reader.faults.append(
                f"{at}.per_million: expected prices of a million tokens, found nothing; "
                "write {prompt: 3, cached: 0.3, completion: 15}"
            )
        else:
            prices = reader.dated(f"{at}.per_million", raw["per_million"], BoughtPerMillion)
        head = reader.one(at, {name: part for name, part in raw.items() if name != "per_million"}, BoughtPrice)
        if head is not None and prices:
            entries.append(msgspec.structs.replace(head, per_million=prices))
    return tuple(entries)


def bought_faults(listed: Sequence[BoughtPrice]) -> Iterator[str]:
    for i, entry in enumerate(listed):
        at = f"bought_prices[{i}]"
        for name in ("vendor", "model"):
            text: str = getattr(entry, name)
            if not text or text != text.casefold():
                yield f"{at}.{name}: expected a name in small letters, found '{text}'; write '{text.casefold()}'"
        for j, prices in enumerate(entry.per_million):
            here = f"{at}.per_million[{j}]" if len(entry.per_million) > 1 else f"{at}.per_million"
            amounts = {kind: getattr(prices, kind) for kind in KINDS}
            if all(amount is None for amount in amounts.values()):
                yield f"{here}: expected a price of a kind of tokens, found none; free is 0"
            for kind, amount in amounts.items():
                if amount is not None and not (0 <= amount <= PRICE_MAX and amount * PICO_PER_TOKEN % 1 == 0):
                    expected = f"0 to {PRICE_MAX}, with at most six decimals"
                    yield f"{here}.{kind}: expected {expected}, found {amount}"


def agreed_on(listed: Sequence[BoughtPrice], vendor: str, model: str, day: date) -> tuple[int, BoughtPerMillion] | None:
    """(which entry, its prices) of the first that fits and has begun."""
    for i, entry in enumerate(listed):
        if entry.vendor == vendor and fnmatchcase(model, entry.model):
            prices = in_force(entry.per_million, day)
            if prices is not None:
                return i, prices
    return None
