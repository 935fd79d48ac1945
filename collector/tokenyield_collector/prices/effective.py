"""The terms that hold by day: stretches of days on which a pool's terms are equal, and what is wrong with them. Pure.

In: a price book. Out: for each pool its stretches, in order, each with what it inherits from earlier entries, where its
GPUs go when it does not hold or has too few of them, and a warning where that is nowhere, or where it never applies.
"""

from calendar import isleap, monthrange
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from tokenyield_collector.prices.book import (
    Owned,
    Pool,
    PriceBook,
    Rented,
    Terms,
    is_capped,
    is_paid,
    term_of,
)
from tokenyield_collector.prices.calendar import ALL_MONTHS, in_force
from tokenyield_collector.prices.hours import end_of_life
from tokenyield_collector.prices.overlaps import PoolOverlaps
from tokenyield_collector.prices.parts import is_within_life
from tokenyield_collector.prices.rates import Rates
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR

_SAMPLED_EVERY_MS = 3 * MS_PER_HOUR
_SAMPLED_MONTHS = 48
"""Hours of a few days show how far a price goes up and down: four years have months and years of every length."""
_FRIDAY = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TermsStretch:
    """Days from `first` to before `end` (None: since ever, without end) on which a pool's terms are equal."""

    pool: str
    first: date | None
    end: date | None
    kind: str | None
    """owned, on_demand, reserved or spot; None where its terms do not hold."""
    entries: tuple[date | None, date | None] = (None, None)
    """First days of the entries of its terms and of its facility."""
    count: int | None = None
    facility: str | None = None
    is_past_life: bool = False
    exchange: tuple[str, ...] = ()
    """'EUR 1.08', of the currencies that its terms and its facility have."""
    inherited: tuple[str, ...] = ()
    """'gpu, life_years from the first entry'."""
    goes_to: str | None = None
    """The pool to which its GPUs go, or those beyond its count."""
    is_capped: bool = False
    gap: str | None = None
    """Why there is no price."""
    warning: str | None = None
    lowest: Decimal | None = None
    highest: Decimal | None = None
    """Of a GPU-hour; they differ by tariff, month and year."""


def effective_terms(prices: PriceBook, since: date) -> list[TermsStretch]:
    """Of all pools of the file, in order; stretches that ended before `since` are left out."""
    days = sorted(set(_change_days(prices)))
    edges: list[date | None] = [None, *days, None]
    rates, overlaps = Rates(prices), PoolOverlaps(prices)
    stretches: list[TermsStretch] = []
    for number, pool in enumerate(prices.pools):
        if pool.reference:
            continue
        of_pool: list[TermsStretch] = []
        for first, end in pairwise(edges):
            at = first or ((end or since) - timedelta(days=1))
            stretch = _stretch(rates, overlaps, number, at, first, end)
            stretch = replace(stretch, warning=_warning(prices, overlaps, number, stretch, at))
            if of_pool and _content(of_pool[-1]) == _content(stretch):
                stretch = replace(stretch, first=of_pool.pop().first)
            of_pool.append(stretch)
        shown = [one for one in of_pool if one.end is None or one.end > since]
        if pool.overflow_of is not None:
            shown = [one for one in shown if one.kind is not None]
        stretches += [_priced(rates, pool, one, since) for one in shown]
    return stretches


def _change_days(prices: PriceBook) -> Iterator[date]:
    listed: list[Sequence[object]] = [*prices.facilities.values(), *prices.exchange_rates.values()]
    for entries in listed:
        yield from (day for entry in entries if (day := getattr(entry, "from_")) is not None)  # noqa: B009
    for pool in prices.pools:
        for terms in pool.terms:
            yield from (day for day in (terms.from_, *term_of(terms)) if day is not None)
            if isinstance(terms, Owned) and terms.in_service is not None:
                yield end_of_life(terms.in_service, terms.life_years)


def _stretch(
    rates: Rates, overlaps: PoolOverlaps, number: int, at: date, first: date | None, end: date | None
) -> TermsStretch:
    prices = rates.prices
    pool = prices.pools[number]
    terms = in_force(pool.terms, at)
    if terms is None or not is_paid(terms, at):
        return TermsStretch(pool=pool.name, first=first, end=end, kind=None, goes_to=overlaps.next_pool(number, at))
    is_sited = pool.pays_space(terms) or pool.pays_energy(terms)
    facility = in_force(prices.facility_of(pool), at) if is_sited else None
    currencies = {terms.currency, facility.currency if facility is not None else None} - {None, prices.currency}
    known = {currency: rates.exchange(currency, at) for currency in sorted(currencies, key=str)}
    return TermsStretch(
        pool=pool.name,
        first=first,
        end=end,
        kind="owned" if isinstance(terms, Owned) else terms.kind,
        entries=(terms.from_, facility.from_ if facility is not None else None),
        count=terms.count,
        facility=prices.facility_name_of(pool) if is_sited else None,
        is_past_life=isinstance(terms, Owned) and not is_within_life(terms, at),
        exchange=tuple(f"{currency} {rate}" for currency, rate in known.items() if rate is not None),
        inherited=inherited_by(prices, pool, at),
        goes_to=overlaps.next_pool(number, at) if is_capped(terms) else None,
        is_capped=is_capped(terms),
        gap=why_unpriced(rates, pool, at),
    )


