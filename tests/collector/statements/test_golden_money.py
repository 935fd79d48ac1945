"""Golden numbers, worked out by hand beside each test. G-numbers are those of the project's reference (finops_golden.py).

Every test goes the whole way: windows into a real ledger, a price book from YAML, a report out.
"""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from collector.fleet import HOUR_MS, Fleet, Gpu, Held, Server, ms, prices, rules
from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.prices.money import decimal
from tokenyield_collector.prices.rates import Rates
from tokenyield_collector.reports.report import Report
from tokenyield_collector.statements.source import Grain, Span
from tokenyield_collector.statements.statement import fleet_statement
from tokenyield_wire.window import Demand

NODE = "gpu: 37500, residual_fraction: 0.15, life_years: 4"  # 300,000 USD a node of 8, 15 % residual, 4 years


def parts(price_book: PriceBook, at: str = "2026-11-23") -> dict[str, float]:
    rate = Rates(price_book).of(price_book.pools[0], ms(at))
    assert rate is not None
    return {part.name: float(part.amount) for part in rate.parts}


def by(report: Report, *names: str) -> dict[Any, Decimal]:
    return {
        tuple(row.by[name] for name in names) if len(names) > 1 else row.by[names[0]]: row.cost for row in report.rows
    }


# --- rates -------------------------------------------------------------------------------------------------------


def test_g1_straight_line(tmp_path: Path) -> None:
    """(37,500 - 5,625) / (4 x 8760) = 31,875 / 35,040 = 0.909675"""
    assert parts(prices(tmp_path, f"pools: [{{name: p, owned: {{{NODE}}}}}]")) == {
        "depreciation": pytest.approx(0.909675, abs=5e-7)
    }


def test_financing_of_the_mean_book_value(tmp_path: Path) -> None:
    """(37,500 + 5,625) / 2 x 0.08 / 8760 = 21,562.5 x 0.08 / 8760 = 1,725 / 8760 = 0.196918"""
    amounts = parts(prices(tmp_path, f"pools: [{{name: p, owned: {{{NODE}, cost_of_capital: 0.08}}}}]"))
    assert amounts["financing"] == pytest.approx(0.196918, abs=5e-7)


def test_g2_annuity(tmp_path: Path) -> None:
    """1.1^4 = 1.4641; A = (300,000 - 45,000 / 1.4641) x 0.1 / (1 - 1 / 1.4641) = 269,264.39 x 0.315471 = 84,945.05 a node

    and year; / 8760 h / 8 GPUs = 1.212116, of which 0.909675 is depreciation and 0.302441 financing.
    """
    amounts = parts(prices(tmp_path, f"pools: [{{name: p, owned: {{{NODE}, method: annuity, cost_of_capital: 0.1}}}}]"))
    assert amounts == {
        "depreciation": pytest.approx(0.909675, abs=5e-7),
        "financing": pytest.approx(0.302441, abs=5e-7),
    }


def test_an_annuity_without_interest_is_straight_line(tmp_path: Path) -> None:
    assert parts(prices(tmp_path, f"pools: [{{name: p, owned: {{{NODE}, method: annuity}}}}]")) == parts(
        prices(tmp_path, f"pools: [{{name: p, owned: {{{NODE}}}}}]")
    )


def test_g3_g4_maintenance_and_network(tmp_path: Path) -> None:
    """0.05 x 37,500 / 8760 = 0.214041; network 40,000 / 8 = 5,000 a GPU over 5 years: 5,000 / (5 x 8760) = 0.114155"""
    assert parts(prices(tmp_path, f"pools: [{{name: p, owned: {{{NODE}, maintenance_rate: 0.05}}}}]"))[
        "maintenance"
    ] == pytest.approx(0.214041, abs=5e-7)
    network = prices(tmp_path, "pools: [{name: p, owned: {gpu: 0, network: 5000, life_years: 5}}]")
    assert parts(network)["depreciation"] == pytest.approx(0.114155, abs=5e-7)


