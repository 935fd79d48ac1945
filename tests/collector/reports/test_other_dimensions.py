"""Dimensions are what the rules name: nothing needs one that is called team."""

import csv
import io
import json
from decimal import Decimal
from pathlib import Path

import pytest

from collector.fleet import HOUR_MS, Fleet, Gpu, Held, Server, ms, prices, rules
from focus_rules import faults
from tokenyield_collector.reports.maker import ReportMaker, budget_document
from tokenyield_wire.window import Demand

PRICES = """
pools: [{name: p, owner: {cost_center: "4711"}, rented: {kind: reserved, count: 2, per_gpu_hour: 10}}]
token_prices: [{name: standard, match: {cost_center: "42*"}, per_million: 3}]
"""
RULES = {
    "dimensions": ["cost_center", "task"],
    "budgets": [
        {"name": "search", "match": {"cost_center": "4200"}, "monthly": 100},
        {"name": "triage", "match": {"task": "triage"}, "monthly": 1},
    ],
}


@pytest.fixture
def maker(tmp_path: Path) -> ReportMaker:
    """Two hours at 10 each of a GPU: `chat` of cost center 4200 for 90 minutes; a second GPU is dark: 20.

    In the second hour a gateway's caller of cost center 4300 made half of the tokens; its task is the workload's.
    """
    fleet = Fleet()
    server = Server(key="chat", model="llama", labels={"cost_center": "4200", "task": "triage"}, completion=1_000_000)
    fleet.hour("2026-10-05T07:00", [Gpu(held=[Held(workload="chat", active_min=60)])], [server])
    caller = Demand(gateway="g", model="llama", caller={"cost_center": "4300"}, completion=500_000, requests=1)
    fleet.hour(ms("2026-10-05T07:00") + HOUR_MS, [Gpu(held=[Held(workload="chat", active_min=30)])], [server], [caller])
    return fleet.maker(prices(tmp_path, PRICES), rules(tmp_path, RULES), now="2026-10-05T09:00")


def test_a_report_is_by_the_first_dimension_and_the_model(maker: ReportMaker) -> None:
    report = maker.report("2026-10-05")
    assert report.by == ("cost_center", "model")
    assert {row.by["cost_center"]: row.cost for row in report.rows} == {
        "4200": Decimal("12.50"),
        "4300": Decimal("2.50"),
        "(unallocated)": Decimal("5.00"),
        "(dark)": Decimal("20.00"),
    }
    revenue = {row.by["cost_center"]: row.figures["revenue"] for row in report.rows}
    assert (revenue["4200"], revenue["4300"]) == (4.5, None), "token prices match on any dimension"
    assert maker.report("2026-10-05", ["task"], {"cost_center": "4200"}).rows[0].by == {"task": "triage"}


@pytest.mark.parametrize("form", ["table", "csv", "json", "html", "parquet"])
def test_every_format_names_them(maker: ReportMaker, form: str) -> None:
    data = maker.encode("2026-10-05", ["cost_center", "task"], form)
    assert b"cost_center" in data
    assert b"task" in data
    assert b"team" not in data
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(data.decode())))
        assert {(row["cost_center"], row["task"]) for row in rows} >= {("4200", "triage"), ("4300", "triage")}
    if form == "json":
        assert json.loads(data)["by"] == ["cost_center", "task"]


def test_a_focus_file_bills_the_first(maker: ReportMaker) -> None:
    reader = csv.DictReader(io.StringIO(maker.encode("2026-10-05", (), "focus").decode()))
    rows = list(reader)
    assert list(faults(list(reader.fieldnames or ()), list(rows))) == []
    assert {row["SubAccountType"] for row in rows} == {"Cost center"}
    assert {row["SubAccountId"] for row in rows} == {"4200", "4300", "(unallocated)", "(dark)"}
    tags = [json.loads(row["Tags"]) for row in rows if row["SubAccountId"] == "4200"]
    assert all((tag["cost_center"], tag["task"]) == ("4200", "triage") and "team" not in tag for tag in tags)


def test_budgets_match_on_them(maker: ReportMaker) -> None:
    document = budget_document(maker.budgets("2026-10"), "USD")
    assert {budget["name"]: budget["spent"] for budget in document["budgets"]} == {
        "search": Decimal("12.50"),
        "triage": Decimal("15.00"),
    }


def test_the_owner_of_a_pool_is_a_value_of_them(tmp_path: Path, maker: ReportMaker) -> None:
    shared = rules(tmp_path, {**RULES, "sharing": {"dark": "ownership", "unallocated": "ownership"}})
    owned = ReportMaker(
        ledger=maker.ledger, policy=type(maker.policy)(prices=maker.policy.prices, rules=shared), now_ms=maker.now_ms
    )
    costs: dict[str, Decimal] = {}
    for row in owned.report("2026-10-05").rows:
        costs[row.by["cost_center"]] = costs.get(row.by["cost_center"], Decimal(0)) + row.cost
    assert costs["4711"] == Decimal("25.00")
