"""What one GPU-hour of a pool costs in one hour, part by part (parts.py). Pure.

In: a `PriceBook`, a pool, an hour. Out: a `Rate`, or None when the pool is not paid for then. Decimal throughout.
The hours are all calendar hours paid for, not busy ones: idle shows as cost, not as a hidden higher rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal

from tokenyield_collector.prices.book import ZERO, Facility, Owned, Pool, PriceBook, Rented
from tokenyield_collector.prices.calendar import in_force, local_quarters
from tokenyield_collector.prices.components import COMPONENT_AT, COMPONENT_OF_PART, COMPONENTS
from tokenyield_collector.prices.money import capacity_quanta, energy_quanta
from tokenyield_collector.prices.parts import (
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
_NO_FACILITY = Facility()


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


class Rates:
    """The rates of a price book; those that hold for many hours are computed once."""

    def __init__(self, prices: PriceBook) -> None:
        self.prices = prices
        self._quarters: dict[int, list[datetime]] = {}
        self._known: dict[tuple[str, date, Decimal, Decimal | None], Rate | None] = {}

    def of(self, pool: Pool, at_ms: int) -> Rate | None:
        """The pool's rate in the UTC hour of `at_ms`; None when it is not paid for then or has no price."""
        hour_ms = hour_of_ms(at_ms)
        quarters = self._quarters.get(hour_ms)
        if quarters is None:
            quarters = self._quarters[hour_ms] = local_quarters(hour_ms, self.prices.timezone)
        day = quarters[0].date()
        in_force_there = in_force(self.prices.facility_of(pool), day)
        facility = in_force_there or _NO_FACILITY
        tariff = sum((_per_kwh(facility, quarter) for quarter in quarters), ZERO) / len(quarters)
        carbon = _carbon(facility, quarters)
        key = (pool.name, day, tariff, carbon)
        if key not in self._known:
            self._known[key] = self._compute(pool, day, in_force_there, tariff, carbon)
        return self._known[key]

    def exchange(self, currency: str | None, day: date) -> Decimal | None:
        """The value of one unit of `currency` in the price book's; None when there is no rate for that day."""
        if currency in (None, self.prices.currency):
            return Decimal(1)
        entry = in_force(self.prices.exchange_rates.get(currency or "", ()), day)
        return entry.rate if entry else None

    def _compute(
        self, pool: Pool, day: date, facility: Facility | None, tariff: Decimal, carbon: Decimal | None
    ) -> Rate | None:
        terms = in_force(pool.terms, day)
        if terms is None or not _is_paid(terms, day):
            return None
        if facility is None:
            if pool.pays_space(terms) or pool.pays_energy(terms):
                return None
            facility = _NO_FACILITY
        terms_exchange = self.exchange(terms.currency, day)
        facility_exchange = self.exchange(facility.currency, day)
        if terms_exchange is None or facility_exchange is None:
            return None
        kw = facility.kw_per_gpu if pool.kw_per_gpu is None else pool.kw_per_gpu
        watts = facility.host_watts_per_gpu if pool.host_watts_per_gpu is None else pool.host_watts_per_gpu
        zone, into = self.prices.timezone, self.prices.currency
        own = rented_parts(terms, zone) if isinstance(terms, Rented) else owned_parts(terms, day, zone)
        site: list[RatePart] = []
        if pool.pays_space(terms):
            site += space_parts(facility, kw, day, zone)
        if pool.pays_energy(terms):
            site += host_parts(facility, watts, tariff)
        parts = [converted(part, terms_exchange, terms.currency, into) for part in own]
        parts += [converted(part, facility_exchange, facility.currency, into) for part in site]
        notes = []
        if isinstance(terms, Owned) and not is_within_life(terms, day):
            notes.append("past its life: no depreciation and no financing")
        if pool.reference:
            notes.append("reference figures, not your prices")
        return Rate(
            pool=pool.name,
            kind=terms.kind if isinstance(terms, Rented) else "owned",
            parts=tuple(part for part in parts if part.amount or part.name in ("depreciation", "rent")),
            energy_per_kwh=tariff * facility_exchange * facility.pue if pool.pays_energy(terms) else ZERO,
            pue=facility.pue,
            host_watts=watts,
            carbon_g_per_kwh=carbon,
            count=terms.count,
            notes=tuple(notes),
        )


def _per_kwh(facility: Facility, local: datetime) -> Decimal:
    return next((band.per_kwh for band in facility.bands if band.holds(local)), facility.per_kwh)


def _carbon(facility: Facility, quarters: list[datetime]) -> Decimal | None:
    carbon = facility.carbon_g_per_kwh
    if isinstance(carbon, tuple):
        return sum((carbon[quarter.hour] for quarter in quarters), ZERO) / len(quarters)
    return carbon


def _is_paid(terms: Owned | Rented, day: date) -> bool:
    start, end = (terms.in_service, terms.retired) if isinstance(terms, Owned) else (terms.starts, terms.ends)
    return (start is None or start <= day) and (end is None or day < end)
