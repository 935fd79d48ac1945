"""For random fleets, prices and rules: nothing is made and nothing lost, however it is summed and shared."""

import csv
import io
import os
import tempfile
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from collector.fleet import HOUR_MS, Fleet, Gpu, Held, Server, ms, prices, rules, window
from collector.fleet import policy as judged_by
from tokenyield_collector.live.window_usage import Stretch, WindowUsage
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.book import Owned
from tokenyield_collector.prices.components import COMPONENTS
from tokenyield_collector.prices.money import QUANTA_PER_UNIT, decimal
from tokenyield_collector.prices.rates import Rates
from tokenyield_collector.reports.formats.json import to_json
from tokenyield_collector.statements.buckets import COSTS
from tokenyield_collector.statements.source import Grain, Span
from tokenyield_collector.statements.statement import fleet_statement
from tokenyield_wire.window import Demand

START = ms("2026-10-05T18:00")
HOURS = 12
EXAMPLES = int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "10"))
TEAMS = ("search", "ads", "lab")
MODELS = ("llama", "qwen")
GPU_MODELS = ("NVIDIA H100 80GB HBM3", "NVIDIA L4", "Tesla T4")

minutes = st.integers(0, 20)
counts = st.one_of(st.none(), st.integers(0, 10**9))
amounts = st.decimals("0", "50", places=3)
way = st.sampled_from(["apart", "even", "usage", "ownership"])


@st.composite
def hours(draw: st.DrawFn, least: int = 0) -> list[dict[str, Any]]:
    """Some hours of some nodes, each with GPUs, servers and who asked for them."""
    found = []
    for node, hour in draw(
        st.sets(st.tuples(st.sampled_from(["n1", "n2", "n3"]), st.integers(0, HOURS - 1)), min_size=least, max_size=8)
    ):
        keys = draw(st.lists(st.sampled_from(["a", "b", "d"]), unique=True, max_size=3))
        gpus = [
            Gpu(
                uuid=f"{node}-{i}",
                model=draw(st.sampled_from(GPU_MODELS)),
                held=[
                    Held(workload=key, active_min=draw(minutes), idle_min=draw(minutes) / 21,
                         active_j=draw(st.integers(0, 10**6)), idle_j=draw(st.integers(0, 10**5)))
                    for key in draw(st.lists(st.sampled_from(keys), unique=True, max_size=2))
                ]
                if keys
                else [],
                rest=draw(st.sampled_from(["unallocated", "unknown"])),
                rest_j=draw(st.integers(0, 10**5)),
            )
            for i in range(draw(st.integers(0, 3)))
        ]  # fmt: skip
        servers = [
            Server(
                key=key,
                model=draw(st.sampled_from(MODELS)),
                labels=draw(st.sampled_from([None, {"team": "search"}, {"team": "ads"}])),
                completion=draw(counts),
                prompt_computed=draw(counts),
                prompt_cached=draw(counts),
                requests=draw(counts),
            )
            for key in keys
        ]
        demand = [
            Demand(gateway="g", model=draw(st.sampled_from([*MODELS, "chat"])), caller={"team": team},
                   completion=draw(counts), prompt_unsplit=draw(counts), requests=draw(counts))
            for team in draw(st.lists(st.sampled_from(TEAMS), unique=True, max_size=3))
        ]  # fmt: skip
        found.append(
            {"node": node, "start": START + hour * HOUR_MS, "gpus": gpus, "servers": servers, "demand": demand}
        )
    return found


