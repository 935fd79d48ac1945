"""Names that mean harm, from the ledger to /metrics, /v1/summary, the map and the diagnoses: each keeps its series and
its sums, and is called everywhere as reports call it."""

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from collector.fleet import HOUR_MS, Fleet, Gpu, Held, Server, ms, prices, rules
from hostile import NAMES, acting, as_written
from tokenyield_collector.diagnosis.make import diagnoses
from tokenyield_collector.ledger.facts import GpuNow
from tokenyield_collector.live.counters import Counters
from tokenyield_collector.live.counting import Counting
from tokenyield_collector.live.fleet_map import fleet_document
from tokenyield_collector.live.live_view import LiveView, read_live_view
from tokenyield_collector.live.summary import encode, summarize
from tokenyield_collector.live.to_date import GRAIN, FiguresToDate, ToDate, month_to_date
from tokenyield_collector.live.view import View
from tokenyield_collector.metrics.exposition import Exposition
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.statements.names import own_name
from tokenyield_collector.statements.source import Span
from tokenyield_collector.statements.statement import fleet_statement
from tokenyield_wire.window import Demand

START = ms("2026-10-05T08:00")
POOLS = ("(price missing)", "(dark)", 'x"} or vector(1) #')
Samples = Mapping[str, Mapping[tuple[tuple[str, str], ...], float]]


class Shown(NamedTuple):
    """One fleet, wherever it is shown."""

    fleet: Fleet
    maker: ReportMaker
    live: LiveView
    counters: Counters
    samples: Samples
    text: str

    def sums(self, family: str, label: str) -> dict[str, float]:
        """Label value -> its sum."""
        sums: dict[str, float] = defaultdict(float)
        for labels, value in self.samples[family].items():
            sums[as_written(dict(labels)[label])] += value
        return dict(sums)


def _samples(text: str) -> Samples:
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = tuple(sorted(sample.labels.items()))
            assert key not in found[sample.name], "no series is there twice"
            found[sample.name][key] = sample.value
    return found


def _shown(tmp: pytest.TempPathFactory, series_max: int = 1_000_000) -> Shown:
    fleet = Fleet()
    servers = [
        Server(key=name, model=name, labels={"team": name}, completion=100 + i, requests=1)
        for i, name in enumerate(NAMES)
    ]
    gpus = [Gpu(uuid=f"GPU-{i}", held=[Held(workload=name, active_min=30 + i % 9)]) for i, name in enumerate(NAMES)]
    demand = [
        Demand(gateway=name, model=name, caller={"team": name}, completion=7 + i, requests=1)
        for i, name in enumerate(NAMES)
    ]
    fleet.hour(START, gpus, servers, demand, node="n0")
    for i, name in enumerate((*POOLS, "none")):
        fleet.hour(START, [Gpu(uuid=f"GPU-p{i}", held=[])], node=f"p{i}", labels={"pool": name})
    fleet.hour(START, [Gpu(uuid="GPU-c", held=[])], node="c0", cluster="(other)")
    folder = tmp.mktemp("book")
    pools = [{"name": name, "match": {"labels": {"pool": name}}, "rented": {"per_gpu_hour": 2}} for name in POOLS]
    pools += [{"name": "rest", "match": {"node": "[nc]0"}, "rented": {"per_gpu_hour": 3, "count": len(NAMES) + 3}}]
    maker = fleet.maker(prices(folder, yaml.safe_dump({"pools": pools})), rules(folder, {"dimensions": ["team"]}))
    ledger, judged_by = fleet.ledger, maker.policy
    counters = Counters({})
    counters.update(Counting(judged_by.prices).of_hours(ledger.fold(), ledger.facts_of_hours()))
    ledger.roll()
    statement = fleet_statement(ledger.usage(), judged_by, Span(START, START + HOUR_MS), GRAIN)
    identity = FiguresToDate(dimensions=judged_by.rules.dimensions, currency="USD")
    to_date = ToDate(lambda start_ms, end_ms: month_to_date(statement), {}, identity=identity)
    to_date.bring_up_to(START, START + HOUR_MS)
    live = read_live_view(ledger, judged_by, START, START + HOUR_MS)
    view = View(
        counters=counters.values(),
        names=counters.names(),
        live=live,
        to_date=to_date.shown or FiguresToDate(),
        nodes={("(other)", "reporting"): 1, ("c", "reporting"): 5},
    )
    registry = CollectorRegistry()
    registry.register(Exposition(view, series_max))
    text = generate_latest(registry).decode()
    return Shown(fleet, maker, live, counters, _samples(text), text)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    return _shown(tmp_path_factory)


