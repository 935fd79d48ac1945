"""To which pools the GPU time of an hour falls, and what hosts were measured to draw. Plain Python, from docs/money.md.

The pools that GPUs match, in the order of the price book, are their *chain*. A pool that is owned or reserved takes no
more than its count of all time that comes to it, each GPU's in the same proportion; the rest goes on.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from oracle.facts import DAY_MS, HOUR_MS, WHOLE_MACHINE, Facts, GpuPlace, HourFacts
from oracle.lines import ONE
from oracle.terms import ZERO, HourRate, Terms

Chain = tuple[str, ...]


class Portion(NamedTuple):
    """The part of a chain's time that a pool takes; None: no pool does."""

    pool: str | None
    part: Decimal


class Placement:
    """Of the GPUs of a ledger, hour by hour."""

    def __init__(self, facts: Facts, terms: Terms) -> None:
        self._facts, self._terms = facts, terms
        self._chains: dict[GpuPlace, Chain] = {}

    def chain_of(self, place: GpuPlace) -> Chain:
        if place not in self._chains:
            labels = self._facts.node_labels.get((place.cluster, place.node), {})
            self._chains[place] = self._terms.pools_of(*place, labels)
        return self._chains[place]

    def of_hour(self, hour_ms: int, hour: HourFacts) -> tuple[Mapping[Chain, Sequence[Portion]], Mapping[str, Decimal]]:
        """Where the time of each chain falls, and what each pool pays for without reports (ms)."""
        left: dict[Chain, Decimal] = defaultdict(Decimal)
        for place, times in hour.time_ms.items():
            left[self.chain_of(place)] += sum(times.values())
        whole = dict(left)
        portions: dict[Chain, list[Portion]] = {chain: [] for chain in left}
        unreported: dict[str, Decimal] = {}
        for name in self._terms.pool_names:
            offer = self._terms.offer(name, hour_ms)
            if offer is None:
                continue
            count, is_capped = offer
            own = [chain for chain in left if name in chain and left[chain]]
            demand = sum((left[chain] for chain in own), ZERO)
            count_ms = Decimal(count * HOUR_MS) if count is not None else None
            if count_ms is not None and count_ms > demand:
                unreported[name] = count_ms - demand
            taken = ONE
            if count_ms is not None and is_capped and demand > count_ms:
                taken = count_ms / demand
            for chain in own:
                if taken:
                    portions[chain].append(Portion(name, left[chain] * taken / whole[chain]))
                left[chain] *= 1 - taken
        for chain, rest in left.items():
            if rest or not portions[chain]:
                portions[chain].append(Portion(None, rest / whole[chain] if whole[chain] else ONE))
        return portions, unreported


class MeasuredHosts:
    """By chain and day: what hosts drew, over the GPU time of the nodes that measure, and all GPU time that reported."""

    def __init__(self, facts: Facts, placement: Placement, start_ms: int, end_ms: int) -> None:
        chains: dict[tuple[str, str], set[Chain]] = defaultdict(set)
        for hour in facts.hours.values():
            for place in hour.reported:
                chains[place.cluster, place.node].add(placement.chain_of(place))
        days: dict[tuple[int, str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
        self._reported_ms: dict[tuple[Chain, int], int] = defaultdict(int)
        self._measured: dict[tuple[Chain, int], list[int]] = defaultdict(lambda: [0, 0])
        for hour_ms, hour in facts.hours.items():
            if start_ms <= hour_ms < end_ms:
                present = {(place.cluster, place.node) for place in hour.time_ms}
                for at, amounts in hour.hosts.items():
                    if at[:2] not in present:  # all its GPUs count for other nodes
                        continue
                    day = days[hour_ms - hour_ms % DAY_MS, *at]
                    day[:] = [a + b for a, b in zip(day, amounts, strict=True)]
                for place, times in hour.time_ms.items():
                    self._reported_ms[placement.chain_of(place), hour_ms - hour_ms % DAY_MS] += sum(times.values())
        for (day_ms, cluster, node, sensor), (host_mj, gpu_ms, gpu_mj) in days.items():
            own = chains[cluster, node]
            if len(own) == 1 and next(iter(own)):
                sums = self._measured[next(iter(own)), day_ms]
                sums[0] += max(0, host_mj - gpu_mj if sensor in WHOLE_MACHINE else host_mj) * 1000
                sums[1] += gpu_ms

    def applied(self, rate: HourRate, chain: Chain, hour_ms: int) -> HourRate:
        """The rate with the measured draw in place of the price book's, where there is one."""
        at = chain, hour_ms - hour_ms % DAY_MS
        own_uj, covered_ms = self._measured.get(at, (0, 0))
        if not covered_ms or not self._reported_ms[at]:
            return rate
        rest_ms = max(0, self._reported_ms[at] - covered_ms)
        book_mw = round(rate.host_watts * 1000)
        return rate.with_host(round((Decimal(own_uj) + rest_ms * book_mw) / (covered_ms + rest_ms)))
