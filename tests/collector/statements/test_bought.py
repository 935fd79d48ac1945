"""Spend beside the fleet in one report: who is paid, who used it, and what nobody observed; closed months keep it."""

import csv
import io
import json
from decimal import Decimal
from pathlib import Path

import pytest

from collector.fleet import Fleet, Gpu, Held, Server, close_months, ms, prices, rules
from tokenyield_collector.attribution.rules import AttributionRules, Budget
from tokenyield_collector.cli import main
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.reports.version_check import verify_versions
from tokenyield_collector.spend.slices import Layer, SpendAmounts, SpendFields, SpendKey, SpendLine, SpendSlice
from tokenyield_collector.statements.bought import BoughtCosts

BOOK = "{pools: [{name: h100, rented: {per_gpu_hour: 4, count: 2}}]}"
HOUR = "2026-10-05T10:00"
SAMPLES = Path(__file__).parents[2] / "fixtures" / "spend"


def bought(
    layer: Layer, day: str, *lines: SpendLine, source: str = "anthropic", grain: str = "cost_report"
) -> SpendSlice:
    return SpendSlice(SpendKey(source, "default", ms(day), grain), layer, lines)


def line(micro: int | None, model: str = "sonnet", **fields: str) -> SpendLine:
    return SpendLine(SpendFields("anthropic", model=model, **fields), SpendAmounts(cost_micro=micro))


def used(fresh: int, output: int, micro: int | None = None, **fields: str) -> SpendLine:
    named = {"vendor": "anthropic", "model": "sonnet", **fields}
    return SpendLine(SpendFields(**named), SpendAmounts(fresh=fresh, output=output, requests=1, cost_micro=micro))


@pytest.fixture
def fleet() -> Fleet:
    fleet = Fleet()
    fleet.hour(
        HOUR,
        [Gpu(held=[Held(workload="w", active_min=60, active_j=3_600_000)])],
        [Server(key="w", labels={"team": "search"}, completion=1000)],
    )
    return fleet


def maker(
    fleet: Fleet, book: PriceBook, judged_by: AttributionRules | None = None, now: str = "2026-10-06T00:30"
) -> ReportMaker:
    return fleet.maker(book, judged_by, now=now, others=(BoughtCosts(fleet.ledger),))


def test_fleet_and_vendors_stand_beside_each_other(fleet: Fleet, tmp_path: Path) -> None:
    fleet.ledger.replace_spend(
        [
            bought("billed", "2026-10-05T00:00", line(30_000_000)),
            bought("reported", "2026-10-05T00:00", used(900_000, 100_000, project="prod"), grain="messages"),
            bought("observed", "2026-10-05T00:00", used(500_000, 50_000, 9_000_000, team="search"),
                   used(200_000, 0, 1_000_000, team="ads"), used(7, 7, 7, vendor="own-fleet", team="search"),
                   source="litellm", grain="spend_log"),
        ],
        1,
    )  # fmt: skip
    judged_by = AttributionRules(budgets=(Budget(name="ads", match={"team": "ads"}, monthly=Decimal(100)),))
    made = maker(fleet, prices(tmp_path, BOOK), judged_by)
    report = made.report("2026-10-05", ["source", "team", "vendor", "workload"])
    rows = {tuple(row.by.values()): row for row in report.rows}
    by_cost = {key: row.cost for key, row in rows.items() if key[0] == "vendors"}
    assert by_cost == {
        ("vendors", "search", "anthropic", "prod"): Decimal("20.25"),
        ("vendors", "ads", "anthropic", "prod"): Decimal("2.25"),
        ("vendors", "unattributed", "anthropic", "(billed, not observed)"): Decimal("7.5"),
    }
    assert rows["fleet", "search", "(own fleet)", "w"].cost == 4
    assert report.total.cost == sum(row.cost for row in report.rows)
    assert report.total.figures["cost_of_purchase"] == 30
    search = rows["vendors", "search", "anthropic", "prod"].figures
    assert (search["prompt_computed"], search["completion"]) == (500_000, 50_000)
    assert search["tokens_per_joule_gpu"] is None
    assert report.total.figures["tokens_per_joule_gpu"] == pytest.approx(1000 / 3_600_000), "bought tokens flatter none"
    only = made.report("2026-10-05", ["model"], {"source": "vendors"})
    assert only.total.cost == 30
    assert only.total.figures["tokens"] == 1_000_000
    (ads,) = made.budgets("2026-10")
    assert ads.spent == Decimal("2.25")
    out = io.StringIO()
    assert made.focus("2026-10-05", out) == report.total.cost
    focus = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert sum(Decimal(row["EffectiveCost"]) for row in focus) == report.total.cost
    for form in ("table", "html", "csv", "json", "parquet"):
        assert made.encode("2026-10-05", ["vendor", "model"], form)