def test_g5_g6_g7_energy_and_facility(tmp_path: Path) -> None:
    """6.5 kW x 1.3 x 0.08 / 8 = 0.0845; 10.2 kW x 150 / 720 h / 8 = 0.265625; 40,000 / (15 x 8760) = 0.304414 a kW"""
    text = f"""
    facilities: {{a: {{pue: 1.3, per_kwh: 0.08, host_watts_per_gpu: 812.5, per_kw_month: 150, kw_per_gpu: 1.275}}}}
    pools: [{{name: p, owned: {{{NODE}}}}}]"""
    amounts = parts(prices(tmp_path, text))
    assert amounts["host_energy"] == pytest.approx(0.0845)
    assert amounts["facility"] == pytest.approx(0.265625, abs=5e-7)
    text = f"facilities: {{a: {{preset: gigawatt, kw_per_gpu: 1.73}}}}\npools: [{{name: p, owned: {{{NODE}}}}}]"
    assert parts(prices(tmp_path, text))["facility"] == pytest.approx(0.526636, abs=5e-7)  # 1.73 x 0.304414


def test_a_gpu_past_its_life_costs_what_still_runs(tmp_path: Path) -> None:
    """In service 2022-01-01 for 4 years: from 2026-01-01 on only maintenance (0.214041) and facility (0.201613: 1 kW x

    150 / 744 h) are left; an hour before that 0.909675 more.
    """
    text = f"""
    facilities: {{a: {{per_kw_month: 150, kw_per_gpu: 1}}}}
    pools: [{{name: p, owned: {{{NODE}, maintenance_rate: 0.05, in_service: 2022-01-01}}}}]"""
    price_book = prices(tmp_path, text)
    rates = [Rates(price_book).of(price_book.pools[0], ms(at)) for at in ("2025-12-31T23:00", "2026-01-01T00:00")]
    assert [float(rate.per_gpu_hour) for rate in rates if rate] == [
        pytest.approx(1.325329, abs=1e-6),
        pytest.approx(0.415654, abs=1e-6),
    ]
    assert [rate.notes for rate in rates if rate] == [(), ("past its life: no depreciation and no financing",)]


# --- reports -----------------------------------------------------------------------------------------------------


def test_g10_the_waterfall_of_a_day(tmp_path: Path) -> None:
    """2 an hour, 24 h: 4 h unallocated = 8; 8 h held and idle = 16; 12 h busy at 70 % of the pace = 24, of which
    7.20 under-yield and 16.80 productive. The pace is 100 tokens a second: 12 h x 3600 s x 70 = 3,024,000 tokens."""
    fleet = Fleet()
    for hour in range(24):
        start = ms("2026-10-05") + hour * HOUR_MS
        if hour < 12:
            busy = Held(workload="w", active_min=60, active_j=1000)
            fleet.hour(start, [Gpu(held=[busy])], [Server(key="w", completion=252_000)])
        elif hour < 20:
            fleet.hour(start, [Gpu(held=[Held(workload="w", idle_min=60)])], [Server(key="w")])
        else:
            fleet.hour(start, [Gpu()])
    price_book = prices(
        tmp_path,
        "pools: [{name: p, rented: {per_gpu_hour: 2}}]\n"
        "reference_rates: {configured: [{model: llama, gpus: 1, tokens_per_second: 100}]}",
    )
    report = fleet.maker(price_book).report("2026-10-05", ["model"])
    assert {name: str(cost) for name, cost in report.waterfall.items()} == {
        "dark": "0.00", "unallocated": "8.00", "idle": "16.00", "under_yield": "7.20", "productive": "16.80",
    }  # fmt: skip
    assert report.total.cost == 48
    figures = next(row for row in report.rows if row.by["model"] == "llama").figures
    assert figures["cost_per_mtok_direct"] == pytest.approx(24 / 3.024)
    assert figures["cost_per_mtok_allocated"] == pytest.approx(40 / 3.024)
    assert figures["cost_per_mtok_loaded"] == pytest.approx(48 / 3.024)


