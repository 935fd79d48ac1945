"""One budget of series for the whole page: whatever nodes, tenants and clients call things, and no sum is lost."""

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from collector.samples import NOON_MS
from tokenyield_collector.ledger.facts import DemandSums, Facts, GpuSums, MeasureSums, ReasonSums, ShareSums, TokenSums
from tokenyield_collector.live.counters import Counters
from tokenyield_collector.live.counting import Counting
from tokenyield_collector.live.series_names import CLASS_OF_METRIC
from tokenyield_collector.live.view import View
from tokenyield_collector.metrics.exposition import Exposition
from tokenyield_collector.metrics.folding import CLASSES, ShownNames
from tokenyield_collector.prices.book import PriceBook
from tokenyield_wire.units import MS_PER_HOUR

CALLED = "abcdefgh"
names = st.sampled_from(CALLED)


def facts_of(hour_ms: int, drawn: list[tuple[str, str, str, str]]) -> Facts:
    """Each (cluster, workload or gateway, model, team or event) names one row of every kind."""
    at: dict[str, Any] = {"hour_ms": hour_ms, "node": "n"}
    return Facts(
        gpus=[
            GpuSums(**at, cluster=c, gpu_model="H100", gpus=1, active_ms=1, idle_ms=1, unallocated_ms=0, unknown_ms=0,
                    active_mj=1, idle_mj=1, unallocated_mj=0, unknown_mj=0)
            for c, *_ in drawn
        ],
        tokens=[
            TokenSums(**at, cluster=c, workload=w, server="vllm", model=m, method="count", completion=1, requests=1)
            for c, w, m, _ in drawn
        ],
        shares=[
            ShareSums(**at, cluster=c, gpu_model="H100", workload=w, active_ms=1, idle_ms=1, active_mj=1, idle_mj=1)
            for c, w, *_ in drawn
        ],
        demand=[
            DemandSums(**at, cluster=c, gateway=g, model=m, caller=f'{{"team":"{t}"}}', completion=1, requests=1)
            for c, g, m, t in drawn
        ],
        measures=[MeasureSums(**at, cluster=c, kind="event", name=e, amount=1) for c, *_, e in drawn],
        reasons=[ReasonSums(**at, cluster=c, kind="throttled", reason=e, duration_ms=1000) for c, *_, e in drawn],
    )  # fmt: skip


def page(counters: Counters, series_max: int) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Family -> labels -> value."""
    registry = CollectorRegistry()
    nodes = {(cluster, "reporting"): 1 for cluster in CALLED}
    view = View(counters=counters.values(), names=counters.names(), nodes=nodes)
    registry.register(Exposition(view, series_max))
    samples: dict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(dict)
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            assert tuple(sorted(sample.labels.items())) not in samples[sample.name], "no series is there twice"
            samples[sample.name][tuple(sorted(sample.labels.items()))] = sample.value
    return samples


hours = st.lists(st.lists(st.tuples(names, names, names, names), max_size=6), min_size=1, max_size=4)


@given(hours, st.sampled_from([0, 300, 1000, 3000, 10_000]))
@settings(deadline=None)
def test_sums_stay_and_series_are_bounded(drawn: list[list[tuple[str, str, str, str]]], series_max: int) -> None:
    counters = Counters({})
    before: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for i, rows in enumerate(drawn):
        hour_ms = NOON_MS + i * MS_PER_HOUR
        counters.update(Counting(PriceBook()).of_hours([hour_ms], facts_of(hour_ms, rows)))
        shown, whole = page(counters, series_max), page(counters, 10**9)
        for family, values in whole.items():
            if family.startswith("tokenyield_collector_metric_names"):
                continue
            assert sum(shown[family].values()) == pytest.approx(sum(values.values())), family
            assert len(shown[family]) <= len(values) + 12, "folding makes at most a few series of its own"
        for family, series in before.items():
            if family.endswith("_total"):
                for labels, value in series.items():
                    assert shown[family].get(labels, 0) >= value, "a counter does not go back, and keeps its name"
        before = shown


def test_random_models_of_a_client_cost_no_workload_its_name() -> None:
    counters = Counters({})
    first = facts_of(NOON_MS, [("c", "chat", "llama", "search")])
    lies = [("c", "chat", f"random-{i}", f"team-{i}") for i in range(20_000)]
    facts = Facts(
        tokens=[*first.tokens, *facts_of(NOON_MS + MS_PER_HOUR, lies).tokens],
        demand=[*first.demand, *facts_of(NOON_MS + MS_PER_HOUR, lies).demand],
        shares=first.shares,
        gpus=first.gpus,
    )
    counters.update(Counting(PriceBook()).of_hours([NOON_MS, NOON_MS + MS_PER_HOUR], facts))
    series = page(counters, 80_000)
    tokens = series["tokenyield_tokens_total"]
    models = {dict(labels)["model"]: value for labels, value in tokens.items()}
    assert models["llama"] == 1
    assert sum(models.values()) == 20_001
    assert sum(map(len, series.values())) < 80_000
    fates = {dict(labels)["of"]: v for labels, v in series["tokenyield_collector_metric_names"].items()
             if dict(labels)["fate"] == "folded"}  # fmt: skip
    assert fates["caller"] > 10_000
    assert fates["workload"] > 10_000
    assert fates["place"] == 0


def test_the_parts_are_the_whole_budget() -> None:
    assert sum(part.percent for part in CLASSES.values()) == 100
    assert {name_class for name_class, _ in CLASS_OF_METRIC.values()} | {"group"} == set(CLASSES)


@pytest.mark.parametrize(
    ("series_max", "shown"),
    [
        (10**6, ("c", "chat", "other-model")),
        (64 * 100 // 40 * 2, ("c", "chat", "(other)")),  # two names: the workload and its first model
        (0, ("(other)", "(other)", "(other)")),
    ],
)
def test_the_model_folds_before_the_workload(series_max: int, shown: tuple[str, ...]) -> None:
    seen: dict[str, list[tuple[str, ...]]] = {
        "workload": [("c", "chat"), ("c", "chat", "llama"), ("c", "chat", "other-model")],
        "place": [("c", "p")],
    }
    folding = ShownNames(seen, series_max)
    assert folding.labels("tokens", ("c", "chat", "other-model", "completion", "count"))[:3] == shown
    assert folding.labels("price_missing_ms", ()) == ()


def test_a_cluster_whose_nodes_report_no_gpu_keeps_its_name() -> None:
    """It has no place, and was `(other)` in the count of nodes."""
    registry = CollectorRegistry()
    registry.register(Exposition(View(nodes={("c", "reporting"): 1}, node_lag_ms={"c": 1500}), 10_000))
    assert registry.get_sample_value("tokenyield_collector_nodes", {"cluster": "c", "state": "reporting"}) == 1
    assert registry.get_sample_value("tokenyield_collector_node_lag_seconds", {"cluster": "c"}) == 1.5


def test_clusters_of_nodes_share_the_budget_of_places() -> None:
    names = ShownNames({"place": [("c", "p")]}, 48 * 3 * 100 // 15, clusters=["a", "b", "c", "d"])
    assert [names.cluster(cluster) for cluster in "abcd"] == ["a", "b", "c", "(other)"]
