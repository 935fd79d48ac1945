"""What caches of prompts saved and cost, by vendor and model, of what was bought and of the own fleet.

In: slices of spend, a statement of the own fleet. Out: a row for each vendor and model, the most money first. Of each
line (a day, account and key; spend/layers.py), at the agreed or list prices of its day, whatever the bill says:

    saved         read x (price of prompt - price of what is read)
    extra         written x (price of what is written - price of prompt), which vendors without such a price do not ask
    net           saved - extra
    never read    what keys wrote that read nothing in the period: at least so much was written for nothing

What the fleet's own caches save is GPU time, which is in its pace and has no price of its own here. Pure but for what
the ledger reads.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from tokenyield_collector.errors import ParameterError
from tokenyield_collector.http.schemas import CachingDocument, CachingFigures, CachingRow
from tokenyield_collector.insight.spend_days import SpendReader, spend_days
from tokenyield_collector.prices.period import day_of, iso, parse_period
from tokenyield_collector.prices.rates import Rates
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.spend.layers import ScopedLine, spend_of_day
from tokenyield_collector.spend.list_prices import ListPrice
from tokenyield_collector.spend.slices import TOKENS, SpendAmounts, SpendSlice
from tokenyield_collector.spend.sources import grain_of_slice
from tokenyield_collector.spend.token_costs import UnbilledPrices
from tokenyield_collector.spend.values import PICO_PER_UNIT
from tokenyield_collector.spend.vendors import OWN_FLEET
from tokenyield_collector.statements.bought import SOURCE as BOUGHT
from tokenyield_collector.statements.bought import unbilled_prices
from tokenyield_collector.statements.lines import LineKey, Sums
from tokenyield_collector.statements.names import own_name
from tokenyield_collector.statements.source import Grain

ROWS_MAX = 10_000
"""Vendors and models of one answer."""
KEYS_MAX = 200_000
"""Of which it is known whether they read what they wrote; a longer period than has so many is refused."""
SOURCES_MAX = 20
_COST_DIGITS = 6
LIMITS = (
    "money is at agreed or list prices: a bill with discounts has less of both sides",
    "never read is a lower bound: a key that read anything may have written other prompts that nobody read",
    "without a key, team or workload in what was imported all use of an account is one key",
    "a vendor that caches by itself (OpenAI, DeepSeek) asks nothing for writing, and reports none",
)


class _Key(NamedTuple):
    """Who reads and writes one cache, as finely as it is known."""

    vendor: str
    model: str
    account: str
    team: str
    product: str
    project: str
    api_key: str
    workload: str
    person: str


@dataclass
class Caching:
    """Tokens, and money in picos (values.py) of the price book's currency. None: nobody reports it."""

    prompt: int = 0
    read: int | None = None
    written: int | None = None
    saved: Decimal | None = None
    extra: Decimal | None = None
    never_read: int | None = None
    never_read_extra: Decimal | None = None
    unpriced: int | None = None
    """Tokens read or written without a price."""

    def take(self, other: "Caching") -> None:
        for one in fields(self):
            mine, more = getattr(self, one.name), getattr(other, one.name)
            if more is not None:
                setattr(self, one.name, more if mine is None else mine + more)


