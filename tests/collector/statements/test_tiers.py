"""Tiers: which token price a piece of work is sold at, and what each tier, product and caller brings and costs."""

import csv
import io
import os
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.fleet import Fleet, Gpu, Held, Server, prices, rules
from tokenyield_collector.attribution.rules import AttributionRules, load_rules
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.demo.month import make_month
from tokenyield_collector.examples import example_text
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.policy import Policy, load_policy
from tokenyield_collector.prices.load import load_prices
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.reports.report import Report
from tokenyield_settings.loader import SettingsError
from tokenyield_wire.window import Demand

ROOT = Path(__file__).parents[3]
POOL = "pools: [{name: p, rented: {per_gpu_hour: 90}}]\n"
DAY = "2026-10-05"
LABELS = {"team": "platform", "product": "chat"}
RULES = {"dimensions": ["team", "product"]}


def fleet(*callers: tuple[dict[str, str], int], made: int = 100, days: tuple[str, ...] = (DAY,)) -> Fleet:
    """One GPU-hour of 90 a day, all of it active, in which so many million completion tokens were made for callers
    with these labels."""
    own = Fleet()
    for day in days:
        own.hour(
            f"{day}T07:00",
            [Gpu(held=[Held(workload="w", active_min=60)])],
            [Server(key="w", completion=made * 10**6, labels=LABELS)],
            [Demand(gateway="g", model="llama", caller=labels, completion=mtok * 10**6) for labels, mtok in callers],
        )
    return own


def by_tier(report: Report, figure: str = "revenue") -> dict[str, Any]:
    return {row.by["tier"]: row.figures[figure] for row in report.rows}


# --- which tier --------------------------------------------------------------------------------------------------


def test_service_tier_context_caller_and_model_select_a_tier(tmp_path: Path) -> None:
    """100 Mtok: 20 of a free tier, 10 long ones of the priority tier at 150, 5 short ones at 45, 15 of a partner's key
    at 2, 50 that came through no gateway at 3 (by model): 0 + 1,500 + 225 + 30 + 150 = 1,905. The GPU-hour of 90 goes
    with the tokens: 18, 9, 4.50, 13.50, 45."""
    book = prices(
        tmp_path,
        POOL
        + """
token_prices:
  - {name: free, match: {service_tier: free}, per_million: 0}
  - {name: ultra, match: {service_tier: priority, context: "gt_*"}, per_million: 150}
  - {name: premium, match: {service_tier: priority}, per_million: 45}
  - {name: partner, match: {gateway.key: "partner-*"}, per_million: 2}
  - {name: standard, match: {model: "lla*", cluster: c, labels.product: chat}, per_million: 3}
""",
    )
    own = fleet(
        ({"team": "a", "service_tier": "free", "context": "gt_200k"}, 20),
        ({"team": "a", "service_tier": "priority", "context": "gt_200k"}, 10),
        ({"team": "a", "service_tier": "priority", "context": "le_32k"}, 5),
        ({"team": "b", "key": "partner-7"}, 15),
    )
    report = own.maker(book).report(DAY, ["tier"])
    assert by_tier(report) == {"free": 0, "ultra": 1500, "premium": 225, "partner": 30, "standard": 150}
    assert {row.by["tier"]: row.cost for row in report.rows} == {
        "free": 18, "ultra": 9, "premium": Decimal("4.5"), "partner": Decimal("13.5"), "standard": 45,
    }  # fmt: skip
    assert by_tier(report, "margin")["free"] == -18, "the free tier's loss is a line of its own"
    assert report.total.figures["margin"] == 1905 - 90