def test_what_has_no_bill_is_at_list_price_and_what_has_no_price_is_named(fleet: Fleet, tmp_path: Path) -> None:
    fleet.ledger.replace_spend(
        [
            bought("reported", "2026-10-05T00:00", used(10**6, 10**6, model="claude-sonnet-5"),
                   used(5, 7, model="nobody-knows"), grain="messages"),
            bought("billed", "2026-10-05T00:00", SpendLine(SpendFields("mistral", service="seats", currency="EUR"),
                   SpendAmounts(cost_micro=5_000_000)), source="csv", grain="billed"),
        ],
        1,
    )  # fmt: skip
    book = prices(tmp_path, BOOK)
    report = maker(fleet, book).report("2026-10-05", ["vendor"], {"source": "vendors"})
    rows = {row.by["vendor"]: row for row in report.rows}
    assert rows["anthropic"].cost == 12
    assert rows["anthropic"].figures["price_missing_tokens"] == 12
    assert "mistral" not in rows, "what is not known is no row of 0"
    text = "\n".join(gap.text for gap in report.gaps)
    assert (
        "bought tokens at list or agreed price: anthropic claude-sonnet-5, list price (litellm 1.110.2, 2026-11-28)"
        in text
    )
    assert "bought tokens without a price: anthropic nobody-knows, 12 tokens" in text
    assert "currency without an exchange rate: EUR" in text
    exchanged = prices(tmp_path, BOOK[:-1] + ", exchange_rates: {EUR: 1.1}}")
    again = maker(fleet, exchanged).report("2026-10-05", ["vendor"], {"vendor": "mistral"})
    assert again.total.cost == Decimal("5.5")


def test_an_agreed_price_goes_before_the_list_from_its_day_on(fleet: Fleet, tmp_path: Path) -> None:
    def used_on(day: int, *lines: SpendLine) -> SpendSlice:
        return bought("reported", f"2026-10-{day:02}T00:00", *lines, grain="messages")

    fleet.ledger.replace_spend(
        [
            used_on(4, used(10**6, 10**6, model="claude-sonnet-5")),
            used_on(5, used(10**6, 10**6, model="Claude-Sonnet-5"), used(10**6, 10**6, model="house-model")),
        ],
        1,
    )
    agreed = """bought_prices: [
        {vendor: anthropic, model: "claude-sonnet-*", source: "contract 7", currency: EUR, per_million: [
            {from: 2026-10-05, prompt: 1, completion: 4}]},
        {vendor: anthropic, model: "house-*", per_million: {completion: 0.5}}]"""
    book = prices(tmp_path, BOOK[:-1] + ", exchange_rates: {EUR: 2}, " + agreed + "}")
    made = maker(fleet, book)

    def cost(day: int, model: str) -> Decimal:
        report = made.report(f"2026-10-{day:02}", ["model"], {"source": "vendors"})
        return {row.by["model"]: row.cost for row in report.rows}[model]

    assert cost(4, "claude-sonnet-5") == 12, "the list's, before the agreed price begins"
    assert cost(5, "Claude-Sonnet-5") == (1 + 4) * 2
    report = made.report("2026-10-05", ["model"], {"source": "vendors"})
    text = "\n".join(gap.text for gap in report.gaps)
    assert "anthropic Claude-Sonnet-5, agreed price (contract 7)" in text
    assert "bought tokens without a price: anthropic house-model, 2.00 Mtok" in text


def test_spend_before_the_fleet_began_costs_no_dark_capacity(fleet: Fleet, tmp_path: Path) -> None:
    fleet.ledger.replace_spend([bought("billed", "2026-10-02T00:00", line(1_000_000))], 1)
    book = prices(tmp_path, BOOK)
    with_spend = maker(fleet, book).report("2026-10", ["source"])
    alone = fleet.maker(book, now="2026-10-06T00:30").report("2026-10", ["source"])
    costs = {row.by["source"]: row.cost for row in with_spend.rows}
    assert costs == {"fleet": alone.total.cost, "vendors": 1}
    assert with_spend.start.startswith("2026-10-02")


