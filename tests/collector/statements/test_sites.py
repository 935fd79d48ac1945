"""Sites: what is provisioned is paid for, and what no GPU takes of it is a line of its own."""

import csv
import io
import os
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.fleet import HOUR_MS, Fleet, Gpu, Held, Server, ms, prices, rules
from tokenyield_collector.commands.terms_lines import terms_texts
from tokenyield_collector.prices.rate_card import rate_document
from tokenyield_collector.prices.site_power import SitePower
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.reports.report import Report
from tokenyield_settings.loader import SettingsError

DAY = "2026-10-05"
NOW = f"{DAY}T02:00"
BOOK = """
facilities: {{dc: {{per_kw_month: 744, kw_per_gpu: 2}}}}
sites: {{north: {site}}}
pools: [{{name: p, facility: dc, owned: {{gpu: 0, life_years: 1{count}}}}}]
"""
"""744 a kW-month in a month of 744 hours: 1 a kW-hour, 2 a GPU-hour."""


def book(site: str = "{provisioned_kw: 10}", count: str = "") -> str:
    return BOOK.format(site=site, count=count)


def fleet(gpus: int = 3, hours: int = 2) -> Fleet:
    """So many GPUs, of which the first is at work and the others are held by nobody."""
    own = Fleet()
    for hour in range(hours):
        listed = [Gpu(uuid=f"GPU-{i}", held=[Held(workload="w", active_min=60)] if i == 0 else ()) for i in range(gpus)]
        own.hour(ms(DAY) + hour * HOUR_MS, listed, [Server(key="w", completion=1_000_000)])
    return own


def by(report: Report, column: str) -> dict[str, Decimal]:
    return {row.by[column]: row.cost for row in report.rows}


def test_what_no_gpu_takes_of_a_site_is_a_line_of_its_own(tmp_path: Path) -> None:
    """Two hours of 10 kW at 1: 20. Three GPUs take 6 kW: 2 for the one at work, 4 for the others, an hour; 4 are left."""
    maker = fleet().maker(prices(tmp_path, book()), now=NOW)
    report = maker.report(DAY, ["model"])
    assert by(report, "model") == {"llama": 4, "(unallocated)": 8, "(unused site)": 8}
    assert by(maker.report(DAY, ["pool"]), "pool") == {"p": 12, "north": 8}
    assert report.total.cost == 20
    assert report.waterfall == {"dark": 8, "unallocated": 8, "idle": 0, "under_yield": 0, "productive": 4}
    assert report.total.figures["cost_of_facility"] == 20, "the facility costs what was provisioned"
    assert report.total.figures["dark_gpu_hours"] == 0, "no GPU is there"
    assert maker.report(DAY, ["pool"], {"model": "(unused site)"}).total.cost == 8


def test_gpus_that_do_not_report_take_their_power(tmp_path: Path) -> None:
    """Four are counted: 8 of 10 kW are theirs, whether they report or not; 2 are left."""
    report = fleet().maker(prices(tmp_path, book(count=", count: 4")), now=NOW).report(DAY, ["model"])
    assert by(report, "model") == {"llama": 4, "(unallocated)": 8, "(dark)": 4, "(unused site)": 4}


def test_more_than_is_provisioned_leaves_nothing_and_takes_nothing_back(tmp_path: Path) -> None:
    """Five GPUs for one hour (10 of 4 kW), then none: that hour costs the site's 4, and the first no less for it."""
    own = fleet(gpus=5, hours=1)
    own.hour(ms(DAY) + HOUR_MS, [])
    maker = own.maker(prices(tmp_path, book("{provisioned_kw: 4}")), now=NOW)
    for columns in (["model"], ["pool"], ["node", "model"]):
        assert maker.report(DAY, columns).total.cost == 14
    by_hour = maker.report(DAY, ["hour", "model"]).rows
    unused = {row.by["hour"][11:13]: row.cost for row in by_hour if row.by["model"] == "(unused site)"}
    assert unused == {"01": 4}


