"""What is to date is what reports say: month by month, through corrections, new prices, retention and restarts."""

from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import pytest

from collector.fleet import Fleet, Gpu, Held, Server, close_months, ms, policy, prices
from tokenyield_collector.attribution.rules import AttributionRules, Budget, SharingPolicy
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.live.refresher import CORRECTIONS_EVERY_MS, Refresher
from tokenyield_collector.live.to_date import BASES_END
from tokenyield_collector.live.view import View
from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.statements.buckets import BUCKETS, COSTS

HOUR_MS = 3_600_000
RULES = AttributionRules(sharing=SharingPolicy(unallocated="usage", dark="even"))
PRICES = """
pools: [{name: h100, rented: {per_gpu_hour: 4, count: 3}}]
facilities: {}
"""
TEAMS = (("search", "llama", 90_000), ("ads", "qwen", 4_000))


def fill(fleet: Fleet, hours: list[str]) -> None:
    for number, hour in enumerate(hours):
        gpus = [
            Gpu(
                uuid=f"GPU-{i}",
                held=[Held(workload=team, active_min=30 + number, idle_min=10, active_j=10**6, idle_j=10**5)],
            )
            for i, (team, _, _) in enumerate(TEAMS)
        ]
        servers = [
            Server(key=team, model=model, labels={"team": team}, completion=tokens + 999 * number, requests=7)
            for team, model, tokens in TEAMS
        ]
        fleet.hour(hour, gpus, servers)


def refreshed(refresher: Refresher, fleet: Fleet, now_ms: int) -> View:
    changed = fleet.ledger.fold()
    refresher.refresh(changed, now_ms, {})
    fleet.ledger.roll()
    if refresher.is_due(now_ms):
        refresher.bring_to_date(now_ms)
    return refresher.refresh([], now_ms, {})


def of(view: View, metric: str) -> dict[tuple[str, ...], int]:
    return {series.labels: value for series, value in view.to_date.values.items() if series.metric == metric}


def agrees(view: View, fleet: Fleet, book: PriceBook, months: list[str], now: str) -> None:
    """Every bucket of every team, and the waterfall, is the sum of the months' reports, to nano-units of a series."""
    wanted: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    waterfall: dict[str, Decimal] = defaultdict(Decimal)
    for month in months:
        report = fleet.maker(book, RULES, now=now).report(month, ["team", "model"])
        for row in report.rows:
            for bucket in COSTS:
                wanted[row.by["team"], bucket] += row.parts[bucket]
        for bucket in BUCKETS:
            waterfall[bucket] += report.waterfall[bucket]
    found: dict[tuple[str, str], int] = defaultdict(int)
    for (_, _, _, team, _, bucket), nano in of(view, "attributed_cost").items():
        found[team, bucket] += nano
    for team_bucket, cost in wanted.items():
        assert found[team_bucket] / 1e9 == pytest.approx(float(cost), abs=2e-8 * len(months)), team_bucket
    assert sum(found.values()) / 1e9 == pytest.approx(float(sum(wanted.values())), abs=2e-8 * len(months))
    for bucket, cost in waterfall.items():
        nano = sum(value for labels, value in of(view, "cost").items() if labels[-1] == bucket)
        assert nano / 1e9 == pytest.approx(float(cost), abs=2e-8 * len(months)), bucket


HOURS = ["2026-10-31T22:00", "2026-10-31T23:00", "2026-11-01T00:00", "2026-11-01T01:00"]


def test_what_is_to_date_is_the_sum_of_the_months_reports(tmp_path: Path) -> None:
    fleet, book = Fleet(), prices(tmp_path, PRICES)
    fill(fleet, HOURS)
    refresher = Refresher(CollectorSettings(), fleet.ledger, policy(book, RULES))
    view = refreshed(refresher, fleet, ms("2026-11-01T02:10"))
    agrees(view, fleet, book, ["2026-10", "2026-11"], "2026-11-01T02:10")
    assert view.to_date_ms == ms("2026-11-01T02:00")
    assert {labels[1] for labels in of(view, "workload_cost")} == {"search", "ads"}
    tokens = {labels[3]: value for labels, value in of(view, "attributed_tokens").items() if labels[-1] == "completion"}
    assert tokens == {"search": 4 * 90_000 + 6 * 999, "ads": 4 * 4_000 + 6 * 999}
    # A month and a day later nothing has come: what is paid for is dark, and the counters' ledger is as it was.
    later = refreshed(refresher, fleet, ms("2026-11-01T05:10"))
    assert sum(of(later, "cost").values()) - sum(of(view, "cost").values()) == 3 * 3 * 4 * 10**9
    agrees(later, fleet, book, ["2026-10", "2026-11"], "2026-11-01T05:10")