def test_a_tier_is_a_column_and_a_filter(tmp_path: Path) -> None:
    book = prices(tmp_path, POOL + "token_prices: [{name: free, match: {service_tier: free}, per_million: 0}]")
    maker = fleet(({"team": "a", "service_tier": "free"}, 25)).maker(book)
    rows = maker.report(DAY, ["team", "tier"]).rows
    assert {(row.by["team"], row.by["tier"]): row.cost for row in rows} == {
        ("a", "free"): Decimal("22.5"), ("platform", "(no tier)"): Decimal("67.5"),
    }  # fmt: skip
    assert maker.report(DAY, ["team"], {"tier": "free"}).total.figures["tokens"] == 25_000_000


def test_a_tier_named_like_a_marker_is_in_quotes(tmp_path: Path) -> None:
    book = prices(tmp_path, POOL + "token_prices: [{name: (no tier), match: {service_tier: x}, per_million: 1}]")
    report = fleet(({"service_tier": "x"}, 50)).maker(book).report(DAY, ["tier"])
    assert sorted(by_tier(report)) == ['"(no tier)"', "(no tier)"]


def test_tiers_begin_end_and_change_by_day(tmp_path: Path) -> None:
    """100 Mtok a day. On the 4th only the standard tier at 3; from the 5th on launch at 1, from the 6th on at 2; from
    the 7th on it has ended, and standard asks 1 for completion."""
    book = prices(
        tmp_path,
        POOL
        + """
token_prices:
  - {name: launch, from: 2026-10-05, until: 2026-10-07, per_million: [1, {from: 2026-10-06, every: 2}]}
  - name: standard
    per_million: [3, {from: 2026-10-07, every: null, prompt: 8, completion: 1}]
""",
    )
    own = fleet(days=("2026-10-04", "2026-10-05", "2026-10-06", "2026-10-07"))
    rows = own.maker(book).report("2026-10-04..2026-10-07", ["day", "tier"]).rows
    assert {(row.by["day"][-2:], row.by["tier"]): row.figures["revenue"] for row in rows} == {
        ("04", "standard"): 300, ("05", "launch"): 100, ("06", "launch"): 200, ("07", "standard"): 100,
    }  # fmt: skip


def test_a_cluster_selects_a_tier_in_every_report(tmp_path: Path) -> None:
    book = prices(tmp_path, POOL + "token_prices: [{name: x, match: {cluster: c}, per_million: 3}]")
    for by in (["model"], ["team"], ["cluster"]):
        assert fleet().maker(book).report(DAY, by).total.figures["revenue"] == 300


def test_focus_has_the_same_tier_as_the_report(tmp_path: Path) -> None:
    """Of one day, model and team, three tiers: three prices of one SKU, whose list costs are the revenue."""
    text = POOL + (
        "token_prices: [{name: free, match: {service_tier: free}, per_million: 0},"
        " {name: fast, match: {service_tier: priority}, per_million: 45}, {name: standard, per_million: 3}]"
    )
    own = fleet(({"team": "a", "service_tier": "free"}, 20), ({"team": "a", "service_tier": "priority"}, 10))
    maker = own.maker(prices(tmp_path, text), rules(tmp_path, {"rules": [{"set": {"team": "all"}}]}))
    rows = list(csv.DictReader(io.StringIO(maker.encode(DAY, (), "focus").decode())))
    tokens = {row["SkuPriceId"]: (row["ListUnitPrice"], row["ListCost"]) for row in rows if row["x_Tokens"]}
    assert {name: (float(price), float(cost)) for name, (price, cost) in tokens.items()} == {
        "llama/completion@free": (0, 0), "llama/completion@fast": (45, 450), "llama/completion@standard": (3, 210),
    }  # fmt: skip


# --- the example -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def example_month(tmp_path_factory: pytest.TempPathFactory) -> ReportMaker:
    folder = tmp_path_factory.mktemp("month")
    make_month("2026-10", folder / "month.duckdb")
    (folder / "prices.yaml").write_text(example_text("prices-tiers.yaml"))
    policy = Policy(
        prices=load_prices(folder / "prices.yaml"), rules=load_rules(ROOT / "collector" / "attribution.yaml")
    )
    return ReportMaker(ledger=DuckDbLedger(folder / "month.duckdb"), policy=policy, now_ms=1_900_000_000_000)


