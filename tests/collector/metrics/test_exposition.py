"""The whole exposition against a golden file; regenerate with TOKENYIELD_WRITE_GOLDEN=1, read the difference in review."""

import os
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from collector.samples import HOUR_MS, NOON_MS, batch, shipment
from tokenyield_collector.attribution.budgets import DaySpent, budget_states
from tokenyield_collector.attribution.rules import AttributionRules, Budget
from tokenyield_collector.ingest.stats import IngestStats
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.live.bought_to_date import BoughtToDate
from tokenyield_collector.live.counters import Counters
from tokenyield_collector.live.counting import Counting
from tokenyield_collector.live.live_view import live_view
from tokenyield_collector.live.summary import encode, summarize
from tokenyield_collector.live.to_date import GRAIN, FiguresToDate, ToDate, month_to_date
from tokenyield_collector.live.view import MonthForecast, View
from tokenyield_collector.live.window_usage import Stretch
from tokenyield_collector.metrics.exposition import Exposition, OwnExposition
from tokenyield_collector.metrics.families import every_family
from tokenyield_collector.metrics.vendors import VENDORS_MAX, vendors_of
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.book import Facility, Owned, Pool, PoolMatch, PriceBook
from tokenyield_collector.prices.money import QUANTA_PER_UNIT
from tokenyield_collector.pull.state import PullState
from tokenyield_collector.spend.slices import Layer, SpendAmounts, SpendFields, SpendKey, SpendLine, SpendSlice
from tokenyield_collector.statements.bought import BoughtCosts
from tokenyield_collector.statements.source import Span
from tokenyield_collector.statements.statement import fleet_statement
from tokenyield_collector.watch.state import WatchState

GOLDEN = Path(__file__).parents[2] / "golden"
PRICES = PriceBook(
    facilities={"main": (Facility(pue=Decimal("1.3"), per_kwh=Decimal("0.08")),)},
    pools=(
        Pool(
            name="h100",
            match=PoolMatch(gpu="*H100*"),
            terms=(Owned(gpu=Decimal(35_040), life_years=Decimal(4), count=3),),
        ),
    ),
    fingerprint="golden",
)


def bought(vendor: str, micro: int | None, output: int, layer: Layer = "billed") -> SpendSlice:
    day_ms = NOON_MS - NOON_MS % 86_400_000
    fields, used = SpendFields(vendor, model="made-up"), SpendAmounts(fresh=100, output=output, cost_micro=micro)
    return SpendSlice(SpendKey(vendor, "default", day_ms, layer), layer, (SpendLine(fields, used),))


def exposition(series_max: int = 10_000) -> tuple[str, bytes]:
    ledger = DuckDbLedger(":memory:")
    sent = [batch(n + 1, NOON_MS + n * 15_000) for n in range(4)]
    ledger.append([shipment(*sent)], NOON_MS)
    counters = Counters({})
    counters.update(Counting(PRICES).of_hours(ledger.fold(), ledger.facts_of_hours()))
    ledger.roll()
    rules = AttributionRules(budgets=(Budget(name="all", monthly=Decimal(100), tokens=4000),))
    judged_by = Policy(prices=PRICES, rules=rules)
    statement = fleet_statement(ledger.usage(), judged_by, Span(NOON_MS, NOON_MS + HOUR_MS), GRAIN)
    identity = FiguresToDate(currency="USD")
    to_date = ToDate(lambda start_ms, end_ms: month_to_date(statement), {}, identity=identity)
    to_date.bring_up_to(NOON_MS, NOON_MS + HOUR_MS)
    spent = [DaySpent(date(2026, 11, 23), {}, 10 * QUANTA_PER_UNIT, 2500)]
    budgets = budget_states(rules.budgets, spent, date(2026, 11, 1), date(2026, 11, 24), "USD")
    facts = ledger.facts_between(NOON_MS, NOON_MS + HOUR_MS)
    live = live_view([Stretch(facts, NOON_MS, 60_000)], facts, judged_by)
    ledger.replace_spend(
        [
            bought("anthropic", 2_500_000, 900),
            bought("anthropic", None, 400, "observed"),
            bought("openai", None, 70),
        ],
        NOON_MS,
    )
    view = View(
        bought=BoughtToDate([BoughtCosts(ledger)]).of(judged_by, NOON_MS),
        counters=counters.values(),
        names=counters.names(),
        live=live,
        to_date=to_date.shown or FiguresToDate(),
        budgets=budgets,
        forecasts=[MonthForecast("cost", "USD", 90.5, 100.25, 120.0)],
        nodes={("c", "reporting"): 1, ("c", "late"): 0, ("c", "silent"): 0},
        node_lag_ms={"c": 1500},
        as_of_ms=NOON_MS + 60_000,
        to_date_ms=NOON_MS + HOUR_MS,
    )
    registry = CollectorRegistry()
    registry.register(Exposition(view, series_max))
    pulls = [
        PullState(name="anthropic-main", source="anthropic", success_at_ms=NOON_MS, missing={"costs": 0}, rows=7),
        PullState(name="openai-main", source="openai", missing={"costs": 2}, problems={"costs": "HTTP 503"}),
        PullState(name="not yet", source="cursor"),
    ]
    watched = [
        WatchState(folder="aws", imported=3, waiting=1, rows=7, refused=2),
        WatchState(folder="csv@card", failed={"bad.csv": "why"}),
        WatchState(folder="nonsense", problem="why"),
    ]
    registry.register(OwnExposition(IngestStats(batches=4, commits=1), lambda: pulls, lambda: watched))
    return generate_latest(registry).decode(), encode(summarize(live, judged_by, view))


