"""What sites cost beside what GPUs pay for space, hour by hour. Pure.

GPUs pay for the power that they take, in the lines of their pools; a site costs all that is provisioned. So the
facility cost of a site's pools and its own line sum to what the site costs, in every hour in which the GPUs take no
more than there is. Where they take more, the site's line is 0 in that hour, and no less in another.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.prices.components import COMPONENT_AT
from tokenyield_collector.prices.money import capacity_quanta
from tokenyield_collector.prices.site_power import SitePower
from tokenyield_collector.statements.placement import Placements, Unreported

_FACILITY = COMPONENT_AT["facility"]


class UnusedSite(NamedTuple):
    """What a site costs in one piece of time and no GPU pays for."""

    start_ms: int
    site: str
    quanta: int | None
    """None where it is not known what the site costs."""
    currency: str
    """The one without an exchange rate, if that is why."""


def unused_sites(prices: PriceBook, placements: Placements) -> Iterator[UnusedSite]:
    """In order of time, where it is not 0."""
    if not prices.sites:
        return
    power = SitePower(prices)
    facility_of = {pool.name: prices.facility_name_of(pool) for pool in prices.pools}
    unreported: dict[int, list[Unreported]] = defaultdict(list)
    for one in placements.unreported:
        unreported[one.start_ms].append(one)
    for i, (start_ms, end_ms) in enumerate(placements.pieces):
        paid = _paid_for_space(i, placements, unreported[start_ms], facility_of)
        for name in sorted(prices.sites):
            site = power.at(name, start_ms)
            if site is None:
                continue
            if site.pico_per_hour is None:
                yield UnusedSite(start_ms, name, None, site.currency)
                continue
            unused = capacity_quanta(site.pico_per_hour, end_ms - start_ms) - paid[site.facility]
            if unused > 0:
                yield UnusedSite(start_ms, name, unused, "")


def _paid_for_space(
    i: int, placements: Placements, unreported: Sequence[Unreported], facility_of: dict[str, str | None]
) -> dict[str | None, int]:
    """Facility -> what GPUs pay for space in the i-th piece."""
    paid: dict[str | None, int] = defaultdict(int)
    start_ms = placements.pieces[i][0]
    for chain, segments in placements.segments.items():
        portions = placements.portions[chain][segments[i]]
        for pool, rate, part_ms in portions:
            if pool is not None and rate is not None:
                taken_ms = part_ms if len(portions) > 1 else placements.reported_ms.get((chain, start_ms), 0)
                paid[facility_of[pool]] += rate.quanta_per_ms[_FACILITY] * taken_ms
    for one in unreported:
        if one.rate is not None:
            paid[facility_of[one.pool]] += one.rate.quanta_per_ms[_FACILITY] * one.missing_ms
    return paid
