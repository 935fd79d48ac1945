"""What one GPU-hour of a pool costs in one hour, part by part (parts.py). Pure.

In: a `PriceBook`, a pool, an hour. Out: a `Rate`, or None when the pool is not paid for then. Decimal throughout.
The hours are all calendar hours paid for, not busy ones: idle shows as cost, not as a hidden higher rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

from tokenyield_collector.prices.book import (
    NO_FACILITY,
    ZERO,
    Facility,
    Owned,
    Pool,
    PriceBook,
    Rented,
    Terms,
    is_capped,
    is_paid,
    term_of,
)
from tokenyield_collector.prices.calendar import in_force, local_quarters
from tokenyield_collector.prices.components import COMPONENT_AT, COMPONENT_OF_PART, COMPONENTS
from tokenyield_collector.prices.money import capacity_quanta, energy_quanta
from tokenyield_collector.prices.parts import (
    PAID_ONCE,
    RatePart,
    converted,
    host_parts,
    is_within_life,
    owned_parts,
    rented_parts,
    space_parts,
)
from tokenyield_wire.units import hour_of_ms

PICO = 10**12
"""Rates are rounded to a millionth of a millionth of a unit of the currency: over a month of 100,000 GPUs that is less
than a hundredth of a cent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What one GPU-hour of a pool costs in one hour: in words, and as whole numbers to multiply facts with."""

    pool: str
    kind: str
    """owned, on_demand, reserved or spot."""
    parts: tuple[RatePart, ...]
    energy_per_kwh: Decimal
    """Per kWh at the GPU, PUE included; 0 where the rent includes it. A tariff may be negative."""
    pue: Decimal
    host_watts: Decimal
    carbon_g_per_kwh: Decimal | None
    """Grams of CO2 per kWh at the meter."""
    count: int | None
    """GPUs paid for whether they report or not; None: those that report."""
    is_capped: bool = False
    """Whether GPUs beyond `count` are not of this pool."""
    notes: tuple[str, ...] = ()
    quanta_per_ms: tuple[int, ...] = field(init=False)
    """What a millisecond of a GPU costs, in the order of `COMPONENTS`."""
    quanta_per_mj: int = field(init=False)
    components_paid: tuple[tuple[int, int], ...] = field(init=False)
    """(number, quanta a millisecond) of the components that are not 0."""
    host_mw: int = field(init=False)
    """What of the host's draw is in the price of a GPU's time."""
    pue_thousandths: int = field(init=False)
    carbon_mg_per_kwh: int | None = field(init=False)

    def __post_init__(self) -> None:
        carbon = self.carbon_g_per_kwh
        self._set_time_price(_component_quanta(self.parts, self.pico_per_gpu_hour), round(self.host_watts * 1000))
        object.__setattr__(self, "quanta_per_mj", energy_quanta(self.pico_per_kwh, 1))
        object.__setattr__(self, "pue_thousandths", round(self.pue * 1000))
        object.__setattr__(self, "carbon_mg_per_kwh", None if carbon is None else round(carbon * 1000))

    def _set_time_price(self, quanta_per_ms: Sequence[int], host_mw: int) -> None:
        object.__setattr__(self, "quanta_per_ms", tuple(quanta_per_ms))
        object.__setattr__(self, "components_paid", tuple((i, q) for i, q in enumerate(quanta_per_ms) if q))
        object.__setattr__(self, "host_mw", host_mw)

    @property
    def per_gpu_hour(self) -> Decimal:
        return sum((part.amount for part in self.parts), ZERO)

    @property
    def pico_per_gpu_hour(self) -> int:
        return round(self.per_gpu_hour * PICO)

    @property
    def pico_per_kwh(self) -> int:
        return round(self.energy_per_kwh * PICO)

    @property
    def price_key(self) -> tuple[object, ...]:
        """Equal for rates at which the same facts cost, draw and emit the same."""
        return (
            self.quanta_per_ms, self.quanta_per_mj, self.host_mw, self.pue_thousandths, self.carbon_mg_per_kwh,
            self.count,
        )  # fmt: skip

    def with_host(self, host_mw: int) -> "Rate":
        """The same with a measured draw of the host in place of the price book's: the one place where host power is
        priced, rounded once, to a quantum a millisecond and never below 0."""
        measured = replace(self)
        quanta = list(self.quanta_per_ms)
        host = COMPONENT_AT["host"]
        quanta[host] += self.quanta_per_mj * (host_mw - self.host_mw) // 1000
        if self.quanta_per_mj >= 0:
            quanta[host] = max(0, quanta[host])
        measured._set_time_price(quanta, host_mw)
        return measured


def _component_quanta(parts: Sequence[RatePart], pico_per_gpu_hour: int) -> tuple[int, ...]:
    """Quanta a millisecond by component; they sum to the rounded price of all parts."""
    amounts = dict.fromkeys(COMPONENTS, ZERO)
    for part in parts:
        amounts[COMPONENT_OF_PART[part.name]] += part.amount
    pico = [round(amount * PICO) for amount in amounts.values()]
    largest = max(range(len(pico)), key=lambda number: abs(pico[number]))
    pico[largest] += pico_per_gpu_hour - sum(pico)  # a tariff may be negative, and a component with it
    return tuple(capacity_quanta(value, 1) for value in pico)


class RateGap(NamedTuple):
    """A pool that is paid for at an unknown rate. `currency` has no exchange rate; empty: its facility has no entry."""

    currency: str
    gpus: int | None
    is_capped: bool


class _SiteHour(NamedTuple):
    """A facility in one hour; None where none holds yet."""

    day: date
    facility: Facility | None
    per_kwh: Decimal
    carbon_g_per_kwh: Decimal | None


class Rates:
    """The rates of a price book; those that hold for many hours are computed once."""

    def __init__(self, prices: PriceBook) -> None:
        self.prices = prices
        self._sites: dict[tuple[int, int], _SiteHour] = {}
        self._known: dict[tuple[str, date, Decimal, Decimal | None], tuple[bool, Rate | None]] = {}

    def of(self, pool: Pool, at_ms: int) -> Rate | None:
        """The pool's rate in the UTC hour of `at_ms`; None when it is not paid for then or has no price."""
        return self.priced(pool, at_ms)[1]

    def priced(self, pool: Pool, at_ms: int) -> tuple[bool, Rate | None]:
        """Whether the pool is paid for in the UTC hour of `at_ms`, and its rate; None where that is not known."""
        site = self._site(self.prices.facility_of(pool), hour_of_ms(at_ms))
        key = (pool.name, site.day, site.per_kwh, site.carbon_g_per_kwh)
        if key not in self._known:
            terms = in_force(pool.terms, site.day)
            if terms is None or not is_paid(terms, site.day):
                self._known[key] = False, None
            else:
                self._known[key] = True, self._rate(pool, terms, site)
        return self._known[key]

    def _site(self, facilities: tuple[Facility, ...], hour_ms: int) -> "_SiteHour":
        key = (id(facilities), hour_ms)
        if key not in self._sites:
            quarters = local_quarters(hour_ms, self.prices.timezone)
            day = quarters[0].date()
            facility = in_force(facilities, day)
            site = facility or NO_FACILITY
            per_kwh = sum((_per_kwh(site, quarter) for quarter in quarters), ZERO) / len(quarters)
            self._sites[key] = _SiteHour(day, facility, per_kwh, _carbon(site, quarters))
        return self._sites[key]

    def gap(self, pool: Pool, at_ms: int) -> "RateGap":
        """Why a pool that is paid for in that hour has no rate."""
        site = self._site(self.prices.facility_of(pool), hour_of_ms(at_ms))
        terms = in_force(pool.terms, site.day)
        assert terms is not None, "it is paid for"
        currencies = (terms.currency, site.facility.currency if site.facility is not None else None)
        missing = next((name for name in currencies if name and self.exchange(name, site.day) is None), "")
        return RateGap(missing, terms.count, is_capped(terms))

    def exchange(self, currency: str | None, day: date) -> Decimal | None:
        """The value of one unit of `currency` in the price book's; None when there is no rate for that day."""
        if currency in (None, self.prices.currency):
            return Decimal(1)
        entry = in_force(self.prices.exchange_rates.get(currency or "", ()), day)
        return entry.rate if entry else None

    def _rate(self, pool: Pool, terms: Terms, site: "_SiteHour") -> Rate | None:
        """None where a facility that must be paid for does not hold yet, or an exchange rate is missing."""
        pays_space, pays_energy, day = pool.pays_space(terms), pool.pays_energy(terms), site.day
        if site.facility is None and (pays_space or pays_energy):
            return None
        facility, tariff = site.facility or NO_FACILITY, site.per_kwh
        terms_exchange = self.exchange(terms.currency, day)
        facility_exchange = self.exchange(facility.currency, day) if pays_space or pays_energy else Decimal(1)
        if terms_exchange is None or facility_exchange is None:
            return None
        kw = facility.kw_per_gpu if pool.kw_per_gpu is None else pool.kw_per_gpu
        watts = facility.host_watts_per_gpu if pool.host_watts_per_gpu is None else pool.host_watts_per_gpu
        zone, into = self.prices.timezone, self.prices.currency
        own = rented_parts(terms, zone) if isinstance(terms, Rented) else owned_parts(terms, day, zone)
        local: list[RatePart] = []
        if pays_space:
            local += space_parts(facility, kw, day, zone)
        if pays_energy:
            local += host_parts(facility, watts, tariff)
        start, _ = term_of(terms)
        when_paid = terms_exchange if start is None else self.exchange(terms.currency, start)
        once = terms_exchange if when_paid is None else when_paid
        parts = [
            converted(part, once if part.name in PAID_ONCE else terms_exchange, terms.currency, into) for part in own
        ]
        parts += [converted(part, facility_exchange, facility.currency, into) for part in local]
        notes = []
        if when_paid is None and any(part.amount for part in parts if part.name in PAID_ONCE):
            notes.append(
                f"no exchange rate for {terms.currency} on {start}, when it was paid: converted at that of each day"
            )
        if isinstance(terms, Owned) and not is_within_life(terms, day):
            notes.append("past its life: no depreciation and no financing")
        if pool.reference:
            notes.append("reference figures, not your prices")
        return Rate(
            pool=pool.name,
            kind=terms.kind if isinstance(terms, Rented) else "owned",
            parts=tuple(part for part in parts if part.amount or part.name in ("depreciation", "rent")),
            energy_per_kwh=tariff * facility_exchange * facility.pue if pays_energy else ZERO,
            pue=facility.pue,
            host_watts=watts,
            carbon_g_per_kwh=site.carbon_g_per_kwh,
            count=terms.count,
            is_capped=is_capped(terms),
            notes=tuple(notes),
        )


def _per_kwh(facility: Facility, local: datetime) -> Decimal:
    return next((band.per_kwh for band in facility.bands if band.holds(local)), facility.per_kwh)


def _carbon(facility: Facility, quarters: list[datetime]) -> Decimal | None:
    carbon = facility.carbon_g_per_kwh
    if isinstance(carbon, tuple):
        return sum((carbon[quarter.hour] for quarter in quarters), ZERO) / len(quarters)
    return carbon
