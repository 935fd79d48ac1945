"""`prices.yaml` read into a `PriceBook`, with every fault at once.

Each fault names the file, the place in it (`pools[1].owned.life_years`), what was expected, what was found and how to
fix it. checks.py looks at values that have the right type.
"""

import hashlib
import math
from collections.abc import Mapping
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from tokenyield_collector.prices.book import (
    ExchangeRate,
    Facility,
    Owned,
    Pool,
    PoolHead,
    PriceBook,
    ReferenceRates,
    Rented,
    TokenWeights,
)
from tokenyield_collector.prices.bought_prices import read_bought
from tokenyield_collector.prices.checks import NAME_CHARS_MAX, faults_of, not_amounts
from tokenyield_collector.prices.overflow import overflow_pool
from tokenyield_collector.prices.reference import reference_pools
from tokenyield_collector.prices.sites import Site
from tokenyield_collector.prices.token_prices import ApiPrice, TokenPrice, read_priced
from tokenyield_settings.loader import SettingsError, nearest, read_yaml

_HEAD = (
    "version",
    "currency",
    "timezone",
    "exchange_rates",
    "facilities",
    "sites",
    "pools",
    "reference_prices",
    "reference_rates",
    "token_weights",
    "token_prices",
    "api_prices",
    "bought_prices",
)
_POOL = ("name", "match", "owned", "rented", "facility", "kw_per_gpu", "host_watts_per_gpu", "owner")

AnyRecord = TypeVar("AnyRecord")


def load_prices(path: Path) -> PriceBook:
    """Raises `SettingsError` with every fault found."""
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise SettingsError([f"{path}: expected a mapping with 'pools', found {type(raw).__name__}"])
    reader = _Reader()
    prices = reader.price_book(raw)
    if reader.faults:
        raise SettingsError([f"{path}: {fault}" for fault in reader.faults])
    return prices


def price_book_of(document: str) -> PriceBook:
    """The price book of which this is the `PriceBook.document`. Raises `SettingsError` where it cannot be read."""
    if not document:
        return PriceBook()
    reader = _Reader()
    prices = reader.price_book(msgspec.json.decode(document))
    if reader.faults:
        raise SettingsError(reader.faults)
    return prices


