"""Every pool's hourly rate, line by line, as JSON."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from tokenyield_collector.http.schemas import PoolRateDocument, RatesDocument, SiteRateDocument
from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.prices.calendar import local_quarters
from tokenyield_collector.prices.effective import inherited_by, why_unpriced
from tokenyield_collector.prices.money import plain
from tokenyield_collector.prices.parts import RatePart
from tokenyield_collector.prices.rates import Rates
from tokenyield_collector.prices.site_power import SitePower
from tokenyield_wire.units import hour_of_ms

_DIGITS = 9


def rate_document(prices: PriceBook, at_ms: int) -> RatesDocument:
    """All pools at `at_ms`. `usd_per_gpu_hour` is null without an exchange rate to USD."""
    rates = Rates(prices)
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    day = local_quarters(hour_of_ms(at_ms), prices.timezone)[0].date()
    dollar = rates.exchange("USD", day)
    pools: list[PoolRateDocument] = []
    for pool in prices.pools:
        rate = rates.of(pool, at_ms)
        if rate is None:
            why = why_unpriced(rates, pool, day)
            why = "not paid for then" if why is None else f"no price: {why}"
            pools.append({"name": pool.name, "usd_per_gpu_hour": None, "parts": {}, "notes": [why]})
            continue
        whole = _money(rate.per_gpu_hour)
        pools.append(
            {
                "name": pool.name,
                "kind": rate.kind,
                "count": rate.count,
                "usd_per_gpu_hour": _money(rate.per_gpu_hour / dollar) if dollar else None,
                "per_gpu_hour": whole,
                "parts": _summing(whole, rate.parts),
                "how": {part.name: part.how for part in rate.parts},
                "energy_per_kwh": _money(rate.energy_per_kwh),
                "pue": _figure(rate.pue),
                "carbon_g_per_kwh": None if rate.carbon_g_per_kwh is None else _figure(rate.carbon_g_per_kwh),
                "notes": [*rate.notes, *(f"inherited: {text}" for text in inherited_by(prices, pool, day))],
            }
        )
    at_text = at.isoformat(timespec="minutes").replace("+00:00", "Z")
    return {
        "currency": prices.currency,
        "at": at_text,
        "price_book": prices.fingerprint,
        "pools": pools,
        "sites": _sites(prices, at_ms),
    }


def _sites(prices: PriceBook, at_ms: int) -> list[SiteRateDocument]:
    """Those that are paid for then."""
    power = SitePower(prices)
    at = [site for name in prices.sites if (site := power.at(name, at_ms)) is not None]
    return [
        {
            "name": site.site,
            "facility": site.facility,
            "provisioned_kw": _figure(site.provisioned_kw),
            "committed_kw": _figure(site.committed_kw),
            "per_hour": None if site.per_hour is None else _money(site.per_hour),
            "how": site.how,
            "notes": list(site.notes),
        }
        for site in at
    ]


def _summing(whole: Decimal, parts: Sequence[RatePart]) -> dict[str, Decimal]:
    """The parts of a rate, which sum to it as it is shown: the largest takes what rounding leaves."""
    amounts = {part.name: round(part.amount, _DIGITS) for part in parts}
    if amounts:
        largest = max(amounts, key=lambda name: abs(amounts[name]))
        amounts[largest] += whole - sum(amounts.values())
    return {name: plain(amount) for name, amount in amounts.items()}


def _money(value: Decimal) -> Decimal:
    return plain(round(value, _DIGITS))


def _figure(value: Decimal) -> float:
    return round(float(value), _DIGITS)
