"""Entries by day: what they inherit, what null unsets, which terms hold when, and where they hold nowhere."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from collector.fleet import ms, prices
from tokenyield_collector.cli import main
from tokenyield_collector.commands.terms_lines import terms_texts
from tokenyield_collector.prices.book import PoolMatch, PriceBook
from tokenyield_collector.prices.overlaps import covers
from tokenyield_collector.prices.rate_card import rate_document
from tokenyield_collector.prices.rates import Rates
from tokenyield_settings.loader import SettingsError


def terms_lines(price_book: PriceBook, since: date) -> list[str]:
    return terms_texts(price_book, since)[0]


def terms_warnings(price_book: PriceBook, since: date) -> list[str]:
    return terms_texts(price_book, since)[1]


SINCE = date(2026, 1, 1)
BOOK = """
exchange_rates: {EUR: [{from: 2026-10-01, rate: 1.1}]}
facilities:
  main: [{per_kwh: 0.1, pue: 1.3, per_kw_month: 744, kw_per_gpu: 1}, {from: 2027-01-01, pue: 1.2}]
pools:
- {name: own, match: {gpu: "*H100*"}, facility: main,
   owned: [{gpu: 35040, life_years: 4, count: 8, in_service: 2026-06-15}, {from: 2026-12-01, count: 16}]}
- {name: res, match: {gpu: "NVIDIA H100*"},
   rented: {kind: reserved, count: 4, per_gpu_hour: 2, overflow_per_gpu_hour: 3, starts: 2026-06-01, ends: 2027-06-01}}
- {name: eur, match: {gpu: "*A100*"},
   rented: [{per_gpu_hour: 1, currency: EUR}, {from: 2027-02-01, per_gpu_hour: 2, currency: null}]}
