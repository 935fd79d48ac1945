"""What one GPU-hour of a pool costs in one hour, part by part, with the arithmetic in words. Pure.

In: a `PriceBook`, a pool, an hour. Out: a `Rate`, or None when the pool is not paid for then. Decimal throughout.

Formulas (numbers checked by hand in tests/collector/statements/test_golden_money.py):
* depreciation, straight line: (price - residual) / (life x 8760 h), price = GPU + server + network + storage share
* financing, straight line: (price + residual) / 2 x rate / 8760 h
* annuity: A = (price - residual / (1 + r)^n) x r / (1 - (1 + r)^-n) a year, of which what straight line would take is
  depreciation and the rest financing; r = 0 is straight line. Yearly compounding, paid at the end of the year.
* both only for the life of the hardware; after it, only what still runs costs
* maintenance: price x rate / 8760 h, and `per_gpu_year` / 8760 h
* facility: kW x price per kW-month x 12 / 8760 h, or kW x price per kW / (life x 8760 h)
* host energy: watts / 1000 x PUE x price per kWh
* rent, and what was paid upfront over the hours of the term
The hours are all calendar hours paid for, not busy ones: idle shows as cost, not as a hidden higher rate.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

from tokenyield_collector.prices.book import (
    HOURS_PER_YEAR,
    PRESETS,
    ZERO,
    Facility,
    Owned,
    Pool,
    PriceBook,
    Rented,
)
from tokenyield_collector.prices.calendar import in_force, local_quarters
from tokenyield_collector.prices.components import COMPONENT_AT, COMPONENT_OF_PART, COMPONENTS
from tokenyield_collector.prices.money import capacity_quanta, energy_quanta
from tokenyield_wire.units import hour_of_ms

PICO = 10**12
"""Rates are rounded to a millionth of a millionth of a unit of the currency: over a month of 100,000 GPUs that is less
than a hundredth of a cent."""
_DAYS_PER_YEAR = Decimal("365.25")


class RatePart(NamedTuple):
    """One line of a rate, in the price book's currency per GPU-hour, and its formula with figures."""

    name: str
    amount: Decimal
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What one GPU-hour of a pool costs in one hour: in words, and as whole numbers to multiply facts with."""

    pool: str
    kind: str
    """owned, on_demand, reserved or spot."""
    parts: tuple[RatePart, ...]
    energy_per_kwh: Decimal
    """Per kWh at the GPU, PUE included; 0 where the rent includes it."""
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
        facility = in_force(self.prices.facility_of(pool), day) or Facility()
        tariff = sum((_per_kwh(facility, quarter) for quarter in quarters), ZERO) / len(quarters)
        carbon = _carbon(facility, quarters)
        key = (pool.name, day, tariff, carbon)
        if key not in self._known:
            self._known[key] = self._compute(pool, day, facility, tariff, carbon)
        return self._known[key]

    def exchange(self, currency: str | None, day: date) -> Decimal | None:
        """The value of one unit of `currency` in the price book's; None when there is no rate for that day."""
        if currency in (None, self.prices.currency):
            return Decimal(1)
        entry = in_force(self.prices.exchange_rates.get(currency or "", ()), day)
        return entry.rate if entry else None

    def _compute(
        self, pool: Pool, day: date, facility: Facility, tariff: Decimal, carbon: Decimal | None
    ) -> Rate | None:
        terms = in_force(pool.terms, day)
        if terms is None or not _is_paid(terms, day):
            return None
        terms_exchange = self.exchange(terms.currency, day)
        facility_exchange = self.exchange(facility.currency, day)
        if terms_exchange is None or facility_exchange is None:
            return None
        watts = facility.host_watts_per_gpu if pool.host_watts_per_gpu is None else pool.host_watts_per_gpu
        per_kwh = tariff * facility_exchange * facility.pue
        kind: str = terms.kind if isinstance(terms, Rented) else "owned"
        energy = ZERO if isinstance(terms, Rented) and terms.energy_included else per_kwh
        own = _rented_parts(terms) if isinstance(terms, Rented) else _owned_parts(terms, day)
        parts = [_converted(part, terms_exchange, terms.currency, self.prices.currency) for part in own]
        if energy or isinstance(terms, Owned):
            kw = facility.kw_per_gpu if pool.kw_per_gpu is None else pool.kw_per_gpu
            site = _facility_parts(facility, kw, watts, tariff)
            parts += [_converted(part, facility_exchange, facility.currency, self.prices.currency) for part in site]
        notes = []
        if isinstance(terms, Owned) and not _within_life(terms, day):
            notes.append("past its life: no depreciation and no financing")
        if pool.reference:
            notes.append("reference figures, not your prices")
        return Rate(
            pool=pool.name,
            kind=kind,
            parts=tuple(part for part in parts if part.amount or part.name in ("depreciation", "rent")),
            energy_per_kwh=energy,
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


def _within_life(owned: Owned, day: date) -> bool:
    return owned.in_service is None or Decimal((day - owned.in_service).days) / _DAYS_PER_YEAR < owned.life_years


def _owned_parts(owned: Owned, day: date) -> Iterator[RatePart]:
    price, years, rate = owned.price, owned.life_years, owned.cost_of_capital
    residual = price * owned.residual_fraction
    level = (price - residual) / (years * HOURS_PER_YEAR)
    level_how = f"({_n(price)} - {_n(residual)}) / ({_n(years)} y x {HOURS_PER_YEAR} h)"
    if not _within_life(owned, day):
        yield RatePart("depreciation", ZERO, f"in service since {owned.in_service}, past its life of {_n(years)} y")
    elif owned.method == "annuity" and rate:
        growth = (1 + rate) ** years
        yearly = (price - residual / growth) * rate / (1 - 1 / growth)
        yield RatePart("depreciation", level, level_how)
        one, n = 1 + rate, _n(years)
        how = f"({_n(price)} - {_n(residual)} / {one}^{n}) x {rate} / (1 - {one}^-{n}) / {HOURS_PER_YEAR} h"
        yield RatePart("financing", yearly / HOURS_PER_YEAR - level, f"annuity {how} - depreciation")
    else:
        yield RatePart("depreciation", level, level_how)
        how = f"({_n(price)} + {_n(residual)}) / 2 x {rate} / {HOURS_PER_YEAR} h"
        yield RatePart("financing", (price + residual) / 2 * rate / HOURS_PER_YEAR, how)
    how = f"{_n(price)} x {owned.maintenance_rate} / {HOURS_PER_YEAR} h"
    yield RatePart("maintenance", price * owned.maintenance_rate / HOURS_PER_YEAR, how)
    yield RatePart("yearly", owned.per_gpu_year / HOURS_PER_YEAR, f"{_n(owned.per_gpu_year)} / {HOURS_PER_YEAR} h")


def _rented_parts(rented: Rented) -> Iterator[RatePart]:
    if rented.per_gpu_hour is not None:
        yield RatePart("rent", rented.per_gpu_hour, "per GPU-hour")
    elif rented.per_instance_hour is not None and rented.gpus_per_instance:
        how = f"{_n(rented.per_instance_hour)} an instance-hour / {rented.gpus_per_instance} GPUs"
        yield RatePart("rent", rented.per_instance_hour / rented.gpus_per_instance, how)
    if rented.upfront_per_gpu and rented.starts and rented.ends:
        hours = (rented.ends - rented.starts).days * 24
        yield RatePart(
            "upfront", rented.upfront_per_gpu / hours, f"{_n(rented.upfront_per_gpu)} / {hours} h of the term"
        )


def _facility_parts(facility: Facility, kw: Decimal, watts: Decimal, tariff: Decimal) -> Iterator[RatePart]:
    preset = PRESETS[facility.preset] if facility.preset else {}
    capex = preset.get("capex_per_kw", facility.capex_per_kw)
    life = preset.get("capex_life_years", facility.capex_life_years)
    if facility.per_kw_month is not None:
        how = f"{_n(kw)} kW x {_n(facility.per_kw_month)} a kW-month x 12 / {HOURS_PER_YEAR} h"
        yield RatePart("facility", kw * facility.per_kw_month * 12 / HOURS_PER_YEAR, how)
    elif capex is not None:
        how = f"{_n(kw)} kW x {_n(capex)} a kW / ({_n(life)} y x {HOURS_PER_YEAR} h)"
        yield RatePart("facility", kw * capex / (life * HOURS_PER_YEAR), how)
    how = f"{_n(watts)} W / 1000 x PUE {facility.pue} x {_n(tariff)} a kWh"
    yield RatePart("host_energy", watts / 1000 * facility.pue * tariff, how)


def _converted(part: RatePart, rate: Decimal, currency: str | None, into: str) -> RatePart:
    if currency in (None, into):
        return part
    return RatePart(part.name, part.amount * rate, f"{part.how} x {_n(rate)} {into}/{currency}")


def _n(value: Decimal) -> str:
    """A figure for people: no exponent, no trailing zeros."""
    text = f"{value:,.6f}"
    return text.rstrip("0").rstrip(".")
