"""Counters never go back: an hour is taken in anew, and what is retired stays in them."""

from dataclasses import replace

from collector.samples import HOUR_MS, NOON_MS
from tokenyield_collector.ledger.facts import Facts, GpuSums, ShareSums, TokenSums
from tokenyield_collector.live.counters import Counters, settled
from tokenyield_collector.live.counting import Counting
from tokenyield_collector.live.series import Series
from tokenyield_collector.prices.book import Pool, PoolMatch, PriceBook, Rented

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


NAMES = {"workload": (("c", "chat"), ("c", "chat", "m")), "place": (("c", "p"),)}


def book(usd: str = "2", count: int | None = 1, fingerprint: str = "one") -> PriceBook:
    from decimal import Decimal

    pool = Pool(name="p", match=PoolMatch(), terms=(Rented(per_gpu_hour=Decimal(usd), count=count),))
    return PriceBook(pools=(pool,), fingerprint=fingerprint)


def fed(counters: Counters, gpu: GpuSums, prices: PriceBook | None = None) -> Counters:
    facts = Facts(gpus=[gpu], shares=[SHARE], tokens=[TOKENS])
    counters.update(Counting(prices or book()).of_hours([NOON_MS], facts))
    return counters


def test_a_whole_hour() -> None:
    counters = fed(Counters({}), GPU)
    values = counters.values()
    assert values[Series("tokens", ("c", "chat", "m", "completion", "rate"))] == 20
    assert Series("tokens", ("c", "chat", "m", "prompt_cached", "rate")) not in values, "unknown is absent, not 0"
    assert values[Series("energy_mj", ("c", "p", "active"))] == 7
    assert values[Series("gpu_ms", ("c", "p", "active"))] == HOUR_MS // 2
    assert counters.names() == NAMES


def test_an_hour_is_taken_in_anew_not_added() -> None:
    counters = fed(Counters({}), replace(GPU, active_ms=HOUR_MS // 4))
    assert fed(counters, GPU).values() == fed(Counters({}), GPU).values()


def test_what_no_pool_fits_has_a_name_and_is_counted() -> None:
    values = fed(Counters({}), GPU, PriceBook()).values()
    assert values[Series("gpu_ms", ("c", "(price missing)", "active"))] == HOUR_MS // 2
    assert values[Series("price_missing_ms", ())] == HOUR_MS // 2 + HOUR_MS // 4


def test_other_prices_move_nothing_that_was_counted() -> None:
    """A late window of an hour that was counted under other prices: what is new is counted under those of now."""
    before = {Series("gpu_ms", ("c", "old", "active")): 10, Series("price_missing_ms", ()): 10}
    fresh = {Series("gpu_ms", ("c", "new", "active")): 12, Series("gpu_ms", ("c", "other", "active")): 5}
    after = settled(before, fresh)
    assert after[Series("gpu_ms", ("c", "old", "active"))] == 10
    assert sum(value for series, value in after.items() if series.metric == "gpu_ms") == 17, "as the facts have it"
    assert after[Series("price_missing_ms", ())] == 10
    assert settled(after, fresh) == after


def test_retired_hours_stay_in_the_counters() -> None:
    counters = fed(Counters({}), GPU)
    before = counters.values()
    added = counters.retire(NOON_MS + HOUR_MS)
    assert counters.values() == before
    again = Counters(added | {'["booked_from_ms"]': 7})
    assert {s: v for s, v in again.values().items() if v} == {s: v for s, v in before.items() if v}
    assert again.names() == NAMES