def test_late_data_corrects_what_is_to_date(tmp_path: Path) -> None:
    fleet, book = Fleet(), prices(tmp_path, PRICES)
    fill(fleet, HOURS[:1])
    refresher = Refresher(CollectorSettings(), fleet.ledger, policy(book, RULES))
    now_ms = ms("2026-11-01T02:10")
    before = refreshed(refresher, fleet, now_ms)
    fill(fleet, HOURS[1:])
    soon = refreshed(refresher, fleet, now_ms + 1000)
    assert soon.to_date.values == before.to_date.values, "corrections wait for others"
    after = refreshed(refresher, fleet, now_ms + CORRECTIONS_EVERY_MS)
    agrees(after, fleet, book, ["2026-10", "2026-11"], "2026-11-01T02:12")
    assert sum(of(after, "cost").values()) == sum(of(before, "cost").values()), "what was dark was only late"


def test_an_open_hour_is_no_correction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A month is computed when an hour closes and not whenever one gets a window."""
    fleet = Fleet()
    fill(fleet, HOURS[:2])
    refresher = Refresher(CollectorSettings(), fleet.ledger, policy(prices(tmp_path, PRICES), RULES))
    refreshed(refresher, fleet, ms("2026-11-01T00:10"))
    monkeypatch.setattr(refresher._to_date, "_compute", lambda start_ms, end_ms: pytest.fail("computed again"))
    fill(fleet, HOURS[2:3])
    refreshed(refresher, fleet, ms("2026-11-01T00:50"))


def test_new_prices_reprice_history(tmp_path: Path) -> None:
    fleet, book = Fleet(), prices(tmp_path, PRICES)
    fill(fleet, HOURS)
    refresher = Refresher(CollectorSettings(), fleet.ledger, policy(book, RULES))
    now_ms = ms("2026-11-01T02:10")
    dear = sum(of(refreshed(refresher, fleet, now_ms), "cost").values())
    refresher.set_policy(policy(prices(tmp_path, PRICES.replace("per_gpu_hour: 4", "per_gpu_hour: 1")), RULES))
    assert sum(of(refreshed(refresher, fleet, now_ms), "cost").values()) * 4 == dear


def test_retention_takes_nothing_away(tmp_path: Path) -> None:
    # A learned pace forgets what retention takes, so hours must outlive `learn_days`; here none is learned.
    fleet, book = Fleet(), prices(tmp_path, PRICES + "reference_rates: {learn: false}\n")
    fill(fleet, HOURS)
    settings = CollectorSettings(hours_keep_days=7)
    refresher = Refresher(settings, fleet.ledger, policy(book, RULES))
    now_ms = ms("2026-11-08T01:10")  # an hour of November is a week old
    before = refreshed(refresher, fleet, now_ms)
    refresher.retire(now_ms)
    assert fleet.ledger.counter_bases() == {}, "October is over, and its hours wait until it is closed"
    close_months(fleet.maker(book, RULES, now="2026-11-08"))
    refresher.retire(now_ms)
    fleet.ledger.roll()
    after = refreshed(refresher, fleet, now_ms)
    assert fleet.ledger.counter_bases()[BASES_END.key()] == ms("2026-11-01T01:00")
    for metric in ("cost", "attributed_cost", "workload_cost"):
        total, kept = (sum(of(view, metric).values()) for view in (before, after))
        assert kept == total, "to the nano-unit"
    assert of(after, "attributed_tokens") == of(before, "attributed_tokens")
    again = Refresher(settings, fleet.ledger, policy(book, RULES))
    restarted = refreshed(again, fleet, now_ms)
    assert restarted.to_date.values == after.to_date.values
    assert restarted.counters == after.counters


def test_budgets_are_those_of_the_month(tmp_path: Path) -> None:
    fleet, book = Fleet(), prices(tmp_path, PRICES)
    fill(fleet, HOURS)
    rules = AttributionRules(budgets=(Budget(name="search", match={"team": "search"}, monthly=Decimal(5)),))
    view = refreshed(Refresher(CollectorSettings(), fleet.ledger, policy(book, rules)), fleet, ms("2026-11-01T02:10"))
    (state,) = view.budgets
    (told,) = fleet.maker(book, rules, now="2026-11-01T02:10").budgets("2026-11")
    assert (state.spent, state.forecast) == (told.spent, told.forecast)
    assert state.spent > 0


def test_nodes_by_how_long_ago_they_were_seen() -> None:
    fleet = Fleet()
    now_ms = ms("2026-11-01T02:10")
    seen = {("c", "a"): now_ms - 1000, ("c", "b"): now_ms - 300_000, ("c", "d"): now_ms - HOUR_MS, ("e", "x"): 0}
    view = Refresher(CollectorSettings(), fleet.ledger, policy(PriceBook())).refresh([], now_ms, seen)
    assert view.nodes == {
        ("c", "reporting"): 1, ("c", "late"): 1, ("c", "silent"): 1,
        ("e", "reporting"): 0, ("e", "late"): 0, ("e", "silent"): 1,
    }  # fmt: skip
    assert view.node_lag_ms == {"c": 300_000}
