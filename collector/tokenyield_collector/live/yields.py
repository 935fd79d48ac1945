"""Tokens per joule and dollars per million tokens. Pure.

In: what each workload held of the fleet, the tokens it made, and the fleet's cost lines. Out: one `WorkloadYield` each.

Cost per million tokens has three bases, always labelled (design.md section 5):
* direct: the time and energy in which the workload's kernels ran;
* allocated: and the idle time that it held;
* loaded: and its share of what its pool lost (unallocated, dark, and GPUs held by untied processes), in proportion to
  its allocated cost there; what a pool without workloads lost is shared by all. Summed over all workloads the loaded
  cost is the fleet's whole cost. A ratio without a denominator is None, never 0.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tokenyield_collector.live.cost import PoolRate, Priced
from tokenyield_collector.prices.money import amount
from tokenyield_wire.units import MJ_PER_JOULE, apportion
from tokenyield_wire.window import TOKEN_KINDS

BASES = ("direct", "allocated", "loaded")
KINDS = ("completion", "total")
"""`total` is every token known: prompt computed, cached and unsplit, and completion."""


class HeldUsage(NamedTuple):
    """What one workload held of one pool, and the pool's rate at that time; None: no price."""

    cluster: str
    workload: str
    rate: PoolRate | None
    active_ms: int
    idle_ms: int
    active_mj: int
    idle_mj: int
    parked_ms: int = 0
    """Part of the idle time and, below, energy."""
    parked_mj: int = 0


class MadeTokens(NamedTuple):
    """What one workload made. None: not told by its source."""

    cluster: str
    workload: str
    server: str
    model: str
    prompt_computed: int | None = None
    prompt_cached: int | None = None
    prompt_unsplit: int | None = None
    completion: int | None = None
    requests: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadYield:
    """One workload over one stretch of time. Costs are quanta, None where its GPUs have no price."""

    cluster: str
    workload: str
    server: str
    model: str
    active_ms: int
    idle_ms: int
    energy_mj: int
    prompt_computed: int | None
    prompt_cached: int | None
    prompt_unsplit: int | None
    completion: int | None
    requests: int | None
    quanta: Mapping[str, int | None]
    """By basis."""
    parked_ms: int = 0
    parked_quanta: int | None = None
    """Part of the idle time, and what it cost."""

    def tokens(self, kind: str) -> int:
        if kind == "completion":
            return self.completion or 0
        return sum(getattr(self, kind) or 0 for kind in TOKEN_KINDS)

    def tokens_per_joule(self, kind: str) -> float | None:
        """Over all energy of the GPUs while the workload held them, idle included."""
        return self.tokens(kind) * MJ_PER_JOULE / self.energy_mj if self.energy_mj and self.tokens(kind) else None

    def cost_per_million_tokens(self, kind: str, basis: str) -> float | None:
        quanta, tokens = self.quanta[basis], self.tokens(kind)
        return amount(quanta) / (tokens / 1e6) if quanta is not None and tokens else None


def yields(held: Iterable[HeldUsage], made: Iterable[MadeTokens], fleet: Priced) -> list[WorkloadYield]:
    """One yield per workload that held a GPU or made a token, sorted by cluster and name."""
    usage: dict[tuple[str, str], list[HeldUsage]] = defaultdict(list)
    for row in held:
        usage[row.cluster, row.workload].append(row)
    tokens: dict[tuple[str, str], list[MadeTokens]] = defaultdict(list)
    for made_row in made:
        tokens[made_row.cluster, made_row.workload].append(made_row)
    keys = sorted(usage.keys() | tokens.keys())
    direct = [_cost(usage[key], idle=False) for key in keys]
    allocated = [_cost(usage[key], idle=True) for key in keys]
    shared = _shares_of_the_rest(
        [usage[key] if cost is not None else [] for key, cost in zip(keys, allocated, strict=True)], fleet
    )
    found = []
    for i, key in enumerate(keys):
        cost = allocated[i]
        found.append(
            WorkloadYield(
                cluster=key[0],
                workload=key[1],
                server=next((t.server for t in tokens[key] if t.server != "unknown"), "unknown"),
                model=next((t.model for t in reversed(tokens[key]) if t.model), ""),
                active_ms=sum(row.active_ms for row in usage[key]),
                idle_ms=sum(row.idle_ms for row in usage[key]),
                energy_mj=sum(row.active_mj + row.idle_mj for row in usage[key]),
                prompt_computed=total([t.prompt_computed for t in tokens[key]]),
                prompt_cached=total([t.prompt_cached for t in tokens[key]]),
                prompt_unsplit=total([t.prompt_unsplit for t in tokens[key]]),
                completion=total([t.completion for t in tokens[key]]),
                requests=total([t.requests for t in tokens[key]]),
                parked_ms=sum(row.parked_ms for row in usage[key]),
                parked_quanta=_parked_cost(usage[key]),
                quanta={
                    "direct": direct[i],
                    "allocated": cost,
                    "loaded": None if cost is None else cost + shared[i],
                },
            )
        )
    return found


def _shares_of_the_rest(held: Sequence[Sequence[HeldUsage]], fleet: Priced) -> list[int]:
    """What each workload carries of what was lost, pool by pool."""
    allocated: dict[str, list[int]] = defaultdict(lambda: [0] * len(held))
    for i, rows in enumerate(held):
        for row in rows:
            if row.rate is not None:
                allocated[row.rate.pool][i] += row.rate.quanta(row.active_ms + row.idle_ms, row.active_mj + row.idle_mj)
    whole: dict[str, int] = defaultdict(int)
    for line in fleet.lines:
        whole[line.pool] += line.quanta
    shares, left = [0] * len(held), 0
    for pool, quanta in whole.items():
        weights = allocated.get(pool, [])
        if any(weights):
            parts = apportion(quanta - sum(weights), weights)
            shares = [share + part for share, part in zip(shares, parts, strict=True)]
        else:
            left += quanta
    everywhere = [sum(weights[i] for weights in allocated.values()) for i in range(len(held))]
    if left and any(everywhere):
        shares = [share + part for share, part in zip(shares, apportion(left, everywhere), strict=True)]
    return shares


def _cost(rows: Sequence[HeldUsage], *, idle: bool) -> int | None:
    """None when the workload held nothing, or held a GPU that has no price."""
    if not rows:
        return None
    cost = 0
    for row in rows:
        if row.rate is None:
            return None
        cost += row.rate.quanta(
            row.active_ms + (row.idle_ms if idle else 0), row.active_mj + (row.idle_mj if idle else 0)
        )
    return cost


def _parked_cost(rows: Sequence[HeldUsage]) -> int | None:
    parked = [row._replace(active_ms=row.parked_ms, active_mj=row.parked_mj) for row in rows]
    return _cost(parked, idle=False)


def total(values: Iterable[int | None]) -> int | None:
    """The sum of what is known; None when nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
