"""What cannot be right in a price book, with every fault at once. Pure.

In: a `PriceBook` whose types are right. Out: faults of the form `place: expected what, found what; how to fix it`.
"""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec

from tokenyield_collector.prices.book import Facility, Owned, Pool, PriceBook, Rented, is_capped
from tokenyield_collector.prices.bought_prices import bought_faults
from tokenyield_collector.prices.period import YEARS
from tokenyield_collector.prices.sites import site_faults
from tokenyield_collector.prices.token_prices import price_faults, tier_faults
from tokenyield_settings.loader import nearest

NAME_CHARS_MAX = 100
LEARN_DAYS_MAX = 366
LIFE_YEARS_MAX = 100
_CARBON_HOURS = 24
_WAYS_TO_PAY = ("per_kw_month", "per_month", "capex_per_kw", "preset")
_UNSET = "leave one out, or write null for what an earlier entry has"
_SMALLEST, _LARGEST = Decimal("1e-15"), Decimal("1e15")


def faults_of(prices: PriceBook) -> Iterator[str]:
    for name, facilities in prices.facilities.items():
        for i, facility in enumerate(facilities):
            yield from _facility_faults(_at(f"facilities.{name}", i, facilities), facility, prices)
    for name, rates in prices.exchange_rates.items():
        for i, rate in enumerate(rates):
            at = _at(f"exchange_rates.{name}", i, rates)
            yield from _not_above_0(f"{at}.rate", rate.rate)
            yield from _not_a_day(at, rate)
    names = {pool.name for pool in prices.pools if pool.overflow_of is not None}
    for i, pool in enumerate(pool for pool in prices.pools if pool.overflow_of is None):
        at = f"pools[{i}] ({pool.name})"
        if not 1 <= len(pool.name) <= NAME_CHARS_MAX:
            yield f"pools[{i}].name: expected 1 to {NAME_CHARS_MAX} characters, found {len(pool.name)}"
        if pool.name in names:
            yield f"{at}.name: expected a name of its own, found that of an earlier pool"
        names.add(pool.name)
        yield from _pool_faults(at, pool, prices)
    for name, sites in prices.sites.items():
        for i, site in enumerate(sites):
            yield from _not_a_day(_at(f"sites.{name}", i, sites), site)
    yield from site_faults(prices.sites, prices.facilities, [pool.name for pool in prices.pools], NAME_CHARS_MAX)
    yield from _token_faults(prices)


def _token_faults(prices: PriceBook) -> Iterator[str]:
    for i, price in enumerate(prices.token_prices):
        yield from _unknown_currency(f"token_prices[{i}]", price.currency, prices)
        yield from _not_a_day(f"token_prices[{i}]", price)
        yield from price_faults(f"token_prices[{i}]", price.per_million)
    yield from tier_faults(prices.token_prices)
    for i, api in enumerate(prices.api_prices):
        yield from _unknown_currency(f"api_prices[{i}]", api.currency, prices)
        yield from price_faults(f"api_prices[{i}]", api.per_million)
    for i, bought in enumerate(prices.bought_prices):
        yield from _unknown_currency(f"bought_prices[{i}]", bought.currency, prices)
    yield from bought_faults(prices.bought_prices)
    weights = prices.token_weights
    for name in ("prompt", "cached", "completion"):
        weight: Decimal = getattr(weights, name)
        if weight < 0 or weight * 1000 % 1:
            yield f"token_weights.{name}: expected at least 0, with at most three decimals, found {weight}"
    yield from _not_above_0("token_weights.completion", weights.completion)
    rates = prices.reference_rates
    if not 1 <= rates.learn_days <= LEARN_DAYS_MAX:
        yield f"reference_rates.learn_days: expected 1 to {LEARN_DAYS_MAX}, found {rates.learn_days}"
    for i, pace in enumerate(rates.configured):
        yield from _not_above_0(f"reference_rates.configured[{i}].tokens_per_second", pace.tokens_per_second)


