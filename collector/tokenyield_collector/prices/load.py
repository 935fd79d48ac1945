"""`prices.yaml` read into a `PriceBook`, with every fault at once.

Each fault names the file, the place in it (`pools[1].owned.life_years`), what was found and what is wanted.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from tokenyield_collector.prices.book import (
    ApiPrice,
    ExchangeRate,
    Facility,
    Owned,
    Pool,
    PoolHead,
    PriceBook,
    ReferenceRates,
    Rented,
    TokenPrice,
    TokenWeights,
)
from tokenyield_collector.prices.reference import reference_pools
from tokenyield_settings.loader import SettingsError, nearest, read_yaml

_HEAD = (
    "version",
    "currency",
    "timezone",
    "exchange_rates",
    "facilities",
    "pools",
    "reference_prices",
    "reference_rates",
    "token_weights",
    "token_prices",
    "api_prices",
)
_POOL = ("name", "match", "owned", "rented", "facility", "kw_per_gpu", "host_watts_per_gpu", "owner")
_CARBON_HOURS = 24
_SMALLEST, _LARGEST = Decimal("1e-15"), Decimal("1e15")
NAME_CHARS_MAX = 100

AnyRecord = TypeVar("AnyRecord")


def load_prices(path: Path) -> PriceBook:
    """Raises `SettingsError` with every fault found."""
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise SettingsError([f"{path}: wanted a mapping with 'pools', found {type(raw).__name__}"])
    reader = _Reader()
    book = reader.book(raw)
    if reader.faults:
        raise SettingsError([f"{path}: {fault}" for fault in reader.faults])
    return book


class _Reader:
    """Turns parts of the document into records and notes what it cannot."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def book(self, raw: dict[str, Any]) -> PriceBook:
        raw = self._finite(raw, "")
        self._unknown("", raw, _HEAD)
        if raw.get("version", 1) != 1:
            self.faults.append(f"version: {raw['version']} is unknown, this collector reads 1")
        currency = self.one("currency", raw.get("currency", "USD"), str) or "USD"
        timezone = self.one("timezone", raw.get("timezone", "UTC"), str) or "UTC"
        try:
            ZoneInfo(timezone)
        except (ValueError, OSError, KeyError):
            self.faults.append(f"timezone: '{timezone}' is unknown; write one as Europe/Berlin or UTC")
            timezone = "UTC"
        exchange = {
            name: self.dated(
                f"exchange_rates.{name}", value if isinstance(value, list | dict) else {"rate": value}, ExchangeRate
            )
            for name, value in self.mapping("exchange_rates", raw.get("exchange_rates")).items()
        }
        facilities = {
            str(name): self.dated(f"facilities.{name}", value, Facility)
            for name, value in self.mapping("facilities", raw.get("facilities")).items()
        }
        pools = [pool for i, entry in enumerate(self.list("pools", raw.get("pools"))) if (pool := self.pool(i, entry))]
        chosen = raw.get("reference_prices")
        if chosen not in (None, "owned", "rented"):
            self.faults.append(f"reference_prices: '{chosen}' is neither owned nor rented; leave it out to use none")
            chosen = None
        weights = self.one("token_weights", raw.get("token_weights") or {}, TokenWeights) or TokenWeights()
        rates = self.one("reference_rates", raw.get("reference_rates") or {}, ReferenceRates) or ReferenceRates()
        token_prices = self.several("token_prices", raw.get("token_prices"), TokenPrice)
        api_prices = self.several("api_prices", raw.get("api_prices"), ApiPrice)
        try:
            document = msgspec.json.encode(raw, order="sorted").decode()
        except (TypeError, ValueError) as error:  # a name that YAML reads as a number or as true
            self.faults.append(f"a name in it is no text; put it in quotes ({error})")
            document = ""
        book = PriceBook(
            currency=currency,
            timezone=timezone,
            facilities=facilities,
            pools=(*pools, *(reference_pools(chosen) if chosen else ())),
            exchange_rates=exchange,
            token_weights=weights,
            token_prices=token_prices,
            api_prices=api_prices,
            reference_rates=rates,
            fingerprint=hashlib.sha256(document.encode()).hexdigest()[:16],
            document=document,
        )
        self.faults += _faults(book)
        return book

    def pool(self, i: int, raw: Any) -> Pool | None:
        at = f"pools[{i}]"
        if not isinstance(raw, dict):
            self.faults.append(f"{at}: wanted a mapping, found {type(raw).__name__}")
            return None
        if isinstance(raw.get("name"), str):
            at = f"{at} ({raw['name'][:NAME_CHARS_MAX]})"
        self._unknown(f"{at}.", raw, _POOL)
        kinds = [kind for kind in ("owned", "rented") if raw.get(kind) is not None]
        if len(kinds) != 1:
            self.faults.append(f"{at}: wants either owned or rented")
            return None
        terms: tuple[Owned | Rented, ...] = (
            self.dated(f"{at}.owned", raw["owned"], Owned)
            if kinds == ["owned"]
            else self.dated(f"{at}.rented", raw["rented"], Rented)
        )
        rest = {name: value for name, value in raw.items() if name not in ("owned", "rented") and name in _POOL}
        head = self.one(at, rest, PoolHead)
        return Pool(**msgspec.structs.asdict(head), terms=terms) if head is not None and terms else None

    # --- parts -----------------------------------------------------------------------------------------------------

    def one(self, at: str, value: Any, kind: type[AnyRecord]) -> AnyRecord | None:
        try:
            record = msgspec.convert(value, kind)
            faults = list(_no_amounts(at, record))
        except msgspec.ValidationError as error:
            record, faults = None, [f"{at}: {error}"]
        self.faults += [fault for fault in faults if fault not in self.faults]
        return None if faults else record

    def several(self, at: str, value: Any, kind: type[AnyRecord]) -> tuple[AnyRecord, ...]:
        found = (self.one(f"{at}[{i}]", entry, kind) for i, entry in enumerate(self.list(at, value)))
        return tuple(entry for entry in found if entry is not None)

    def dated(self, at: str, value: Any, kind: type[AnyRecord]) -> tuple[AnyRecord, ...]:
        """One mapping, or a list of mappings each of which says what changes `from` a day on."""
        if not isinstance(value, list):
            found = self.one(at, value, kind)
            return () if found is None else (found,)
        if not value:
            self.faults.append(f"{at}: is an empty list; wants at least one entry")
        known: dict[str, Any] = {}
        entries: list[AnyRecord] = []
        for i, entry in enumerate(value):
            if not isinstance(entry, dict):
                self.faults.append(f"{at}[{i}]: wanted a mapping, found {type(entry).__name__}")
                continue
            if i and "from" not in entry:
                self.faults.append(f"{at}[{i}].from: is missing; say from which day on this holds")
                continue
            known = {**known, **entry}
            if (one := self.one(f"{at}[{i}]", known, kind)) is not None:
                entries.append(one)
        days: list[date | None] = [getattr(entry, "from_") for entry in entries]  # noqa: B009 - all dated kinds have it
        if any(later is None or (former is not None and later <= former) for former, later in pairwise(days)):
            self.faults.append(f"{at}: 'from' days must grow from entry to entry")
        return tuple(entries)

    def mapping(self, at: str, value: Any) -> Mapping[Any, Any]:
        if value is None or isinstance(value, dict):
            return value or {}
        self.faults.append(f"{at}: wanted a mapping, found {type(value).__name__}")
        return {}

    def list(self, at: str, value: Any) -> list[Any]:
        if value is None or isinstance(value, list):
            return value or []
        self.faults.append(f"{at}: wanted a list, found {type(value).__name__}")
        return []

    def _finite(self, raw: Any, at: str) -> Any:
        """The same with 0 for .nan and .inf, which no check could compare."""
        if isinstance(raw, dict):
            return {name: self._finite(value, f"{at}.{name}" if at else str(name)) for name, value in raw.items()}
        if isinstance(raw, list):
            return [self._finite(value, f"{at}[{i}]") for i, value in enumerate(raw)]
        if isinstance(raw, float) and not math.isfinite(raw):
            self.faults.append(f"{at}: {raw} is no amount")
            return 0
        return raw

    def _unknown(self, at: str, raw: Mapping[str, Any], known: tuple[str, ...]) -> None:
        self.faults += [f"{at}{name}: unknown entry{nearest(str(name), known)}" for name in raw if name not in known]