def test_a_time_of_use_tariff_over_the_day_the_clock_goes_back(tmp_path: Path) -> None:
    """Berlin, 2026-10-25, 25 local hours: 02:00 to 03:00 comes twice (00:00 and 01:00 UTC). Night is 22:00 to 06:00.

    In UTC: the local day is 2026-10-24 22:00 to 2026-10-25 23:00. Night: 22, 23 (24th) are 00 and 01; 00, 01 (25th) are
    02 twice; 02, 03, 04 are 03, 04, 05: 7 hours; and 21, 22 are 22 and 23: 2 hours. 9 hours of night, 16 of day.
    1 kWh an hour: 9 x 0.10 + 16 x 0.30 = 0.90 + 4.80 = 5.70, x PUE 1.5 = 8.55.
    """
    fleet = Fleet()
    for hour in range(25):
        start = ms("2026-10-24T22:00") + hour * HOUR_MS
        fleet.hour(start, [Gpu(held=[Held(workload="w", active_min=60, active_j=3_600_000)])], [Server(key="w")])
    text = """
    timezone: Europe/Berlin
    facilities: {a: {pue: 1.5, per_kwh: 0.30, bands: [{name: night, hours: "22:00-06:00", per_kwh: 0.10}]}}
    pools: [{name: p, owned: {gpu: 0, life_years: 1}}]
    """
    report = fleet.maker(prices(tmp_path, text)).report("2026-10-24..2026-10-25", ["hour"])
    assert report.total.cost == Decimal("8.55")
    assert sum(1 for row in report.rows if row.figures["energy_cost"] == Decimal("0.15")) == 9
    assert report.total.figures["joules_facility"] == 25 * 3_600_000 * 1.5


def test_a_reserved_contract_half_used(tmp_path: Path) -> None:
    """8 GPUs committed at 1.50, of which 4 report for a day, half of the time in use: 8 x 24 x 1.50 = 288 whatever is
    used: 144 dark (the 4 that were never started), 72 unallocated, 72 productive."""
    fleet = Fleet()
    for hour in range(24):
        gpus = [Gpu(uuid=f"GPU-{i}", held=[Held(workload="w", active_min=30)]) for i in range(4)]
        fleet.hour(ms("2026-10-05") + hour * HOUR_MS, gpus, [Server(key="w")])
    price_book = prices(tmp_path, "pools: [{name: p, rented: {kind: reserved, per_gpu_hour: 1.5, count: 8}}]")
    report = fleet.maker(price_book).report("2026-10-05", ["team"])
    assert [report.waterfall[name] for name in ("dark", "unallocated", "idle", "productive")] == [144, 72, 0, 72]
    assert by(report, "team") == {"(dark)": 144, "(unallocated)": 72, "unattributed": 72}


def test_a_gpu_shared_by_three_workloads(tmp_path: Path) -> None:
    """3 an hour: a has 30 min = 1.50, b 20 min = 1.00, c 6 min active = 0.30; 4 min unallocated = 0.20.

    Energy 0.12 a kWh: a 0.5 kWh = 0.06, b 0.25 kWh = 0.03, c nothing.
    """
    fleet = Fleet()
    held = [
        Held(workload="a", active_min=30, active_j=1_800_000),
        Held(workload="b", active_min=12, idle_min=8, active_j=900_000),
        Held(workload="c", active_min=6),
    ]
    fleet.hour("2026-10-05T07:00", [Gpu(held=held)], [Server(key=key) for key in "abc"])
    text = """
    facilities: {x: {per_kwh: 0.12}}
    pools: [{name: p, rented: {per_gpu_hour: 3, energy_included: false}}]"""
    report = fleet.maker(prices(tmp_path, text)).report("2026-10-05", ["workload"])
    assert {name: str(cost) for name, cost in by(report, "workload").items()} == {
        "a": "1.56", "b": "1.03", "c": "0.30", "(unallocated)": "0.20",
    }  # fmt: skip
    assert next(row for row in report.rows if row.by["workload"] == "b").parts["idle"] == Decimal("0.40")