def test_a_ledger_of_spend_alone_has_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = ["--ledger", str(tmp_path / "ledger.duckdb")]
    for source, file in (
        ("openai", "openai_costs.json"), ("openai", "openai_usage_completions.json"),
        ("openrouter", "openrouter_activity.json"), ("claude-code", "claude_code_session.jsonl"),
    ):  # fmt: skip
        assert main(["import", source, str(SAMPLES / file), *ledger]) == 0
    capsys.readouterr()
    out = tmp_path / "report.json"
    assert main(["report", "--period", "2026-11-24", "--by", "source,vendor,model", "--format", "json", "--output",
                 str(out), *ledger]) == 0  # fmt: skip
    rows = {(row["vendor"], row["model"]): row for row in json.loads(out.read_text())["rows"]}
    assert {key: round(row["cost"], 6) for key, row in rows.items()} == {
        ("openai", "gpt-5.6-terra"): 0.06,
        ("openai", ""): 0.12,
        ("openrouter", "gpt-5.6-terra"): 0.415,
        ("anthropic", "claude-sonnet-5"): round((12 * 2 + 18_400 * 0.2 + 5_120 * 2.5 + 385 * 10) / 1e6, 6),
    }
    assert rows["openai", "gpt-5.6-terra"]["tokens"] == 150_957


def test_a_closed_month_keeps_its_spend_and_a_bill_that_comes_late_is_a_version(fleet: Fleet, tmp_path: Path) -> None:
    fleet.ledger.replace_spend([bought("billed", "2026-10-01T00:00", line(1_000_000))], 1)
    made = maker(fleet, prices(tmp_path, BOOK), now="2026-11-20")
    before = close_months(made).report("2026-10", ["source"])
    assert (before.state, before.version) == ("closed", 1)
    costs = {row.by["source"]: row.cost for row in before.rows}
    assert costs["vendors"] == 1
    assert list(verify_versions(fleet.ledger, others=made.others)) == []
    close_months(made)
    assert made.report("2026-10").version == 1, "nothing changed"
    fleet.ledger.replace_spend([bought("billed", "2026-10-01T00:00", line(3_000_000))], 2)
    after = close_months(made).report("2026-10", ["source"])
    assert after.version == 2
    assert {row.by["source"]: row.cost for row in after.rows} == {**costs, "vendors": 3}
    assert any("facts: late data of 2026-10-01" in note for note in after.notes)
    assert made.report("2026-10", ["vendor"], version=1).total.cost == before.total.cost
    assert list(verify_versions(fleet.ledger, others=made.others)) == []


def test_engines_and_restarts_agree(tmp_path: Path) -> None:
    """What a copy of the ledger reports is what the ledger did."""
    first = DuckDbLedger(tmp_path / "a.duckdb")
    first.replace_spend([bought("billed", "2026-10-01T00:00", line(1_000_001))], 1)
    first.copy_to(tmp_path / "b.duckdb")
    copy = DuckDbLedger(tmp_path / "b.duckdb")
    assert copy.spend(0, 2**62) == first.spend(0, 2**62)
    assert copy.spend_revision(0, 2**62) == first.spend_revision(0, 2**62)
    first.close()
    copy.close()


def test_a_person_is_a_dimension_of_the_rules(fleet: Fleet, tmp_path: Path) -> None:
    judged_by = rules(tmp_path, PERSONS)
    fleet.ledger.replace_spend(
        [bought("observed", "2026-10-05T00:00", used(1, 2, 5_000_000, person="ada", team="ads"),
                used(1, 2, 3_000_000, person="bob", project="wrkspc_01AA"))], 1,
    )  # fmt: skip
    made = fleet.maker(prices(tmp_path, BOOK), judged_by, now="2026-10-06T00:30", others=(BoughtCosts(fleet.ledger),))
    rows = made.report("2026-10-05", ["person", "team"], {"source": "vendors"}).rows
    assert {tuple(row.by.values()): row.cost for row in rows} == {("ada", "ads"): 5, ("unattributed", "search"): 3}


PERSONS = """
dimensions: [team, product, person]
rules:
  - match: {labels: {vendor: anthropic}, gateway: {project: wrkspc_01AA}}
    set: {team: search}
  - match: {gateway: {user: "?*"}}
    set: {person: "{gateway.user}", team: "{gateway.team}"}
"""


def test_the_rules_of_the_page_are_those_that_are_tested() -> None:
    page = (Path(__file__).parents[3] / "docs" / "spend.md").read_text()
    assert f"```yaml{PERSONS}```" in page