def why_unpriced(rates: Rates, pool: Pool, day: date) -> str | None:
    """Why a pool that is paid for on a day has no price; None where it has one, or is not paid for."""
    prices, terms = rates.prices, in_force(pool.terms, day)
    if terms is None or not is_paid(terms, day):
        return None
    currencies = [terms.currency]
    if pool.pays_space(terms) or pool.pays_energy(terms):
        facility = in_force(prices.facility_of(pool), day)
        if facility is None:
            return f"facility {prices.facility_name_of(pool)} has no entry yet"
        currencies.append(facility.currency)
    missing = [currency for currency in currencies if rates.exchange(currency, day) is None]
    return f"no exchange rate for {missing[0]}" if missing else None


def inherited_by(prices: PriceBook, pool: Pool, day: date) -> tuple[str, ...]:
    """What the entries of a day, its own and its facility's, have from earlier ones: 'gpu from the first entry'."""
    terms, name = in_force(pool.terms, day), prices.facility_name_of(pool)
    if terms is None:
        return ()
    texts = _inherited(prices, f"pools.{pool.name}", terms.from_)
    facility = in_force(prices.facility_of(pool), day)
    if facility is not None and name is not None and (pool.pays_space(terms) or pool.pays_energy(terms)):
        texts += [f"facility {name}: {text}" for text in _inherited(prices, f"facilities.{name}", facility.from_)]
    return tuple(texts)


def _inherited(prices: PriceBook, key: str, first: date | None) -> list[str]:
    by_entry: dict[str, list[str]] = {}
    for field, entry in prices.inherited.get(key, {}).get(first, {}).items():
        by_entry.setdefault(entry, []).append(field)
    return [f"{', '.join(names)} from {entry}" for entry, names in by_entry.items()]


def _priced(rates: Rates, pool: Pool, stretch: TermsStretch, since: date) -> TermsStretch:
    first = stretch.first or min(since, (stretch.end or since) - timedelta(days=1))
    facilities = rates.prices.facility_of(pool)
    by_month = any(band.months != ALL_MONTHS for facility in facilities for band in facility.bands)
    amounts: list[Decimal] = []
    for day in _sampled_days(first, by_month=by_month):
        if stretch.kind is not None and (stretch.end is None or day < stretch.end):
            start_ms = int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp()) * 1000
            hours = range(start_ms, start_ms + MS_PER_DAY, _SAMPLED_EVERY_MS)
            known = {id(rate): rate for at_ms in hours if (rate := rates.of(pool, at_ms)) is not None}
            amounts += [rate.per_gpu_hour for rate in known.values()]
    return replace(stretch, lowest=min(amounts, default=None), highest=max(amounts, default=None))


def _sampled_days(first: date, *, by_month: bool) -> Iterator[date]:
    """A working day, a Saturday, a Sunday; then the first days of months, of each length of month and year one."""
    week = [first + timedelta(days=i) for i in range(7)]
    yield from {max(day.weekday(), _FRIDAY): day for day in reversed(week)}.values()
    seen: set[object] = set()
    for number in range(first.year * 12 + first.month, first.year * 12 + first.month + _SAMPLED_MONTHS):
        day = date(number // 12, number % 12 + 1, 1)
        key = day if by_month else (monthrange(day.year, day.month)[1], isleap(day.year))
        if key not in seen:
            seen.add(key)
            yield day


def _warning(prices: PriceBook, overlaps: PoolOverlaps, number: int, stretch: TermsStretch, at: date) -> str | None:
    if stretch.kind is None:
        if stretch.goes_to is not None or not any(_has_begun(terms, at) for terms in prices.pools[number].terms):
            return None
        return (
            "its terms have ended, and no later pool surely matches its GPUs: where they report, they have no price; "
            "add an entry, or a pool after it"
        )
    if stretch.gap is not None:
        return f"no price: {stretch.gap}; its GPUs and what is paid for them are unknown; add an entry from that day"
    if (taker := overlaps.taker(number, at)) is not None:
        return f"it never applies: '{taker}' before it takes every GPU that it matches; put it first, or narrow that"
    return _late_upfront(prices.pools[number], at)


def _has_begun(terms: Terms, at: date) -> bool:
    start, _ = term_of(terms)
    return (terms.from_ is None or terms.from_ <= at) and (start is None or start <= at)


def _late_upfront(pool: Pool, at: date) -> str | None:
    """GPUs that come to a reservation within its term, with the same upfront payment, pay for a part of it only."""
    terms = in_force(pool.terms, at)
    for former, later in pairwise(pool.terms):
        if terms is later and isinstance(former, Rented) and isinstance(later, Rented) and later.upfront_per_gpu:
            is_same = (former.upfront_per_gpu, *term_of(former)) == (later.upfront_per_gpu, *term_of(later))
            if is_same and former.count != later.count:
                return (
                    f"count goes from {former.count} to {later.count} within the term, so that not all of "
                    "upfront_per_gpu is spread; give the GPUs that come or go a pool and a term of their own"
                )
    return None


def _content(stretch: TermsStretch) -> TermsStretch:
    return replace(stretch, first=None, end=None)