def compare(name: str, found: str) -> None:
    if os.environ.get("TOKENYIELD_WRITE_GOLDEN"):
        (GOLDEN / name).write_text(found)
    assert (GOLDEN / name).read_text() == found


def test_the_exposition_is_the_golden_one() -> None:
    compare("collector.prom", exposition()[0])


def test_the_summary_is_the_golden_one() -> None:
    import json

    compare("summary.json", json.dumps(json.loads(exposition()[1]), indent=2) + "\n")


def test_names_beyond_the_bound_share_a_label() -> None:
    found = exposition(series_max=0)[0]
    assert "chat" not in found
    assert "h100" not in found
    tokens = '{cluster="(other)",kind="completion",method="rate",model="(other)",workload="(other)"} 400.0'
    assert f"tokenyield_tokens_total{tokens}" in found
    assert 'tokenyield_collector_metric_names{fate="folded",of="workload"} 2.0' in found
    assert 'tokenyield_collector_metric_names{fate="folded",of="caller"} 2.0' in found


def test_groups_beyond_the_bound_share_a_label_and_no_cent_is_lost() -> None:
    def total(found: str) -> float:
        lines = [line for line in found.splitlines() if line.startswith("tokenyield_attributed_cost_to_date{")]
        assert lines
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    folded = exposition(series_max=100)[0]  # one group
    assert 'product="(other)"' in folded
    assert 'model="(other)"' in folded
    assert total(folded) == pytest.approx(total(exposition()[0]))
    assert 'tokenyield_collector_metric_names{fate="folded",of="group"} 2.0' in folded


def test_vendors_beyond_the_bound_share_a_label() -> None:
    ledger = DuckDbLedger(":memory:")
    ledger.replace_spend([bought(f"vendor{i}", (VENDORS_MAX + 2 - i) * 10**6, 5) for i in range(VENDORS_MAX + 2)], 1)
    month = BoughtToDate([BoughtCosts(ledger)]).of(Policy(prices=PRICES, rules=AttributionRules()), NOON_MS)
    cost, tokens, _ = vendors_of(month, "USD")
    by_vendor = {sample.labels["vendor"]: sample.value for sample in cost.samples if sample.value}
    assert len(by_vendor) == VENDORS_MAX + 1
    assert (by_vendor["vendor0"], by_vendor["(other)"]) == (VENDORS_MAX + 2, 1 + 2)
    assert sum(sample.value for sample in tokens.samples) == (VENDORS_MAX + 2) * 105


def test_every_family_is_in_the_table_and_shown() -> None:
    shown = {line.split()[2] for line in exposition()[0].splitlines() if line.startswith("# TYPE tokenyield_")}
    assert shown == {family.name for family in every_family()}
