"""What the sites of a price book cost in an hour, and how much of their power is spoken for. Pure.

For statements (what no GPU takes is a line of its own), for `rate`, and for whoever plans: the provisioned power is the
ceiling.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import NamedTuple

from tokenyield_collector.prices.book import PriceBook, is_paid, term_of
from tokenyield_collector.prices.calendar import in_force
from tokenyield_collector.prices.parts import converted, figure, space_parts
from tokenyield_collector.prices.rates import PICO, Rates
from tokenyield_collector.prices.sites import facility_of_site, site_in_force


class SiteHour(NamedTuple):
    """A site in one hour; money in the price book's currency."""

    site: str
    facility: str
    provisioned_kw: Decimal
    committed_kw: Decimal
    """Of pools with a count: what their GPUs take, whether they report or not."""
    per_hour: Decimal | None
    """Of all provisioned power; None without an exchange rate."""
    how: str
    currency: str = ""
    """Of its facility, where that has no exchange rate."""

    @property
    def notes(self) -> Iterator[str]:
        if self.per_hour is None:
            yield "no price: no exchange rate, or its facility has no entry yet"
        if self.committed_kw > self.provisioned_kw:
            yield (
                f"its pools take {figure(self.committed_kw)} kW by their counts, more than the "
                f"{figure(self.provisioned_kw)} provisioned; correct provisioned_kw, kw_per_gpu or count"
            )

    @property
    def pico_per_hour(self) -> int | None:
        return None if self.per_hour is None else round(self.per_hour * PICO)


class SitePower:
    """The sites of a price book. What was looked up once is remembered."""

    def __init__(self, prices: PriceBook) -> None:
        self._prices = prices
        self._rates = Rates(prices)
        self._known: dict[tuple[str, date], SiteHour] = {}

    def at(self, site: str, at_ms: int) -> SiteHour | None:
        """None where it is not paid for in that hour."""
        entry, day = site_in_force(self._prices.sites[site], at_ms, self._prices.timezone)
        if entry is None:
            return None
        if (site, day) not in self._known:
            name = facility_of_site(entry, self._prices.facilities) or ""
            facility = in_force(self._prices.facilities[name], day)
            exchange = self._rates.exchange(facility.currency, day) if facility is not None else None
            per_hour, how = None, ""
            unknown = (facility.currency or "") if facility is not None and exchange is None else ""
            if facility is not None and exchange is not None:
                for part in space_parts(facility, entry.provisioned_kw, day, self._prices.timezone):
                    _, per_hour, how = converted(part, exchange, facility.currency, self._prices.currency)
            committed = sum(self._kw_of_pools(name, day), Decimal(0))
            self._known[site, day] = SiteHour(site, name, entry.provisioned_kw, committed, per_hour, how, unknown)
        return self._known[site, day]

    def _kw_of_pools(self, facility: str, day: date) -> Iterator[Decimal]:
        prices = self._prices
        for pool in prices.pools:
            terms, entry = in_force(pool.terms, day), in_force(prices.facility_of(pool), day)
            if terms is None or entry is None or prices.facility_name_of(pool) != facility:
                continue
            if terms.count is not None and is_paid(terms, day) and pool.pays_space(terms):
                yield terms.count * (entry.kw_per_gpu if pool.kw_per_gpu is None else pool.kw_per_gpu)


def site_warnings(prices: PriceBook, since: date) -> Iterator[str]:
    """From which day on a site has no price, or counted GPUs take more than it has."""
    power = SitePower(prices)
    for name, entries in prices.sites.items():
        days = {since, *(entry.from_ for entry in entries if entry.from_ is not None)}
        for pool in prices.pools:
            for terms in pool.terms:
                days |= {day for day in (terms.from_, *term_of(terms)) if day is not None}
        before: list[str] = []
        for day in sorted(day for day in days if day >= since):
            noon_ms = int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp()) * 1000
            site = power.at(name, noon_ms)
            notes = [] if site is None else list(site.notes)
            yield from (f"site {name}, from {day}: {note}" for note in notes if note not in before)
            before = notes
