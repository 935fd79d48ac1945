"""`GET /v1/summary`: the fleet's yield, its waterfall and its workloads over one stretch of time. Pure.

Money is given as exact decimal numbers; a ratio without a denominator is null.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from tokenyield_collector.http.schemas import Demand, PoolCost, SummaryDocument, WaterfallStep, WorkloadNow
from tokenyield_collector.ledger.base import Facts
from tokenyield_collector.live.cost import BUCKETS
from tokenyield_collector.live.pricing import Books
from tokenyield_collector.live.yields import BASES, KINDS, WorkloadYield, total
from tokenyield_collector.metrics.exposition import bucket_quanta, fleet_tokens, idle_cost_per_hour
from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.prices.money import amount, decimal, spread
from tokenyield_collector.prices.period import iso
from tokenyield_wire.units import MJ_PER_JOULE, MS_PER_HOUR
from tokenyield_wire.window import REQUEST_KINDS, STATES, TOKEN_KINDS

_encoder = msgspec.json.Encoder(decimal_format="number")


def encode(document: Mapping[str, Any]) -> bytes:
    return _encoder.encode(document)


def summarize(facts: Facts, books: Books, prices: PriceBook) -> SummaryDocument:
    """The document, ready for `encode`."""
    energy_mj = {state: sum(getattr(g, f"{state}_mj") for g in facts.gpus) for state in STATES}
    time_ms = {state: sum(getattr(g, f"{state}_ms") for g in facts.gpus) for state in STATES}
    joules = sum(energy_mj.values()) / MJ_PER_JOULE
    whole = books.fleet.total_quanta()
    tokens = {kind: fleet_tokens(books.workloads, kind) for kind in KINDS}
    has_prices = bool(prices.pools)
    labels = _labels(facts)
    return {
        "start": iso(books.start_ms),
        "end": iso(books.start_ms + books.elapsed_ms),
        "seconds": books.elapsed_ms / 1000,
        "currency": prices.currency,
        "price_book": prices.fingerprint or None,
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
            "tokens_per_joule": {kind: n / joules if joules and n else None for kind, n in tokens.items()},
            "cost": decimal(whole) if has_prices else None,
            "cost_per_hour": _per_hour(whole, books.elapsed_ms) if has_prices else None,
            "idle_cost_per_hour": round(sum(idle_cost_per_hour(books).values()), 6) if has_prices else None,
            "cost_per_million_tokens": {
                kind: amount(whole) / (n / 1e6) if n and has_prices else None for kind, n in tokens.items()
            },
            "price_missing_gpu_seconds": books.fleet.missing_ms / 1000,
        },
        "waterfall": _waterfall(books),
        "pools": _pools(books),
        "workloads": [_workload(row, labels.get((row.cluster, row.workload), {})) for row in books.workloads],
        "demand": _demand(facts),
    }


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


def _labels(facts: Facts) -> dict[tuple[str, str], dict[str, str]]:
    """(cluster, workload) -> the labels that it carried longest."""
    longest: dict[tuple[str, str], tuple[int, str]] = {}
    for row in facts.labels:
        key = (row.cluster, row.workload)
        longest[key] = max(longest.get(key, (0, "")), (row.seen_ms, row.labels))
    return {key: msgspec.json.decode(text) for key, (_, text) in longest.items()}


def _demand(facts: Facts) -> list[Demand]:
    """Tokens and requests by who asked, over all nodes of a gateway."""
    sums: dict[tuple[str, str, str, str], dict[str, int | None]] = {}
    for row in facts.demand:
        known = sums.setdefault((row.cluster, row.gateway, row.model, row.asker), {})
        for kind in (*TOKEN_KINDS, *REQUEST_KINDS):
            known[kind] = total([known.get(kind), getattr(row, kind)])
    return [
        {
            "cluster": cluster,
            "gateway": gateway,
            "model": model or None,
            "asker": msgspec.json.decode(asker),
            "tokens": {kind: known[kind] for kind in TOKEN_KINDS},
            "requests": known["requests"],
            "requests_aborted": known["requests_aborted"],
            "requests_failed": known["requests_failed"],
        }
        for (cluster, gateway, model, asker), known in sorted(sums.items())
    ]


def _waterfall(books: Books) -> list[WaterfallStep]:
    capacity = bucket_quanta(books.fleet.lines, "capacity")
    energy = bucket_quanta(books.fleet.lines, "energy")
    cells = spread([sums.get(bucket, 0) for bucket in BUCKETS for sums in (capacity, energy)])
    durations: dict[str, int] = defaultdict(int)
    for line in books.fleet.lines:
        durations[line.bucket] += line.duration_ms
    whole = sum(capacity.values())
    return [
        {
            "bucket": bucket,
            "gpu_hours": durations[bucket] / MS_PER_HOUR,
            "capacity_cost": cells[2 * i],
            "energy_cost": cells[2 * i + 1],
            "share_of_capacity": capacity.get(bucket, 0) / whole if whole else None,
        }
        for i, bucket in enumerate(BUCKETS)
    ]


def _pools(books: Books) -> list[PoolCost]:
    pools: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for line in books.fleet.lines:
        pools[line.cluster, line.pool][line.bucket] += line.quanta
    costs = iter(spread([quanta for _, buckets in sorted(pools.items()) for quanta in buckets.values()]))
    return [
        {"cluster": cluster, "pool": pool, "cost": {bucket: next(costs) for bucket in buckets}}
        for (cluster, pool), buckets in sorted(pools.items())
    ]


def _workload(row: WorkloadYield, labels: dict[str, str]) -> WorkloadNow:
    return {
        "cluster": row.cluster,
        "workload": row.workload,
        "server": row.server,
        "model": row.model or None,
        "labels": labels,
        "gpu_seconds": {"active": row.active_ms / 1000, "idle": row.idle_ms / 1000, "parked": row.parked_ms / 1000},
        "parked_cost": None if row.parked_quanta is None else decimal(row.parked_quanta),
        "energy_joules": row.energy_mj / MJ_PER_JOULE,
        "tokens": {kind: getattr(row, kind) for kind in TOKEN_KINDS},
        "requests": row.requests,
        "tokens_per_joule": {kind: row.tokens_per_joule(kind) for kind in KINDS},
        "cost": {basis: None if quanta is None else decimal(quanta) for basis, quanta in row.quanta.items()},
        "cost_per_million_tokens": {
            kind: {basis: row.cost_per_million_tokens(kind, basis) for basis in BASES} for kind in KINDS
        },
    }


def _per_hour(quanta: int, elapsed_ms: int) -> Decimal | None:
    return decimal(quanta * MS_PER_HOUR // elapsed_ms) if elapsed_ms else None
