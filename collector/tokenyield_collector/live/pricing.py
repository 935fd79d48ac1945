"""Facts of the ledger and the price book brought together: one stretch of time, priced. Pure.

In: `Facts` and a `PriceBook`. Out: a `Priced` fleet and the yields of its workloads.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tokenyield_collector.ledger.base import Facts
from tokenyield_collector.ledger.rows import HOST_KINDS
from tokenyield_collector.ledger.usage import GpuGroup, HostDay
from tokenyield_collector.live.cost import CostLine, PoolRate, Priced, Usage, price
from tokenyield_collector.live.yields import HeldUsage, MadeTokens, WorkloadYield, yields
from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.prices.host_power import NOTHING, measured_by_day
from tokenyield_collector.prices.rates import Rates
from tokenyield_wire.units import MS_PER_HOUR, hour_of_ms

UNPRICED = "(price missing)"
"""Shown as the pool of GPUs that no pool of the price book matches."""


@dataclass(frozen=True, kw_only=True)
class Books:
    """One stretch of time, priced."""

    start_ms: int
    elapsed_ms: int
    fleet: Priced
    workloads: list[WorkloadYield]


def rates_at(prices: PriceBook, at_ms: int) -> dict[str, PoolRate]:
    """Rates of the pools that are paid for at `at_ms`."""
    found, rates = {}, Rates(prices)
    for pool in prices.pools:
        if (rate := rates.of(pool, at_ms)) is not None:
            host_mw = round(rate.host_watts * 1000)
            found[pool.name] = PoolRate(pool.name, rate.pico_per_gpu_hour, rate.pico_per_kwh, rate.count, host_mw)
    return found


def pool_name(
    prices: PriceBook, rates: dict[str, PoolRate], cluster: str, node: str, gpu_model: str, labels: dict[str, str]
) -> str | None:
    pool = prices.pool_of(cluster, node, gpu_model, labels)
    return pool.name if pool is not None and pool.name in rates else None


PoolOf = dict[tuple[str, str, str], str | None]
"""(cluster, node, GPU model) -> pool; None: no price."""


def rates_and_pools(facts: Facts, prices: PriceBook, at_ms: int) -> tuple[dict[str, PoolRate], PoolOf]:
    """The rates at `at_ms`, and the pool of all GPUs in `facts`."""
    rates = rates_at(prices, at_ms)
    pools = {
        key: pool_name(prices, rates, *key, facts.node_labels.get(key[:2], {}))
        for key in {(g.cluster, g.node, g.gpu_model) for g in facts.gpus}
        | {(s.cluster, s.node, s.gpu_model) for s in facts.shares}
    }
    return rates, pools


def price_fleet(
    facts: Facts, prices: PriceBook, *, start_ms: int, elapsed_ms: int
) -> tuple[Priced, dict[str, PoolRate], PoolOf]:
    """The whole cost of `facts`, with the rates and pools that it was reckoned with."""
    rates, pools = rates_and_pools(facts, prices, start_ms)
    rates = _with_measured_hosts(rates, pools, facts)
    usages = [
        Usage(
            g.cluster, pools[g.cluster, g.node, g.gpu_model],
            g.active_ms, g.idle_ms, g.unallocated_ms, g.unknown_ms,
            g.active_mj, g.idle_mj, g.unallocated_mj, g.unknown_mj,
        )
        for g in facts.gpus
    ]  # fmt: skip
    return price(usages, rates, elapsed_ms=elapsed_ms), rates, pools


def _with_measured_hosts(rates: dict[str, PoolRate], pools: PoolOf, facts: Facts) -> dict[str, PoolRate]:
    """As statements do (hosts.py), over the stretch. Where facts do not tell nodes apart, a cluster whose
    GPUs are of several pools is priced by the book."""
    measures: dict[tuple[str, str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in facts.measures:
        if row.kind in HOST_KINDS:
            measures[row.cluster, row.node, row.name][row.kind] += row.amount
    if not measures:
        return rates
    groups = [GpuGroup(*place) for place in pools]
    days = [HostDay(0, *place, *(amounts[kind] for kind in HOST_KINDS)) for place, amounts in measures.items()]
    measured = measured_by_day(days, groups, lambda group: pools[group.cluster, group.node, group.gpu_model])
    reported: dict[str, int] = defaultdict(int)
    for g in facts.gpus:
        reported[pools[g.cluster, g.node, g.gpu_model] or ""] += (
            g.active_ms + g.idle_ms + g.unallocated_ms + g.unknown_ms
        )
    return {
        name: rate.with_host(measured.get((name, 0), NOTHING).mw(reported[name], rate.host_mw))
        for name, rate in rates.items()
    }


class Stretch(NamedTuple):
    """All facts of [start_ms, start_ms + elapsed_ms), which lies within one hour: a rate holds for that long."""

    facts: Facts
    start_ms: int
    elapsed_ms: int


def hours_between(start_ms: int, end_ms: int) -> list[tuple[int, int]]:
    """[start, end) cut at whole hours."""
    cuts = [start_ms, *range(hour_of_ms(start_ms) + MS_PER_HOUR, end_ms, MS_PER_HOUR), end_ms]
    return [(cuts[i], cuts[i + 1]) for i in range(len(cuts) - 1) if cuts[i] < cuts[i + 1]]


def keep_books(stretches: Sequence[Stretch], prices: PriceBook) -> Books:
    """Price stretches that follow each other."""
    lines: dict[tuple[str, str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    fleet, held, made = Priced(), [], []
    for stretch in stretches:
        priced, rates, pools = price_fleet(
            stretch.facts, prices, start_ms=stretch.start_ms, elapsed_ms=stretch.elapsed_ms
        )
        fleet.missing_ms += priced.missing_ms
        for line in priced.lines:
            sums = lines[line.cluster, line.pool, line.bucket, line.component]
            sums[0] += line.quanta
            sums[1] += line.duration_ms
        for s in stretch.facts.shares:
            rate = rates.get(pools[s.cluster, s.node, s.gpu_model] or "")
            held.append(
                HeldUsage(
                    s.cluster,
                    s.workload,
                    rate,
                    s.active_ms,
                    s.idle_ms,
                    s.active_mj,
                    s.idle_mj,
                    s.parked_ms,
                    s.parked_mj,
                )
            )
        made += [
            MadeTokens(
                cluster=t.cluster,
                workload=t.workload,
                server=t.server,
                model=t.model,
                prompt_computed=t.prompt_computed,
                prompt_cached=t.prompt_cached,
                prompt_unsplit=t.prompt_unsplit,
                completion=t.completion,
                requests=t.requests,
            )
            for t in stretch.facts.tokens
        ]
    fleet.lines = [CostLine(*key, quanta, duration_ms) for key, (quanta, duration_ms) in lines.items()]
    return Books(
        start_ms=min((stretch.start_ms for stretch in stretches), default=0),
        elapsed_ms=sum(stretch.elapsed_ms for stretch in stretches),
        fleet=fleet,
        workloads=yields(held, made, fleet),
    )