def test_every_name_has_a_series_of_its_own_with_its_own_sum(shown: Shown) -> None:
    assert not acting(shown.text)
    tokens = {own_name(name): 100 + i for i, name in enumerate(NAMES)}
    for family, label in (
        ("tokenyield_tokens_total", "workload"),
        ("tokenyield_tokens_total", "model"),
        ("tokenyield_attributed_tokens_to_date", "model"),
    ):
        assert shown.sums(family, label) == tokens, family
    requested = {own_name(name): 7 + i for i, name in enumerate(NAMES)}
    for label in ("gateway", "model", "team"):
        assert shown.sums("tokenyield_demand_tokens_total", label) == requested
    held = shown.sums("tokenyield_workload_gpu_seconds_total", "workload")
    assert held == {own_name(name): (30 + i % 9) * 60 for i, name in enumerate(NAMES)}
    for family in ("tokenyield_workload_cost_per_hour", "tokenyield_workload_cost_to_date"):
        assert set(shown.sums(family, "workload")) == set(tokens), "joins: called as everywhere else"


def test_no_pool_or_cluster_takes_a_marker_s_place(shown: Shown) -> None:
    seconds = shown.sums("tokenyield_gpu_seconds_total", "pool")
    assert seconds["(price missing)"] == seconds['"(price missing)"'] == seconds['"(dark)"'] == 3600
    assert set(shown.sums("tokenyield_cost_to_date", "pool")) == set(seconds) - {"(price missing)"}
    assert set(shown.sums("tokenyield_cost_per_hour", "pool")) == set(seconds) - {"(price missing)"}
    for family in ("tokenyield_gpu_seconds_total", "tokenyield_cost_per_hour", "tokenyield_cost_to_date"):
        assert '"(other)"' in shown.sums(family, "cluster"), family
    assert set(shown.sums("tokenyield_collector_nodes", "cluster")) == {'"(other)"', "c"}


def test_what_is_folded_never_mixes_with_a_workload_called_other(tmp_path_factory: pytest.TempPathFactory) -> None:
    few = _shown(tmp_path_factory, series_max=20 * 2 * 64 * 100 // 40)  # 20 workloads with a model each
    sums = few.sums("tokenyield_tokens_total", "workload")
    assert len(sums) == 21
    assert sum(sums.values()) == sum(100 + i for i in range(len(NAMES)))
    admitted = {name[1] for name in few.counters.names()["workload"][:40]}
    assert sums["(other)"] == sum(100 + i for i, name in enumerate(NAMES) if own_name(name) not in admitted)


def test_the_summary_and_the_map_call_things_as_reports_do(shown: Shown) -> None:
    body = encode(summarize(shown.live, shown.maker.policy))
    summary = json.loads(body)
    reported = {row.by["workload"] for row in shown.maker.report("2026-10-05", ["workload"]).rows}
    named = [row["workload"] for row in summary["workloads"]]
    assert set(named) <= reported
    assert set(named) == {own_name(name) for name in NAMES}
    assert len(named) == len(NAMES)
    assert {row["model"] for row in summary["workloads"]} == set(named)
    assert {row["pool"] for row in summary["pools"]} == {own_name(name) for name in (*POOLS, "rest")}
    assert sorted(row["tokens"]["completion"] for row in summary["demand"]) == [7 + i for i in range(len(NAMES))]
    gpu = GpuNow("(other)", "n", "GPU-1", "H100", HOUR_MS, 0, 0, 0, 5, "(dark)")
    document = fleet_document([gpu], START, START + HOUR_MS)
    assert document["nodes"] == [['"(other)"', "n"]]
    assert document["workloads"] == ['"(dark)"']


def test_diagnoses_call_workloads_as_reports_do(shown: Shown) -> None:
    document = diagnoses(shown.fleet.ledger, shown.maker.policy, START, START + HOUR_MS)
    assert {row["workload"] for row in document["workloads"]} == {own_name(name) for name in NAMES}