def test_the_example_month_has_the_margin_of_the_keynotes_tiers(example_month: ReportMaker) -> None:
    report = example_month.report("2026-10", ["tier"])
    assert {"free", "medium", "high", "premium", "ultra"} <= set(by_tier(report))
    per_mtok = {
        row.by["tier"]: round(float(row.figures["revenue"]) / (row.figures["tokens"] / 1e6), 6)
        for row in report.rows
        if row.figures["tokens"]
    }
    assert per_mtok == {"free": 0, "medium": 3, "high": 6, "premium": 45, "ultra": 150}
    margin = by_tier(report, "margin")
    assert margin["free"] < 0 < min(margin[tier] for tier in ("medium", "high", "premium", "ultra"))


@pytest.mark.parametrize("by", [["tier"], ["product"], ["product", "tier"], ["team", "tier", "day"]])
def test_revenue_cost_and_margin_sum_to_the_whole(example_month: ReportMaker, by: list[str]) -> None:
    report = example_month.report("2026-10", by)
    for figure in ("revenue", "margin"):
        assert sum(row.figures[figure] for row in report.rows) == report.total.figures[figure]
    assert sum(row.cost for row in report.rows) == report.total.cost == sum(report.waterfall.values())


def test_the_example_rules_give_every_token_a_product(example_month: ReportMaker) -> None:
    """The gateway says only the team; the product is the workload's."""
    report = example_month.report("2026-10", ["product"])
    assert {row.by["product"] for row in report.rows if row.figures["tokens"]} == {
        "assistant", "experiments", "ranking", "summaries",
    }  # fmt: skip


# --- rules -------------------------------------------------------------------------------------------------------


def test_a_template_takes_the_first_that_is_known() -> None:
    """Where a dimension is called like a label of callers, what the gateway says precedes what the workload says."""
    own = AttributionRules(dimensions=("team", "project"))
    known = {"gateway.team": "search", "labels.project": "serving"}
    assert own.attribute(known) == ("search", "serving")
    assert own.attribute(known | {"gateway.project": "answers"}) == ("search", "answers")


def test_a_template_of_unknown_names_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"found \{owner\}"):
        rules(tmp_path, RULES | {"rules": [{"set": {"team": "{labels.team|owner}"}}]})


# --- faults ------------------------------------------------------------------------------------------------------


def test_all_faults_of_tiers_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as error:
        prices(
            tmp_path,
            """
            token_prices:
              - {name: a, per_million: {every: 3, completion: 1}}
              - {name: a, per_million: 4}
              - {name: b, from: 2026-10-02, until: 2026-10-01, per_million: []}
              - {name: c}
              - {name: "", per_million: {cached: 1}}
              - {name: d, per_million: [1, {every: 2}]}
              - {name: e, currency: EUR, per_million: {prompt: -1}}
              - nothing
            api_prices:
              - {name: x, per_million: [1, {from: 2026-10-01, evry: 2}]}
            """,
        )
    message = str(error.value)
    for expected in (
        "token_prices[0].per_million: expected either one price of every kind or prices by kind, found both",
        "token_prices[2].per_million: expected at least one entry, found an empty list",
        "token_prices[3].per_million: expected a price of a million tokens, found nothing",
        "token_prices[5].per_million[1].from: expected a day, found nothing",
        "expected prompt or completion, found neither",
        "expected a currency with an exchange rate, found 'EUR'",
        "per_million.prompt: expected at least 0, found -1",
        "token_prices[7]: expected a mapping, found str",
        "api_prices[0].per_million[1]",
        "found 'a' at another price; name it otherwise",
        "name: expected a name of the tier, found ''",
    ):
        assert expected in message, (expected, message)


