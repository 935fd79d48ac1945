"""The prices of a period: which hours of a pool share a rate, and what facts cost at it. Pure."""

from typing import NamedTuple

import msgspec

from tokenyield_collector.ledger.usage import GpuGroup
from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.prices.money import capacity_quanta, energy_quanta
from tokenyield_collector.prices.rates import Rate, Rates
from tokenyield_collector.statements.lines import AT, DURATION_AT, Sums
from tokenyield_wire.units import MS_PER_HOUR


class Factors(NamedTuple):
    """A rate as whole numbers to multiply facts with."""

    per_ms: int
    """Quanta."""
    per_mj: int
    host_mw: int
    pue_thousandths: int
    carbon_mg_per_kwh: int | None
    gpus: int | None

    def with_host(self, host_mw: int) -> "Factors":
        """The same with another draw of the host, whose energy is in `per_ms`."""
        return self._replace(host_mw=host_mw, per_ms=self.per_ms + self.per_mj * (host_mw - self.host_mw) // 1000)


def factors(rate: Rate) -> Factors:
    carbon = rate.carbon_g_per_kwh
    return Factors(
        per_ms=capacity_quanta(rate.pico_per_gpu_hour, 1),
        per_mj=energy_quanta(rate.pico_per_kwh, 1),
        host_mw=round(rate.host_watts * 1000),
        pue_thousandths=round(rate.pue * 1000),
        carbon_mg_per_kwh=None if carbon is None else round(carbon * 1000),
        gpus=rate.count,
    )


def put(sums: Sums, rate: Factors | None, **buckets: tuple[int, int]) -> None:
    """Time (ms) and energy (mJ) by bucket, with what they cost and what the site drew for them."""
    all_ms = all_mj = 0
    for bucket, (duration_ms, energy_mj) in buckets.items():
        all_ms += duration_ms
        all_mj += energy_mj
        if rate is not None:
            sums[AT[bucket]] += rate.per_ms * duration_ms + rate.per_mj * energy_mj
            sums[DURATION_AT[bucket]] += duration_ms
    sums[AT["gpu_mj"]] += all_mj
    if rate is None:
        sums[AT["missing_ms"]] += all_ms
        return
    sums[AT["energy_cost"]] += rate.per_mj * all_mj
    host_uj = all_ms * rate.host_mw
    facility_nj = (all_mj * 1000 + host_uj) * rate.pue_thousandths
    sums[AT["host_uj"]] += host_uj
    sums[AT["facility_nj"]] += facility_nj
    if rate.carbon_mg_per_kwh is None:
        sums[AT["carbon_missing_nj"]] += facility_nj
    else:
        sums[AT["carbon"]] += facility_nj * rate.carbon_mg_per_kwh


class Pricing:
    """Pools, and their hours sorted into segments of one rate. Segment 0 has no price."""

    def __init__(self, prices: PriceBook, start_ms: int, end_ms: int, *, by_hour: bool) -> None:
        rates = Rates(prices)
        self._prices = prices
        self.start_ms = start_ms
        self.rates: dict[str, list[Factors | None]] = {}
        self.segments: dict[str, list[int]] = {}
        self.hour_of: dict[tuple[str, int], int] = {}
        """(pool, segment) -> the hour it stands for, where lines are told apart by hour."""
        self.pools = {pool.name: pool for pool in prices.pools}
        for pool in prices.pools:
            known: dict[tuple[Factors, int], int] = {}
            reckoned: dict[int, Factors] = {}  # by the rate's id: `rates` gives the same one for all hours of a day
            listed: list[Factors | None] = [None]
            row = []
            for hour_ms in range(start_ms, end_ms, MS_PER_HOUR):
                rate = rates.of(pool, hour_ms)
                segment = 0
                if rate is not None:
                    if id(rate) not in reckoned:
                        reckoned[id(rate)] = factors(rate)
                    key = (reckoned[id(rate)], hour_ms if by_hour else 0)
                    segment = known.setdefault(key, len(listed))
                    if segment == len(listed):
                        listed.append(key[0])
                        self.hour_of[pool.name, segment] = hour_ms
                row.append(segment)
            self.rates[pool.name], self.segments[pool.name] = listed, row
        self._pool_of: dict[GpuGroup, str | None] = {}

    def pool_of(self, group: GpuGroup) -> str | None:
        if group not in self._pool_of:
            pool = self._prices.pool_of(*group[:3], msgspec.json.decode(group.labels))
            self._pool_of[group] = pool.name if pool else None
        return self._pool_of[group]