class _Reader:
    """Turns parts of the document into records, and lists faults."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.inherited: dict[str, dict[date | None, dict[str, str]]] = {}

    def price_book(self, raw: dict[str, Any]) -> PriceBook:
        raw = self._finite(raw, "")
        self._unknown("", raw, _HEAD)
        if raw.get("version", 1) != 1:
            self.faults.append(f"version: expected 1, found {raw['version']}; this collector reads no other")
        document = self._document(raw)
        prices = PriceBook(
            currency=self.one("currency", raw.get("currency", "USD"), str) or "USD",
            timezone=self._timezone(raw.get("timezone", "UTC")),
            facilities={
                str(name): self.dated(f"facilities.{name}", value, Facility)
                for name, value in self.mapping("facilities", raw.get("facilities")).items()
            },
            sites={
                str(name): self.dated(f"sites.{name}", value, Site)
                for name, value in self.mapping("sites", raw.get("sites")).items()
            },
            pools=(*self._pools(raw.get("pools")), *self._reference_pools(raw.get("reference_prices"))),
            exchange_rates=self._exchange_rates(raw.get("exchange_rates")),
            token_weights=self.one("token_weights", raw.get("token_weights") or {}, TokenWeights) or TokenWeights(),
            token_prices=read_priced(self, "token_prices", raw.get("token_prices"), TokenPrice),
            api_prices=read_priced(self, "api_prices", raw.get("api_prices"), ApiPrice),
            bought_prices=read_bought(self, raw.get("bought_prices")),
            reference_rates=self.one("reference_rates", raw.get("reference_rates") or {}, ReferenceRates)
            or ReferenceRates(),
            inherited=self.inherited,
            fingerprint=hashlib.sha256(document.encode()).hexdigest()[:16],
            document=document,
        )
        self.faults += faults_of(prices)
        return prices

    def _document(self, raw: dict[str, Any]) -> str:
        try:
            return msgspec.json.encode(raw, order="sorted").decode()
        except (TypeError, ValueError) as error:  # a name that YAML reads as a number or as true
            self.faults.append(f"expected names that are text, found another type ({error}); put the name in quotes")
            return ""

    def _timezone(self, value: Any) -> str:
        timezone = self.one("timezone", value, str) or "UTC"
        try:
            ZoneInfo(timezone)
        except (ValueError, OSError, KeyError):
            fix = "write Europe/Berlin or UTC"
            self.faults.append(f"timezone: expected the name of a time zone, found '{timezone}'; {fix}")
            return "UTC"
        return timezone

    def _exchange_rates(self, value: Any) -> dict[str, tuple[ExchangeRate, ...]]:
        """A currency may have one rate, or several by day."""
        return {
            name: self.dated(
                f"exchange_rates.{name}", rate if isinstance(rate, list | dict) else {"rate": rate}, ExchangeRate
            )
            for name, rate in self.mapping("exchange_rates", value).items()
        }

    def _reference_pools(self, kind: Any) -> list[Pool]:
        if kind in ("owned", "rented"):
            return reference_pools(kind)
        if kind is not None:
            fix = "leave it out to use none"
            self.faults.append(f"reference_prices: expected owned or rented, found '{kind}'; {fix}")
        return []

    def _pools(self, value: Any) -> list[Pool]:
        pools: list[Pool] = []
        for i, entry in enumerate(self.list("pools", value)):
            if (pool := self.pool(i, entry)) is not None:
                overflow = overflow_pool(pool)
                pools += [pool] if overflow is None else [pool, overflow]
        return pools

    def pool(self, i: int, raw: Any) -> Pool | None:
        at = f"pools[{i}]"
        if not isinstance(raw, dict):
            self.faults.append(f"{at}: expected a mapping, found {type(raw).__name__}")
            return None
        if isinstance(raw.get("name"), str):
            at = f"{at} ({raw['name'][:NAME_CHARS_MAX]})"
        self._unknown(f"{at}.", raw, _POOL)
        kinds = [kind for kind in ("owned", "rented") if raw.get(kind) is not None]
        if len(kinds) != 1:
            self.faults.append(f"{at}: expected either owned or rented, found {'both' if kinds else 'neither'}")
            return None
        terms: tuple[Owned | Rented, ...] = (
            self.dated(f"{at}.owned", raw["owned"], Owned, f"pools.{raw.get('name')}")
            if kinds == ["owned"]
            else self.dated(f"{at}.rented", raw["rented"], Rented, f"pools.{raw.get('name')}")
        )
        rest = {name: value for name, value in raw.items() if name not in ("owned", "rented") and name in _POOL}
        head = self.one(at, rest, PoolHead)
        return Pool(**msgspec.structs.asdict(head), terms=terms) if head is not None and terms else None

    # --- parts -----------------------------------------------------------------------------------------------------

    def one(self, at: str, value: Any, kind: type[AnyRecord]) -> AnyRecord | None:
        try:
            record = msgspec.convert(value, kind)
            faults = list(not_amounts(at, record))
        except msgspec.ValidationError as error:
            record, faults = None, [f"{at}: {error}"]
        self.faults += [fault for fault in faults if fault not in self.faults]
        return None if faults else record

    def dated(self, at: str, value: Any, kind: type[AnyRecord], key: str = "") -> tuple[AnyRecord, ...]:
        """One mapping, or a list of mappings that each state what changes `from` a day on; null unsets a field."""
        if not isinstance(value, list):
            single = self.one(at, _set(value), kind)
            return () if single is None else (single,)
        if not value:
            self.faults.append(f"{at}: expected at least one entry, found an empty list")
        known: dict[str, Any] = {}
        origin: dict[str, str] = {}
        entries: list[AnyRecord] = []
        for i, entry in enumerate(value):
            if not isinstance(entry, dict):
                self.faults.append(f"{at}[{i}]: expected a mapping, found {type(entry).__name__}")
                continue
            if i and entry.get("from") is None:
                self.faults.append(
                    f"{at}[{i}].from: expected a day, found nothing; write from which day on the entry holds"
                )
                continue
            known = _set({**known, **entry})
            if (record := self.one(f"{at}[{i}]", known, kind)) is not None:
                entries.append(record)
                inherited = {str(name): origin[name] for name in known if name not in entry}
                self.inherited.setdefault(key or at, {})[getattr(record, "from_")] = inherited  # noqa: B009 - as below
            label = f"the entry from {entry['from']}" if entry.get("from") is not None else "the first entry"
            origin |= dict.fromkeys(entry, label)
        days: list[date | None] = [getattr(entry, "from_") for entry in entries]  # noqa: B009 - all dated kinds have it
        if any(later is None or (former is not None and later <= former) for former, later in pairwise(days)):
            self.faults.append(
                f"{at}: expected 'from' days that grow from entry to entry, found {', '.join(map(str, days))}"
            )
        return tuple(entries)

    def mapping(self, at: str, value: Any) -> Mapping[Any, Any]:
        if value is None or isinstance(value, dict):
            return value or {}
        self.faults.append(f"{at}: expected a mapping, found {type(value).__name__}")
        return {}

    def list(self, at: str, value: Any) -> list[Any]:
        if value is None or isinstance(value, list):
            return value or []
        self.faults.append(f"{at}: expected a list, found {type(value).__name__}")
        return []

    def _finite(self, raw: Any, at: str) -> Any:
        """The same with 0 for .nan and .inf, which no check could compare."""
        if isinstance(raw, dict):
            return {name: self._finite(value, f"{at}.{name}" if at else str(name)) for name, value in raw.items()}
        if isinstance(raw, list):
            return [self._finite(value, f"{at}[{i}]") for i, value in enumerate(raw)]
        if isinstance(raw, float) and not math.isfinite(raw):
            self.faults.append(f"{at}: expected an amount, found {raw}")
            return 0
        return raw

    def _unknown(self, at: str, raw: Mapping[str, Any], known: tuple[str, ...]) -> None:
        self.faults += [f"{at}{name}: unknown entry{nearest(str(name), known)}" for name in raw if name not in known]


def _set(entry: Any) -> Any:
    """Without what null unsets."""
    return {name: value for name, value in entry.items() if value is not None} if isinstance(entry, dict) else entry
