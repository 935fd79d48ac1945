"""Counters never go back, and reprice when the prices change."""

from dataclasses import replace

from collector.samples import HOUR_MS, NOON_MS
from tokenyield_collector.counters import COST, Counters, Series
from tokenyield_collector.ledger.ledger import Facts, GpuSums, ShareSums, TokenSums
from tokenyield_collector.prices.book import Match, Pool, PriceBook, Rented

GPU = GpuSums(
    hour_ms=NOON_MS, cluster="c", node="n", gpu_model="H100", gpus=1, active_ms=HOUR_MS // 2, idle_ms=HOUR_MS // 4,
    unallocated_ms=0, unknown_ms=0, active_mj=7, idle_mj=5, unallocated_mj=0, unknown_mj=0,
)  # fmt: skip
SHARE = ShareSums(
    hour_ms=NOON_MS,
    cluster="c",
    node="n",
    gpu_model="H100",
    workload="chat",
    active_ms=9,
    idle_ms=8,
    active_mj=7,
    idle_mj=6,
)
TOKENS = TokenSums(
    hour_ms=NOON_MS, cluster="c", node="n", workload="chat", server="vllm", model="m", method="rate",
    prompt_computed=10, prompt_cached=None, completion=20, requests=None,
)  # fmt: skip


def book(usd: str = "2", count: int | None = 1, fingerprint: str = "one") -> PriceBook:
    from decimal import Decimal

    pool = Pool(name="p", match=Match(), terms=(Rented(per_gpu_hour=Decimal(usd), count=count),))
    return PriceBook(pools=(pool,), fingerprint=fingerprint)


def cost(counters: Counters, bucket: str) -> float:
    return counters.values().get(Series(COST, ("c", "p", bucket, "capacity")), 0) / 1e9


def fed(counters: Counters, gpu: GpuSums, as_of_ms: int) -> Counters:
    facts = Facts(gpus=[gpu], shares=[SHARE], tokens=[TOKENS])
    hours = counters.hours_wanted([NOON_MS], NOON_MS, as_of_ms)
    counters.update(hours, facts, NOON_MS, as_of_ms)
    return counters


def test_a_whole_hour() -> None:
    counters = fed(Counters(book(), bases={}, floors={}), GPU, NOON_MS + HOUR_MS)
    assert [cost(counters, bucket) for bucket in ("productive", "idle", "unallocated", "dark")] == [1.0, 0.5, 0.0, 0.5]
    values = counters.values()
    assert values[Series("tokens", ("c", "chat", "m", "completion", "rate"))] == 20
    assert Series("tokens", ("c", "chat", "m", "prompt_cached", "rate")) not in values, "unknown is absent, not 0"
    assert values[Series("energy_mj", ("c", "p", "active"))] == 7
    assert counters.workloads() == ("chat",)


def test_dark_time_grows_with_time_even_when_nothing_arrives() -> None:
    counters = fed(Counters(book(), bases={}, floors={}), GPU, NOON_MS + HOUR_MS)
    counters.update(counters.hours_wanted([], NOON_MS, NOON_MS + 3 * HOUR_MS), Facts(), NOON_MS, NOON_MS + 3 * HOUR_MS)
    total = sum(value for series, value in counters.values().items() if series.metric == COST)
    assert total == 6 * 10**9, "three hours of one GPU at 2 USD, whoever reports them"


def test_late_data_lowers_dark_but_not_what_was_shown() -> None:
    counters = Counters(book(), bases={}, floors={})
    less = replace(GPU, active_ms=HOUR_MS // 4)
    assert cost(fed(counters, less, NOON_MS + HOUR_MS), "dark") == 1.0
    assert cost(fed(counters, GPU, NOON_MS + HOUR_MS), "dark") == 1.0, "held at what was shown"
    assert cost(counters, "productive") == 1.0
    after_restart = Counters(book(), bases={}, floors=counters.floors())
    assert cost(fed(after_restart, GPU, NOON_MS + HOUR_MS), "dark") == 1.0


def test_new_prices_reprice_history() -> None:
    counters = fed(Counters(book(), bases={}, floors={}), GPU, NOON_MS + HOUR_MS)
    assert cost(counters, "productive") == 1.0
    cheaper = Counters(book("1", fingerprint="two"), bases={}, floors=counters.floors())
    assert cost(fed(cheaper, GPU, NOON_MS + HOUR_MS), "productive") == 0.5


def test_retired_hours_stay_in_the_counters() -> None:
    counters = fed(Counters(book(), bases={}, floors={}), GPU, NOON_MS + HOUR_MS)
    before = counters.values()
    added = counters.retire(NOON_MS + HOUR_MS)
    assert counters.values() == before
    again = Counters(book(), bases=added, floors=counters.floors())
    assert {s: v for s, v in again.values().items() if v} == {s: v for s, v in before.items() if v}
    assert again.workloads() == ("chat",)