def _pool_faults(at: str, pool: Pool, prices: PriceBook) -> Iterator[str]:
    known = prices.facilities
    if pool.facility is not None and pool.facility not in known:
        yield f"{at}.facility: expected one of facilities, found '{pool.facility}'{nearest(pool.facility, known)}"
    elif pool.facility is None and len(known) > 1 and any(isinstance(terms, Owned) for terms in pool.terms):
        yield f"{at}.facility: expected one of {', '.join(sorted(known))}, found nothing; name the pool's facility"
    yield from _negative(at, pool)
    for i, terms in enumerate(pool.terms):
        kind = "owned" if isinstance(terms, Owned) else "rented"
        here = _at(f"{at}.{kind}", i, pool.terms)
        yield from _negative(here, terms)
        yield from _not_a_day(here, terms)
        yield from _unknown_currency(here, terms.currency, prices)
        yield from _owned_faults(here, terms) if isinstance(terms, Owned) else _rented_faults(here, terms)
        if terms.overflow_per_gpu_hour is not None and not is_capped(terms):
            expected, found = "count beside it", "none"
            if isinstance(terms, Rented) and terms.kind != "reserved":
                expected, found = "a reservation", terms.kind
            fix = "it is what GPUs beyond the count cost"
            yield f"{here}.overflow_per_gpu_hour: expected {expected}, found {found}; {fix}"


def _owned_faults(at: str, owned: Owned) -> Iterator[str]:
    yield from _not_a_life(f"{at}.life_years", owned.life_years)
    if owned.residual_fraction > 1:
        yield f"{at}.residual_fraction: expected a part of the price, at most 1, found {owned.residual_fraction}"
    for name in ("cost_of_capital", "maintenance_rate"):
        if getattr(owned, name) > 1:
            yield f"{at}.{name}: expected a fraction, at most 1, found {getattr(owned, name)}; write 8 % as 0.08"
    if owned.in_service and owned.retired and owned.retired <= owned.in_service:
        yield f"{at}.retired: expected a day after in_service, found {owned.retired}"


def _rented_faults(at: str, rented: Rented) -> Iterator[str]:
    if (rented.per_gpu_hour is None) == (rented.per_instance_hour is None):
        found = "neither" if rented.per_gpu_hour is None else "both"
        fix = f"; {_UNSET}" if found == "both" else ""
        yield f"{at}: expected either per_gpu_hour, or per_instance_hour with gpus_per_instance, found {found}{fix}"
    if rented.per_instance_hour is not None and not rented.gpus_per_instance:
        found = "nothing" if rented.gpus_per_instance is None else "0"
        yield f"{at}.gpus_per_instance: expected a number of GPUs, found {found}; write how many an instance has"
    if rented.starts and rented.ends and rented.ends <= rented.starts:
        yield f"{at}.ends: expected a day after starts, found {rented.ends}"
    if rented.upfront_per_gpu and not (rented.starts and rented.ends):
        yield f"{at}.upfront_per_gpu: expected starts and ends beside it, found none; it is spread over the term"
    if rented.upfront_per_gpu and rented.kind != "reserved":
        fix = "write kind: reserved and the count that was bought, over which it is spread"
        yield f"{at}.upfront_per_gpu: expected a reservation, found {rented.kind}; {fix}"
    if rented.kind == "reserved" and rented.count is None:
        yield f"{at}.count: expected a number of GPUs, found nothing; write how many are committed, used or not"