def _faults(book: PriceBook) -> Iterator[str]:
    for name, sites in book.facilities.items():
        for i, site in enumerate(sites):
            yield from _facility_faults(_at(f"facilities.{name}", i, sites), site, book)
    for name, rates in book.exchange_rates.items():
        for i, rate in enumerate(rates):
            if rate.rate <= 0:
                yield f"{_at(f'exchange_rates.{name}', i, rates)}.rate: {rate.rate} wants to be above 0"
    seen: set[str] = set()
    for i, pool in enumerate(book.pools):
        at = f"pools[{i}] ({pool.name})"
        if not 1 <= len(pool.name) <= NAME_CHARS_MAX:
            yield f"pools[{i}].name: wants 1 to {NAME_CHARS_MAX} characters"
        if pool.name in seen:
            yield f"{at}.name: stands twice; every pool needs its own"
        seen.add(pool.name)
        yield from _pool_faults(at, pool, book)
    for i, price in enumerate(book.token_prices):
        yield from _unknown_currency(f"token_prices[{i}]", price.currency, book)
        yield from _negative(f"token_prices[{i}].per_million", price.prices())
    for i, api in enumerate(book.api_prices):
        yield from _unknown_currency(f"api_prices[{i}]", api.currency, book)
        yield from _negative(f"api_prices[{i}].per_million", api.per_million)
    weights = book.token_weights
    for name in ("prompt", "cached", "completion"):
        weight: Decimal = getattr(weights, name)
        if weight < 0 or weight * 1000 % 1:
            yield f"token_weights.{name}: {weight} wants to be at least 0, with at most three decimals"
    if weights.completion <= 0:
        yield "token_weights.completion: wants to be above 0; reference rates are in completion tokens"
    if not 1 <= book.reference_rates.learn_days <= 366:
        yield f"reference_rates.learn_days: {book.reference_rates.learn_days} is outside 1 to 366"
    for i, reference in enumerate(book.reference_rates.configured):
        if reference.tokens_per_second <= 0:
            yield f"reference_rates.configured[{i}].tokens_per_second: wants to be above 0"


