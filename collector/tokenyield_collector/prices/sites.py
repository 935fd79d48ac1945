"""Sites: provisioned power, and what it costs even when nothing runs on it. Pure.

A site is a building, or a contract for one: so many kW at the price per kW of its facility (colocation, own building,
or the preset `gigawatt`). GPUs pay for the kW that they take (`kw_per_gpu`); the rest is paid for all the same, and is
the ceiling of what can still be installed.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Protocol

import msgspec

from tokenyield_collector.prices.calendar import in_force, local_quarters
from tokenyield_wire.units import hour_of_ms

SITES_MAX = 1000


class Site(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of `sites.NAME`; it may be a list by day."""

    from_: date | None = msgspec.field(name="from", default=None)
    until: date | None = None
    """The first day not paid any more."""
    facility: str | None = None
    """Whose price per kW it has; may be left out where there is one facility."""
    provisioned_kw: Decimal


class SitedFacility(Protocol):
    """What is read of a facility."""

    @property
    def has_space_price(self) -> bool: ...

    @property
    def kw(self) -> Decimal | None: ...


def site_in_force(entries: Sequence[Site], at_ms: int, timezone: str) -> tuple[Site | None, date]:
    """The entry that holds in the UTC hour of `at_ms`, and its local day."""
    day = local_quarters(hour_of_ms(at_ms), timezone)[0].date()
    site = in_force(entries, day)
    return (None if site is None or (site.until is not None and day >= site.until) else site), day


def site_faults(
    sites: Mapping[str, Sequence[Site]],
    facilities: Mapping[str, Sequence[SitedFacility]],
    pools: Sequence[str],
    name_chars_max: int,
) -> Iterator[str]:
    """Also whether a name is that of a pool: the line of a site has its name in the column `pool`."""
    if len(sites) > SITES_MAX:
        yield f"sites: expected at most {SITES_MAX}, found {len(sites)}"
    owners: dict[str, str] = {}
    for name, entries in sites.items():
        if not 1 <= len(name) <= name_chars_max:
            at = f"sites.{name[:name_chars_max]}"
            yield f"{at}: expected a name of 1 to {name_chars_max} characters, found {len(name)}"
        if name in pools:
            yield f"sites.{name}: expected a name of its own, found that of a pool; rename one of them"
        for i, site in enumerate(entries):
            at = f"sites.{name}[{i}]" if len(entries) > 1 else f"sites.{name}"
            if site.provisioned_kw < 0:
                yield f"{at}.provisioned_kw: expected at least 0, found {site.provisioned_kw}"
            facility = facility_of_site(site, facilities)
            if facility is None or facility not in facilities:
                expected, found = ", ".join(sorted(facilities)) or "an entry of facilities", facility or "nothing"
                yield f"{at}.facility: expected one of {expected}, found {found}; name the facility of the site"
                continue
            if owners.setdefault(facility, name) != name:
                fix = "give each site a facility, and its pools that facility"
                yield f"{at}.facility: expected a facility of its own, found that of site {owners[facility]}; {fix}"
            yield from _facility_faults(at, facility, site, facilities[facility])


def _facility_faults(at: str, name: str, site: Site, facilities: Sequence[SitedFacility]) -> Iterator[str]:
    if not all(one.has_space_price for one in facilities):
        expected = "a facility with a price of space (per_kw_month, per_month, capex_per_kw or preset)"
        yield f"{at}.facility: expected {expected}, found {name} without; it says what a provisioned kW costs"
    for one in facilities if len(facilities) == 1 else ():
        if one.kw is not None and one.kw != site.provisioned_kw:
            found = f"{site.provisioned_kw}; the monthly fee is for that many kW"
            yield f"{at}.provisioned_kw: expected {one.kw}, the kw of facility {name}, found {found}"


def facility_of_site(site: Site, facilities: Mapping[str, object]) -> str | None:
    """The one that it names, or the only one."""
    return site.facility or (next(iter(facilities)) if len(facilities) == 1 else None)
