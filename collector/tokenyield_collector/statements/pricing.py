"""The prices of a period: which pieces of time of a pool share a rate, and what facts cost at it. Pure."""

import msgspec

from tokenyield_collector.ledger.usage import GpuGroup
from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.prices.components import COMPONENT_AT
from tokenyield_collector.prices.rates import Rate, Rates
from tokenyield_collector.statements.lines import COST_AT, DURATION_AT, FIELD_AT, Sums
from tokenyield_wire.units import MS_PER_HOUR, hour_of_ms

_ENERGY_AT = COMPONENT_AT["energy"]
_GPU_MJ, _MISSING_MS, _ENERGY_COST = FIELD_AT["gpu_mj"], FIELD_AT["missing_ms"], FIELD_AT["energy_cost"]
_HOST_UJ, _FACILITY_NJ = FIELD_AT["host_uj"], FIELD_AT["facility_nj"]
_CARBON, _CARBON_MISSING = FIELD_AT["carbon"], FIELD_AT["carbon_missing_nj"]


def add_usage(sums: Sums, rate: Rate | None, **buckets: tuple[int, int]) -> None:
    """Time (ms) and energy (mJ) by bucket, with what they cost and what the site drew for them."""
    all_ms = all_mj = 0
    for bucket, (duration_ms, energy_mj) in buckets.items():
        if not duration_ms and not energy_mj:
            continue
        all_ms += duration_ms
        all_mj += energy_mj
        if rate is not None:
            add_capacity(sums, rate, bucket, duration_ms)
            sums[COST_AT[bucket] + _ENERGY_AT] += rate.quanta_per_mj * energy_mj
    sums[_GPU_MJ] += all_mj
    if rate is None:
        sums[_MISSING_MS] += all_ms
        return
    sums[_ENERGY_COST] += rate.quanta_per_mj * all_mj
    host_uj = all_ms * rate.host_mw
    facility_nj = (all_mj * 1000 + host_uj) * rate.pue_thousandths
    sums[_HOST_UJ] += host_uj
    sums[_FACILITY_NJ] += facility_nj
    if rate.carbon_mg_per_kwh is None:
        sums[_CARBON_MISSING] += facility_nj
    else:
        sums[_CARBON] += facility_nj * rate.carbon_mg_per_kwh


def add_capacity(sums: Sums, rate: Rate, bucket: str, duration_ms: int) -> None:
    """GPU time alone, component by component."""
    at = COST_AT[bucket]
    for quanta in rate.quanta_per_ms:
        if quanta:
            sums[at] += quanta * duration_ms
        at += 1
    sums[DURATION_AT[bucket]] += duration_ms


def usage_cost(rate: Rate, duration_ms: int, energy_mj: int) -> int:
    """What so much time and energy cost, over all components."""
    return sum(rate.quanta_per_ms) * duration_ms + rate.quanta_per_mj * energy_mj


def cut_at_hours(start_ms: int, end_ms: int) -> list[tuple[int, int]]:
    """[start, end) in pieces that lie within one UTC hour each, for which a rate holds."""
    cuts = [start_ms, *range(hour_of_ms(start_ms) + MS_PER_HOUR, end_ms, MS_PER_HOUR), end_ms]
    return [(cuts[i], cuts[i + 1]) for i in range(len(cuts) - 1) if cuts[i] < cuts[i + 1]]


class Pricing:
    """Pools, and the pieces of their time sorted into segments of one rate. Segment 0 has no price."""

    def __init__(self, prices: PriceBook, start_ms: int, end_ms: int, *, by_hour: bool) -> None:
        rates = Rates(prices)
        self._prices = prices
        self.pieces = cut_at_hours(start_ms, end_ms)
        """What `segments` lists, in order: whole hours, but for a first or last that is cut."""
        self.rates: dict[str, list[Rate | None]] = {}
        """Pool -> the rate of each segment."""
        self.segments: dict[str, list[int]] = {}
        """Pool -> the segment of each piece."""
        self.hour_of: dict[tuple[str, int], int] = {}
        """(pool, segment) -> the hour it stands for, where lines are told apart by hour."""
        for pool in prices.pools:
            known: dict[tuple[object, ...], int] = {}
            keys: dict[int, tuple[object, ...]] = {}  # by the rate's id: `rates` gives the same one for a day's hours
            listed: list[Rate | None] = [None]
            row = []
            for piece_ms, _ in self.pieces:
                rate = rates.of(pool, piece_ms)
                segment = 0
                if rate is not None:
                    if id(rate) not in keys:
                        keys[id(rate)] = rate.price_key
                    key = (keys[id(rate)], piece_ms if by_hour else 0)
                    segment = known.setdefault(key, len(listed))
                    if segment == len(listed):
                        listed.append(rate)
                        self.hour_of[pool.name, segment] = piece_ms
                row.append(segment)
            self.rates[pool.name], self.segments[pool.name] = listed, row
        self._pool_of: dict[GpuGroup, str | None] = {}

    def pool_of(self, group: GpuGroup) -> str | None:
        if group not in self._pool_of:
            pool = self._prices.pool_of(*group[:3], msgspec.json.decode(group.labels))
            self._pool_of[group] = pool.name if pool else None
        return self._pool_of[group]