def _pool_faults(at: str, pool: Pool, book: PriceBook) -> Iterator[str]:
    if pool.facility is not None and pool.facility not in book.facilities:
        yield f"{at}.facility: '{pool.facility}' is none of facilities{nearest(pool.facility, book.facilities)}"
    elif pool.facility is None and len(book.facilities) > 1 and any(isinstance(t, Owned) for t in pool.terms):
        yield f"{at}.facility: is missing; there are {len(book.facilities)}: {', '.join(sorted(book.facilities))}"
    yield from _negative(at, pool)
    for i, terms in enumerate(pool.terms):
        kind = "owned" if isinstance(terms, Owned) else "rented"
        here = _at(f"{at}.{kind}", i, pool.terms)
        yield from _negative(here, terms)
        yield from _unknown_currency(here, terms.currency, book)
        yield from _owned_faults(here, terms) if isinstance(terms, Owned) else _rented_faults(here, terms)


def _owned_faults(at: str, owned: Owned) -> Iterator[str]:
    if owned.life_years <= 0:
        yield f"{at}.life_years: {owned.life_years} wants to be above 0"
    if owned.residual_fraction > 1:
        yield f"{at}.residual_fraction: {owned.residual_fraction} is more than the whole price"
    for name in ("cost_of_capital", "maintenance_rate"):
        if getattr(owned, name) > 1:
            yield f"{at}.{name}: {getattr(owned, name)} is above 1; write 8 % as 0.08"
    if owned.in_service and owned.retired and owned.retired <= owned.in_service:
        yield f"{at}.retired: {owned.retired} is not after in_service"