class CachingSums:
    """Put together over days and sources. `sources`: where prices are from."""

    def __init__(self, prices: UnbilledPrices, rates: Rates) -> None:
        self._prices = prices
        self._rates = rates
        self._keys: dict[_Key, Caching] = {}
        self._fleet: dict[str, Caching] = {}
        self.sources: dict[str, None] = {}

    def add_bought(self, day_ms: int, slices: Sequence[SpendSlice]) -> None:
        """Of one day. Raises `ParameterError` where there are too many keys."""
        day = day_of(day_ms)
        for line in spend_of_day(slices, grain_of_slice, self._prices).lines:
            if line.fields.vendor == OWN_FLEET or line.fields.service != TOKENS or line.amounts.tokens is None:
                continue
            key = _key(line)
            if key not in self._keys and len(self._keys) >= KEYS_MAX:
                raise ParameterError("period", expected=f"at most {KEYS_MAX} keys that use caches", found="more",
                                     fix="name a shorter period")  # fmt: skip
            self._keys.setdefault(key, Caching()).take(self._of_line(line, day))

    def add_fleet(self, lines: Iterable[tuple[LineKey, Sums]]) -> None:
        for key, sums in lines:
            computed, cached = sums.reported("prompt_computed"), sums.reported("prompt_cached")
            if key.source != BOUGHT and computed is not None and cached is not None:
                own = Caching(prompt=computed + cached, read=cached)
                self._fleet.setdefault(own_name(key.carrier.model), Caching()).take(own)

    def rows(self) -> dict[tuple[str, str], Caching]:
        """By vendor and model."""
        rows: dict[tuple[str, str], Caching] = {(OWN_FLEET, model): own for model, own in self._fleet.items()}
        for key, own in self._keys.items():
            if own.written is not None:
                is_unread = not own.read
                own.never_read = own.written if is_unread else 0
                own.never_read_extra = own.extra if is_unread else None
            rows.setdefault((key.vendor, key.model), Caching()).take(own)
        return rows

    def _of_line(self, line: ScopedLine, day: date) -> Caching:
        amounts = line.amounts
        read, written = amounts.cache_read, amounts.cache_write
        own = Caching((amounts.fresh or 0) + (read or 0) + (written or 0), read, written)
        if not read and not written:
            return own
        applied = self._prices.of(line.fields.vendor, line.fields.model, day)
        rate = None if applied is None else self._rates.exchange(applied.currency, day)
        if applied is None or rate is None or applied.price.fresh is None:
            own.unpriced = (read or 0) + (written or 0)
            return own
        self._note(applied.source)
        saved, extra = saved_and_extra(applied.price, applied.price.fresh, amounts)
        own.saved = None if read is None else saved * rate
        own.extra = None if written is None else extra * rate
        return own

    def _note(self, source: str) -> None:
        if len(self.sources) < SOURCES_MAX:
            self.sources[source] = None


def saved_and_extra(price: ListPrice, fresh: int, amounts: SpendAmounts) -> tuple[int, int]:
    """In picos of the price's currency."""
    long = min(amounts.long_cache_write or 0, amounts.cache_write or 0)
    read, write, long_write = price.of_caches(fresh)
    saved = (amounts.cache_read or 0) * (fresh - read)
    return saved, ((amounts.cache_write or 0) - long) * (write - fresh) + long * (long_write - fresh)


def _key(line: ScopedLine) -> _Key:
    one = line.fields
    who = (line.account, one.team, one.product, one.project, one.api_key, one.workload, one.person)
    return _Key(own_name(one.vendor), own_name(one.model), *who)


def caching(maker: ReportMaker, ledger: SpendReader, period: str, top: int) -> CachingDocument:
    """Of a period; at most `top` rows are listed. Raises `ParameterError`, `LedgerError`."""
    asked = parse_period(period)
    statement = maker.read(period, Grain()).statement
    book = statement.policy.prices
    sums = CachingSums(unbilled_prices(book), Rates(book))
    sums.add_fleet(statement.lines())
    for day_ms, slices in spend_days(ledger, asked.start_ms, asked.end_ms):
        sums.add_bought(day_ms, slices)
    rows = sums.rows()
    whole = Caching()
    for row in rows.values():
        whole.take(row)
    ordered = sorted(rows, key=lambda name: (-_moved(rows[name]), -rows[name].prompt, name))
    return {
        "period": asked.name,
        "start": iso(asked.start_ms),
        "end": iso(asked.end_ms),
        "currency": book.currency,
        "total": _figures(whole),
        "rows": [CachingRow(vendor=name[0], model=name[1], **_figures(rows[name])) for name in ordered[:top]],
        "more": max(0, len(ordered) - top),
        "prices": list(sums.sources),
        "limits": list(LIMITS),
    }


def _moved(row: Caching) -> Decimal:
    return (row.saved or Decimal()) + (row.extra or Decimal())


def _figures(row: Caching) -> CachingFigures:
    is_priced = row.saved is not None or row.extra is not None
    return {
        "prompt_tokens": row.prompt,
        "read_tokens": row.read,
        "written_tokens": row.written,
        "read_share": row.read / row.prompt if row.read is not None and row.prompt else None,
        "reads_per_write": row.read / row.written if row.read is not None and row.written else None,
        "saved": _money(row.saved),
        "extra": _money(row.extra),
        "net": _money((row.saved or Decimal()) - (row.extra or Decimal())) if is_priced else None,
        "never_read_tokens": row.never_read,
        "never_read_extra": _money(row.never_read_extra),
        "unpriced_tokens": row.unpriced or 0,
    }


def _money(pico: Decimal | None) -> Decimal | None:
    return None if pico is None else round(pico / PICO_PER_UNIT, _COST_DIGITS)
