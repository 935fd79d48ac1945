"""GPUs beyond a count, before a term and after it: to which pool their time falls, and that nothing is lost on the way.

Hand-worked numbers; random fleets are in test_statement_properties.py.
"""

from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from collector.fleet import HOUR_MS, Fleet, Gpu, Held, Server, ms, policy, prices
from tokenyield_collector.live.window_usage import Stretch, WindowUsage
from tokenyield_collector.prices.money import decimal
from tokenyield_collector.statements.lines import FIELDS, Sums
from tokenyield_collector.statements.source import Grain, Span
from tokenyield_collector.statements.statement import fleet_statement

DAY = "2026-10-05"
SPAN = Span(ms(DAY), ms(DAY) + 24 * HOUR_MS)


def by_pool(fleet: Fleet, text: str, folder: Path, grain: Grain = Grain(), span: Span = SPAN) -> dict[str | None, Sums]:
    fleet.ledger.roll()
    statement = fleet_statement(fleet.ledger.usage(), policy(prices(folder, text)), span, grain)
    pools: dict[str | None, Sums] = defaultdict(Sums)
    for key, sums in statement.unshared_lines():
        pools[key.pool].take(sums)
    return pools


def costs(pools: dict[str | None, Sums]) -> dict[str | None, Decimal]:
    return {pool: decimal(sums.total, 6) for pool, sums in pools.items()}


def busy(number: int, workload: str = "w") -> Gpu:
    return Gpu(uuid=f"GPU-{number}", held=[Held(workload=workload, active_min=60, active_j=3_600_000)])


def six_for_four_hours() -> Fleet:
    """Six GPUs, two of `a`, three of `b`, one free, for four hours, 1 kWh each and hour where they are held."""
    fleet = Fleet()
    for hour in range(4):
        gpus = [*(busy(i, "a") for i in range(2)), *(busy(i, "b") for i in range(2, 5)), Gpu(uuid="GPU-5")]
        servers = [Server(key="a", completion=600), Server(key="b", completion=900)]
        fleet.hour(SPAN.start_ms + hour * HOUR_MS, gpus, servers)
    return fleet


RESERVED = "rented: {kind: reserved, count: 4, per_gpu_hour: 1.5"


def test_gpus_beyond_a_reservation_go_to_the_next_pool_that_matches(tmp_path: Path) -> None:
    """4 of 6 for 4 h at 1.5 = 24, and 2 for 4 h at 3 = 24; for the other 20 hours 4 at 1.5 are dark = 120."""
    text = f"pools: [{{name: res, {RESERVED}}}}}, {{name: cloud, rented: {{per_gpu_hour: 3}}}}]"
    pools = by_pool(six_for_four_hours(), text, tmp_path)
    assert costs(pools) == {"res": 144, "cloud": 24}
    assert pools["res"].get("dark_ms") == 80 * HOUR_MS
    assert {pool: sums.get("productive_ms") for pool, sums in pools.items()} == {
        "res": 4 * 5 * HOUR_MS * 4 // 6,
        "cloud": 4 * 5 * HOUR_MS * 2 // 6,
    }
    assert {pool: sums.get("unallocated_ms") for pool, sums in pools.items()} == {
        "res": 4 * HOUR_MS * 4 // 6,
        "cloud": 4 * HOUR_MS * 2 // 6,
    }
    assert {pool: sums.get("completion") for pool, sums in pools.items()} == {"res": 4000, "cloud": 2000}
    assert {pool: sums.get("gpu_mj") for pool, sums in pools.items()} == {
        "res": 20 * 3_600_000_000 * 4 // 6,
        "cloud": 20 * 3_600_000_000 * 2 // 6,
    }


def test_a_rate_for_what_is_beyond_the_count(tmp_path: Path) -> None:
    """2 for 4 h at 2.25 = 18, though another pool would match; the pool beyond has a name of its own."""
    text = (
        f"pools: [{{name: res, {RESERVED}, overflow_per_gpu_hour: 2.25}}}}, {{name: c, rented: {{per_gpu_hour: 9}}}}]"
    )
    assert costs(by_pool(six_for_four_hours(), text, tmp_path)) == {"res": 144, "res (overflow)": 18}


