"""Every query of every dashboard and rule against a real Prometheus: a day and a half or more backfilled, then a live collector and agent.

The figures of Prometheus, of the report and of the API for the same time are the same.
"""

import itertools
import json
import re
import time
import urllib.parse
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from dashboards.generate import DASHBOARDS, OUT
from harness import Stack, get, wait_until
from real.prometheus_server import Prometheus, running
from real.recorded_days import STEP_MS, Recorded, record
from tokenyield_collector.attribution.rules import load_rules
from tokenyield_collector.monitoring.files import MONITORING_FOLDER
from tokenyield_collector.prices.load import load_prices

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
RULES = """
sharing: {unallocated: usage, dark: even}
budgets: [{name: all, monthly: 30000}, {name: search, match: {team: search}, monthly: 100}]
"""
PACE = "    - {model: 'mistral*', tokens_per_second: 3000}\n"
"""So that there is under-yield at any hour and weekday: a pace is learned from two days, and less works at weekends."""
RATE_INTERVAL = "16m"
"""Four scrapes, as Grafana takes it."""


class Scene(NamedTuple):
    prometheus: Prometheus
    stack: Stack
    recorded: Recorded


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("dashboards")
    rules = folder / "attribution.yaml"
    rules.write_text(RULES)
    prices, example = folder / "prices.yaml", (ROOT / "collector" / "prices.yaml").read_text()
    assert "  configured:\n" in example
    prices.write_text(example.replace("  configured:\n", f"  configured:\n{PACE}", 1))
    recorded = record(folder, load_prices(prices), load_rules(rules), time.time_ns() // 10**6)
    stack = Stack(
        folder,
        agent={"gpu_reader": "trace", "gpu_trace_file": str(MONITORING_FOLDER.parent / "demo" / "trace.jsonl"), "cluster": "onprem"},
        collector={"ledger_path": str(recorded.ledger), "prices_file": str(prices), "attribution_file": str(rules),
                   "live_window_s": 3600},
    )  # fmt: skip
    stack.start_collector()
    stack.start_agent()
    jobs = {"tokenyield-collector": stack.port, "tokenyield-agent": stack.agent_port}
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in jobs.items()
        ],
    }
    try:
        with running(folder, yaml.safe_dump(config), blocks_of=[recorded.openmetrics]) as prometheus:
            wait_until(lambda: prometheus.values("sum(up)") == [2.0], what="both are scraped")
            to_date = "tokenyield_collector_to_date_timestamp_seconds{instance=~'127.*'} > 0"
            wait_until(lambda: prometheus.values(to_date) != [], what="the live collector has computed the past")
            scrapes = "min(count_over_time(up{job=~'tokenyield-.*'}[1m])) >= 12"
            wait_until(lambda: prometheus.values(scrapes) != [], what="there are enough scrapes for every rate")
            yield Scene(prometheus, stack, recorded)
    finally:
        stack.kill_all()


def filled_in(query: str, dimension: str) -> str:
    """A query as Grafana would send it, with every variable at All but the dimension."""
    query = query.replace("$__rate_interval", RATE_INTERVAL).replace("$__range", "24h")
    query = re.sub(r"\$dimension\b", dimension, query)
    return re.sub(r"\$(cluster|pool|value|model|workload|node|gpu)\b", ".*", query)


