"""The parts of a rate, each with its arithmetic in words. Pure.

Formulas (numbers checked by hand in tests/collector/statements/test_golden_money.py); the hours of a month, a year, a
life and a term are those of hours.py, so that amounts are paid exactly once:
* depreciation, straight line: (price - residual) / (life x hours of a year), price = GPU + server + network + storage
* financing, straight line: (price + residual) / 2 x rate / hours of a year
* annuity: A = (price - residual / (1 + r)^n) x r / (1 - (1 + r)^-n) a year, of which what straight line would take is
  depreciation and the rest financing; r = 0 is straight line. Yearly compounding, paid at the end of the year.
* both only for the life of the hardware; after it, only what still runs costs
* maintenance: price x rate / hours of a year, and `per_gpu_year` / hours of a year
* facility: kW x fee per kW-month / hours of the month; kW / kW of the site x fee of the site per month / hours of the
  month; or kW x price per kW / (life x hours of a year)
* host energy: watts / 1000 x PUE x price per kWh
* rent, and what was paid upfront over the hours of the term
"""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from tokenyield_collector.prices.book import PRESETS, ZERO, Facility, Owned, Rented
from tokenyield_collector.prices.hours import (
    end_of_life,
    hours_between,
    hours_of_month,
    hours_of_year,
    hours_per_year_of_life,
)

PAID_ONCE = ("depreciation", "financing", "upfront")
"""Parts of a price that was paid when the terms began: its exchange rate is that of that day."""


class RatePart(NamedTuple):
    """One line of a rate, in the price book's currency per GPU-hour, and its formula with figures."""

    name: str
    amount: Decimal
    how: str


def is_within_life(owned: Owned, day: date) -> bool:
    return owned.in_service is None or day < end_of_life(owned.in_service, owned.life_years)


def owned_parts(owned: Owned, day: date, timezone: str) -> Iterator[RatePart]:
    price, years, rate = owned.price, owned.life_years, owned.cost_of_capital
    residual = price * owned.residual_fraction
    of_year = Decimal(hours_of_year(day.year, timezone))
    if not is_within_life(owned, day):
        yield RatePart("depreciation", ZERO, f"in service since {owned.in_service}, past its life of {figure(years)} y")
    else:
        hours = of_year
        if owned.in_service is not None:
            hours = hours_per_year_of_life(owned.in_service, years, day, timezone)
        level = (price - residual) / (years * hours)
        how = f"({figure(price)} - {figure(residual)}) / ({figure(years)} y x {figure(hours)} h)"
        yield RatePart("depreciation", level, how)
        if owned.method == "annuity" and rate:
            growth = (1 + rate) ** years
            yearly = (price - residual / growth) * rate / (1 - 1 / growth)
            one, n = 1 + rate, figure(years)
            annuity = f"({figure(price)} - {figure(residual)} / {one}^{n}) x {rate} / (1 - {one}^-{n})"
            how = f"annuity {annuity} / {figure(hours)} h - depreciation"
            yield RatePart("financing", yearly / hours - level, how)
        else:
            how = f"({figure(price)} + {figure(residual)}) / 2 x {rate} / {figure(hours)} h"
            yield RatePart("financing", (price + residual) / 2 * rate / hours, how)
    how = f"{figure(price)} x {owned.maintenance_rate} / {figure(of_year)} h"
    yield RatePart("maintenance", price * owned.maintenance_rate / of_year, how)
    yield RatePart("yearly", owned.per_gpu_year / of_year, f"{figure(owned.per_gpu_year)} / {figure(of_year)} h")


def rented_parts(rented: Rented, timezone: str) -> Iterator[RatePart]:
    if rented.per_gpu_hour is not None:
        yield RatePart("rent", rented.per_gpu_hour, "per GPU-hour")
    elif rented.per_instance_hour is not None and rented.gpus_per_instance:
        how = f"{figure(rented.per_instance_hour)} an instance-hour / {rented.gpus_per_instance} GPUs"
        yield RatePart("rent", rented.per_instance_hour / rented.gpus_per_instance, how)
    if rented.upfront_per_gpu and rented.starts and rented.ends:
        hours = hours_between(rented.starts, rented.ends, timezone)
        how = f"{figure(rented.upfront_per_gpu)} / {hours:,} h of the term"
        yield RatePart("upfront", rented.upfront_per_gpu / hours, how)


def space_parts(facility: Facility, kw: Decimal, day: date, timezone: str) -> Iterator[RatePart]:
    """Space and building: of a GPU that draws `kw` of the site's power."""
    preset = PRESETS[facility.preset] if facility.preset else {}
    capex = preset.get("capex_per_kw", facility.capex_per_kw)
    life = preset.get("capex_life_years", facility.capex_life_years)
    of_month, of_year = hours_of_month(day, timezone), hours_of_year(day.year, timezone)
    if facility.per_kw_month is not None:
        how = f"{figure(kw)} kW x {figure(facility.per_kw_month)} a kW-month / {of_month} h of the month"
        yield RatePart("facility", kw * facility.per_kw_month / of_month, how)
    elif facility.per_month is not None and facility.kw:
        share = f"{figure(kw)} of {figure(facility.kw)} kW"
        how = f"{share} x {figure(facility.per_month)} a month / {of_month} h of the month"
        yield RatePart("facility", kw / facility.kw * facility.per_month / of_month, how)
    elif capex is not None:
        how = f"{figure(kw)} kW x {figure(capex)} a kW / ({figure(life)} y x {of_year} h)"
        yield RatePart("facility", kw * capex / (life * of_year), how)


def host_parts(facility: Facility, watts: Decimal, tariff: Decimal) -> Iterator[RatePart]:
    how = f"{figure(watts)} W / 1000 x PUE {facility.pue} x {figure(tariff)} a kWh"
    yield RatePart("host_energy", watts / 1000 * facility.pue * tariff, how)


def converted(part: RatePart, rate: Decimal, currency: str | None, into: str) -> RatePart:
    if currency in (None, into):
        return part
    return RatePart(part.name, part.amount * rate, f"{part.how} x {figure(rate)} {into}/{currency}")


def figure(value: Decimal) -> str:
    """A figure for people: no exponent, no trailing zeros."""
    text = f"{value:,.6f}"
    return text.rstrip("0").rstrip(".")
