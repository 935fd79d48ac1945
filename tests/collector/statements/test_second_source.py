"""A second cost source goes through sharing, reports, budgets, FOCUS, metrics and the page like the fleet: none of them
asks which source a line is from. What is bought here is a made-up vendor's tokens and seats."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from collector.fleet import Fleet, Gpu, Held, Server, ms, policy, prices
from tokenyield_collector.attribution.rules import AttributionRules, Budget, SharingPolicy
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.live.refresher import Refresher
from tokenyield_collector.live.summary import encode, summarize
from tokenyield_collector.metrics.exposition import Exposition
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.components import COMPONENT_AT
from tokenyield_collector.prices.money import QUANTA_PER_UNIT
from tokenyield_collector.statements.gaps import DayGap
from tokenyield_collector.statements.lines import COST_AT, Carrier, LineKey, Sums
from tokenyield_collector.statements.references import AppliedReference
from tokenyield_collector.statements.source import Grain, Span
from tokenyield_collector.statements.statement import fleet_statement

DAY_MS = 86_400_000
BOOK = "{pools: [{name: h100, rented: {per_gpu_hour: 4, count: 2}}]}"
HOUR = "2026-10-05T10:00"
RULES = AttributionRules(
    sharing=SharingPolicy(idle="apart", unallocated="usage", dark="usage"),
    budgets=(Budget(name="search", match={"team": "search"}, monthly=Decimal(1000)),),
)


class Bought:
    """Of each day: tokens of a vendor for 30 USD, and seats for 10 of which 4 stood idle."""

    references: Sequence[AppliedReference] = ()
    gaps: Sequence[DayGap] = ()

    def source(self, policy: Policy, grain: Grain) -> "Bought":
        return self

    def first_ms(self) -> int | None:
        return None

    def revision(self, start_ms: int, end_ms: int) -> str:
        return ""

    def lines(self, span: Span) -> Iterator[tuple[LineKey, Sums]]:
        for day_ms in span.days():
            yield self._line(day_ms, "search", "sonnet", productive=30, tokens=2_000_000)
            yield self._line(day_ms, "ads", "seats", productive=6, idle=4)

    def _line(
        self, day_ms: int, team: str, model: str, *, productive: int, idle: int = 0, tokens: int = 0
    ) -> tuple[LineKey, Sums]:
        sums = Sums()
        sums[COST_AT["productive"] + COMPONENT_AT["purchase"]] = productive * QUANTA_PER_UNIT
        sums[COST_AT["idle"] + COMPONENT_AT["purchase"]] = idle * QUANTA_PER_UNIT
        if tokens:
            sums.add("completion", tokens)
            sums.add("completion_reported", 1)
            sums.add("unmetered_tokens", tokens)
        carrier = Carrier("work", (team, None), model, workload=f"{team}-agent", cluster="vendor")
        return LineKey(day_ms + 3_600_000, "vendors", "anthropic", ("vendor", "account-1"), carrier), sums


@pytest.fixture
def fleet() -> Fleet:
    fleet = Fleet()
    shares = [Held(workload="w", active_min=30, idle_min=15, active_j=3_600_000)]
    server = Server(key="w", labels={"team": "search"}, completion=1000)
    fleet.hour(HOUR, [Gpu(held=shares)], [server])
    return fleet


NOW = "2026-10-05T11:30"


def test_lines_of_both_sum_to_both(fleet: Fleet, tmp_path: Path) -> None:
    judged_by = policy(prices(tmp_path, BOOK), RULES)
    span = Span(ms(HOUR), ms(HOUR) + 3_600_000)
    fleet.ledger.roll()
    for grain in (Grain(), Grain(hour=True, node=True, workload=True, cluster=True)):
        alone = fleet_statement(fleet.ledger.usage(), judged_by, span, grain)
        own = sum(sums.total for _, sums in alone.lines())
        both = fleet_statement(fleet.ledger.usage(), judged_by, span, grain, (Bought(),))
        lines = list(both.lines())
        assert sum(sums.total for _, sums in lines) == own + 40 * QUANTA_PER_UNIT == both.whole.total
        shared = {key.source: sums for key, sums in lines if sums.cost("shared")}
        assert set(shared) == {"fleet"}, "what GPUs lost is not carried by who bought tokens"
        idle = {key.source: sums.cost("idle") for key, sums in lines if key.carrier.kind == "idle"}
        assert idle["vendors"] == 4 * QUANTA_PER_UNIT, "idle seats are set apart by the same policy"
        loaded = {key.source: 0 for key, _ in lines}
        for key, sums in lines:
            loaded[key.source] += sums.get("loaded")
        assert loaded == {"fleet": own, "vendors": 40 * QUANTA_PER_UNIT}


def test_reports_budgets_and_focus(fleet: Fleet, tmp_path: Path) -> None:
    maker = fleet.maker(prices(tmp_path, BOOK), RULES, now=NOW, others=(Bought(),))
    report = maker.report("2026-10-05", ["source", "team", "model"])
    rows = {tuple(row.by.values()): row for row in report.rows}
    bought = rows["vendors", "search", "sonnet"]
    assert bought.cost == 30
    assert (bought.figures["completion"], bought.figures["cost_of_purchase"]) == (2_000_000, 30.0)
    assert bought.figures["cost_per_mtok_direct"] == 15
    assert bought.figures["tokens_per_joule_gpu"] is None, "nobody measured its energy"
    assert rows["vendors", "(idle)", "(idle)"].cost == 4
    assert report.total.cost == Decimal(48) == sum(report.waterfall.values())
    tokens, joules = 1000, 3_600_000
    assert report.total.figures["tokens_per_joule_gpu"] == pytest.approx(tokens / joules), (
        "bought tokens do not flatter"
    )
    (search,) = maker.budgets("2026-10")
    assert search.spent == 30 + maker.report("2026-10-05", ["team"], {"team": "search", "source": "fleet"}).total.cost
    out = io.StringIO()
    assert maker.focus("2026-10-05", out) == 48
    focus = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert sum(Decimal(row["EffectiveCost"]) for row in focus) == 48
    sonnet = [row for row in focus if row["SkuId"].startswith("sonnet/")]
    assert [(row["SubAccountId"], row["ConsumedQuantity"]) for row in sonnet] == [("search", "2000000")]
    for form in ("table", "html", "csv", "json", "parquet"):
        assert maker.encode("2026-10-05", [], form)


def test_metrics_and_what_the_page_reads(fleet: Fleet, tmp_path: Path) -> None:
    now_ms = ms(HOUR) + 3_600_000 + 90_000
    settings = CollectorSettings(live_window_s=3660, live_lag_s=60, live_grid_s=30)
    judged_by = policy(prices(tmp_path, BOOK), RULES)
    refresher = Refresher(settings, fleet.ledger, judged_by, (Bought(),))
    refresher.refresh(fleet.ledger.fold(), now_ms, {})
    fleet.ledger.roll()
    refresher.bring_to_date(now_ms)
    view = refresher.refresh([], now_ms, {})
    registry = CollectorRegistry()
    registry.register(Exposition(view, 10_000))
    shown = generate_latest(registry).decode()
    assert 'tokenyield_cost_to_date{bucket="productive",cluster="vendor",currency="USD",pool="anthropic"} 36.0' in shown
    assert 'model="sonnet",pool="anthropic",product="unattributed",team="search"} 2e+06' in shown
    assert 'tokenyield_cost_per_hour{bucket="active",cluster="vendor",currency="USD",pool="anthropic"}' in shown
    assert view.live is not None
    summary = json.loads(encode(summarize(view.live, judged_by)))
    (agent,) = [row for row in summary["workloads"] if row["workload"] == "search-agent"]
    assert (agent["cost"]["direct"], agent["tokens"]["completion"]) == (30, 2_000_000)
    assert agent["tokens_per_joule"]["total"] is None
    assert summary["fleet"]["cost_components"]["purchase"] == 40
    assert summary["fleet"]["tokens_per_joule"]["total"] == pytest.approx(1000 / 3_600_000, rel=0.1)


def test_names_of_users_are_never_markers(tmp_path: Path) -> None:
    """Teams and models that call themselves as what nobody carries is shown keep rows of their own."""
    fleet = Fleet()
    for uuid, team, model in (
        ("a", "(unallocated)", "(dark)"),
        ("b", "unattributed", "(untied)"),
        ("c", '"(dark)"', "m"),
    ):
        fleet.hour(
            HOUR,
            [Gpu(uuid=uuid, held=[Held(workload=f"w{uuid}", active_min=30)])],
            [Server(key=f"w{uuid}", model=model, labels={"team": team}, completion=10)],
            node=f"n{uuid}",
        )
    fleet.hour(HOUR, [Gpu(uuid="d", held=[Held(workload="none", active_min=30)])], [Server(key="none")], node="nd")
    maker = fleet.maker(prices(tmp_path, BOOK.replace(", count: 2", "")))
    report = maker.report("2026-10-05", ["team"])
    costs = {row.by["team"]: row.cost for row in report.rows}
    assert costs == {
        '"(unallocated)"': 2, '"unattributed"': 2, '""(dark)""': 2, "unattributed": 2, "(unallocated)": 8,
    }  # fmt: skip
    by_model = {
        row.by["model"]: row.cost for row in fleet.maker(prices(tmp_path, BOOK)).report("2026-10-05", ["model"]).rows
    }
    assert by_model['"(dark)"'] == by_model['"(untied)"'] == 2
