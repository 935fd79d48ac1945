"""`GET /v1/summary`: the fleet's yield, its waterfall and its workloads over one stretch of time. Pure.

Money is given as exact decimal numbers, all of which sum (summary_money.py), and as `shown` for people: in cents, or
with more decimals where the whole is less than 1. A ratio without a denominator is null.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from tokenyield_collector.http.schemas import (
    DemandDocument,
    HardwareCostDocument,
    IdleCapacityDocument,
    PoolCostDocument,
    ShownFleetCostDocument,
    SummaryDocument,
    WaterfallStepDocument,
    WorkloadSummaryDocument,
)
from tokenyield_collector.ledger.facts import Facts
from tokenyield_collector.ledger.latency import LatencyHistogram
from tokenyield_collector.live.live_view import (
    TOKEN_SUMS,
    LiveView,
    LiveWorkload,
    live_cost,
    live_duration_ms,
    live_energy_cost,
)
from tokenyield_collector.live.summary_money import SummaryMoney
from tokenyield_collector.live.view import View
from tokenyield_collector.live.window_usage import Workload
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.components import OWNERSHIP
from tokenyield_collector.prices.money import amount, decimal
from tokenyield_collector.prices.period import iso
from tokenyield_collector.reports.rounding import EXACT, for_people
from tokenyield_collector.statements.buckets import LIVE_BUCKETS
from tokenyield_collector.statements.lines import BASES, Sums, sum_of_known
from tokenyield_collector.statements.names import own_name
from tokenyield_wire.latency import LATENCY_KINDS, LatencyKind
from tokenyield_wire.units import MJ_PER_JOULE, MS_PER_HOUR
from tokenyield_wire.window import REQUEST_KINDS, STATES, TOKEN_KINDS

_encoder = msgspec.json.Encoder(decimal_format="number")


def encode(document: Mapping[str, Any]) -> bytes:
    return _encoder.encode(document)


def summarize(live: LiveView, policy: Policy, view: View | None = None) -> SummaryDocument:
    """The document, ready for `encode`."""
    prices, view = policy.prices, view or View()
    facts = live.facts
    energy_mj = {state: sum(getattr(g, f"{state}_mj") for g in facts.gpus) for state in STATES}
    time_ms = {state: sum(getattr(g, f"{state}_ms") for g in facts.gpus) for state in STATES}
    joules = sum(energy_mj.values()) / MJ_PER_JOULE
    whole = live.whole
    tokens = {kind: live.tokens(kind) for kind in TOKEN_SUMS}
    metered = {kind: live.metered_tokens(kind) for kind in TOKEN_SUMS}
    per_joule = {kind: n / joules if joules and n else None for kind, n in metered.items()}
    has_prices = bool(prices.pools)
    money, shown = SummaryMoney(EXACT, whole), SummaryMoney(for_people(whole.total), whole)
    latency = live.latency
    return {
        "start": iso(live.span.start_ms),
        "end": iso(live.span.end_ms),
        "seconds": live.elapsed_ms / 1000,
        "currency": prices.currency,
        "price_book": prices.fingerprint or None,
        "dimensions": list(policy.rules.dimensions),
        "fleet": {
            "gpus_reporting": sum(g.gpus for g in facts.gpus),
            "gpu_seconds": {state: ms / 1000 for state, ms in time_ms.items()},
            "energy_joules": {state: mj / MJ_PER_JOULE for state, mj in energy_mj.items()},
            "energy_by_method": _by_method(facts, sum(energy_mj.values())),
            "energy_error_joules": sum(g.energy_error_mj for g in facts.gpus) / MJ_PER_JOULE,
            "energy_missing_gpu_seconds": sum(g.energy_missing_ms for g in facts.gpus) / 1000,
            "host_energy_joules": _by_name((m.name, m.amount) for m in facts.measures if m.kind == "host"),
            "activity": _activity(facts),
            "throttled_gpu_seconds": _by_name(
                (r.reason, r.duration_ms) for r in facts.reasons if r.kind == "throttled"
            ),
            "throttled_lost_gpu_seconds": _by_name(
                (m.name, m.amount) for m in facts.measures if m.kind == "throttled_lost"
            ),
            "events": {
                name: round(times * 1000)
                for name, times in _by_name((m.name, m.amount) for m in facts.measures if m.kind == "event").items()
            },
            "tokens": tokens,
            "tokens_per_second_per_watt": per_joule,
            "tokens_per_joule": per_joule,
            "cost": money.cost if has_prices else None,
            "cost_per_hour": _per_hour(whole.total, live.elapsed_ms) if has_prices else None,
            "cost_components": money.components if has_prices else None,
            "idle_capacity": _idle_capacity(whole, money, live.elapsed_ms) if has_prices else None,
            "shown": _shown(shown) if has_prices else None,
            "cost_per_million_tokens": {
                kind: amount(whole.total) / (n / 1e6) if (n := live.priced_tokens(kind)) and has_prices else None
                for kind in TOKEN_SUMS
            },
            "price_missing_gpu_seconds": whole.unpriced_ms / 1000,
            "price_missing_tokens": whole.unpriced_tokens,
        },
        "gaps": [gap.document() for gap in live.gaps],
        "gaps_to_date": [gap.document() for gap in (*view.to_date.gaps, *view.bought.gaps)],
        "history": view.history.document(),
        "shown_decimals": for_people(whole.total).digits,
        "waterfall": _waterfall(whole, money, shown),
        "pools": _pools(live, money),
        "workloads": [
            _workload(row, costs, latency) for row, costs in zip(live.workloads, _workload_costs(live), strict=True)
        ],
        "demand": _demand(facts),
        "bought": [one.document() for one in view.bought.vendors],
    }


def _idle_capacity(whole: Sums, money: SummaryMoney, elapsed_ms: int) -> IdleCapacityDocument:
    """What was paid for capacity on which nothing ran, and how much of the hardware cost of the same time that is."""
    return {
        "cost": money.idle_capacity,
        "cost_per_hour": _per_hour(whole.idle_capacity, elapsed_ms),
        "hardware_cost": _hardware_document(money.hardware),
        "share_of_hardware_cost": _idle_shares(whole),
    }


def _hardware_document(hardware: Mapping[str, Decimal]) -> HardwareCostDocument:
    return {"total": hardware["total"], "owned": hardware["owned"], "rented": hardware["rented"]}


def _shown(money: SummaryMoney) -> ShownFleetCostDocument:
    return {
        "cost": money.cost,
        "idle_capacity_cost": money.idle_capacity,
        "hardware_cost": _hardware_document(money.hardware),
    }


def _idle_shares(whole: Sums) -> dict[str, float | None]:
    by_ownership = {ownership: whole.idle_share(component) for component, ownership in OWNERSHIP.items()}
    return {"total": whole.idle_share(), **by_ownership}


def _by_method(facts: Facts, whole_mj: int) -> dict[str, float]:
    """Joules by how they were got; those of counters are what nobody integrated."""
    integrated = _by_name((m.name, m.amount) for m in facts.measures if m.kind == "energy")
    from_counters = whole_mj - sum(g.integrated_mj for g in facts.gpus)
    return {"counter": from_counters / MJ_PER_JOULE, **integrated}


def _activity(facts: Facts) -> dict[str, float | None]:
    """Mean of what GPM counted, over the GPUs and the time that it counted."""
    found: dict[str, float | None] = {}
    for unit in ("sm", "tensor", "dram"):
        known = [(g.activity_known_ms, busy) for g in facts.gpus if (busy := getattr(g, f"{unit}_ms")) is not None]
        known_ms = sum(ms for ms, _ in known)
        found[unit] = sum(busy for _, busy in known) / known_ms if known_ms else None
    return found


def _by_name(amounts: Iterable[tuple[str, int]]) -> dict[str, float]:
    """Sums by name, in thousandths of what is given (ms to seconds, mJ to joules)."""
    sums: dict[str, int] = defaultdict(int)
    for name, amount_ in amounts:
        sums[name] += amount_
    return {name: sum_ / 1000 for name, sum_ in sorted(sums.items())}


def _demand(facts: Facts) -> list[DemandDocument]:
    """Tokens and requests by caller, over all nodes of a gateway."""
    sums: dict[tuple[str, str, str, str], dict[str, int | None]] = {}
    for row in facts.demand:
        known = sums.setdefault((row.cluster, row.gateway, row.model, row.caller), {})
        for kind in (*TOKEN_KINDS, *REQUEST_KINDS):
            known[kind] = sum_of_known([known.get(kind), getattr(row, kind)])
    return [
        {
            "cluster": own_name(cluster),
            "gateway": own_name(gateway),
            "model": own_name(model) or None,
            "caller": msgspec.json.decode(caller),
            "tokens": {kind: known[kind] for kind in TOKEN_KINDS},
            "requests": known["requests"],
            "requests_aborted": known["requests_aborted"],
            "requests_failed": known["requests_failed"],
        }
        for (cluster, gateway, model, caller), known in sorted(sums.items())
    ]


def _waterfall(whole: Sums, money: SummaryMoney, shown: SummaryMoney) -> list[WaterfallStepDocument]:
    capacity = {bucket: live_cost(whole, bucket) - live_energy_cost(whole, bucket) for bucket in LIVE_BUCKETS}
    all_capacity = sum(capacity.values())
    steps: list[WaterfallStepDocument] = []
    for bucket in LIVE_BUCKETS:
        exact = money.bucket(bucket)
        steps.append(
            {
                "bucket": bucket,
                "gpu_hours": live_duration_ms(whole, bucket) / MS_PER_HOUR,
                "cost": exact["cost"],
                "capacity_cost": exact["capacity_cost"],
                "energy_cost": exact["energy_cost"],
                "share_of_capacity": capacity[bucket] / all_capacity if all_capacity else None,
                "shown": shown.bucket(bucket),
            }
        )
    return steps


def _pools(live: LiveView, money: SummaryMoney) -> list[PoolCostDocument]:
    """Of pools of the price book; what none of them fits is in the gaps."""
    places = {(cluster, pool): sums for (cluster, pool), sums in live.places.items() if pool is not None}
    return [
        {"cluster": own_name(cluster), "pool": own_name(pool), "cost": cost}
        for (cluster, pool), cost in zip(places, money.places(list(places.values())), strict=True)
    ]


def _workload_costs(live: LiveView) -> list[dict[str, Decimal | None]]:
    """The cost of each workload by basis. Workloads sum to what all of them cost; None where it is not known."""
    known = [row for row in live.workloads if row.quanta("direct") is not None]
    columns = [[row.sums.on_basis(basis) for row in known] for basis in BASES]
    steps = EXACT.table(columns, [EXACT.whole(sum(column)) for column in columns])
    costs = iter(zip(*steps, strict=True))
    return [
        dict.fromkeys(BASES)
        if row.quanta("direct") is None
        else dict(zip(BASES, map(EXACT.plain, next(costs)), strict=True))
        for row in live.workloads
    ]


def _workload(
    row: LiveWorkload,
    costs: Mapping[str, Decimal | None],
    latency: Mapping[tuple[Workload, LatencyKind], LatencyHistogram],
) -> WorkloadSummaryDocument:
    waits = {kind: latency.get(((row.cluster, row.workload), kind)) for kind in LATENCY_KINDS}
    per_joule = {kind: row.tokens_per_joule(kind) for kind in TOKEN_SUMS}
    cluster, workload, model = row.names
    return {
        "cluster": cluster,
        "workload": workload,
        "server": row.server,
        "model": model or None,
        "labels": dict(row.labels),
        "gpu_seconds": {
            "active": row.sums.active_ms / 1000,
            "idle": row.sums.get("idle_ms") / 1000,
            "parked": row.sums.get("parked_ms") / 1000,
        },
        "parked_cost": None if row.parked_quanta is None else decimal(row.parked_quanta),
        "energy_joules": row.sums.get("gpu_mj") / MJ_PER_JOULE,
        "tokens": {kind: row.reported(kind) for kind in TOKEN_KINDS},
        "requests": row.reported("requests"),
        "latency": {kind: None if one is None else one.document() for kind, one in waits.items()},
        "tokens_per_second_per_watt": per_joule,
        "tokens_per_joule": per_joule,
        "cost": dict(costs),
        "cost_per_million_tokens": {
            kind: {basis: row.cost_per_million_tokens(kind, basis) for basis in BASES} for kind in TOKEN_SUMS
        },
    }


def _per_hour(quanta: int, elapsed_ms: int) -> Decimal | None:
    return decimal(quanta * MS_PER_HOUR // elapsed_ms) if elapsed_ms else None
