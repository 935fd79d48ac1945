"""Usage into cost. Pure.

In: sums of GPU time and energy, who is owned, and rates. Out: `CostLine`s whose sum is the fleet's whole cost, exactly.

Theory. For one pool and one stretch of time, capacity cost = rate x time owned. Time owned splits into dark (owned
but not reported, or reported as unknown) -> unallocated -> idle -> active and statements split what was active into
under_yield and productive (statement.py). Energy cost follows measured joules and falls into the same buckets. A cost
is a whole number of quanta (money.py), fact times rate, so no cent is made or lost in any order of summing. Where no
rate is known the time stands in `Priced.missing_ms` and has no cost: it is neither 0 nor invented.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tokenyield_collector.prices.money import capacity_quanta, energy_quanta

BUCKETS = ("dark", "unallocated", "idle", "active")
"""The live waterfall, in the order in which capacity is lost. Statements split `active` into under_yield and
productive, hour by hour."""


class PoolRate(NamedTuple):
    """A pool's price at the time in question, in millionths of a millionth of the currency's unit.

    `gpus_paid` GPUs cost whether they report or not; None: those that report.
    """

    pool: str
    pico_per_gpu_hour: int
    pico_per_kwh: int
    gpus_paid: int | None
    host_mw: int = 0
    """What of a host's draw is in the price of a GPU-hour."""
    pico_unreported: int | None = None
    """The price of a GPU-hour that nobody reports, where that is another."""

    def with_host(self, host_mw: int) -> "PoolRate":
        """The same with a measured draw of the host, which GPUs that do not report have not."""
        pico = self.pico_per_gpu_hour + self.pico_per_kwh * (host_mw - self.host_mw) // 10**6
        return self._replace(pico_per_gpu_hour=pico, host_mw=host_mw, pico_unreported=self.pico_per_gpu_hour)

    def quanta(self, duration_ms: int, energy_mj: int) -> int:
        return capacity_quanta(self.pico_per_gpu_hour, duration_ms) + energy_quanta(self.pico_per_kwh, energy_mj)


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
    quanta: int
    duration_ms: int


@dataclass(slots=True)
class Priced:
    """Cost lines, and the GPU time for which there is no price."""

    lines: list[CostLine] = field(default_factory=list)
    missing_ms: int = 0

    def total_quanta(self) -> int:
        return sum(line.quanta for line in self.lines)


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
        clusters, unreported_ms, most = sums.get(pool, {}), 0, ""
        if rate.gpus_paid is not None:
            unreported_ms = max(0, rate.gpus_paid * elapsed_ms - sum(sum(into[:4]) for into in clusters.values()))
        if unreported_ms:
            most = max(sorted(clusters), key=lambda cluster: sum(clusters[cluster][:4]), default="")
            clusters.setdefault(most, [0] * 8)
        for cluster, into in sorted(clusters.items()):
            priced.lines += _lines(cluster, rate, into, unreported_ms if cluster == most else 0)
    return priced


def _lines(cluster: str, rate: PoolRate, into: list[int], unreported_ms: int) -> list[CostLine]:
    active, idle, unallocated, unknown = 0, 1, 2, 3
    found = []
    for bucket, state in zip(BUCKETS, (unknown, unallocated, idle, active), strict=True):
        duration_ms, energy_mj = into[state], into[state + 4]
        capacity = capacity_quanta(rate.pico_per_gpu_hour, duration_ms)
        if bucket == "dark":
            pico = rate.pico_per_gpu_hour if rate.pico_unreported is None else rate.pico_unreported
            capacity += capacity_quanta(pico, unreported_ms)
            duration_ms += unreported_ms
        found.append(CostLine(cluster, rate.pool, bucket, "capacity", capacity, duration_ms))
        found.append(CostLine(cluster, rate.pool, bucket, "energy", energy_quanta(rate.pico_per_kwh, energy_mj), 0))
    return found
