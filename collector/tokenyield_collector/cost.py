"""Usage into cost. Pure.

In: sums of GPU time and energy, who is owned, and rates. Out: `CostLine`s whose sum is the fleet's whole cost, exactly.

Theory. For one pool and one stretch of time, capacity cost = rate x time owned. Time owned splits into
    dark (owned but not reported, or reported as unknown) -> unallocated -> idle -> productive (active)
and the cost splits in the same proportion by largest remainder, in integer nano-dollars: no cent is made or lost in any
order of summing. Energy cost follows measured joules and falls into the same buckets. Where no rate is known the time
stands in `Priced.missing_ms` and has no cost: it is neither 0 nor invented.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tokenyield_wire.units import JOULES_PER_KWH, MJ_PER_JOULE, MS_PER_HOUR, apportion

BUCKETS = ("dark", "unallocated", "idle", "productive")
"""The waterfall, in the order in which capacity is lost."""

_MJ_PER_KWH = JOULES_PER_KWH * MJ_PER_JOULE


class PoolRate(NamedTuple):
    """A pool's price at the time in question, in nano-dollars.

    `gpus_paid` GPUs cost whether they report or not; None: those that report.
    """

    pool: str
    nano_usd_per_gpu_hour: int
    nano_usd_per_kwh: int
    gpus_paid: int | None


class Usage(NamedTuple):
    """Reported GPU time (ms) and energy (mJ) by state of one group of GPUs that share a cluster and a pool."""

    cluster: str
    pool: str | None
    active_ms: int
    idle_ms: int
    unallocated_ms: int
    unknown_ms: int
    active_mj: int
    idle_mj: int
    unallocated_mj: int
    unknown_mj: int


class CostLine(NamedTuple):
    """One bucket of one pool. `duration_ms` is GPU time, given with the capacity line."""

    cluster: str
    pool: str
    bucket: str
    component: str
    nano_usd: int
    duration_ms: int


@dataclass(slots=True)
class Priced:
    """Cost lines, and the GPU time for which there is no price."""

    lines: list[CostLine] = field(default_factory=list)
    missing_ms: int = 0

    def total_nano_usd(self) -> int:
        return sum(line.nano_usd for line in self.lines)


def price(usages: Iterable[Usage], rates: Mapping[str, PoolRate], *, elapsed_ms: int) -> Priced:
    """The full cost of one stretch of `elapsed_ms`.

    Pools with `gpus_paid` cost in full even where nothing reports; their dark time goes to the cluster that reports
    most of the pool, or to "" when none does.
    """
    sums: dict[str, dict[str, list[int]]] = defaultdict(dict)
    priced = Priced()
    for usage in usages:
        if usage.pool is None:
            priced.missing_ms += usage.active_ms + usage.idle_ms + usage.unallocated_ms + usage.unknown_ms
            continue
        into = sums[usage.pool].setdefault(usage.cluster, [0] * 8)
        for i, value in enumerate(usage[2:]):
            into[i] += value
    for pool, rate in rates.items():
        clusters = sums.get(pool, {})
        if rate.gpus_paid is not None:
            _add_unreported(clusters, rate.gpus_paid * elapsed_ms)
        for cluster, into in sorted(clusters.items()):
            priced.lines += _lines(cluster, rate, into)
    return priced


def _add_unreported(clusters: dict[str, list[int]], owned_ms: int) -> None:
    missing_ms = owned_ms - sum(sum(into[:4]) for into in clusters.values())
    if missing_ms > 0:
        most = max(sorted(clusters), key=lambda cluster: sum(clusters[cluster][:4]), default="")
        clusters.setdefault(most, [0] * 8)[3] += missing_ms


def _lines(cluster: str, rate: PoolRate, into: Sequence[int]) -> list[CostLine]:
    active, idle, unallocated, unknown = 0, 1, 2, 3
    order = (unknown, unallocated, idle, active)  # as BUCKETS
    times = [into[i] for i in order]
    energies = [into[i + 4] for i in order]
    capacity = apportion(capacity_nano_usd(rate, sum(times)), times)
    energy = apportion(energy_nano_usd(rate, sum(energies)), energies)
    lines = []
    for i, bucket in enumerate(BUCKETS):
        lines.append(CostLine(cluster, rate.pool, bucket, "capacity", capacity[i], times[i]))
        lines.append(CostLine(cluster, rate.pool, bucket, "energy", energy[i], 0))
    return lines


def capacity_nano_usd(rate: PoolRate, duration_ms: int) -> int:
    return rounded(rate.nano_usd_per_gpu_hour * duration_ms, MS_PER_HOUR)


def energy_nano_usd(rate: PoolRate, energy_mj: int) -> int:
    return rounded(rate.nano_usd_per_kwh * energy_mj, _MJ_PER_KWH)


def rounded(numerator: int, denominator: int) -> int:
    """numerator / denominator to the nearest integer, halves up; exact for any size."""
    return (2 * numerator + denominator) // (2 * denominator)