def dimensions_of(dashboard: dict[str, Any]) -> list[str]:
    """The choices of its variable `dimension`; one that no query has where there is none."""
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    return [option["value"] for option in variables["dimension"]["options"]] if "dimension" in variables else ["-"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_no_panel_is_empty(scene: Scene, name: str) -> None:
    now_s, asked = time.time_ns() / 1e9, 0
    dashboard = json.loads((OUT / f"{name}.json").read_text())
    for dimension, panel in itertools.product(dimensions_of(dashboard), dashboard["panels"]):
        for target in panel.get("targets", []):
            query = filled_in(target["expr"], dimension)
            assert "$" not in query, query
            if target.get("instant"):
                result = scene.prometheus.ask("query", query=query)["result"]
                values = [row["value"][1] for row in result]
            else:
                result = scene.prometheus.ask("query_range", query=query, start=now_s - 86_400, end=now_s, step=300)
                values = [value for row in result["result"] for _, value in row["values"]]
            numbers = [float(value) for value in values if value != "NaN"]
            assert numbers, f"{panel['title']}: {query}"
            assert all(abs(number) < float("inf") for number in numbers), f"{panel['title']}: {query}"
            asked += 1
    for dimension, variable in itertools.product(dimensions_of(dashboard), dashboard["templating"]["list"]):
        if variable["type"] == "query":
            query = filled_in(variable["query"], dimension)
            selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", query).groups()  # type: ignore[union-attr]
            assert scene.prometheus.ask(f"label/{label}/values", **{"match[]": selector}), variable["name"]
    assert asked >= 8


def test_every_rule_can_be_computed(scene: Scene) -> None:
    """As if every recorded series had been recorded all the time."""
    end_s, recorded = scene.recorded.end_ms / 1000, dict[str, str]()
    for file in ("recording.yaml", "alerts.yaml"):
        for group in yaml.safe_load((MONITORING_FOLDER / "rules" / file).read_text())["groups"]:
            for rule in group["rules"]:
                query = rule["expr"].replace("[5m]", f"[{RATE_INTERVAL}]")
                for name, expression in recorded.items():
                    query = query.replace(name, f"({expression})")
                values = scene.prometheus.values(query, end_s)
                if "record" in rule:
                    assert values, rule["record"]
                    recorded[rule["record"]] = query


def api(stack: Stack, path: str, **parameters: Any) -> Any:
    return json.loads(get(f"{stack.url}{path}?{urllib.parse.urlencode(parameters)}"))


def test_prometheus_report_and_api_agree(scene: Scene) -> None:
    """Yesterday (UTC), which is closed: to the cent, and to the token."""
    prometheus, (start_ms, end_ms) = scene.prometheus, (scene.recorded.start_ms, scene.recorded.end_ms)
    day = time.strftime("%Y-%m-%d", time.gmtime(start_ms / 1000))
    report = api(scene.stack, "/v1/report", period=day, by="team,model")
    # What is to date steps when an hour has closed; before the first one it is not there.
    at_s = min(start_ms + 86_400_000 + STEP_MS, end_ms) / 1000
    job = '{instance="collector:9464"}'

    def total(metric: str, by: str) -> dict[str, float]:
        values = prometheus.ask("query", query=f"sum by ({by}) ({metric}{job})", time=at_s)["result"]
        return {row["metric"].get(by, ""): float(row["value"][1]) for row in values}

    by_team: dict[str, Decimal] = {}
    for row in report["rows"]:
        by_team[row["team"]] = by_team.get(row["team"], Decimal(0)) + Decimal(str(row["cost"]))
    values = total("tokenyield_attributed_cost_to_date", "team")
    assert {team for team, cost in by_team.items() if cost} == {team for team, cost in values.items() if cost}
    for team, cost in by_team.items():
        assert values.get(team, 0) == pytest.approx(float(cost), abs=0.02), team
    assert sum(total("tokenyield_cost_to_date", "bucket").values()) == pytest.approx(report["total"]["cost"], abs=0.02)
    waterfall = {row["bucket"]: row["cost"] for row in report["waterfall"] if row["cost"]}
    assert total("tokenyield_cost_to_date", "bucket") == pytest.approx(waterfall, abs=0.02)
    kinds = {kind: report["total"][kind] for kind in ("prompt_computed", "prompt_cached", "completion")}
    counted = prometheus.ask(
        "query", query=f"sum by (kind) (tokenyield_tokens_total{job})", time=start_ms / 1000 + 86_400
    )
    assert {row["metric"]["kind"]: float(row["value"][1]) for row in counted["result"]} == kinds
    assert total("tokenyield_attributed_tokens_to_date", "kind") == kinds
    joules = prometheus.values(f"sum(tokenyield_energy_joules_total{job})", start_ms / 1000 + 86_400)
    assert joules == [pytest.approx(report["total"]["joules_gpu"])]


def test_live_gauges_equal_the_summary(scene: Scene) -> None:
    """The live collector's gauges and /v1/summary, of the same stretch."""
    stack = scene.stack
    for _ in range(20):
        before = get(f"{stack.url}/metrics").decode()
        summary = api(stack, "/v1/summary", window_s=3600)
        if before == get(f"{stack.url}/metrics").decode() or _as_of(before) == summary["end"]:
            break
    burn = sum(
        float(line.rpartition(" ")[2]) for line in before.splitlines() if line.startswith("tokenyield_cost_per_hour{")
    )
    assert burn == pytest.approx(summary["fleet"]["cost_per_hour"], rel=1e-3)
    lost = sum(
        float(line.rpartition(" ")[2])
        for line in before.splitlines()
        if line.startswith("tokenyield_cost_per_hour{") and 'bucket="active"' not in line
    )
    assert lost == pytest.approx(summary["fleet"]["idle_capacity"]["cost_per_hour"], rel=1e-3)
    idle = _sum_of(before, "tokenyield_idle_capacity_cost_per_hour{")
    assert idle == pytest.approx(lost, rel=1e-6)
    idle_hardware = _sum_of(
        before, "tokenyield_idle_capacity_cost_per_hour{", 'component="hardware"', 'component="rent"'
    )
    hardware = _sum_of(before, "tokenyield_amortized_hardware_cost_per_hour{")
    share = summary["fleet"]["idle_capacity"]["share_of_hardware_cost"]["total"]
    assert idle_hardware / hardware == pytest.approx(share, rel=1e-3)


def _sum_of(exposed: str, metric: str, *labels: str) -> float:
    """Of the series of a metric that have one of the labels, or of all."""
    lines = (line for line in exposed.splitlines() if line.startswith(metric))
    return sum(float(line.rpartition(" ")[2]) for line in lines if not labels or any(one in line for one in labels))


def _as_of(exposed: str) -> str:
    (line,) = [one for one in exposed.splitlines() if one.startswith("tokenyield_collector_as_of_timestamp_seconds ")]
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(float(line.split()[1])))
