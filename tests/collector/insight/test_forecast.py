"""Forecasts of a ledger: exact to date, by rows, of vendors that report late; the program."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from collector.fleet import Fleet, Gpu, Held, Server, ms, policy, prices, rules
from tokenyield_collector.cli import main
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.errors import ParameterError
from tokenyield_collector.insight.forecast import forecasts, month_ends
from tokenyield_collector.live.refresher import Refresher
from tokenyield_collector.live.view import MonthForecast
from tokenyield_collector.metrics.exposition import Exposition
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.spend.slices import SpendAmounts, SpendFields, SpendKey, SpendLine, SpendSlice
from tokenyield_collector.statements.bought import BoughtCosts

BOOK = '{pools: [{name: h100, match: {gpu: "*H100*"}, rented: {per_gpu_hour: 4}}]}'
FIRST = date(2026, 9, 1)
NOW = "2026-11-21T06:00"
DAYS = (date(2026, 11, 21) - FIRST).days


def filled(path: Path | str = ":memory:") -> Fleet:
    """From September on an hour of each day: 4 USD for search; half of it, and its tokens, at weekends. Ads since ten
    days ago."""
    fleet = Fleet(path)
    for i in range(DAYS):
        day = FIRST + timedelta(i)
        half = 1 if day.weekday() < 5 else 2
        held = [Held(workload="chat", active_min=60 / half, active_j=3_600_000 // half)]
        servers = [Server(key="chat", labels={"team": "search"}, completion=1_000_000 // half)]
        gpus = [Gpu(held=held, rest="unallocated")]
        if DAYS - i <= 10:
            gpus.append(Gpu(uuid="GPU-1", held=[Held(workload="rank", active_min=60)]))
            servers.append(Server(key="rank", labels={"team": "ads"}, completion=10))
        fleet.hour(f"{day}T10:00", gpus, servers)
    return fleet


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return filled()


def maker_of(fleet: Fleet, folder: Path, now: str = NOW) -> ReportMaker:
    of_team = rules(folder, {"dimensions": ["team"]})
    return fleet.maker(prices(folder, BOOK), of_team, now, others=(BoughtCosts(fleet.ledger),))


def test_to_date_is_exact_and_the_rest_of_the_month_is_added(fleet: Fleet, tmp_path: Path) -> None:
    maker = maker_of(fleet, tmp_path)
    found = forecasts(maker, by=["team"])
    assert (found["month"], found["as_of"], found["unit"]) == ("2026-11", "2026-11-20", "USD")
    assert found["total"]["to_date"] == float(maker.report("2026-11-01..2026-11-20").total.cost) == 20 * 4 + 10 * 4
    for row in (found["total"], *found["rows"]):
        assert row["month_end"] is not None
        assert row["month_end"]["days"] == 10
        assert row["to_date"] <= row["month_end"]["p10"] <= row["month_end"]["p50"] <= row["month_end"]["p90"]
    search = next(row for row in found["rows"] if row["by"]["team"] == "search")
    assert search["month_end"] is not None
    assert search["month_end"]["p50"] - search["to_date"] == pytest.approx(6 * 4 + 4 * 2, rel=0.1), "of 10 days 4 rest"
    ads = next(row for row in found["rows"] if row["by"]["team"] == "ads")
    assert (ads["history_days"], ads["to_date"]) == (10, 40)
    assert [band["days"] for band in search["totals"]] == [91, 182], "a year is too far for 81 days of history"
    assert ads["totals"] == []
    assert found["history"][-1] == 8
    assert len(found["path"]) == 91


def test_tokens_and_energy(fleet: Fleet, tmp_path: Path) -> None:
    maker = maker_of(fleet, tmp_path)
    tokens = forecasts(maker, "tokens", where={"team": "search"})
    assert tokens["unit"] == "tokens"
    assert tokens["total"]["to_date"] == 15 * 1_000_000 + 5 * 500_000
    energy = forecasts(maker, "energy", where={"team": "search"})
    assert energy["unit"] == "kWh"
    assert energy["total"]["to_date"] == pytest.approx(15 * 1 + 5 * 0.5)


def test_the_band_vanishes_with_the_month(fleet: Fleet, tmp_path: Path) -> None:
    widths = []
    for day in range(8, 21, 3):
        band = forecasts(maker_of(fleet, tmp_path, f"2026-11-{day:02}T06:00"), where={"team": "search"})["total"][
            "month_end"
        ]
        assert band is not None
        widths.append(band["p90"] - band["p10"])
    assert widths == sorted(widths, reverse=True)
    first = forecasts(maker_of(fleet, tmp_path, "2026-11-01T06:00"))
    assert (first["month"], first["as_of"], first["total"]["to_date"]) == ("2026-11", "2026-10-31", 0)


def test_metrics_have_the_ends_of_the_month_once_a_day(tmp_path: Path) -> None:
    fleet, book = filled(), prices(tmp_path, BOOK)
    computed = []

    def counted(maker: ReportMaker) -> list[MonthForecast]:
        computed.append(maker.now_ms)
        return month_ends(maker)

    judged_by = policy(book, rules(tmp_path, {"dimensions": ["team"]}))
    refresher = Refresher(CollectorSettings(), fleet.ledger, judged_by, (), (BoughtCosts(fleet.ledger),), counted)
    fleet.ledger.roll()
    for now in ("2026-11-21T06:10", "2026-11-21T07:10"):
        refresher.bring_to_date(ms(now))
        refresher.forecast_month(ms(now))
    view = refresher.refresh([], ms("2026-11-21T07:10"), {})
    assert computed == [ms("2026-11-21T06:10")]
    cost = next(one for one in view.forecasts if one.measure == "cost")
    end = forecasts(maker_of(fleet, tmp_path, "2026-11-21T06:10"))["total"]["month_end"]
    assert end is not None
    assert (cost.unit, cost.p10, cost.p50, cost.p90) == ("USD", end["p10"], end["p50"], end["p90"])
    assert {(one.measure, one.unit) for one in view.forecasts} == {
        ("cost", "USD"),
        ("tokens", "tokens"),
        ("energy", "kWh"),
    }
    registry = CollectorRegistry()
    registry.register(Exposition(view, 10_000))
    shown = generate_latest(registry).decode()
    assert f'tokenyield_forecast_month{{bound="p90",measure="cost",unit="USD"}} {cost.p90}' in shown
    for _ in range(2):
        refresher.bring_to_date(ms("2026-11-22T01:10"))
        refresher.forecast_month(ms("2026-11-22T01:10"))
    assert len(computed) == 2


def test_rows_beyond_the_top_stand_together(fleet: Fleet, tmp_path: Path) -> None:
    found = forecasts(maker_of(fleet, tmp_path), by=["team"], top=1)
    assert [row["by"]["team"] for row in found["rows"]] == ["search", "(other)"]
    assert sum(row["to_date"] for row in found["rows"]) == pytest.approx(found["total"]["to_date"])


def bought(vendor: str, days: Sequence[date]) -> list[SpendSlice]:
    """1 USD on each of these days."""
    line = SpendLine(SpendFields(vendor, model="opus"), SpendAmounts(cost_micro=1_000_000))
    return [
        SpendSlice(SpendKey(vendor, "default", ms(f"{day}T00:00"), "cost_report"), "billed", (line,)) for day in days
    ]


def test_a_vendor_that_reports_late_ends_the_history_earlier(tmp_path: Path) -> None:
    fleet = filled()
    fleet.ledger.replace_spend(bought("anthropic", [FIRST + timedelta(i) for i in range(DAYS - 3)]), 1)
    found = forecasts(maker_of(fleet, tmp_path), by=["vendor"])
    assert found["as_of"] == "2026-11-17"
    assert found["notes"] == [
        "anthropic reports up to 2026-11-17: what is later is forecast",
    ]
    row = next(row for row in found["rows"] if row["by"]["vendor"] == "anthropic")
    assert row["month_end"] is not None
    assert row["to_date"] == 17
    assert row["month_end"]["p50"] == pytest.approx(30, rel=0.05)


def test_a_vendor_that_rests_on_weekends_is_not_late(tmp_path: Path) -> None:
    fleet, days = Fleet(), [FIRST + timedelta(i) for i in range(DAYS)]
    fleet.ledger.replace_spend(bought("anthropic", [day for day in days if day.weekday() < 5]), 1)
    fleet.ledger.replace_spend(bought("openai", days[:-2]), 1)
    monday = "2026-11-16T06:00"
    assert forecasts(maker_of(fleet, tmp_path, monday))["as_of"] == "2026-11-15", "the Sunday before"
    found = forecasts(maker_of(fleet, tmp_path))
    assert found["as_of"] == "2026-11-18", "the day up to which the last of two vendors reports"
    assert found["total"]["to_date"] == 13 + 18


def test_the_month_is_whole_though_little_history_is_wanted(fleet: Fleet, tmp_path: Path) -> None:
    """A minute after the end of a month, of which the last hour has not settled."""
    maker = replace(maker_of(fleet, tmp_path, "2026-11-01T00:01"), settle_ms=600_000)
    found = forecasts(maker, history_days=1)
    assert (found["month"], found["as_of"]) == ("2026-10", "2026-10-30")
    assert found["total"]["to_date"] == 30 * 4
    assert found["total"]["month_end"] is not None
    assert found["total"]["month_end"]["days"] == 1


def test_too_little_history_says_so(tmp_path: Path) -> None:
    fleet = Fleet()
    for i in range(3):
        fleet.hour(f"2026-11-{18 + i}T10:00", [Gpu(held=[Held(workload="w", active_min=60)])], [Server(key="w")])
    total = forecasts(maker_of(fleet, tmp_path))["total"]
    assert (total["to_date"], total["month_end"], total["method"]) == (12, None, None)
    assert total["why"] == "too little history: at least 7 days with something are needed"
    empty = forecasts(maker_of(Fleet(), tmp_path))
    assert (empty["total"]["to_date"], empty["rows"]) == (0, [])
    assert (empty["month"], empty["as_of"]) == ("2026-11", "2026-11-20")


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"measure": "yield"}, "measure"),
        ({"by": ["day"]}, "by"),
        ({"by": ["teem"]}, "by"),
        ({"where": {"teem": "x"}}, "teem"),
        ({"top": 0}, "top"),
        ({"history_days": 100_000}, "history_days"),
    ],
)
def test_what_cannot_be_forecast_is_refused(fleet: Fleet, tmp_path: Path, changed: dict[str, Any], field: str) -> None:
    with pytest.raises(ParameterError) as refused:
        forecasts(maker_of(fleet, tmp_path), **changed)
    assert refused.value.field == field


def test_the_command_shows_a_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(tmp_path / "l.duckdb").ledger.close()
    (tmp_path / "p.yaml").write_text(BOOK)
    call = ["forecast", "--ledger", f"{tmp_path}/l.duckdb", "--prices", f"{tmp_path}/p.yaml"]
    assert main([*call, "--measure", "tokens", "--history-days", "399"]) == 0
    shown = capsys.readouterr().out
    assert "tokens, Mtok" in shown
    assert main([*call, "--by", "model", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["measure"], document["by"]) == ("cost", ["model"])
    assert main([*call, "--top", "0"]) == 2
    assert "--top: expected a whole number from 1 to 200" in capsys.readouterr().err
