"""Coverage: how much of cost, tokens and revenue a dimension has a value for, and rules that cover the rest."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from collector.fleet import HOUR_MS, Fleet, Gpu, Held, Server, ms, prices, rules
from tokenyield_collector.demo.month import make_month
from tokenyield_collector.examples import example_text
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.policy import Policy
from tokenyield_collector.reports.coverage import NO_OWNER, NO_WORKLOAD
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_wire.window import Demand

BOOK = """
pools: [{name: p, rented: {per_gpu_hour: 2}}]
token_prices: [{name: all, per_million: {prompt: 1, completion: 1}}]
"""


def fleet() -> Fleet:
    """A server with a team, one without labels, one that two callers of a gateway share, a process, and an idle GPU."""
    made = Fleet()
    for hour in range(4):
        workloads = ("named", "bare", "shared")
        gpus = [Gpu(uuid=f"GPU-{name}", held=[Held(workload=name, active_min=60)]) for name in workloads]
        servers = [
            Server(key="named", labels={"team": "search", "product": "p"}, model="m1", completion=100),
            Server(key="bare", model="m2", completion=100),
            Server(key="shared", model="m3", labels={"app": "chat", "namespace": "ns"}, completion=100),
        ]
        demand = [
            Demand(gateway="g", model="m3", caller={"team": "ads"}, completion=60, requests=1),
            Demand(gateway="g", model="m3", caller={"key": "k*[1]{x}"}, completion=40, requests=1),
        ]
        made.hour(ms("2026-10-05") + hour * HOUR_MS, [*gpus, Gpu(uuid="GPU-free")], servers, demand)
    return made


def covered(document: Any) -> dict[str, tuple[Any, ...]]:
    return {
        one["dimension"]: tuple(one["cost"][name] for name in ("attributed", "unattributed", "nobody"))
        for one in document["dimensions"]
    }


def test_what_each_dimension_covers(tmp_path: Path) -> None:
    """32 in all: 8 a GPU. team: named's 8 and 60 % of shared's; product: named's 8."""
    document = fleet().maker(prices(tmp_path, BOOK)).coverage("2026-10-05", 10)
    assert covered(document) == {"team": (Decimal("12.8"), Decimal("11.2"), 8), "product": (8, 16, 8)}
    team, product = document["dimensions"]
    assert [team["cost"]["percent"], product["cost"]["percent"]] == [40.0, 25.0]
    assert team["tokens"] == {
        "attributed": 640,
        "unattributed": 560,
        "nobody": 0,
        "percent": pytest.approx(100 * 640 / 1200),
    }
    assert team["revenue"] is not None
    assert team["revenue"]["percent"] == pytest.approx(100 * 640 / 1200)
    assert [(one["who"], one["missing"], one["cost"]) for one in document["unattributed"]] == [
        ("bare", ["team", "product"], 8),
        ("shared for team ads", ["product"], Decimal("4.8")),
        ("shared for key k*[1]{x}", ["team", "product"], Decimal("3.2")),
    ]


def test_it_is_the_report_s_whole(tmp_path: Path) -> None:
    made = fleet().maker(prices(tmp_path, BOOK))
    for one in covered(made.coverage("2026-10-05", 1)).values():
        assert sum(one) == made.report("2026-10-05").total.cost
    report = {row.by["team"]: row.cost for row in made.report("2026-10-05", ["team"]).rows}
    assert covered(made.coverage("2026-10-05", 1))["team"][1] == report["unattributed"]


def pasted(document: Any, before: list[Any], dimensions: list[str]) -> dict[str, Any]:
    added: list[Any] = [rule for one in document["unattributed"] if one["rule"] for rule in yaml.safe_load(one["rule"])]
    return {"dimensions": dimensions, "rules": [*added, *before]}