def test_a_currency_that_changes_in_mid_month(tmp_path: Path) -> None:
    """2 EUR an hour, one GPU, 31 days of October: 15 days at 1.08 and 16 at 1.10:

    15 x 24 x 2 x 1.08 = 777.60; 16 x 24 x 2 x 1.10 = 844.80; together 1,622.40 USD.
    """
    fleet = Fleet()
    for day in range(31):
        fleet.hour(ms("2026-10-01") + day * 24 * HOUR_MS, [Gpu()])
    text = """
    exchange_rates: {EUR: [{rate: 1.08}, {from: 2026-10-16, rate: 1.10}]}
    pools: [{name: p, rented: {kind: reserved, count: 1, per_gpu_hour: 2, currency: EUR}}]"""
    report = fleet.maker(prices(tmp_path, text)).report("2026-10", ["day"])
    assert report.total.cost == Decimal("1622.40")
    assert by(report, "day")["2026-10-15"] == Decimal("51.84")
    assert by(report, "day")["2026-10-16"] == Decimal("52.80")


def test_a_dark_node(tmp_path: Path) -> None:
    """Two nodes of 2 GPUs at 1 an hour; from 12:00 on the second does not report: 12 h x 2 = 24 dark of 96."""
    fleet = Fleet()
    for hour in range(24):
        start = ms("2026-10-05") + hour * HOUR_MS
        fleet.hour(start, [Gpu(uuid="a"), Gpu(uuid="b")], node="n1")
        if hour < 12:
            fleet.hour(start, [Gpu(uuid="c"), Gpu(uuid="d")], node="n2")
    price_book = prices(tmp_path, "pools: [{name: p, owned: {gpu: 8760, life_years: 1, count: 4}}]")
    report = fleet.maker(price_book).report("2026-10-05", ["node", "team"])
    assert by(report, "node", "team") == {("", "(dark)"): 24, ("n1", "(unallocated)"): 48, ("n2", "(unallocated)"): 24}


def test_g11_sharing_what_was_not_used(tmp_path: Path) -> None:
    """Direct A 30 and B 10, unallocated 20. By usage 45 and 15; even 40 and 20; by ownership the owner has the 20."""
    fleet = Fleet()
    labels = {"a": {"team": "A"}, "b": {"team": "B"}}
    held = [Held(workload="a", active_min=30), Held(workload="b", active_min=10)]
    servers = [Server(key=key, labels=labels[key]) for key in "ab"]
    fleet.hour("2026-10-05T07:00", [Gpu(held=held)], servers)
    price_book = prices(tmp_path, "pools: [{name: p, owner: {team: O}, rented: {per_gpu_hour: 60}}]")

    def shared(way: str) -> dict[str, int]:
        policy = rules(tmp_path, {"sharing": {"unallocated": way}})
        report = fleet.maker(price_book, policy).report("2026-10-05", ["team"])
        assert report.total.cost == 60
        assert report.waterfall["unallocated"] == 20, "the waterfall shows where it was lost, whoever carries it"
        return {team: int(cost) for team, cost in by(report, "team").items()}

    assert shared("apart") == {"A": 30, "B": 10, "(unallocated)": 20}
    assert shared("usage") == {"A": 45, "B": 15, "(unallocated)": 0}
    assert shared("even") == {"A": 40, "B": 20, "(unallocated)": 0}
    assert shared("ownership") == {"A": 30, "B": 10, "O": 20, "(unallocated)": 0}


