"""Whether the fee of a site (`per_month` for `kw`) is paid once: by GPUs whose power sums to that of the site. Pure."""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal

from tokenyield_collector.prices.book import ZERO, Facility, Pool, PriceBook, is_paid, term_of
from tokenyield_collector.prices.calendar import in_force
from tokenyield_collector.prices.sites import facility_of_site


def site_fee_warnings(prices: PriceBook, since: date) -> Iterator[str]:
    """On which day pools with a count begin to have more power than the site's fee is for, or less."""
    sited = {facility_of_site(site, prices.facilities) for entries in prices.sites.values() for site in entries}
    for name, entries in prices.facilities.items():
        if name in sited:
            continue  # what no GPU pays for is the site's line
        pools = [pool for pool in prices.pools if entries is prices.facility_of(pool) and not pool.reference]
        before: str | None = None
        for day in sorted({since, *_days(entries, pools, since)}):
            facility = in_force(entries, day)
            text = None if facility is None else _difference(facility, pools, day)
            if text is not None and text != before:
                yield f"facility {name}, from {day}: {text}"
            before = text


def _days(entries: tuple[Facility, ...], pools: list[Pool], since: date) -> Iterator[date]:
    dated = [entry.from_ for entry in entries]
    for pool in pools:
        for terms in pool.terms:
            dated += [terms.from_, *term_of(terms)]
    yield from (day for day in dated if day is not None and day > since)


def _difference(facility: Facility, pools: list[Pool], day: date) -> str | None:
    if facility.per_month is None or not facility.kw:
        return None
    counted, are_all_counted = ZERO, True
    for pool in pools:
        terms = in_force(pool.terms, day)
        if terms is None or not is_paid(terms, day) or not pool.pays_space(terms):
            continue
        if terms.count is None:
            are_all_counted = False
        else:
            counted += terms.count * (facility.kw_per_gpu if pool.kw_per_gpu is None else pool.kw_per_gpu)
    have = f"pools with a count have {_kw(counted)} kW, and per_month is for {_kw(facility.kw)} kW"
    if counted > facility.kw:
        return f"{have}: more than the fee is charged; correct kw, kw_per_gpu or the counts"
    if counted < facility.kw and are_all_counted:
        part = (1 - counted / facility.kw) * 100
        fix = "correct kw, kw_per_gpu or the counts, or list the site in sites"
        return f"{have}: {part:.1f} % of the fee is charged to no GPU; {fix}"
    return None


def _kw(value: Decimal) -> str:
    return f"{value:,.3f}".rstrip("0").rstrip(".")
