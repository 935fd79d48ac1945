"""Facts of the ledger and the price book brought together: one stretch of time, priced. Pure.

In: `Facts` and a `PriceBook`. Out: a `Priced` fleet and the yields of its workloads.
"""

from dataclasses import dataclass

from tokenyield_collector.cost import PoolRate, Priced, Usage, price
from tokenyield_collector.ledger.ledger import Facts
from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.prices.rates import Rates
from tokenyield_collector.yields import HeldUsage, MadeTokens, WorkloadYield, yields

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
            found[pool.name] = PoolRate(pool.name, rate.pico_per_gpu_hour, rate.pico_per_kwh, rate.count)
    return found


def pool_name(
    prices: PriceBook, rates: dict[str, PoolRate], cluster: str, node: str, gpu_model: str, labels: dict[str, str]
) -> str | None:
    pool = prices.pool_of(cluster, node, gpu_model, labels)
    return pool.name if pool is not None and pool.name in rates else None


PoolOf = dict[tuple[str, str, str], str | None]
"""(cluster, node, GPU model) -> pool; None: no price."""


def price_fleet(
    facts: Facts, prices: PriceBook, *, start_ms: int, elapsed_ms: int
) -> tuple[Priced, dict[str, PoolRate], PoolOf]:
    """The whole cost of `facts`, with the rates and pools that it was reckoned with."""
    rates = rates_at(prices, start_ms)
    pools = {
        key: pool_name(prices, rates, *key, facts.node_labels.get(key[:2], {}))
        for key in {(g.cluster, g.node, g.gpu_model) for g in facts.gpus}
        | {(s.cluster, s.node, s.gpu_model) for s in facts.shares}
    }
    usages = [
        Usage(
            g.cluster, pools[g.cluster, g.node, g.gpu_model],
            g.active_ms, g.idle_ms, g.unallocated_ms, g.unknown_ms,
            g.active_mj, g.idle_mj, g.unallocated_mj, g.unknown_mj,
        )
        for g in facts.gpus
    ]  # fmt: skip
    return price(usages, rates, elapsed_ms=elapsed_ms), rates, pools


def keep_books(facts: Facts, prices: PriceBook, *, start_ms: int, elapsed_ms: int) -> Books:
    """Price `facts`, which are all there is of [start_ms, start_ms + elapsed_ms)."""
    fleet, rates, pools = price_fleet(facts, prices, start_ms=start_ms, elapsed_ms=elapsed_ms)
    held = [
        HeldUsage(
            s.cluster, s.workload, pools[s.cluster, s.node, s.gpu_model], s.active_ms, s.idle_ms, s.active_mj, s.idle_mj
        )
        for s in facts.shares
    ]
    made = [
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
        for t in facts.tokens
    ]
    return Books(start_ms=start_ms, elapsed_ms=elapsed_ms, fleet=fleet, workloads=yields(held, made, rates, fleet))