def test_g14_a_price_for_each_kind_of_token(tmp_path: Path) -> None:
    """10 for 8 M prompt, 4 M cached, 1 M completion at 1 : 0.1 : 4: weights sum to 8 + 0.4 + 4 = 12.4 M;

    10 / 12.4 = 0.806452 a Mtok of prompt, 0.080645 cached, 3.225806 completion; blended 10 / 13 = 0.769231.
    """
    fleet = Fleet()
    made = Server(key="w", prompt_computed=8_000_000, prompt_cached=4_000_000, completion=1_000_000)
    fleet.hour("2026-10-05T07:00", [Gpu(held=[Held(workload="w", active_min=60)])], [made])
    price_book = prices(tmp_path, "pools: [{name: p, rented: {per_gpu_hour: 10}}]")
    figures = fleet.maker(price_book).report("2026-10-05", ["model"]).rows[0].figures
    assert [figures[f"cost_per_mtok_direct{kind}"] for kind in ("", "_prompt", "_cached", "_completion")] == [
        pytest.approx(value, abs=5e-7) for value in (0.769231, 0.806452, 0.0806452, 3.225806)
    ]


def test_g17_tokens_per_joule_and_carbon(tmp_path: Path) -> None:
    """650 W and 2000 tokens a second for an hour: 7.2 M tokens / 2.34 MJ = 3.076923 at the GPU.

    Host 100 W more: 7.2 M / 2.7 MJ = 2.666667; PUE 1.3: 7.2 M / 3.51 MJ = 2.051282. 400 g a kWh: 3.51 MJ = 0.975 kWh,
    390 g, / 7.2 = 54.1667 g a Mtok.
    """
    fleet = Fleet()
    held = Held(workload="w", active_min=60, active_j=650 * 3600)
    fleet.hour("2026-10-05T07:00", [Gpu(held=[held])], [Server(key="w", completion=7_200_000)])
    text = """
    facilities: {a: {pue: 1.3, host_watts_per_gpu: 100, carbon_g_per_kwh: 400}}
    pools: [{name: p, owned: {gpu: 0, life_years: 1}}]"""
    figures = fleet.maker(prices(tmp_path, text)).report("2026-10-05", ["model"]).total.figures
    tokens_per_joule = [figures[f"tokens_per_joule_{level}"] for level in ("gpu", "host", "facility")]
    assert tokens_per_joule == [pytest.approx(value, abs=5e-7) for value in (3.076923, 2.666667, 2.051282)]
    assert figures["co2_grams_per_million_tokens"] == pytest.approx(54.166667, abs=5e-7)


def test_g19_tiers_revenue_and_margin(tmp_path: Path) -> None:
    """Mtok by tier: free 50, $3 30, $6 15, $45 4, $150 1: revenue 0 + 90 + 90 + 180 + 150 = 510; 90 of cost: margin 420.

    The fleet is 1 GPU-hour of 90, active for 45 minutes: it breaks even at 0.75 x 90 / 510 = 13.2353 % of active time.
    """
    fleet = Fleet()
    tiers = {"free": 50, "t3": 30, "t6": 15, "t45": 4, "t150": 1}
    held = [Held(workload=name, active_min=9) for name in tiers]
    servers = [Server(key=name, model=name, completion=mtok * 1_000_000) for name, mtok in tiers.items()]
    fleet.hour("2026-10-05T07:00", [Gpu(held=held)], servers)
    sold = ", ".join(f"{{name: {n}, match: {{model: {n}}}, per_million: {p}}}" for n, p in
                     (("free", 0), ("t3", 3), ("t6", 6), ("t45", 45), ("t150", 150)))  # fmt: skip
    price_book = prices(tmp_path, f"pools: [{{name: p, rented: {{per_gpu_hour: 90}}}}]\ntoken_prices: [{sold}]")
    policy = rules(tmp_path, {"sharing": {"unallocated": "usage"}})
    report = fleet.maker(price_book, policy).report("2026-10-05", ["model"])
    assert report.total.figures["revenue"] == 510
    assert report.total.figures["margin"] == 420
    assert report.total.figures["break_even_utilization"] == pytest.approx(0.75 * 90 / 510)
    assert {row.by["model"]: row.figures["revenue"] for row in report.rows} == {
        "free": 0, "t3": 90, "t6": 90, "t45": 180, "t150": 150, "(unallocated)": 0,
    }  # fmt: skip