def test_gpus_beyond_what_is_owned_pay_for_space_and_energy(tmp_path: Path) -> None:
    """Owned: 8760 over a year = 1 an hour, 4 x 24 h = 96, space of 0.2 (148.8 a month, 744 h): 19.2.

    Beyond: 2 of 6 for 4 h: rent 2 x 4 x 2 = 16, space 8 x 0.2 = 1.6. Energy, 20 kWh at 0.1 = 2, two thirds and one.
    """
    text = """
    facilities: {a: {per_kwh: 0.1, per_kw_month: 148.8, kw_per_gpu: 1}}
    pools: [{name: own, owned: {gpu: 8760, life_years: 1, count: 4, overflow_per_gpu_hour: 2}}]"""
    found = costs(by_pool(six_for_four_hours(), text, tmp_path))
    assert found == {
        "own": Decimal("115.2") + Decimal("1.333333"),
        "own (overflow)": Decimal("17.6") + Decimal("0.666667"),
    }


def test_without_a_next_pool_the_excess_has_no_price(tmp_path: Path) -> None:
    pools = by_pool(six_for_four_hours(), f"pools: [{{name: res, {RESERVED}}}}}]", tmp_path)
    assert costs(pools) == {"res": 144, None: 0}
    assert pools[None].unpriced_ms == 8 * HOUR_MS
    assert pools["res"].unpriced_ms == 0