def test_a_site_grows_and_ends_by_day(tmp_path: Path) -> None:
    """24 hours of 10 kW, then of 20 kW, then none; one GPU of 2 kW in one hour of each day."""
    own = Fleet()
    for day in ("2026-10-05", "2026-10-06", "2026-10-07"):
        for hour in range(24):
            own.hour(ms(day) + hour * HOUR_MS, [Gpu()] if hour == 5 else [])
    site = "[{provisioned_kw: 10}, {from: 2026-10-06, until: 2026-10-07, provisioned_kw: 20}]"
    report = own.maker(prices(tmp_path, book(site))).report("2026-10-05..2026-10-07", ["day"])
    assert by(report, "day") == {"2026-10-05": 240, "2026-10-06": 480, "2026-10-07": 2}


def test_a_site_without_an_exchange_rate_is_a_gap_and_not_free(tmp_path: Path) -> None:
    """EUR has a rate from the 6th on: 24 hours of 10 kW at 1 EUR at 2 are 480, and the 5th is not known."""
    text = (
        "facilities: {dc: {per_kw_month: 744, kw_per_gpu: 2, currency: EUR}}\nsites: {north: {provisioned_kw: 10}}\n"
        "exchange_rates: {EUR: [{from: 2026-10-06, rate: 2}]}\n"
        "pools: [{name: p, facility: dc, owned: {gpu: 0, life_years: 1}}]"
    )
    own = Fleet()
    own.hour(ms(DAY), [])
    own.hour(ms("2026-10-06"), [Gpu()])
    report = own.maker(prices(tmp_path, text)).report("2026-10-05..2026-10-06", ["pool"])
    assert by(report, "pool") == {"p": 4, "north": 476}
    assert report.total.cost == 480
    assert [(gap.kind.name, gap.subject, gap.days) for gap in report.gaps] == [
        ("no_exchange_rate", "EUR (site north)", "2026-10-05")
    ]


def test_a_gigawatt_costs_304_414_an_hour_before_the_first_gpu(tmp_path: Path) -> None:
    """1,000,000 kW x 40,000 / (15 x 8,760 h) = 304,414.003; eight GPUs of 1.73 kW take 13.84 kW = 4.213090 of it."""
    text = """
    facilities: {f: {preset: gigawatt, kw_per_gpu: 1.73}}
    sites: {giga: {provisioned_kw: 1000000}}
    pools: [{name: p, owned: {gpu: 0, life_years: 1}}]"""
    own = Fleet()
    own.hour(DAY, [Gpu(uuid=f"GPU-{i}") for i in range(8)])
    report = own.maker(prices(tmp_path, text), now=f"{DAY}T01:00").report(DAY, ["pool"])
    assert float(by(report, "pool")["p"]) == pytest.approx(4.213090, abs=0.005)
    assert float(report.total.cost) == pytest.approx(304_414.003, abs=0.006)


def test_the_ceiling_of_a_site_is_known(tmp_path: Path) -> None:
    price_book = prices(tmp_path, book(count=", count: 4"))
    (site,) = rate_document(price_book, ms(DAY))["sites"]
    assert (site["provisioned_kw"], site["committed_kw"], site["per_hour"], site["notes"]) == (10, 8, Decimal(10), [])
    small = prices(tmp_path, book("{provisioned_kw: 7}", count=", count: 4"))
    (site,) = rate_document(small, ms(DAY))["sites"]
    assert "take 8 kW by their counts, more than the 7 provisioned" in site["notes"][0]
    assert [
        line for line in terms_texts(small, date(2026, 1, 1))[1] if line.startswith("site north, from 2026-01-01: ")
    ]
    assert not terms_texts(price_book, date(2026, 1, 1))[1]
    known = SitePower(price_book).at("north", ms(DAY))
    assert known is not None
    assert known.provisioned_kw == 10