def test_g20_run_it_here_or_buy_it(tmp_path: Path) -> None:
    """8 GPUs at 1.30 = 10.40 an hour against 3 a Mtok: 10.4 / 3 x 1e6 / 3600 = 962.963 tokens/s for the node,
    120.370 a GPU. 3.6 Mtok in that hour cost 10.80 there and 10.40 here."""
    fleet = Fleet()
    gpus = [Gpu(uuid=f"GPU-{i}", held=[Held(workload="w", active_min=60)]) for i in range(8)]
    fleet.hour("2026-10-05T07:00", gpus, [Server(key="w", completion=3_600_000)])
    price_book = prices(
        tmp_path,
        "pools: [{name: p, rented: {per_gpu_hour: 1.3}}]\n"
        "api_prices: [{name: x, model: llama, per_million: {prompt: 1, completion: 3}}]",
    )
    (comparison,) = fleet.maker(price_book).report("2026-10-05", ["model"]).buy_or_run
    assert (comparison.api_cost, comparison.allocated_cost) == (Decimal("10.8"), Decimal("10.4"))
    assert comparison.break_even_tokens_per_second == pytest.approx(120.370370, abs=1e-6)


def test_run_or_buy_compares_the_same_days_at_the_prices_of_each(tmp_path: Path) -> None:
    """1 Mtok of completion a day, of a GPU-hour of 2. On the 4th the API has no price; on the 5th it asks 3, on the 6th
    5: 8 there, 4 here. A held hour makes 1e6 / 3600 = 277.778 tokens/s; both cost the same at half of that."""
    fleet = Fleet()
    for day in ("2026-10-04", "2026-10-05", "2026-10-06"):
        held = Held(workload="w", active_min=45, idle_min=15)
        fleet.hour(f"{day}T07:00", [Gpu(held=[held])], [Server(key="w", completion=1_000_000)])
    price_book = prices(
        tmp_path,
        "pools: [{name: p, rented: {per_gpu_hour: 2}}]\n"
        "api_prices: [{name: x, per_million: [{from: 2026-10-05, completion: 3}, {from: 2026-10-06, completion: 5}]},"
        " {name: y, currency: EUR, per_million: 1}]\nexchange_rates: {EUR: [{from: 2027-01-01, rate: 1}]}",
    )
    report = fleet.maker(price_book).report("2026-10-04..2026-10-06", ["model"])
    (comparison,) = report.buy_or_run
    assert (comparison.tokens, comparison.tokens_without_price) == (2_000_000, 1_000_000)
    assert (comparison.api_cost, comparison.allocated_cost) == (Decimal(8), Decimal(4))
    assert comparison.tokens_per_second == pytest.approx(277.778, abs=1e-3)
    assert comparison.break_even_tokens_per_second == pytest.approx(138.889, abs=1e-3)
    gaps = {(gap.kind.name, gap.subject): (gap.amounts.tokens, gap.days) for gap in report.gaps}
    assert gaps == {
        ("no_api_price", "x for llama"): (1_000_000, "2026-10-04"),
        ("no_api_exchange_rate", "y for llama"): (3_000_000, "2026-10-04..2026-10-06"),
    }