@st.composite
def books(draw: st.DrawFn) -> dict[str, Any]:
    site = {
        "pue": float(draw(st.decimals("1", "2", places=2))),
        "per_kwh": float(draw(st.decimals("0", "1", places=3))),
        "per_kw_month": 144,
        "kw_per_gpu": 0.5,
        "bands": [{"name": "night", "hours": "22:30-06:15", "per_kwh": float(draw(st.decimals("0", "1", places=3)))}],
        "host_watts_per_gpu": draw(st.integers(0, 500)),
        "carbon_g_per_kwh": draw(st.integers(0, 900)),
    }
    day = st.sampled_from([None, date(2026, 10, 5), date(2026, 10, 6)])
    owned: dict[str, Any] = {
        "gpu": float(draw(amounts)) * 1000,
        "life_years": 3,
        "count": draw(st.sampled_from([None, 0, 1, 2, 4])),
    }
    leased: dict[str, Any] = {"per_gpu_hour": float(draw(amounts)), "energy_included": draw(st.booleans())}
    pools: list[dict[str, Any]] = [
        {"name": "h100", "match": {"gpu": "*H100*"}, "owner": {"team": "lab"}, "owned": owned},
        {"name": "l4", "match": {"gpu": "*L4*"}, "rented": leased},
    ]
    if (began := draw(day)) is not None:
        owned["in_service"] = began
    elif (ended := draw(day)) is not None:
        owned["retired"] = ended
    if owned["count"] is not None and draw(st.booleans()):
        owned["overflow_per_gpu_hour"] = float(draw(amounts))
    if (ended := draw(day)) is not None:
        leased["ends"] = ended
    if draw(st.booleans()):
        leased |= {"kind": "reserved", "count": draw(st.integers(0, 3))}
    if draw(st.booleans()):
        rest = {"kind": "reserved", "count": 2, "per_gpu_hour": float(draw(amounts))}
        pools.append({"name": "rest", "rented": rest})
    if draw(st.booleans()):
        pools.append({"name": "spot", "match": {"gpu": "*[1H]*"}, "rented": {"kind": "spot", "per_gpu_hour": 1.25}})
    reference: dict[str, Any] = {"learn": draw(st.booleans()), "learn_days": 1}
    if draw(st.booleans()):
        reference |= {"configured": [{"model": "llama", "tokens_per_second": draw(st.integers(1, 10**5))}]}
    return {
        "timezone": draw(st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"])),
        "facilities": {"a": site},
        "pools": pools,
        "reference_rates": reference,
        "token_prices": [{"name": "x", "per_million": draw(st.sampled_from([0, 3, 45]))}],
    }


policies = st.fixed_dictionaries(
    {
        "sharing": st.fixed_dictionaries({"idle": way, "unallocated": way, "dark": way}),
        "gateway_models": st.sampled_from([{}, {"chat": "llama"}]),
    }
)
grains = st.builds(Grain, hour=st.booleans(), node=st.booleans(), workload=st.booleans(), cluster=st.booleans())


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(hours(), books(), policies, grains, st.sampled_from([["team"], ["team", "model"], ["day", "pool", "product"]]))
def test_the_books_balance(
    listed: list[dict[str, Any]], document: dict[str, Any], policy: dict[str, Any], grain: Grain, by: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        book = prices(Path(folder), yaml.safe_dump(document))
        attribution = rules(Path(folder), policy)
    fleet = Fleet()
    for one in listed:
        fleet.hour(one["start"], one["gpus"], one["servers"], one["demand"], node=one["node"])
    maker = fleet.maker(book, attribution)
    stretch = maker.stretch("2026-10-05..2026-10-06")
    fleet.ledger.roll()
    span = Span(stretch.start_ms, stretch.end_ms)
    statement = fleet_statement(fleet.ledger.usage(), judged_by(book, attribution), span, grain)
    lines = list(statement.lines())
    whole = fleet_cost(listed, book, stretch.start_ms, stretch.end_ms)
    assert live_cost(fleet, judged_by(book, attribution), span) == whole, "and the same hours, read as windows"
    assert sum(sums.total for _, sums in lines) == whole, "lines sum to what the fleet costs, computed apart"
    assert statement.whole.total == whole, "and so does the waterfall"
    assert all(value >= 0 for _, sums in lines for value in sums)
    for _, sums in lines:
        assert sum(sums.component(name) for name in COMPONENTS) == sums.total, "components sum to the line"
    used = sum(sums.allocated for key, sums in lines if key.carrier.kind not in ("untied", "idle"))
    if used:
        assert sum(sums.get("loaded") for _, sums in lines) >= used
    if any(sums.get("loaded") for _, sums in lines):
        assert sum(sums.get("loaded") for _, sums in lines) <= whole
    for kind in ("completion", "prompt_computed", "prompt_cached", "requests"):
        made = sum(getattr(server, kind) or 0 for one in listed for server in one["servers"])
        assert sum(sums.get(kind) for _, sums in lines) == made, f"{kind}: not one made, not one lost"
    given = sum(g.energy_mj.total() for one in listed for g in windows(one))
    assert sum(sums.get("gpu_mj") for _, sums in lines) == given

    report = maker.report("2026-10-05..2026-10-06", by)
    assert report.total.cost == sum((row.cost for row in report.rows), Decimal(0)) == decimal(whole)
    assert sum(report.waterfall.values()) == decimal(whole)
    for cost in COSTS:
        assert sum((row.parts[cost] for row in report.rows), Decimal(0)) == report.total.parts[cost]
    out = io.StringIO()
    assert maker.focus("2026-10-05..2026-10-06", out) == decimal(whole)
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert sum((Decimal(row["EffectiveCost"]) for row in rows), Decimal(0)) == decimal(whole)
    again = maker.report("2026-10-05..2026-10-06", by)
    assert to_json(again) == to_json(report), "priced twice, the same to the byte"


def live_cost(fleet: Fleet, policy: Policy, span: Span) -> int:
    hours = [(start_ms, start_ms + HOUR_MS) for start_ms in range(span.start_ms, span.end_ms, HOUR_MS)]
    parts = fleet.ledger.facts_of_stretches(hours, by_node=True)
    stretches = [Stretch(facts, start, end - start) for (start, end), facts in zip(hours, parts, strict=True)]
    lines = fleet_statement(WindowUsage(stretches), policy, span, Grain()).unshared_lines()
    return sum(sums.total for _, sums in lines)


def windows(one: dict[str, Any]) -> list[Any]:
    return [window(gpu) for gpu in one["gpus"]]


def fleet_cost(listed: list[dict[str, Any]], book: Any, start_ms: int, end_ms: int) -> int:
    """Rate x time paid for plus tariff x energy, hour by hour and pool by pool, without any of the code under test.

    In each hour pools take GPUs in their order: those with a committed count no more time than that, the same part of
    each chain (the pools that GPUs match), cumulated and rounded down; the rest goes on.
    """
    rates, total = Rates(book), 0
    for hour_ms in range(start_ms, end_ms, HOUR_MS):
        left: dict[tuple[int, ...], list[int]] = {}  # chain -> time and energy that no pool has taken yet
        for one in listed:
            for gpu in windows(one) if one["start"] == hour_ms else ():
                chain = tuple(
                    i for i, pool in enumerate(book.pools) if pool.match.fits("c", one["node"], gpu.model, {})
                )
                held = left.setdefault(chain, [0, 0])
                held[0] += HOUR_MS
                held[1] += gpu.energy_mj.total()
        for i, pool in enumerate(book.pools):
            terms = [terms for terms in pool.terms if terms.from_ is None or terms.from_ <= local_day(book, hour_ms)]
            begins, ends = ("in_service", "retired") if isinstance(pool.terms[0], Owned) else ("starts", "ends")
            if not terms or not is_between(terms[-1], begins, ends, local_day(book, hour_ms)):
                continue
            rate = rates.of(pool, hour_ms)
            assert rate is not None, "no currency but one"
            here = sorted((chain for chain in left if i in chain), key=lambda chain: ",".join(map(str, chain)))
            demand = sum(left[chain][0] for chain in here)
            is_limit = rate.kind in ("owned", "reserved") and rate.count is not None
            taken = min(demand, (rate.count or 0) * HOUR_MS) if is_limit else demand
            cost_ms, cost_mj, at = max(taken, (rate.count or 0) * HOUR_MS), 0, 0
            for chain in here:
                time, energy = left[chain]
                part = (at + time) * taken // demand - at * taken // demand if demand else 0
                at += time
                part_mj = energy * part // time if time else 0
                left[chain] = [time - part, energy - part_mj]
                cost_mj += part_mj
            total += rate.pico_per_gpu_hour * cost_ms * QUANTA_PER_UNIT // (10**12 * HOUR_MS)
            total += rate.pico_per_kwh * cost_mj
    return total


def local_day(book: Any, hour_ms: int) -> date:
    return datetime.fromtimestamp(hour_ms / 1000, ZoneInfo(book.timezone)).date()


def is_between(terms: Any, begins: str, ends: str, day: date) -> bool:
    first, last = getattr(terms, begins), getattr(terms, ends)
    return (first is None or first <= day) and (last is None or day < last)