def test_a_loaded_cost_includes_the_site(tmp_path: Path) -> None:
    """What nobody took is spread by usage: the only user's loaded cost is all 20."""
    figures = fleet().maker(prices(tmp_path, book()), now=NOW).report(DAY, ["model"])
    assert sum(float(row.figures["cost_per_mtok_loaded"] or 0) for row in figures.rows) * 2 == pytest.approx(20)


def test_focus_bills_the_unused_site(tmp_path: Path) -> None:
    maker = fleet().maker(prices(tmp_path, book()), now=NOW)
    rows = list(csv.DictReader(io.StringIO(maker.encode(DAY, (), "focus").decode())))
    assert sum(Decimal(row["BilledCost"]) for row in rows) == 20
    (site,) = [row for row in rows if row["ChargeDescription"] == "Provisioned power of a site that no GPU takes"]
    assert (float(site["BilledCost"]), site["x_CostBucket"], site["SubAccountId"]) == (8, "dark", "(unused site)")


def test_all_faults_of_sites_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as error:
        prices(
            tmp_path,
            """
            facilities:
              a: {per_kwh: 0.1}
              b: {per_kw_month: 100}
              c: {per_month: 500, kw: 8}
            sites:
              one: {facility: a, provisioned_kw: 1}
              two: {facility: b, provisioned_kw: -1}
              three: {facility: b, provisioned_kw: 1}
              four: {provisioned_kw: 1}
              five: {facility: d, provisioned_kw: 1}
              six: {facility: c, provisioned_kw: 9}
              seven: {facility: b}
              eight: [{facility: c, provisioned_kw: 8}, {from: 0001-01-02, facility: c}]
              p: {facility: c, provisioned_kw: 8}
            pools: [{name: p, facility: b, rented: {per_gpu_hour: 1}}]
            """,
        )
    message = str(error.value)
    for expected in (
        "sites.one.facility: expected a facility with a price of space",
        "sites.two.provisioned_kw: expected at least 0, found -1",
        "sites.three.facility: expected a facility of its own, found that of site two",
        "sites.four.facility: expected one of a, b, c, found nothing",
        "sites.five.facility: expected one of a, b, c, found d",
        "sites.six.provisioned_kw: expected 8, the kw of facility c, found 9",
        "sites.seven",
        "sites.eight[1].from: expected a day of the years 1971 to 9000, found 0001-01-02",
        "sites.p: expected a name of its own, found that of a pool",
    ):
        assert expected in message, (expected, message)


@settings(max_examples=int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "6")), deadline=None)
@given(
    provisioned=st.integers(0, 30),
    counts=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    owned=st.integers(0, 5) | st.none(),
    sharing=st.sampled_from(["apart", "usage", "even"]),
)
def test_facility_cost_follows_what_was_provisioned(
    provisioned: int, counts: list[int], owned: int | None, sharing: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Hour by hour the greater of what is provisioned and what GPUs take: 2 kW each, reported, counted or beyond it."""
    folder = tmp_path_factory.mktemp("sites")
    own = Fleet()
    for hour, gpus in enumerate(counts):
        held: list[Any] = [[Held(workload="w", active_min=60)], ()]
        listed = [Gpu(uuid=f"GPU-{i}", held=held[i % 2]) for i in range(gpus)]
        own.hour(ms(DAY) + hour * HOUR_MS, listed, [Server(key="w", completion=1000)] if gpus else [])
    count = "" if owned is None else f", count: {owned}, overflow_per_gpu_hour: 0"
    taken = [2 * max(gpus, owned or 0) for gpus in counts]
    maker: ReportMaker = own.maker(
        prices(folder, book(f"{{provisioned_kw: {provisioned}}}", count)),
        rules(folder, {"sharing": {"dark": sharing}}),
        now=f"{DAY}T{len(counts):02}:00",
    )
    expected = sum(max(provisioned, kw) for kw in taken)
    for columns in (["model"], ["hour", "pool"], ["node", "day"]):
        report = maker.report(DAY, columns)
        assert report.total.cost == sum(row.cost for row in report.rows) == sum(report.waterfall.values()) == expected
        assert report.total.figures["cost_of_facility"] == expected