def test_a_node_learns_a_pace_of_its_own_from_two_of_its_days(tmp_path: Path) -> None:
    """Hours of 360,000, 180,000 and 90,000 tokens, and on the day before one of 500,000: on two days the node reached 100
    tokens/s; the slower hours yield 50 % and 25 %. On one day alone no pace is learned, and all is productive.

    At 4 an hour: productive 4 + 2 + 1 = 7, under-yield 0 + 2 + 3 = 5. No pace is learned from an hour of 10 minutes, though its
    pace of 200 tokens/s is twice as high: it is productive as a whole (0.666667).
    """
    fleet = Fleet()
    for hour, (minutes, tokens) in enumerate(((60, 360_000), (60, 180_000), (60, 90_000), (10, 120_000))):
        held = Held(workload="w", active_min=minutes)
        start = ms("2026-10-05") + hour * HOUR_MS
        fleet.hour(start, [Gpu(held=[held])], [Server(key="w", completion=tokens)])
    book = prices(tmp_path, "pools: [{name: p, rented: {per_gpu_hour: 4}}]")
    unrated = fleet.maker(book).report("2026-10-05", ["model"])
    assert not unrated.references
    assert unrated.waterfall["under_yield"] == 0
    assert unrated.total.figures["unrated_gpu_hours"] == pytest.approx(3 + 1 / 6)
    best = [Gpu(held=[Held(workload="w", active_min=60)])]
    fleet.hour("2026-10-04", best, [Server(key="w", completion=500_000)])
    report = fleet.maker(book).report("2026-10-05", ["model"])
    (reference,) = report.references
    assert (reference.tokens_per_second, reference.source) == (100, "learned")
    assert (reference.origin, reference.days, reference.node) == ("2 days of c/n1", 2, ("c", "n1"))
    assert reference.evidence is not None
    assert reference.evidence.hour_ms == ms("2026-10-05")
    assert report.waterfall["under_yield"] == 5
    assert report.waterfall["productive"] == Decimal("7.666666667")
    assert report.steps["productive"].shown == Decimal("7.67")


def test_three_nodes_that_agree_set_the_pace_of_all_and_one_that_lies_does_not(tmp_path: Path) -> None:
    """Nodes of 100, 90 and 80 tokens/s, one that claims a million times as much, and one of 40 tokens/s: 80 is reached by
    three that agree (80 is over three quarters of 100). The slow node yields a half: at 4 an hour, under-yield 2.

    Two nodes that agree, and the liar, set no pace for all.
    """
    book = prices(tmp_path, "pools: [{name: p, rented: {per_gpu_hour: 4}}]")

    def fleet_of(*paces: int) -> Report:
        fleet = Fleet()
        for number, pace in enumerate(paces):
            gpu = Gpu(uuid=f"GPU-{number}", held=[Held(workload=f"w{number}", active_min=60)])
            servers = [Server(key=f"w{number}", completion=pace * 3600)]
            fleet.hour("2026-10-05", [gpu], servers, node=f"n{number}")
        return fleet.maker(book).report("2026-10-05", ["model"])

    report = fleet_of(100, 90, 80, 100_000_000, 40)
    (reference,) = report.references
    assert (reference.tokens_per_second, reference.origin, reference.nodes) == (80, "3 nodes", 3)
    assert (reference.node, reference.days) == (None, 0)
    assert report.waterfall["under_yield"] == 2
    assert fleet_of(100, 90, 100_000_000, 40).references == []
    assert fleet_of(100, 90, 1, 40).references == [], "nor does one that claims to be slow"
    assert fleet_of(100, 90, 74, 74).waterfall["under_yield"] == 0, "no three within three quarters of the fastest"


def test_a_configured_pace_needs_no_node_that_agrees(tmp_path: Path) -> None:
    fleet = Fleet()
    for day in ("2026-10-04", "2026-10-05"):
        fleet.hour(day, [Gpu(held=[Held(workload="w", active_min=60)])], [Server(key="w", completion=360_000)])
    configured = "reference_rates: {configured: [{model: llama, tokens_per_second: 400}]}\n"
    book = prices(tmp_path, configured + "pools: [{name: p, rented: {per_gpu_hour: 4}}]")
    report = fleet.maker(book).report("2026-10-05", ["model"])
    (reference,) = report.references
    assert (reference.tokens_per_second, reference.source, reference.origin) == (400, "configured", "")
    assert report.waterfall["under_yield"] == 3