def _facility_faults(at: str, facility: Facility, prices: PriceBook) -> Iterator[str]:
    yield from _negative(at, facility, but=("per_kwh",))
    yield from _not_a_day(at, facility)
    yield from _unknown_currency(at, facility.currency, prices)
    if facility.pue < 1:
        yield f"{at}.pue: expected at least 1, found {facility.pue}"
    yield from _not_a_life(f"{at}.capex_life_years", facility.capex_life_years)
    ways = [name for name in _WAYS_TO_PAY if getattr(facility, name) is not None]
    if len(ways) > 1:
        expected = "one of per_kw_month or per_month (colocation), capex_per_kw (own building) or preset"
        yield f"{at}: expected {expected}, found {' and '.join(ways)}; {_UNSET}"
    if facility.per_month is not None and not facility.kw:
        fix = "write how many kW the fee is for, so that each GPU pays for its part"
        yield f"{at}.kw: expected a number greater than 0 beside per_month, found {facility.kw or 'nothing'}; {fix}"
    if facility.kw is not None and facility.per_month is None:
        yield f"{at}.kw: expected per_month beside it, found none; write the site's fee per month, or leave kw out"
    if facility.preset is not None and (currency := facility.currency or prices.currency) != "USD":
        yield f"{at}.preset: expected a facility in US dollars, found {currency}; set currency: USD for the facility"
    carbon = facility.carbon_g_per_kwh
    if isinstance(carbon, tuple) and len(carbon) != _CARBON_HOURS:
        expected = f"one figure, or {_CARBON_HOURS} by local hour"
        yield f"{at}.carbon_g_per_kwh: expected {expected}, found {len(carbon)} figures"
    for i, band in enumerate(facility.bands):
        for fault in band.faults():
            yield f"{at}.bands[{i}].{fault}"


def _unknown_currency(at: str, currency: str | None, prices: PriceBook) -> Iterator[str]:
    if currency not in (None, prices.currency) and currency not in prices.exchange_rates:
        fix = f"add exchange_rates.{currency}"
        yield f"{at}.currency: expected a currency with an exchange rate, found '{currency}'; {fix}"


def not_amounts(at: str, value: Any) -> Iterator[str]:
    """Numbers in a record that no price can have: their sums and powers would leave what decimals can hold."""
    if isinstance(value, msgspec.Struct):
        for field in msgspec.structs.fields(value):
            yield from not_amounts(f"{at}.{field.encode_name}", getattr(value, field.name))
    elif isinstance(value, tuple):
        for i, entry in enumerate(value):
            yield from not_amounts(f"{at}[{i}]", entry)
    elif isinstance(value, Decimal) and not (value.is_finite() and (not value or _SMALLEST <= abs(value) <= _LARGEST)):
        yield f"{at}: expected an amount, 0 or {_SMALLEST} to {_LARGEST}, found {value}"


def _not_a_day(at: str, record: msgspec.Struct) -> Iterator[str]:
    """Days for which there is no year before or after, or no life."""
    for field in msgspec.structs.fields(record):
        value = getattr(record, field.name)
        if isinstance(value, date) and not YEARS[0] <= value.year <= YEARS[1]:
            yield f"{at}.{field.encode_name}: expected a day of the years {YEARS[0]} to {YEARS[1]}, found {value}"


def _negative(at: str, record: msgspec.Struct, but: tuple[str, ...] = ()) -> Iterator[str]:
    """Amounts below 0, which only a tariff can have."""
    for field in msgspec.structs.fields(record):
        value = getattr(record, field.name)
        if field.name not in but and isinstance(value, Decimal | int) and not isinstance(value, bool) and value < 0:
            yield f"{at}.{field.encode_name}: expected at least 0, found {value}"


def _not_a_life(at: str, years: Decimal) -> Iterator[str]:
    if not 0 < years <= LIFE_YEARS_MAX:
        yield f"{at}: expected a number greater than 0, at most {LIFE_YEARS_MAX}, found {years}"


def _not_above_0(at: str, value: Decimal) -> Iterator[str]:
    if value <= 0:
        yield f"{at}: expected a number greater than 0, found {value}"


def _at(at: str, i: int, entries: tuple[Any, ...]) -> str:
    return f"{at}[{i}]" if len(entries) > 1 else at
