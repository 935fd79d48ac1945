"""What a month, a year, a life or a term costs, summed hour by hour: the amount that was paid, to the cent."""

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.fleet import HOUR_MS, ms, prices
from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.prices.hours import end_of_life, hours_between, hours_per_year_of_life
from tokenyield_collector.prices.rates import Rates

ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe")


def summed(price_book: PriceBook, part: str, start: str, end: str) -> Decimal:
    """The amounts of a part of the first pool's rate, over the UTC hours of [start, end)."""
    rates = Rates(price_book)
    amounts = [
        amount.amount
        for at_ms in range(ms(start), ms(end), HOUR_MS)
        if (rate := rates.of(price_book.pools[0], at_ms)) is not None
        for amount in rate.parts
        if amount.name == part
    ]
    return sum(amounts, Decimal(0))


def cents(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.01"))


def test_a_years_depreciation_is_that_of_the_asset_in_leap_years_too(tmp_path: Path) -> None:
    """40,000 - 4,000 over 4 years: 9,000 in each whole calendar year, of 8760 h and of 8784 h alike."""
    owned = "gpu: 40000, residual_fraction: 0.1, life_years: 4"
    for text in (f"{{{owned}}}", f"{{{owned}, in_service: 2026-03-15}}"):
        price_book = prices(tmp_path, f"pools: [{{name: p, owned: {text}}}]")
        for year in (2027, 2028, 2029):
            assert cents(summed(price_book, "depreciation", f"{year}-01-01", f"{year + 1}-01-01")) == 9000


def test_the_depreciation_of_a_life_is_the_price_less_the_residual(tmp_path: Path) -> None:
    """In service on 2026-03-15 for 4 years, with the leap day of 2028: 36,000, and not an hour more or less."""
    text = "pools: [{name: p, owned: {gpu: 40000, residual_fraction: 0.1, life_years: 4, in_service: 2026-03-15}}]"
    assert cents(summed(prices(tmp_path, text), "depreciation", "2026-01-01", "2031-01-01")) == 36_000


def test_yearly_costs_are_paid_once_a_year(tmp_path: Path) -> None:
    """Maintenance 5 % of 40,000 = 2,000; licences 876; a building of 15,000 a kW over 15 years at 2 kW = 2,000."""
    text = """
    facilities: {a: {capex_per_kw: 15000, kw_per_gpu: 2}}
    pools: [{name: p, owned: {gpu: 40000, life_years: 4, maintenance_rate: 0.05, per_gpu_year: 876}}]"""
    price_book = prices(tmp_path, text)
    for year in (2027, 2028):
        sums = [
            cents(summed(price_book, part, f"{year}-01-01", f"{year + 1}-01-01"))
            for part in ("maintenance", "yearly", "facility")
        ]
        assert sums == [2000, 876, 2000]


@pytest.mark.parametrize("month", ["2027-02", "2028-02", "2026-04", "2026-10"])
@pytest.mark.parametrize(
    "fee", ["per_kw_month: 150, kw_per_gpu: 2", "per_month: 18000, kw: 120, kw_per_gpu: 2"], ids=["a kW", "a site"]
)
def test_a_monthly_fee_is_the_invoice_of_each_month(tmp_path: Path, month: str, fee: str) -> None:
    """2 kW at 150 a kW-month, or 2 of the 120 kW that 18,000 a month pays for: 300, in 28, 29, 30 and 31 days."""
    text = f"facilities: {{a: {{{fee}}}}}\npools: [{{name: p, owned: {{gpu: 0, life_years: 1}}}}]"
    year, number = map(int, month.split("-"))
    after = f"{year + number // 12}-{number % 12 + 1:02}-01"
    assert cents(summed(prices(tmp_path, text), "facility", f"{month}-01", after)) == 300


def test_a_month_in_which_the_clock_goes_back_has_its_fee_too(tmp_path: Path) -> None:
    """October 2026 in Berlin has 745 hours: from 2026-09-30 22:00 to 2026-10-31 23:00 UTC."""
    text = """
    timezone: Europe/Berlin
    facilities: {a: {per_kw_month: 150, kw_per_gpu: 2}}
    pools: [{name: p, owned: {gpu: 0, life_years: 1}}]"""
    assert hours_between(date(2026, 10, 1), date(2026, 11, 1), "Europe/Berlin") == 745
    assert cents(summed(prices(tmp_path, text), "facility", "2026-09-30T22:00", "2026-10-31T23:00")) == 300


def test_upfront_money_is_spread_over_the_hours_of_the_term_once(tmp_path: Path) -> None:
    """4,000 from January to July in Berlin: a term of 4343 hours, one fewer than its days have."""
    text = """
    timezone: Europe/Berlin
    pools: [{name: p, rented: {kind: reserved, count: 2, per_gpu_hour: 1, upfront_per_gpu: 4000,
                               starts: 2026-01-01, ends: 2026-07-01}}]"""
    assert cents(summed(prices(tmp_path, text), "upfront", "2025-12-01", "2026-08-01")) == 4000


@settings(max_examples=200, deadline=None)
@given(
    st.dates(date(1990, 1, 1), date(2090, 1, 1)),
    st.decimals("0.01", "12", places=2),
    st.sampled_from(ZONES),
)
def test_a_life_has_as_many_years_as_were_paid(in_service: date, life_years: Decimal, zone: str) -> None:
    """Any day, any life, any zone: an amount of 1 a year sums to the years of the life over it."""
    end = end_of_life(in_service, life_years)
    total = Decimal(0)
    day = in_service
    while day < end:
        until = min(end, date(day.year + 1, 1, 1))
        total += hours_between(day, until, zone) / hours_per_year_of_life(in_service, life_years, day, zone)
        day = until
    assert abs(total - life_years) < Decimal("1e-20")


@given(st.dates(date(1980, 1, 1), date(2090, 1, 1)), st.integers(1, 400), st.sampled_from(ZONES))
def test_hours_follow_each_other(first: date, days: int, zone: str) -> None:
    end = date.fromordinal(first.toordinal() + days)
    middle = date.fromordinal(first.toordinal() + days // 2)
    assert hours_between(first, middle, zone) + hours_between(middle, end, zone) == hours_between(first, end, zone)
    if zone == "UTC":
        moments = [datetime(day.year, day.month, day.day, tzinfo=UTC) for day in (first, end)]
        assert hours_between(first, end, zone) * 3600 == (moments[1] - moments[0]).total_seconds()


def test_what_was_paid_once_keeps_the_exchange_rate_of_that_day(tmp_path: Path) -> None:
    """40,000 EUR at 1.1 on 2026-03-15, over 4 years: 44,000 whatever the rate later; licences of 876 a year follow it."""
    text = """
    exchange_rates: {EUR: [{from: 2026-01-01, rate: 1.1}, {from: 2027-01-01, rate: 1.5}]}
    pools: [{name: p, owned: {currency: EUR, gpu: 40000, life_years: 4, per_gpu_year: 876, in_service: 2026-03-15}}]"""
    price_book = prices(tmp_path, text)
    assert cents(summed(price_book, "depreciation", "2026-01-01", "2031-01-01")) == 44_000
    assert cents(summed(price_book, "yearly", "2027-01-01", "2028-01-01")) == 1314
    upfront = (
        text[: text.index("pools:")]
        + """pools: [{name: p, rented: {kind: reserved, count: 2, per_gpu_hour: 1,
        currency: EUR, upfront_per_gpu: 4000, starts: 2026-07-01, ends: 2027-07-01}}]"""
    )
    assert cents(summed(prices(tmp_path, upfront), "upfront", "2026-01-01", "2028-01-01")) == 4400


def test_an_unknown_exchange_rate_of_the_purchase_is_noted(tmp_path: Path) -> None:
    text = """
    exchange_rates: {EUR: [{from: 2026-06-01, rate: 1.1}]}
    pools: [{name: p, owned: {currency: EUR, gpu: 35040, life_years: 4, in_service: 2026-03-15}}]"""
    price_book = prices(tmp_path, text)
    rate = Rates(price_book).of(price_book.pools[0], ms("2027-01-01"))
    assert rate is not None
    assert rate.per_gpu_hour == Decimal("1.1")
    assert rate.notes == ("no exchange rate for EUR on 2026-03-15, when it was paid: converted at that of each day",)