def _rented_faults(at: str, rented: Rented) -> Iterator[str]:
    if (rented.per_gpu_hour is None) == (rented.per_instance_hour is None):
        yield f"{at}: wants either per_gpu_hour, or per_instance_hour with gpus_per_instance"
    if rented.per_instance_hour is not None and not rented.gpus_per_instance:
        yield f"{at}.gpus_per_instance: is missing; how many GPUs has the instance?"
    if rented.starts and rented.ends and rented.ends <= rented.starts:
        yield f"{at}.ends: {rented.ends} is not after starts"
    if rented.upfront_per_gpu and not (rented.starts and rented.ends):
        yield f"{at}.upfront_per_gpu: wants starts and ends, to spread it over the term"
    if rented.kind == "reserved" and rented.count is None:
        yield f"{at}.count: is missing; how many GPUs are committed? They cost whether used or not"


def _facility_faults(at: str, site: Facility, book: PriceBook) -> Iterator[str]:
    yield from _negative(at, site)
    yield from _unknown_currency(at, site.currency, book)
    if site.pue < 1:
        yield f"{at}.pue: {site.pue} is below 1, which no site can reach"
    if site.capex_life_years <= 0:
        yield f"{at}.capex_life_years: {site.capex_life_years} wants to be above 0"
    ways = [name for name in ("per_kw_month", "capex_per_kw", "preset") if getattr(site, name) is not None]
    if len(ways) > 1:
        yield f"{at}: give per_kw_month (colocation), capex_per_kw (own building) or preset, not {' and '.join(ways)}"
    if site.preset is not None and (site.currency or book.currency) != "USD":
        yield f"{at}.preset: is in US dollars; put it into a facility with currency: USD"
    if isinstance(site.carbon_g_per_kwh, tuple) and len(site.carbon_g_per_kwh) != _CARBON_HOURS:
        yield f"{at}.carbon_g_per_kwh: {len(site.carbon_g_per_kwh)} figures; give one, or {_CARBON_HOURS} by local hour"
    for i, band in enumerate(site.bands):
        for fault in band.faults():
            yield f"{at}.bands[{i}].{fault}"


def _unknown_currency(at: str, currency: str | None, book: PriceBook) -> Iterator[str]:
    if currency not in (None, book.currency) and currency not in book.exchange_rates:
        yield f"{at}.currency: '{currency}' has no exchange rate; add exchange_rates.{currency}"


def _no_amounts(at: str, value: Any) -> Iterator[str]:
    """Numbers in a record that nothing costs: sums and powers of them would leave what decimals can hold."""
    if isinstance(value, msgspec.Struct):
        for field in msgspec.structs.fields(value):
            yield from _no_amounts(f"{at}.{field.encode_name}", getattr(value, field.name))
    elif isinstance(value, tuple):
        for i, entry in enumerate(value):
            yield from _no_amounts(f"{at}[{i}]", entry)
    elif isinstance(value, Decimal) and not (value.is_finite() and (not value or _SMALLEST <= abs(value) <= _LARGEST)):
        yield f"{at}: {value} is no amount; wants 0 or {_SMALLEST} to {_LARGEST}"


def _negative(at: str, terms: msgspec.Struct) -> Iterator[str]:
    for field in msgspec.structs.fields(terms):
        value = getattr(terms, field.name)
        if isinstance(value, Decimal | int) and not isinstance(value, bool) and value < 0:
            yield f"{at}.{field.encode_name}: {value} is negative"


def _at(at: str, i: int, entries: tuple[Any, ...]) -> str:
    return f"{at}[{i}]" if len(entries) > 1 else at