- {name: never, match: {gpu: "NVIDIA A100*"}, rented: {per_gpu_hour: 1}}
- {name: all, rented: {per_gpu_hour: 5, ends: 2027-01-01}}
"""


def test_null_unsets_what_an_earlier_entry_has(tmp_path: Path) -> None:
    text = """
    facilities: {a: [{per_kwh: 0.1, pue: 1.5, host_watts_per_gpu: 1000}, {from: 2026-06-01, pue: null, carbon_g_per_kwh: 7},
                     {from: 2026-07-01, carbon_g_per_kwh: null}]}
    pools: [{name: p, rented: [{per_gpu_hour: 2, energy_included: false, count: 4},
                               {from: 2026-06-01, per_gpu_hour: null, per_instance_hour: 8, gpus_per_instance: 8},
                               {from: 2026-07-01, energy_included: null, count: null}]}]"""
    price_book = prices(tmp_path, text)
    rates = [Rates(price_book).of(price_book.pools[0], ms(day)) for day in ("2026-05-31", "2026-06-01", "2026-07-01")]
    assert [rate and rate.per_gpu_hour for rate in rates] == [Decimal("2.15"), Decimal("1.1"), Decimal(1)]
    assert [rate and rate.count for rate in rates] == [4, 4, None]
    assert [rate and rate.pue for rate in rates] == [Decimal("1.5"), 1, 1]
    assert [rate and rate.carbon_g_per_kwh for rate in rates] == [None, 7, None]


def test_null_where_nothing_is_inherited_is_as_if_left_out(tmp_path: Path) -> None:
    text = "pools: [{name: p, rented: {per_gpu_hour: 2, count: null, energy_included: null}}]"
    assert (
        prices(tmp_path, text).pools[0].terms
        == prices(tmp_path, "pools: [{name: p, rented: {per_gpu_hour: 2}}]").pools[0].terms
    )


def test_two_ways_to_pay_at_once_say_how_to_unset_one(tmp_path: Path) -> None:
    text = """
    facilities: {a: [{per_kw_month: 1}, {from: 2026-06-01, capex_per_kw: 5}]}
    pools: [{name: p, rented: [{per_gpu_hour: 2}, {from: 2026-06-01, per_instance_hour: 8, gpus_per_instance: 8},
                               {from: null, per_gpu_hour: 3}]},
            {name: q, owned: [{gpu: 1, life_years: 1}, {from: 2026-06-01, gpu: null}]}]"""
    with pytest.raises(SettingsError) as error:
        prices(tmp_path, text)
    for expected in (
        "rented[1]: expected either per_gpu_hour, or per_instance_hour with gpus_per_instance, found both; "
        "leave one out, or write null for what an earlier entry has",
        "facilities.a[1]: expected one of per_kw_month or per_month (colocation), capex_per_kw (own building) or preset, "
        "found per_kw_month and capex_per_kw; leave one out, or write null for what an earlier entry has",
        "rented[2].from: expected a day, found nothing",
        "pools[1] (q).owned[1]: Object missing required field `gpu`",
    ):
        assert expected in str(error.value), expected


def test_the_terms_by_day(tmp_path: Path) -> None:
    """744 a kW-month in months of 744, 720 and 672 h: 1 to 1.107143; 35,040 / 4 a year = 1 an hour, or
    0.997268 in 2028, a year of 8784 h."""
    assert list(terms_lines(prices(tmp_path, BOOK), SINCE)) == [
        "own: before 2026-06-15: does not hold, its GPUs go to all",
        "own: 2026-06-15 to 2026-12-01: owned, 8 GPUs; 2.000000 to 2.033333 USD/GPU-h; facility main; "
        "beyond the count: all",
        "own: 2026-12-01 to 2027-01-01: owned, 16 GPUs; 2.000000 USD/GPU-h; facility main; beyond the count: all",
        "    inherited: gpu, life_years, in_service from the first entry",
        "own: 2027-01-01 to 2030-06-15: owned, 16 GPUs; 1.997268 to 2.107143 USD/GPU-h; facility main; "
        "beyond the count: no price, unless another pool matches",
        "    inherited: gpu, life_years, in_service from the first entry",
        "    inherited: facility main: per_kwh, per_kw_month, kw_per_gpu from the first entry",
        "own: from 2030-06-15: owned, 16 GPUs; 1.000000 to 1.107143 USD/GPU-h; past its life; facility main; "
        "beyond the count: no price, unless another pool matches",
        "    inherited: gpu, life_years, in_service from the first entry",
        "    inherited: facility main: per_kwh, per_kw_month, kw_per_gpu from the first entry",
        "res: before 2026-06-01: does not hold, its GPUs go to all",
        "res: 2026-06-01 to 2027-06-01: reserved, 4 GPUs; 2.000000 USD/GPU-h; beyond the count: res (overflow)",
        "res: from 2027-06-01: does not hold",
        "res (overflow): 2026-06-01 to 2027-06-01: on_demand; 3.000000 USD/GPU-h",
        "eur: before 2026-10-01: on_demand; no price: no exchange rate for EUR",
        "eur: 2026-10-01 to 2027-02-01: on_demand; 1.100000 USD/GPU-h; exchange rate EUR 1.1",
        "eur: from 2027-02-01: on_demand; 2.000000 USD/GPU-h",
        "never: always: on_demand; 1.000000 USD/GPU-h",
        "all: before 2027-01-01: on_demand; 5.000000 USD/GPU-h",
        "all: from 2027-01-01: does not hold",
    ]


def test_what_is_wrong_with_the_terms(tmp_path: Path) -> None:
    ended = (
        "its terms have ended, and no later pool surely matches its GPUs: where they report, they have no price; "
        "add an entry, or a pool after it"
    )
    assert list(terms_warnings(prices(tmp_path, BOOK), SINCE)) == [
        f"pool res, from 2027-06-01: {ended}",
        "pool eur, before 2026-10-01: no price: no exchange rate for EUR; its GPUs and what is paid for them are unknown; "
        "add an entry from that day",
        "pool never, always: it never applies: 'eur' before it takes every GPU that it matches; put it first, or narrow "
        "that",
        f"pool all, from 2027-01-01: {ended}",
    ]


def test_upfront_money_of_gpus_that_come_later(tmp_path: Path) -> None:
    text = """
    pools: [{name: p, rented: [{kind: reserved, count: 16, per_gpu_hour: 1, upfront_per_gpu: 9, starts: 2026-01-01,
                                ends: 2027-01-01}, {from: 2026-07-01, count: 24}]}]"""
    (first, *_) = terms_warnings(prices(tmp_path, text), SINCE)
    assert first.startswith("pool p, 2026-07-01 to 2027-01-01: count goes from 16 to 24 within the term")


def test_the_fee_of_a_site_is_charged_once(tmp_path: Path) -> None:
    """120 kW: 40 GPUs of 2 kW are 80; with 20 more from July on all of it; with 30 leased ones there 150."""
    text = """
    facilities: {a: {per_month: 18000, kw: 120, kw_per_gpu: 2}}
    pools:
    - {name: p, owned: [{gpu: 1, life_years: 1, count: 40}, {from: 2026-07-01, count: 60}]}
    - {name: q, facility: a, rented: {kind: reserved, per_gpu_hour: 1, count: 15, starts: 2026-09-01, ends: 2026-10-01}}
    - {name: cloud, rented: {per_gpu_hour: 1}}"""
    sited = prices(tmp_path, text + "\n    sites: {s: {facility: a, provisioned_kw: 120}}")
    assert [one[:27] for one in terms_warnings(sited, SINCE) if "site" in one] == ["site s, from 2026-09-01: it"]
    warnings = [one for one in terms_warnings(prices(tmp_path, text), SINCE) if one.startswith("facility")]
    assert warnings == [
        "facility a, from 2026-01-01: pools with a count have 80 kW, and per_month is for 120 kW: 33.3 % of the fee is "
        "charged to no GPU; correct kw, kw_per_gpu or the counts, or list the site in sites",
        "facility a, from 2026-09-01: pools with a count have 150 kW, and per_month is for 120 kW: more than the fee is "
        "charged; correct kw, kw_per_gpu or the counts",
    ]


def test_the_rest_of_a_fee_may_be_that_of_a_site(tmp_path: Path) -> None:
    text = """
    facilities: {a: {per_month: 18000, kw: 120, kw_per_gpu: 2}}
    sites: {north: {provisioned_kw: 120}}
    pools: [{name: p, owned: {gpu: 1, life_years: 1, count: 40}}]"""
    assert terms_warnings(prices(tmp_path, text), SINCE) == []


def test_terms_that_ended_long_ago_are_left_out(tmp_path: Path) -> None:
    text = "pools: [{name: p, rented: [{per_gpu_hour: 1}, {from: 2025-01-01, per_gpu_hour: 2}]}]"
    assert list(terms_lines(prices(tmp_path, text), SINCE)) == [
        "p: from 2025-01-01: on_demand; 2.000000 USD/GPU-h",
    ]


@pytest.mark.parametrize(
    ("wide", "narrow", "is_covered"),
    [
        ("*", "x-*", True),
        ("*H100*", "NVIDIA H100*", True),
        ("NVIDIA H100*", "*H100*", False),
        ("n?", "n1", False),
        ("n?", "n?", True),
        ("n*", "n[12]", True),
    ],
)
def test_a_pattern_covers_another_only_where_that_is_sure(wide: str, narrow: str, is_covered: bool) -> None:
    assert covers(PoolMatch(gpu=wide), PoolMatch(gpu=narrow)) is is_covered
    assert covers(PoolMatch(labels={"rack": wide}), PoolMatch(labels={"rack": narrow})) is is_covered
    assert not covers(PoolMatch(labels={"rack": "*"}), PoolMatch())


def test_rate_shows_what_is_inherited_and_why_there_is_no_price(tmp_path: Path) -> None:
    document = rate_document(prices(tmp_path, BOOK), ms("2027-01-05"))
    notes = {pool["name"]: pool["notes"] for pool in document["pools"]}
    assert notes["own"] == [
        "inherited: gpu, life_years, in_service from the first entry",
        "inherited: facility main: per_kwh, per_kw_month, kw_per_gpu from the first entry",
    ]
    assert notes["all"] == ["not paid for then"]
    notes = {pool["name"]: pool["notes"] for pool in rate_document(prices(tmp_path, BOOK), ms("2026-07-01"))["pools"]}
    assert notes["eur"] == ["no price: no exchange rate for EUR"]


def test_check_and_rate_print_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prices.yaml").write_text(BOOK)
    (tmp_path / "collector.yaml").write_text(
        f"prices_file: {tmp_path}/prices.yaml\nledger_path: {tmp_path}/none.duckdb\n"
    )
    assert main(["check", "--config", str(tmp_path / "collector.yaml")]) == 0
    shown = capsys.readouterr()
    assert "# eur: from 2027-02-01: on_demand; 2.000000 USD/GPU-h" in shown.out.splitlines()
    assert f"{tmp_path}/prices.yaml: pool never, always: it never applies" in shown.err
    assert main(["rate", "--by-day", "--prices", str(tmp_path / "prices.yaml")]) == 0
    shown = capsys.readouterr()
    assert "eur: from 2027-02-01: on_demand; 2.000000 USD/GPU-h" in shown.out.splitlines()
    assert "pool never, always: it never applies" in shown.err