def test_a_shared_server_is_split_by_the_callers_of_the_gateway(tmp_path: Path) -> None:
    """1 M tokens served; search requested 500,000 and ads 300,000 of them; 200,000 did not come through the gateway.

    10 for the hour: search 5, ads 3, and 2 stay with the server's own label (platform).
    """
    fleet = Fleet()
    demand = [
        Demand(gateway="litellm", model="chat", caller={"team": "search"}, completion=500_000, requests=5),
        Demand(gateway="litellm", model="chat", caller={"team": "ads"}, completion=300_000, requests=3),
    ]
    server = Server(key="w", labels={"team": "platform"}, completion=1_000_000, requests=10)
    fleet.hour("2026-10-05T07:00", [Gpu(held=[Held(workload="w", active_min=60)])], [server], demand)
    policy = rules(tmp_path, {"gateway_models": {"chat": "llama"}})
    report = fleet.maker(prices(tmp_path, "pools: [{name: p, rented: {per_gpu_hour: 10}}]"), policy).report(
        "2026-10-05", ["team"]
    )
    assert by(report, "team") == {"search": 5, "ads": 3, "platform": 2}
    assert {row.by["team"]: (row.figures["completion"], row.figures["requests"]) for row in report.rows} == {
        "search": (500_000, 5),
        "ads": (300_000, 3),
        "platform": (200_000, 2),
    }


def test_the_power_bill_is_that_of_the_joules_beside_it(tmp_path: Path) -> None:
    """An hour at 0.9 kWh of the GPU and 0.1 kW of its host, PUE 1.5: 1.5 kWh at the meter, x 0.20 = 0.30; no carbon.

    Where the rent includes the energy, its bill is 0, while the joules are the same.
    """
    fleet = Fleet()
    fleet.hour("2026-10-05", [Gpu(held=[Held(workload="w", active_min=60, active_j=3_240_000)])], [Server(key="w")])
    site = "facilities: {a: {pue: 1.5, per_kwh: 0.20, host_watts_per_gpu: 100, carbon_g_per_kwh: 0}}\n"
    for pays, bill in (("false", 0.30), ("true", 0.0)):
        text = f"{site}pools: [{{name: p, rented: {{per_gpu_hour: 1, energy_included: {pays}}}}}]"
        total = fleet.maker(prices(tmp_path, text)).report("2026-10-05", ["model"]).total
        figures = total.figures
        assert figures["joules_facility"] == 1.5 * 3_600_000
        assert float(figures["energy_cost"]) == pytest.approx(bill)
        assert figures["co2_grams"] == 0, "0 grams a kWh are 0, and not unknown"


@pytest.mark.parametrize("tariff", ["per_kwh: -0.30", "bands: [{name: all, per_kwh: -0.30}]"])
def test_a_negative_tariff_lowers_the_cost(tmp_path: Path, tariff: str) -> None:
    """A rent of 1, and 1 kWh x PUE 1.2 at -0.30 = -0.36: 0.64."""
    fleet = Fleet()
    fleet.hour("2026-10-05", [Gpu(held=[Held(workload="w", active_min=60, active_j=3_600_000)])], [Server(key="w")])
    text = f"""
    facilities: {{a: {{pue: 1.2, {tariff}}}}}
    pools: [{{name: p, rented: {{per_gpu_hour: 1, energy_included: false}}}}]"""
    maker = fleet.maker(prices(tmp_path, text))
    stretch = maker.stretch("2026-10-05")
    span = Span(stretch.start_ms, stretch.end_ms)
    statement = fleet_statement(maker.ledger.usage(), maker.policy, span, Grain())
    total = sum(sums.total for _, sums in statement.lines())
    assert decimal(total) == Decimal("0.64")


@pytest.mark.parametrize(("month", "days"), [("2026-02", 28), ("2026-04", 30), ("2026-10", 31)])
def test_a_month_of_a_site_is_its_invoice(tmp_path: Path, month: str, days: int) -> None:
    """60 GPUs of 2 kW fill the 120 kW that 18,000 a month pays for, whether they report or not."""
    fleet = Fleet()
    for day in (1, days):
        fleet.hour(f"{month}-{day:02}T{0 if day == 1 else 23:02}:00", [Gpu()], [])
    text = """
    facilities: {a: {per_month: 18000, kw: 120, kw_per_gpu: 2}}
    pools: [{name: p, owned: {gpu: 0, life_years: 1, count: 60}}]"""
    total = fleet.maker(prices(tmp_path, text)).report(month, ["model"]).total
    assert round(Decimal(str(total.figures["cost_of_facility"])), 2) == 18_000