def test_its_rules_pasted_before_the_others_cover_all_and_change_nobody_s_value(tmp_path: Path) -> None:
    made = fleet()
    own = [{"name": "caller", "match": {"gateway": {"team": "?*"}}, "set": {"team": "{gateway.team}"}},
           {"name": "labels", "match": {"labels": {"team": "?*"}}, "set": {"team": "{labels.team}", "product": "{labels.product}"}}]  # fmt: skip
    before = made.maker(prices(tmp_path, BOOK), rules(tmp_path, {"dimensions": ["team", "product"], "rules": own}))
    was = {row.by["team"]: row.cost for row in before.report("2026-10-05", ["team"]).rows}
    document = pasted(before.coverage("2026-10-05", 100), own, ["team", "product"])
    after = made.maker(prices(tmp_path, BOOK), rules(tmp_path, document))
    assert covered(after.coverage("2026-10-05", 10)) == {"team": (24, 0, 8), "product": (24, 0, 8)}
    now = {row.by["team"]: row.cost for row in after.report("2026-10-05", ["team"]).rows}
    assert {team: now[team] for team in ("search", "ads")} == {team: was[team] for team in ("search", "ads")}
    assert now["k*[1]{x}"] == Decimal("3.20"), "a name that reads like a pattern is taken as it is"


def test_what_no_rule_can_cover_has_a_hint(tmp_path: Path) -> None:
    made = Fleet()
    made.hour("2026-10-05", [Gpu(held=[Held(workload="w", active_min=40)])], [Server(key="w", completion=1)])
    document = {"sharing": {"unallocated": "ownership"}}
    book = "pools: [{name: p, owner: {product: x}, rented: {per_gpu_hour: 2}}]"
    found = made.maker(prices(tmp_path, book), rules(tmp_path, document)).coverage("2026-10-05", 10)
    assert [(one["rule"] != "", one["missing"], one["hint"]) for one in found["unattributed"]] == [
        (True, ["team", "product"], ""), (False, ["team"], NO_OWNER),
    ]  # fmt: skip


def test_gpus_of_processes_that_nobody_knows_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.fleet._shares", lambda gpu: [])
    made = Fleet()
    made.hour("2026-10-05", [Gpu(held=[Held(workload="w", active_min=60)])])
    found = made.maker(prices(tmp_path, BOOK)).coverage("2026-10-05", 10)
    assert [(one["who"], one["rule"], one["hint"], one["cost"]) for one in found["unattributed"]] == [
        ("", "", NO_WORKLOAD, Decimal(2))
    ]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("demo") / "month.duckdb"
    make_month("2026-10", path)
    ledger = DuckDbLedger(path)
    yield ledger
    ledger.close()


def test_three_axes_at_once_on_the_example_month(demo: DuckDbLedger, tmp_path: Path) -> None:
    """Every axis and every pair of them sums to the whole; support carries nothing and is who search works for."""
    made = ReportMaker(
        ledger=demo,
        policy=Policy(
            prices=prices(tmp_path, example_text("prices.yaml")),
            rules=rules(tmp_path, example_text("attribution-axes.yaml")),
        ),
        now_ms=ms("2026-12-01"),
    )
    axes = ("team", "product", "on_behalf_of")
    report = made.report("2026-10", axes)
    by = {tuple(row.by.values()): row.cost for row in report.rows}
    assert by["search", "assistant", "support"] > 1000
    assert not [key for key in by if key[0] == "support"]
    assert by["docs", "summaries", "docs"] > 10_000
    for columns in (("team",), ("on_behalf_of", "product"), ("on_behalf_of",)):
        assert made.report("2026-10", columns).total.cost == report.total.cost
    assert all(one["cost"]["unattributed"] == 0 for one in made.coverage("2026-10", 5)["dimensions"])


def test_the_rules_that_it_shows_for_the_example_month_cover_its_products(demo: DuckDbLedger, tmp_path: Path) -> None:
    book = prices(tmp_path, example_text("prices.yaml"))
    own = [{"match": {"gateway": {"team": "?*"}}, "set": {"team": "{gateway.team}"}},
           {"match": {"labels": {"team": "?*"}}, "set": {"team": "{labels.team}", "product": "{labels.product}"}}]  # fmt: skip
    before = ReportMaker(
        ledger=demo, policy=Policy(prices=book, rules=rules(tmp_path, {"rules": own})), now_ms=ms("2026-12-01")
    )
    found = before.coverage("2026-10", 10)
    assert [round(one["cost"]["percent"] or 0, 1) for one in found["dimensions"]] == [81.5, 69.2]
    pasted_rules = rules(tmp_path, pasted(found, own, ["team", "product"]))
    after = ReportMaker(ledger=demo, policy=Policy(prices=book, rules=pasted_rules), now_ms=ms("2026-12-01"))
    assert [round(one["cost"]["percent"] or 0, 1) for one in after.coverage("2026-10", 10)["dimensions"]] == [
        81.5,
        81.5,
    ]