def test_entries_of_one_name_may_ask_the_same_or_follow_each_other(tmp_path: Path) -> None:
    book = prices(
        tmp_path,
        """
        token_prices:
          - {name: a, match: {model: x}, per_million: 4}
          - {name: a, match: {model: y}, per_million: 4}
          - {name: b, until: 2026-10-01, per_million: 4}
          - {name: b, from: 2026-10-01, per_million: 5}
        """,
    )
    on = [tier.on(date(2026, 10, 1)) for tier in book.token_prices]
    assert [None if price is None else price.every for price in on] == [4, 4, None, 5]


def test_a_tier_that_could_never_fit_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(
        "token_prices: [{name: a, match: {servicetier: free, key: x}, per_million: 0}]"
    )
    with pytest.raises(SettingsError) as error:
        load_policy(CollectorSettings(prices_file=str(tmp_path / "prices.yaml")))
    assert "token_prices[0] (a).match.servicetier: expected one of team, product, model" in str(error.value)
    assert "(a).match.key: " in str(error.value)


# --- any tiers ---------------------------------------------------------------------------------------------------

PATTERNS = {
    "service_tier": st.sampled_from(["free", "priority", "*"]),
    "context": st.sampled_from(["le_32k", "gt_*"]),
    "gateway.key": st.sampled_from(["k1", "k*"]),
    "team": st.sampled_from(["a", "b", "unattributed"]),
    "product": st.sampled_from(["chat", "x"]),
    "labels.product": st.sampled_from(["chat", "x"]),
    "model": st.sampled_from(["llama", "l*", "y"]),
}
TIERS = st.lists(
    st.tuples(st.fixed_dictionaries({}, optional=PATTERNS), st.sampled_from([0, 3, "0.25", 150])), max_size=5
)
CALLERS = st.lists(
    st.tuples(
        st.fixed_dictionaries(
            {},
            optional={
                "team": st.sampled_from(["a", "b"]),
                "key": st.sampled_from(["k1", "k2"]),
                "service_tier": st.sampled_from(["free", "priority"]),
                "context": st.sampled_from(["le_32k", "gt_200k"]),
            },
        ),
        st.integers(0, 40),
    ),
    max_size=6,
    unique_by=lambda caller: tuple(sorted(caller[0].items())),
)


@settings(max_examples=int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "8")), deadline=None)
@given(tiers=TIERS, callers=CALLERS, sharing=st.sampled_from(["apart", "usage"]))
def test_whatever_the_tiers_tables_sum_to_the_whole(
    tiers: list[tuple[dict[str, str], Any]],
    callers: list[tuple[dict[str, str], int]],
    sharing: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("tiers")
    listed = [{"name": f"t{i}", "match": match, "per_million": price} for i, (match, price) in enumerate(tiers)]
    book = prices(folder, POOL + yaml.safe_dump({"token_prices": listed}))
    own = fleet(*callers)
    maker = own.maker(book, rules(folder, RULES | {"sharing": {"unallocated": sharing}}))
    whole = maker.report(DAY, ["model"]).total
    for by in (["tier"], ["product", "tier"], ["team", "tier", "hour"]):
        report = maker.report(DAY, by)
        assert report.total.cost == whole.cost == sum(row.cost for row in report.rows)
        assert (
            report.total.figures["tokens"]
            == whole.figures["tokens"]
            == sum(row.figures["tokens"] or 0 for row in report.rows)
        )
        assert sum(row.figures["revenue"] or 0 for row in report.rows) == (whole.figures["revenue"] or 0)
    rows = csv.DictReader(io.StringIO(maker.encode(DAY, (), "focus").decode()))
    listed_cost = sum(Decimal(row["ListCost"]) for row in rows if row["x_Tokens"] and row["PricingUnit"] != "Hours")
    assert float(listed_cost) == pytest.approx(float(whole.figures["revenue"] or 0), abs=1e-5)
