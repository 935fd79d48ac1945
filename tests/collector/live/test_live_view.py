"""The live view is a statement over the newest windows: its parts sum to the fleet's cost, whatever the usage."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.fleet import HOUR_MS, Fleet, Gpu, Held, Server, ms, policy, prices
from tokenyield_collector.ledger.facts import Facts, GpuSums, ShareSums, TokenSums
from tokenyield_collector.live.live_view import LiveView, live_cost, live_duration_ms, live_view, read_live_view
from tokenyield_collector.live.window_usage import Stretch
from tokenyield_collector.prices.book import Facility, Pool, PoolMatch, PriceBook, Rented
from tokenyield_collector.prices.money import QUANTA_PER_UNIT, capacity_quanta, decimal
from tokenyield_collector.prices.rates import PICO
from tokenyield_collector.statements.buckets import LIVE_BUCKETS
from tokenyield_collector.statements.placement import cut_at_hours

USD = QUANTA_PER_UNIT
START_MS = ms("2026-10-05T12:00")
SUMS = "active_ms idle_ms unallocated_ms unknown_ms active_mj idle_mj unallocated_mj unknown_mj".split()


def usage(pool: str | None = "p", cluster: str = "c", **sums: int) -> GpuSums:
    """GPUs of the model that `book` gives the pool of this name; None: of a model that no pool fits."""
    amounts = {name: sums.get(name, 0) for name in SUMS}
    return GpuSums(hour_ms=0, cluster=cluster, node="", gpu_model=pool or "unknown", gpus=1, **amounts)


def held(workload: str, pool: str = "p", **sums: int) -> ShareSums:
    amounts = {name: sums.get(name, 0) for name in ("active_ms", "idle_ms", "active_mj", "idle_mj")}
    return ShareSums(hour_ms=0, cluster="c", node="", gpu_model=pool, workload=workload, **amounts)


def made(workload: str, completion: int) -> TokenSums:
    return TokenSums(
        hour_ms=0, cluster="c", node="", workload=workload, server="vllm", model="m", method="rate",
        completion=completion,
    )  # fmt: skip


def book(gpus_paid: int | None = None, pico: Mapping[str, int] | None = None, kwh: int = 0) -> PriceBook:
    """Pools by name, each with its price of a GPU-hour (in 10^-12 USD), and one price of energy."""
    return PriceBook(
        facilities={"a": (Facility(per_kwh=Decimal(kwh) / PICO),)},
        pools=tuple(
            Pool(
                name=name,
                match=PoolMatch(gpu=name),
                terms=(
                    Rented(
                        per_gpu_hour=Decimal(price) / PICO,
                        energy_included=False,
                        count=gpus_paid if name == "p" else None,
                    ),
                ),
            )
            for name, price in (pico or {"p": 2 * PICO}).items()
        ),
    )


def view(
    gpus: Sequence[GpuSums],
    shares: Sequence[ShareSums] = (),
    tokens: Sequence[TokenSums] = (),
    *,
    prices: PriceBook,
    elapsed_ms: int = HOUR_MS,
) -> LiveView:
    facts = Facts(gpus=gpus, shares=shares, tokens=tokens)
    return live_view([Stretch(facts, START_MS, elapsed_ms)], facts, policy(prices))


def test_g10_the_waterfall_of_one_gpu_and_day() -> None:
    """2 USD/h, 24 h, allocated 20 h, busy 12 h: unallocated 8, idle 16, and 24 that were active."""
    day = usage(active_ms=12 * HOUR_MS, idle_ms=8 * HOUR_MS, unallocated_ms=4 * HOUR_MS)
    whole = view([day], prices=book(), elapsed_ms=24 * HOUR_MS).whole
    assert {bucket: live_cost(whole, bucket) // USD for bucket in LIVE_BUCKETS} == {
        "dark": 0, "unallocated": 8, "idle": 16, "active": 24,
    }  # fmt: skip


def test_owned_gpus_that_report_nothing_are_dark_and_cost_in_full() -> None:
    live = view([usage(active_ms=HOUR_MS, unknown_ms=HOUR_MS)], prices=book(gpus_paid=5))
    dark = live.places["c", "p"]
    assert (dark.cost("dark"), dark.get("dark_ms")) == (8 * USD, 4 * HOUR_MS), "with the cluster that reports"
    assert live.whole.total == 10 * USD
    assert view([], prices=book(gpus_paid=5)).whole.total == 10 * USD


def test_more_gpus_than_paid_for_cost_what_they_report() -> None:
    assert view([usage(active_ms=3 * HOUR_MS)], prices=book(gpus_paid=1)).whole.total == 6 * USD


def test_a_missing_price_is_shown_and_never_zero() -> None:
    live = view([usage(pool=None, active_ms=HOUR_MS)], prices=book())
    unpriced = live.places["c", None]
    assert (unpriced.unpriced_ms, unpriced.get("productive_ms")) == (HOUR_MS, HOUR_MS), (
        "its hours are shown all the same"
    )
    assert (unpriced.total, live.whole.total) == (0, 0)
    (gap,) = live.gaps
    assert (gap.kind.name, gap.amounts.gpu_ms) == ("no_pool", HOUR_MS)


def test_energy_costs_by_the_joules() -> None:
    """6.5 kWh x 1.3 x 0.08 USD = 0.676 USD (G5)."""
    live = view([usage(active_mj=6_500 * 3_600_000)], prices=book(kwh=104_000_000_000))
    assert live.whole.total == USD * 676 // 1000
    assert live.whole.component("energy") == live.whole.total


sums = st.integers(0, 10**9)
usages = st.lists(
    st.builds(
        lambda cluster, pool, values: usage(pool, cluster, **dict(zip(SUMS, values, strict=True))),
        st.sampled_from(["c1", "c2"]),
        st.sampled_from(["p", "q", None]),
        st.lists(sums, min_size=8, max_size=8),
    ),
    max_size=8,
)
books = st.builds(
    lambda p, q, kwh, gpus_paid: book(gpus_paid, {"p": p, "q": q}, kwh),
    st.integers(0, 10**11), st.integers(0, 10**11), st.integers(0, 10**9), st.one_of(st.none(), st.integers(0, 100)),
)  # fmt: skip


def state_ms(row: GpuSums) -> int:
    return row.active_ms + row.idle_ms + row.unallocated_ms + row.unknown_ms


@given(usages, books, st.integers(1, HOUR_MS))
def test_the_parts_sum_to_the_pool_and_the_pools_to_the_fleet(
    rows: list[GpuSums], book: PriceBook, elapsed_ms: int
) -> None:
    live = view(rows, prices=book, elapsed_ms=elapsed_ms)
    terms = {pool.name: pool.terms[0] for pool in book.pools}
    owned_ms: dict[str, int] = dict.fromkeys(terms, 0)
    for (_, pool), place in live.places.items():
        if pool is None:
            continue
        place_ms = sum(live_duration_ms(place, bucket) for bucket in LIVE_BUCKETS)
        capacity = sum(place.component(name) for name in ("hardware", "rent", "facility", "host"))
        pico = round((terms[pool].per_gpu_hour or 0) * PICO)  # type: ignore[union-attr]
        assert capacity == capacity_quanta(pico, place_ms)
        assert capacity + place.component("energy") == place.total
        assert sum(live_cost(place, bucket) for bucket in LIVE_BUCKETS) == place.total
        owned_ms[pool] += place_ms
    for pool, term in terms.items():
        reported = sum(state_ms(row) for row in rows if row.gpu_model == pool)
        assert owned_ms[pool] == (reported if term.count is None else max(reported, term.count * elapsed_ms))
    assert live.whole.unpriced_ms == sum(state_ms(row) for row in rows if row.gpu_model == "unknown")
    assert live.whole.gpu_ms == sum(owned_ms.values()) + live.whole.unpriced_ms
    assert live.whole.total == view(list(reversed(rows)), prices=book, elapsed_ms=elapsed_ms).whole.total


@given(st.data())
def test_loaded_costs_sum_to_the_fleets_cost(data: st.DataObject) -> None:
    costs = book(None, {"p": data.draw(st.integers(1, 10**11))}, data.draw(st.integers(0, 10**9)))
    shares, rows = [], []
    for i in range(data.draw(st.integers(1, 4))):
        names = ("active_ms", "idle_ms", "active_mj", "idle_mj")
        amounts = {name: data.draw(st.integers(0, 10**8)) for name in names}
        shares.append(held(f"w{i}", "p", **amounts))
        rows.append(usage("p", "c", **amounts))
    rows.append(usage(unallocated_ms=data.draw(st.integers(0, 10**8)), unknown_ms=data.draw(st.integers(0, 10**8))))
    live = view(rows, shares, prices=costs)
    quanta = {basis: [row.quanta(basis) or 0 for row in live.workloads] for basis in ("direct", "allocated", "loaded")}
    if sum(quanta["allocated"]):
        assert sum(quanta["loaded"]) == live.whole.total
    for direct, allocated, loaded in zip(*quanta.values(), strict=True):
        assert direct <= allocated <= loaded


def test_ratios_without_a_denominator_are_absent() -> None:
    (row,) = view([], tokens=[made("w", 0)], prices=PriceBook()).workloads
    assert row.tokens_per_joule("total") is None
    assert row.cost_per_million_tokens("total", "direct") is None
    assert row.quanta("allocated") is None


def test_g17_and_g8_a_gpu_at_a_known_rate() -> None:
    """650 W at 2000 tokens/s: 3.076923 tokens/J. 1.322371 USD/h at 1000 tokens/s: 0.367325 USD/Mtok."""
    costs = book(None, {"p": 1_322_371_000_000 * 2})
    share = held("w", active_ms=HOUR_MS, active_mj=650 * 3_600_000)
    live = view([usage(active_ms=HOUR_MS, active_mj=650 * 3_600_000)], [share], [made("w", 2000 * 3600)], prices=costs)
    (row,) = live.workloads
    assert row.tokens_per_joule("completion") == pytest.approx(3.076923, abs=1e-6)
    assert row.cost_per_million_tokens("completion", "loaded") == pytest.approx(0.367325, abs=1e-6)


def test_loaded_shares_what_a_workloads_own_pool_lost() -> None:
    """p: a has 2, 4 dark; q: b has 3, 1 unallocated; r: 5 dark and nobody there: by 2 and 3 of 5, that is 2 and 3."""
    rows = [
        usage("p", active_ms=2 * HOUR_MS, unknown_ms=4 * HOUR_MS),
        usage("q", active_ms=3 * HOUR_MS, unallocated_ms=HOUR_MS),
        usage("r", unknown_ms=5 * HOUR_MS),
    ]
    shares = [held("a", active_ms=2 * HOUR_MS), held("b", "q", active_ms=3 * HOUR_MS)]
    live = view(rows, shares, prices=book(None, dict.fromkeys("pqr", PICO)))
    assert [row.quanta("loaded") for row in live.workloads] == [(2 + 4 + 2) * USD, (3 + 1 + 3) * USD]


BOOK = """
facilities: {a: {per_kwh: 0.10, bands: [{name: peak, hours: "08:00-09:00", per_kwh: 0.50}]}}
pools:
  - name: p
    owned: [{gpu: 8760, life_years: 1, count: 2}, {from: 2026-10-06, gpu: 17520}]
