"""What has no price is in no ratio, is named with its amount and its fix, and changes no hour."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from collector.fleet import H100, HOUR_MS, Fleet, Gpu, Held, Server, prices
from tokenyield_collector.reports.report import Report
from tokenyield_collector.statements.gaps import BY_NAME, KINDS
from tokenyield_collector.statements.lines import Sums

SITE = "facilities: {a: {pue: 1.5, per_kwh: 0.1, carbon_g_per_kwh: 400, host_watts_per_gpu: 100}}"
FROM_16TH = f"""
{SITE}
pools: [{{name: h100, rented: [{{from: 2026-10-16, per_gpu_hour: 2, energy_included: false}}]}}]
token_prices: [{{name: standard, per_million: 3}}]
"""
EVERYWHERE = FROM_16TH.replace("from: 2026-10-16, ", "")
DAYS = ("2026-10-10T10:00", "2026-10-20T10:00")


def fleet(hours: Iterable[str] = DAYS) -> Fleet:
    """In each of these hours: one GPU, 40 min active and 10 idle, a million tokens."""
    made = Fleet()
    for hour in hours:
        held = Held(workload="w", active_min=40, idle_min=10, active_j=1_000_000, idle_j=100_000)
        gpu = Gpu(held=[held], rest_j=1000)
        made.hour(hour, [gpu], [Server(key="w", labels={"team": "search"}, completion=1_000_000, requests=10)])
    return made


def figures(report: Report, **by: str) -> dict[str, Any]:
    (row,) = [row for row in report.rows if all(row.by[name] == value for name, value in by.items())]
    return row.figures


RATIOS = (
    "cost_per_mtok_direct", "cost_per_mtok_allocated", "cost_per_mtok_loaded", "cost_per_mtok_loaded_completion",
    "tokens_per_joule_host", "tokens_per_joule_facility", "co2_grams_per_million_tokens", "margin",
    "break_even_utilization",
)  # fmt: skip


def test_prices_that_begin_on_the_16th_leave_every_ratio_as_that_of_the_priced_part(tmp_path: Path) -> None:
    """Of two equal hours one has a price: each ratio is what it is of that hour alone."""
    whole = fleet().maker(prices(tmp_path, FROM_16TH)).report("2026-10", ["model"])
    part = fleet(DAYS[1:]).maker(prices(tmp_path, EVERYWHERE)).report("2026-10", ["model"])
    for found, expected in ((figures(whole, model="llama"), figures(part, model="llama")),
                            (whole.total.figures, part.total.figures)):  # fmt: skip
        for name in RATIOS:
            assert expected[name] is not None, name
            assert found[name] == pytest.approx(expected[name]), name
        assert (found["price_missing_tokens"], found["price_missing_joules"] > 1e6) == (1_000_000, True)
        assert (found["revenue"], found["revenue_without_cost"], found["revenue_missing_tokens"]) == (6, 3, 0)
    row = figures(whole, model="llama")
    assert row["price_missing_gpu_hours"] == pytest.approx(50 / 60)
    assert whole.total.figures["price_missing_gpu_hours"] == 1
    assert row["tokens_per_joule_facility"] < row["tokens_per_joule_gpu"], "a site uses more than its GPUs"
    (gap,) = whole.gaps
    assert (gap.kind.name, gap.subject, gap.days) == ("no_terms", "h100", "2026-10-10")
    assert (gap.amounts.gpu_ms, gap.amounts.tokens, gap.amounts.energy_mj) == (HOUR_MS, 1_000_000, 1_101_000_000)
    assert gap.text in whole.notes


def test_without_any_price_no_ratio_of_cost_is_known(tmp_path: Path) -> None:
    report = fleet().maker(prices(tmp_path, FROM_16TH.replace("2026-10-16", "2027-01-01"))).report("2026-10", ["model"])
    for name in RATIOS:
        assert report.total.figures[name] is None, name
    assert report.total.figures["tokens_per_joule_gpu"] == pytest.approx(2_000_000 / 2_202_000)


@pytest.mark.parametrize(
    "book", ["{pools: []}", FROM_16TH, EVERYWHERE, EVERYWHERE.replace("per_gpu_hour: 2", "currency: EUR, per_gpu_hour: 2")
             + "exchange_rates: {EUR: [{from: 2026-10-12, rate: 1.1}]}"]
)  # fmt: skip
def test_gpu_hours_do_not_depend_on_a_price(tmp_path: Path, book: str) -> None:
    report = fleet().maker(prices(tmp_path, book)).report("2026-10", ["model"])
    hours = {name: round(step.gpu_hours or 0, 6) for name, step in report.steps.items()}
    assert hours == {
        "dark": 0, "unallocated": round(20 / 60, 6), "idle": round(20 / 60, 6), "under_yield": 0,
        "productive": round(80 / 60, 6),
    }  # fmt: skip
    row = figures(report, model="llama")
    assert (row["active_gpu_hours"], row["idle_gpu_hours"]) == (pytest.approx(80 / 60), pytest.approx(20 / 60))


def test_idle_time_set_apart_is_the_same_hours_with_and_without_a_price(tmp_path: Path) -> None:
    from collector.fleet import rules

    apart = rules(tmp_path, {"sharing": {"idle": "apart"}})
    for book in ("{pools: []}", FROM_16TH, EVERYWHERE):
        report = fleet().maker(prices(tmp_path, book), apart).report("2026-10", ["model"])
        assert figures(report, model="(idle)")["idle_gpu_hours"] == pytest.approx(20 / 60)
        assert figures(report, model="llama")["idle_gpu_hours"] == 0


def test_a_missing_exchange_rate_is_named_and_its_dark_hours_count(tmp_path: Path) -> None:
    text = """
    currency: USD
    exchange_rates: {EUR: [{from: 2026-10-16, rate: 1.1}]}
    pools: [{name: h100, rented: {kind: reserved, count: 2, currency: EUR, per_gpu_hour: 2}}]
    """
    report = fleet(DAYS[:1]).maker(prices(tmp_path, text)).report("2026-10-10", ["model"])
    (gap,) = report.gaps
    assert (gap.kind.name, gap.subject) == ("no_exchange_rate", "EUR (pool h100)")
    assert "exchange_rates" in gap.kind.fix
    dark = report.steps["dark"].gpu_hours
    assert dark == pytest.approx(14 * 2 - 1), "the ledger begins at 10:00; one GPU of two reported for one hour"
    assert gap.amounts.gpu_ms == 28 * HOUR_MS
    assert report.total.cost == 0
    assert report.total.figures["price_missing_gpu_hours"] == 28


def test_a_token_without_a_price_has_an_unknown_revenue(tmp_path: Path) -> None:
    """And one that is given away has one of 0."""
    text = EVERYWHERE.replace("{name: standard,", "{name: standard, match: {team: ads},")
    sold_elsewhere = fleet().maker(prices(tmp_path, text)).report("2026-10", ["model"])
    row = figures(sold_elsewhere, model="llama")
    assert (row["revenue"], row["margin"], row["break_even_utilization"]) == (None, None, None)
    assert row["revenue_missing_tokens"] == 2_000_000
    (gap,) = sold_elsewhere.gaps
    assert (gap.kind.name, gap.subject, gap.amounts.tokens) == (
        "no_token_price", "model llama, team search", 2_000_000,
    )  # fmt: skip
    assert sold_elsewhere.total.figures["margin"] is None
    free = fleet().maker(prices(tmp_path, EVERYWHERE.replace("per_million: 3", "per_million: 0")))
    given_away = figures(free.report("2026-10", ["model"]), model="llama")
    assert (given_away["revenue"], given_away["revenue_missing_tokens"]) == (0, 0)
    assert given_away["margin"] < 0


def test_a_token_price_without_an_exchange_rate_is_unknown_and_not_0(tmp_path: Path) -> None:
    text = EVERYWHERE.replace("per_million: 3", "currency: EUR, per_million: 3") + (
        "exchange_rates: {EUR: [{from: 2026-10-16, rate: 2}]}"
    )
    report = fleet().maker(prices(tmp_path, text)).report("2026-10", ["model"])
    row = figures(report, model="llama")
    assert (row["revenue"], row["revenue_missing_tokens"], row["margin"]) == (6, 1_000_000, None)
    (gap,) = report.gaps
    assert (gap.kind.name, gap.subject, gap.days) == ("no_token_exchange_rate", "EUR (tier standard)", "2026-10-10")


def test_tokens_made_on_no_gpu_are_in_no_ratio(tmp_path: Path) -> None:
    made = fleet()
    made.hour(DAYS[1], [], [Server(key="cpu", labels={"team": "search"}, completion=5_000_000)], node="n2")
    alone = fleet().maker(prices(tmp_path, EVERYWHERE)).report("2026-10", ["model"]).total.figures
    report = made.maker(prices(tmp_path, EVERYWHERE)).report("2026-10", ["model"])
    both = report.total.figures
    for name in (*RATIOS[:-2], "tokens_per_joule_gpu"):
        assert both[name] == pytest.approx(alone[name]), name
    assert (both["tokens"], both["price_missing_tokens"]) == (7_000_000, 5_000_000)
    (gap,) = report.gaps
    assert (gap.kind.name, gap.subject, gap.amounts.tokens) == ("no_gpu", "model llama", 5_000_000)


def test_a_price_of_0_is_a_price(tmp_path: Path) -> None:
    report = (
        fleet()
        .maker(prices(tmp_path, "{pools: [{name: own, rented: {per_gpu_hour: 0}}]}"))
        .report("2026-10", ["model"])
    )
    row = figures(report, model="llama")
    assert (row["cost_per_mtok_loaded"], row["price_missing_gpu_hours"]) == (0, 0)
    assert report.gaps == []


@pytest.mark.parametrize("form", ["table", "html", "json", "parquet", "focus-metadata"])
def test_every_format_names_the_gap(tmp_path: Path, form: str) -> None:
    maker = fleet().maker(prices(tmp_path, FROM_16TH))
    data = maker.encode("2026-10", ["team"], form)
    text = " ".join(data.decode(errors="replace").split())
    assert "pool without a price: h100" in text or '"no_terms"' in text


def test_json_has_the_gap_with_its_fix(tmp_path: Path) -> None:
    maker = fleet().maker(prices(tmp_path, FROM_16TH))
    (gap,) = json.loads(maker.encode("2026-10", ["team"], "json"))["gaps"]
    assert gap.pop("text") in maker.report("2026-10").notes
    assert gap == {
        "kind": "no_terms", "subject": "h100", "days": "2026-10-10", "gpu_hours": 1.0, "joules": 1_101_000.0,
        "tokens": 1_000_000, "requests": 10, "meaning": BY_NAME["no_terms"].meaning, "fix": BY_NAME["no_terms"].fix,
    }  # fmt: skip


def test_gpus_in_no_pool_are_named_by_model_and_place(tmp_path: Path) -> None:
    made = fleet()
    made.hour(DAYS[1], [Gpu(uuid="GPU-9", model="NVIDIA L4")], node="edge-1")
    text = EVERYWHERE.replace("{name: h100,", f'{{name: h100, match: {{gpu: "{H100}"}},')
    report = made.maker(prices(tmp_path, text)).report("2026-10", ["model"])
    (gap,) = report.gaps
    assert (gap.kind.name, gap.subject) == ("no_pool", "NVIDIA L4 (e.g. c/edge-1)")
    assert gap.amounts.gpu_ms == HOUR_MS


def test_buy_or_run_compares_the_priced_part(tmp_path: Path) -> None:
    api = "api_prices: [{name: api, per_million: {prompt: 1, completion: 2}}]"
    (found,) = fleet().maker(prices(tmp_path, FROM_16TH + api)).report("2026-10", ["model"]).buy_or_run
    (alone,) = fleet(DAYS[1:]).maker(prices(tmp_path, EVERYWHERE + api)).report("2026-10", ["model"]).buy_or_run
    assert found == alone


def test_every_kind_has_words_of_its_own() -> None:
    assert len({kind.title for kind in KINDS}) == len({kind.name for kind in KINDS}) == len(KINDS)
    assert all(kind.meaning and kind.fix for kind in KINDS)


def test_a_facility_without_an_entry_is_named(tmp_path: Path) -> None:
    text = EVERYWHERE.replace("{pue: 1.5,", "[{from: 2026-10-16, pue: 1.5,").replace("_gpu: 100}", "_gpu: 100}]")
    (gap,) = fleet().maker(prices(tmp_path, text)).report("2026-10", ["model"]).gaps
    assert (gap.kind.name, gap.subject, gap.days) == ("no_facility", "h100", "2026-10-10")


def test_gpus_beyond_a_count_are_named(tmp_path: Path) -> None:
    made = fleet(DAYS[1:])
    made.hour(DAYS[1], [Gpu(uuid="GPU-1")], node="n2")
    text = "pools: [{name: res, rented: {kind: reserved, count: 1, per_gpu_hour: 1}}]"
    (gap,) = made.maker(prices(tmp_path, text)).report("2026-10", ["model"]).gaps
    assert (gap.kind.name, gap.subject, gap.amounts.gpu_ms) == ("beyond_count", "res", HOUR_MS)


def test_the_docs_name_every_kind() -> None:
    text = (Path(__file__).parents[3] / "docs/money.md").read_text()
    assert [kind.name for kind in KINDS if f"`{kind.name}`" not in text] == []


def test_requests_alone_without_a_price_make_a_margin_unknown() -> None:
    """Of a row whose time and tokens went to others by rounding."""
    sums = Sums()
    assert not sums.has_unpriced
    sums.add("requests", 3)
    sums.add("unpriced_requests", 3)
    assert sums.has_unpriced
