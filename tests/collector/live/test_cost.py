"""Costs sum to the fleet's cost, exactly, whatever the usage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenyield_collector.live.cost import BUCKETS, PoolRate, Usage, price
from tokenyield_collector.live.yields import HeldUsage, MadeTokens, yields
from tokenyield_collector.prices.money import QUANTA_PER_UNIT, capacity_quanta

HOUR_MS = 3_600_000
PICO = 10**12
USD = QUANTA_PER_UNIT


def usage(pool: str | None = "p", cluster: str = "c", **sums: int) -> Usage:
    names = "active_ms idle_ms unallocated_ms unknown_ms active_mj idle_mj unallocated_mj unknown_mj".split()
    return Usage(cluster, pool, *(sums.get(name, 0) for name in names))


def rates(gpus_paid: int | None = None, usd: int = 2, kwh: int = 0) -> dict[str, PoolRate]:
    return {"p": PoolRate("p", usd * PICO, kwh, gpus_paid)}


def test_g10_the_waterfall_of_one_gpu_and_day() -> None:
    """2 USD/h, 24 h, allocated 20 h, busy 12 h: unallocated 8, idle 16, and 24 that were active."""
    day = usage(active_ms=12 * HOUR_MS, idle_ms=8 * HOUR_MS, unallocated_ms=4 * HOUR_MS)
    lines = price([day], rates(), elapsed_ms=24 * HOUR_MS).lines
    found = {line.bucket: line.quanta // USD for line in lines if line.component == "capacity"}
    assert found == {"dark": 0, "unallocated": 8, "idle": 16, "active": 24}


def test_owned_gpus_that_report_nothing_are_dark_and_cost_in_full() -> None:
    priced = price([usage(active_ms=HOUR_MS, unknown_ms=HOUR_MS)], rates(gpus_paid=5), elapsed_ms=HOUR_MS)
    dark = next(line for line in priced.lines if line.bucket == "dark")
    assert (dark.quanta, dark.duration_ms) == (8 * USD, 4 * HOUR_MS)
    assert priced.total_quanta() == 10 * USD
    nobody = price([], rates(gpus_paid=5), elapsed_ms=HOUR_MS)
    assert nobody.total_quanta() == 10 * USD


def test_more_gpus_than_paid_for_cost_what_they_report() -> None:
    assert price([usage(active_ms=3 * HOUR_MS)], rates(gpus_paid=1), elapsed_ms=HOUR_MS).total_quanta() == 6 * USD


def test_a_missing_price_is_shown_and_never_zero() -> None:
    priced = price([usage(pool=None, active_ms=HOUR_MS)], rates(), elapsed_ms=HOUR_MS)
    assert (priced.missing_ms, priced.lines) == (HOUR_MS, [])


def test_energy_costs_by_the_joules() -> None:
    """6.5 kWh x 1.3 x 0.08 USD = 0.676 USD (G5)."""
    priced = price([usage(active_mj=6_500 * 3_600_000)], rates(kwh=104_000_000_000), elapsed_ms=HOUR_MS)
    assert priced.total_quanta() == USD * 676 // 1000


sums = st.integers(0, 10**9)
usages = st.lists(
    st.builds(
        Usage,
        st.sampled_from(["c1", "c2"]),
        st.sampled_from(["p", "q", None]),
        sums,
        sums,
        sums,
        sums,
        sums,
        sums,
        sums,
        sums,
    ),
    max_size=8,
)
prices = st.builds(
    lambda a, b, c, d, n: {"p": PoolRate("p", a, b, n), "q": PoolRate("q", c, d, None)},
    st.integers(0, 10**11), st.integers(0, 10**9), st.integers(0, 10**11), st.integers(0, 10**9),
    st.one_of(st.none(), st.integers(0, 100)),
)  # fmt: skip


@given(usages, prices, st.integers(1, HOUR_MS))
def test_the_parts_sum_to_the_pool_and_the_pools_to_the_fleet(
    rows: list[Usage], book: dict[str, PoolRate], elapsed_ms: int
) -> None:
    priced = price(rows, book, elapsed_ms=elapsed_ms)
    for pool, cluster in {(line.pool, line.cluster) for line in priced.lines}:
        lines = [line for line in priced.lines if (line.pool, line.cluster) == (pool, cluster)]
        capacity = [line for line in lines if line.component == "capacity"]
        assert [line.bucket for line in capacity] == list(BUCKETS)
        owned_ms = sum(line.duration_ms for line in capacity)
        assert sum(line.quanta for line in capacity) == capacity_quanta(book[pool].pico_per_gpu_hour, owned_ms)
    for pool, rate in book.items():
        reported = sum(sum(row[2:6]) for row in rows if row.pool == pool)
        owned = reported if rate.gpus_paid is None else max(reported, rate.gpus_paid * elapsed_ms)
        assert sum(line.duration_ms for line in priced.lines if line.pool == pool) == owned
    assert priced.missing_ms == sum(sum(row[2:6]) for row in rows if row.pool is None)
    assert priced.total_quanta() == price(list(reversed(rows)), book, elapsed_ms=elapsed_ms).total_quanta()


@given(st.data())
def test_loaded_costs_sum_to_the_fleets_cost(data: st.DataObject) -> None:
    book = {"p": PoolRate("p", data.draw(st.integers(1, 10**11)), data.draw(st.integers(0, 10**9)), None)}
    held, rows = [], []
    for i in range(data.draw(st.integers(1, 4))):
        row = HeldUsage("c", f"w{i}", book["p"], *(data.draw(st.integers(0, 10**8)) for _ in range(4)))
        held.append(row)
        rows.append(usage(active_ms=row.active_ms, idle_ms=row.idle_ms, active_mj=row.active_mj, idle_mj=row.idle_mj))
    rows.append(usage(unallocated_ms=data.draw(st.integers(0, 10**8)), unknown_ms=data.draw(st.integers(0, 10**8))))
    fleet = price(rows, book, elapsed_ms=HOUR_MS)
    found = yields(held, [], fleet)
    loaded = sum(row.quanta["loaded"] or 0 for row in found)
    allocated = sum(row.quanta["allocated"] or 0 for row in found)
    if allocated:
        assert loaded == fleet.total_quanta()
    for each in found:
        assert (each.quanta["direct"] or 0) <= (each.quanta["allocated"] or 0) <= (each.quanta["loaded"] or 0)


def test_ratios_without_a_denominator_are_absent() -> None:
    made = MadeTokens("c", "w", "vllm", "m", completion=0)
    (row,) = yields([], [made], price([], {}, elapsed_ms=HOUR_MS))
    assert row.tokens_per_joule("total") is None
    assert row.cost_per_million_tokens("total", "direct") is None


def test_g17_and_g8_a_gpu_at_a_known_rate() -> None:
    """650 W at 2000 tokens/s: 3.076923 tokens/J. 1.322371 USD/h at 1000 tokens/s: 0.367325 USD/Mtok."""
    book = {"p": PoolRate("p", 1_322_371_000_000 * 2, 0, None)}
    held = [HeldUsage("c", "w", book["p"], HOUR_MS, 0, 650 * 3_600_000, 0)]
    made = [MadeTokens("c", "w", "vllm", "m", completion=2000 * 3600)]
    fleet = price([usage(active_ms=HOUR_MS)], book, elapsed_ms=HOUR_MS)
    (row,) = yields(held, made, fleet)
    assert row.tokens_per_joule("completion") == pytest.approx(3.076923, abs=1e-6)
    assert row.cost_per_million_tokens("completion", "loaded") == pytest.approx(0.367325, abs=1e-6)


def test_loaded_shares_what_a_workloads_own_pool_lost() -> None:
    """p: a has 2, 4 dark; q: b has 3, 1 unallocated; r: 5 dark and nobody there: by 2 and 3 of 5, that is 2 and 3."""
    book = {name: PoolRate(name, PICO, 0, None) for name in "pqr"}
    rows = [
        usage("p", active_ms=2 * HOUR_MS, unknown_ms=4 * HOUR_MS),
        usage("q", active_ms=3 * HOUR_MS, unallocated_ms=HOUR_MS),
        usage("r", unknown_ms=5 * HOUR_MS),
    ]
    held = [HeldUsage("c", "a", book["p"], 2 * HOUR_MS, 0, 0, 0), HeldUsage("c", "b", book["q"], 3 * HOUR_MS, 0, 0, 0)]
    found = yields(held, [], price(rows, book, elapsed_ms=HOUR_MS))
    assert [row.quanta["loaded"] for row in found] == [(2 + 4 + 2) * USD, (3 + 1 + 3) * USD]