"""


def test_a_stretch_is_cut_at_whole_hours() -> None:
    noon = ms("2026-10-05T12:00")
    assert cut_at_hours(noon - 5, noon + HOUR_MS + 7) == [
        (noon - 5, noon), (noon, noon + HOUR_MS), (noon + HOUR_MS, noon + HOUR_MS + 7),
    ]  # fmt: skip
    assert cut_at_hours(noon, noon + 10) == [(noon, noon + 10)]
    assert cut_at_hours(noon, noon) == []


def test_a_stretch_over_a_change_of_prices_costs_what_the_report_says(tmp_path: Path) -> None:
    """Two hours at a time: 07 to 09 (energy 0.10 and 0.50 a kWh), and 23 to 01 (the GPU's price doubles at midnight)."""
    fleet = Fleet()
    for hour in (7, 8, 23, 24):
        shares = [Held(workload="w", active_min=30, idle_min=15, active_j=3_600_000)]
        fleet.hour(ms("2026-10-05") + hour * HOUR_MS, [Gpu(held=shares)], [Server(key="w", completion=1000)])
    book = prices(tmp_path, BOOK)
    fleet.ledger.fold()

    def live(start: str, hours: int) -> tuple[float, float]:
        start_ms = ms(start)
        view = read_live_view(fleet.ledger, policy(book), start_ms, start_ms + hours * HOUR_MS)
        (row,) = view.workloads
        assert row.quanta("loaded") == view.whole.total
        return float(decimal(view.whole.total)), float(decimal(row.quanta("allocated") or 0))

    # 2 GPUs paid at 1 an hour, and 0.10 + 0.50 of energy; of it 0.75 h a GPU is held.
    assert live("2026-10-05T07:00", 2) == (4.6, 2.1)
    # 2 at 1, 2 at 2, and twice 0.10.
    assert live("2026-10-05T23:00", 2) == (6.2, 0.75 + 1.5 + 0.2)
    report = fleet.maker(book).report("2026-10-05..2026-10-06", ["hour"])
    by_hour = {row.by["hour"]: float(row.cost) for row in report.rows}
    assert by_hour["2026-10-05T07:00:00Z"] + by_hour["2026-10-05T08:00:00Z"] == pytest.approx(4.6)
    assert by_hour["2026-10-05T23:00:00Z"] + by_hour["2026-10-06T00:00:00Z"] == pytest.approx(6.2)


def test_the_power_of_a_site_that_no_gpu_takes_costs_now_too(tmp_path: Path) -> None:
    """A quarter of an hour: 10 kW at 1 an hour is 2.50; one GPU of 2 kW pays 0.50 of it."""
    site = prices(
        tmp_path,
        "facilities: {dc: {per_kw_month: 744, kw_per_gpu: 2}}\nsites: {north: {provisioned_kw: 10}}\n"
        "pools: [{name: p, match: {gpu: p}, owned: {gpu: 0, life_years: 1}}]",
    )
    quarter_ms = HOUR_MS // 4
    live = view([usage(active_ms=quarter_ms)], prices=site, elapsed_ms=quarter_ms)
    assert {place: sums.total * 100 // USD for place, sums in live.places.items()} == {
        ("", "north"): 200,
        ("c", "p"): 50,
    }
    assert live.per_hour(live.whole.total) == 10