def test_what_is_beyond_two_counts_goes_on_twice(tmp_path: Path) -> None:
    """6: 3 at 1, 2 of the next at 2, 1 at 5, for 4 hours; dark 20 h x 3 at 1 and x 2 at 2."""
    text = """
    pools:
    - {name: a, rented: {kind: reserved, count: 3, per_gpu_hour: 1}}
    - {name: b, rented: {kind: reserved, count: 2, per_gpu_hour: 2}}
    - {name: c, rented: {per_gpu_hour: 5}}"""
    pools = by_pool(six_for_four_hours(), text, tmp_path)
    assert costs(pools) == {"a": 12 + 60, "b": 16 + 80, "c": 20}
    assert [pools[name].gpu_ms // HOUR_MS for name in "abc"] == [72, 48, 4]


def test_gpus_on_demand_have_a_least_number_and_no_greatest(tmp_path: Path) -> None:
    text = "pools: [{name: a, rented: {count: 4, per_gpu_hour: 1}}]"
    assert costs(by_pool(six_for_four_hours(), text, tmp_path)) == {"a": 6 * 4 + 4 * 20}


@pytest.mark.parametrize(
    ("first", "hours"),
    [
        ("rented: {per_gpu_hour: 1, ends: 2026-10-06}", (24, 24)),
        ("rented: {per_gpu_hour: 1, starts: 2026-10-06}", (24, 24)),
        ("rented: [{per_gpu_hour: 1, from: 2026-10-06}]", (24, 24)),
        ("owned: {gpu: 8760, life_years: 1, retired: 2026-10-06}", (24, 24)),
        ("owned: {gpu: 8760, life_years: 1, in_service: 2026-10-06}", (24, 24)),
        ("rented: {per_gpu_hour: 1, starts: 2026-10-05, ends: 2026-10-07}", (48, 0)),
    ],
)
def test_a_pool_that_does_not_hold_lets_its_gpus_fall_to_the_next(
    tmp_path: Path, first: str, hours: tuple[int, int]
) -> None:
    """One GPU, two days, at 1 while the first pool's terms hold and at 3 while they do not."""
    fleet = Fleet()
    for hour in range(48):
        fleet.hour(SPAN.start_ms + hour * HOUR_MS, [busy(0)], [Server(key="w")])
    text = f"pools: [{{name: a, {first}}}, {{name: b, rented: {{per_gpu_hour: 3}}}}]"
    pools = by_pool(fleet, text, tmp_path, span=Span(SPAN.start_ms, SPAN.start_ms + 48 * HOUR_MS))
    assert tuple(pools[name].gpu_ms // HOUR_MS if name in pools else 0 for name in "ab") == hours
    assert decimal(sum(sums.total for sums in pools.values()), 6) == hours[0] + 3 * hours[1]


def test_upfront_money_is_paid_once_whatever_number_of_gpus_reports(tmp_path: Path) -> None:
    """A term of October with 4 x 744 paid upfront: 1 a GPU-hour for 4 GPUs, 24 h x 4 = 96 a day, whether 6 or 0 report."""
    terms = "{kind: reserved, count: 4, per_gpu_hour: 0, upfront_per_gpu: 744, starts: 2026-10-01, ends: 2026-11-01}"
    text = f"pools: [{{name: res, rented: {terms}}}, {{name: cloud, rented: {{per_gpu_hour: 3}}}}]"
    idle = Fleet()
    idle.hour(SPAN.start_ms, [], [])
    assert costs(by_pool(idle, text, tmp_path))["res"] == 96
    assert costs(by_pool(six_for_four_hours(), text, tmp_path))["res"] == 96


UNEVEN = """
pools:
- {name: a, match: {gpu: "*H100*"}, rented: {kind: reserved, count: 1, per_gpu_hour: 1.7}}
- {name: b, rented: {kind: reserved, count: 3, per_gpu_hour: 2.3, overflow_per_gpu_hour: 3.1}}
"""


def uneven() -> Fleet:
    """Times that no count divides, on two nodes and two models of GPU."""
    fleet = Fleet()
    for hour in range(5):
        for node in ("n1", "n2"):
            gpus = [
                Gpu(uuid=f"{node}-{i}", model="NVIDIA L4" if i == 2 else "NVIDIA H100 80GB HBM3",
                    held=[Held(workload=key, active_min=2.0001 * (i + 1), idle_min=5.0003, active_j=1001 + i, idle_j=7)
                          for key in ("a", "b", "c")[: i + 1]])
                for i in range(3)
            ]  # fmt: skip
            servers = [Server(key=key, completion=1000 + hour, requests=7) for key in ("a", "b", "c")]
            fleet.hour(SPAN.start_ms + hour * HOUR_MS, gpus, servers, node=node)
    return fleet


def test_every_grain_divides_the_same(tmp_path: Path) -> None:
    """To the last quantum: what is rounded does not depend on the grain, the period or what was asked first."""
    fleet = uneven()
    exact: dict[str | None, list[int]] | None = None
    for options in (
        {},
        {"hour": True},
        {"node": True},
        {"workload": True, "cluster": True},
        {"hour": True, "node": True},
    ):
        found: dict[str | None, list[int]] = {
            pool: list(sums) for pool, sums in by_pool(fleet, UNEVEN, tmp_path, Grain(**options)).items()
        }
        names = [i for i, name in enumerate(FIELDS) if name != "loaded"]
        shown = {pool: [sums[i] for i in names] for pool, sums in found.items()}
        exact = exact or shown
        assert shown == exact, options


def test_the_live_view_divides_the_same(tmp_path: Path) -> None:
    """The same hours as windows and as roll-ups: the same cost by pool."""
    fleet = uneven()
    book = prices(tmp_path, UNEVEN)
    span = Span(SPAN.start_ms, SPAN.start_ms + 5 * HOUR_MS)
    hours = [(span.start_ms + i * HOUR_MS, span.start_ms + (i + 1) * HOUR_MS) for i in range(5)]
    facts = fleet.ledger.facts_of_stretches(hours, by_node=True)
    stretches = [Stretch(part, start, end - start) for (start, end), part in zip(hours, facts, strict=True)]
    live: dict[Any, int] = defaultdict(int)
    for key, sums in fleet_statement(WindowUsage(stretches), policy(book), span, Grain()).unshared_lines():
        live[key.pool] += sums.total
    assert live == {pool: sums.total for pool, sums in by_pool(fleet, UNEVEN, tmp_path, span=span).items()}


def test_what_has_no_pool_stands_in_its_hour(tmp_path: Path) -> None:
    """GPUs that no pool matches, a pool that ended, and tokens of a server without GPUs: all at 07:00."""
    fleet = Fleet()
    fleet.hour("2026-10-05T07:00", [Gpu(model="NVIDIA L4")], [Server(key="w", completion=100)])
    fleet.ledger.roll()
    for text in (
        "pools: [{name: a, match: {gpu: '*H100*'}, rented: {per_gpu_hour: 1}}]",
        "pools: [{name: a, rented: {per_gpu_hour: 1, ends: 2026-01-01}}]",
        "pools: [{name: a, rented: {kind: reserved, count: 0, per_gpu_hour: 1}}]",
    ):
        judged_by = policy(prices(tmp_path, text))
        lines = list(fleet_statement(fleet.ledger.usage(), judged_by, SPAN, Grain(hour=True)).lines())
        assert {key.start_ms for key, _ in lines} == {ms("2026-10-05T07:00")}
        assert sum(sums.get("completion") for _, sums in lines) == 100
