"""Which pool the GPU time of each hour falls to, and the price that it has there. Pure but for what the reader reads.

The pools that a GPU matches, in the order of the price book, are its *chain*. In every hour its time falls to the first
pool of the chain whose terms hold then. A pool with a committed count (owned, reserved) takes no more than that: of
all time that falls to it in an hour, each millisecond in the same proportion, the excess goes on to the next pool of
its chain. What no pool takes has no price. So the time of an hour is divided by the facts of that hour alone, whatever
period and grain a statement has.

Hours of a chain with the same price are one *segment*; an hour whose time is divided is a segment of its own.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tokenyield_collector.ledger.usage import NO_CHAIN, NO_GPU_CHAIN, GpuGroup, UsageReader
from tokenyield_collector.prices.book import Pool, PriceBook
from tokenyield_collector.prices.rates import Rate, RateGap, Rates
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR, hour_of_ms


class Portion(NamedTuple):
    """What one pool takes of the time of a chain. `pool` is None where none does; without a rate it has no price."""

    pool: str | None
    rate: Rate | None
    part_ms: int = 0
    """Of the time of a piece."""


NOWHERE = (Portion(None, None),)


class _Offer(NamedTuple):
    """A pool in one piece of time: whether it is paid for, at which rate, and how many GPUs; a cap sends others on."""

    is_paid: bool
    rate: Rate | None
    gpus: int | None
    is_capped: bool


class Unreported(NamedTuple):
    """What a pool is paid for and does not report in one piece of time. `segment` numbers its prices."""

    start_ms: int
    pool: str
    rate: Rate | None
    missing_ms: int


def cut_at_hours(start_ms: int, end_ms: int) -> list[tuple[int, int]]:
    """[start, end) in pieces that lie within one UTC hour each, for which a rate holds."""
    cuts = [start_ms, *range(hour_of_ms(start_ms) + MS_PER_HOUR, end_ms, MS_PER_HOUR), end_ms]
    return [(cuts[i], cuts[i + 1]) for i in range(len(cuts) - 1) if cuts[i] < cuts[i + 1]]


class Placements:
    """The chains of all GPUs of a ledger, and what of [start_ms, end_ms) falls where. Segment 0 is nowhere."""

    def __init__(self, prices: PriceBook, reader: UsageReader, start_ms: int, end_ms: int, *, by_hour: bool) -> None:
        self._prices = prices
        self._by_hour = by_hour
        self.pieces = cut_at_hours(start_ms, end_ms)
        self._numbers = {pool.name: number for number, pool in enumerate(prices.pools)}
        self._chain_of: dict[GpuGroup, str] = {}
        self._chains: dict[str, tuple[int, ...]] = {NO_CHAIN: (), NO_GPU_CHAIN: ()}
        """Numbers of pools, in order."""
        for group in reader.gpu_groups():
            self.chain_of(group)
        self._takers: dict[int, list[str]] = defaultdict(list)
        """Number of a pool -> the chains that it is in, in order."""
        for chain in sorted(self._chains):
            for number in self._chains[chain]:
                self._takers[number].append(chain)
        self.segments: dict[str, list[int]] = {chain: [] for chain in self._chains}
        """Chain -> the segment of each piece: whole hours, but for a first or last that is cut."""
        self.portions: dict[str, list[tuple[Portion, ...]]] = {chain: [NOWHERE] for chain in self._chains}
        """Chain -> where each segment falls: to one pool, or divided among several."""
        self.hour_of: dict[tuple[str, int], int] = {}
        """(chain, segment) -> the hour it stands for, where it stands for one."""
        self.unreported: list[Unreported] = []
        self.rate_gaps: dict[tuple[str, int], RateGap] = {}
        """(pool, day) -> why it has no rate, though it is paid for, in the first such hour of the day."""
        self.beyond_count: set[tuple[str, int]] = set()
        """(chain, day) of which GPUs fell to no pool, because those that hold take no more."""
        rates = Rates(prices)
        self._rates = [[self._offer(rates, pool, piece_ms) for piece_ms, _ in self.pieces] for pool in prices.pools]
        counted = [any(offer.gpus is not None for offer in row) for row in self._rates]
        is_read = any(counted) or prices.sites
        self.reported_ms = reader.reported_ms(start_ms, end_ms, self.chain_of) if is_read else {}
        """(chain, start of a piece) -> GPU time that was reported; empty where nothing needs it."""
        self._place()

    def chain_of(self, group: GpuGroup) -> str:
        """The name of its chain."""
        if group not in self._chain_of:
            pools = self._prices.pools_of(*group[:3], msgspec.json.decode(group.labels))
            numbers = tuple(self._numbers[pool.name] for pool in pools)
            chain = ",".join(map(str, numbers))
            self._chains[chain] = numbers
            self._chain_of[group] = chain
        return self._chain_of[group]

    def _offer(self, rates: Rates, pool: Pool, piece_ms: int) -> "_Offer":
        is_paid, rate = rates.priced(pool, piece_ms)
        if rate is not None or not is_paid:
            return _Offer(is_paid, rate, rate.count if rate else None, rate is not None and rate.is_capped)
        gap = rates.gap(pool, piece_ms)
        self.rate_gaps.setdefault((pool.name, piece_ms - piece_ms % MS_PER_DAY), gap)
        return _Offer(is_paid, None, gap.gpus, gap.is_capped)

    def pools_in(self, chain: str) -> list[str]:
        return [self._prices.pools[number].name for number in self._chains[chain]]

    def priced_segments(self) -> dict[str, set[int]]:
        """Of each chain, the segments whose time falls to one pool at a known rate."""
        return {
            chain: {i for i, listed in enumerate(portions) if len(listed) == 1 and listed[0].rate is not None}
            for chain, portions in self.portions.items()
        }

    @property
    def are_divided(self) -> bool:
        """Whether the time of any hour is divided among pools."""
        return any(len(portions) > 1 for listed in self.portions.values() for portions in listed)

    def _place(self) -> None:
        known: dict[str, dict[object, int]] = {chain: {} for chain in self._chains}
        keys: dict[int, object] = {}  # by the rate's id: `Rates` gives the same one for a day's hours
        for i, (start_ms, end_ms) in enumerate(self.pieces):
            for chain, portions in self._portions_of(i, start_ms, end_ms - start_ms).items():
                pool, rate, _ = portions[0]
                if pool is None and not self._by_hour:
                    self.segments[chain].append(0)
                    continue
                if rate is not None and id(rate) not in keys:
                    keys[id(rate)] = rate.price_key
                of_its_own = self._by_hour or len(portions) > 1
                key = (pool, keys[id(rate)] if rate else None, start_ms if of_its_own else 0)
                segment = known[chain].setdefault(key, len(self.portions[chain]))
                if segment == len(self.portions[chain]):
                    self.portions[chain].append(portions)
                    self.hour_of[chain, segment] = start_ms
                self.segments[chain].append(segment)

    def _portions_of(self, i: int, start_ms: int, length_ms: int) -> dict[str, tuple[Portion, ...]]:
        """Where the time of each chain falls in the i-th piece."""
        rates = [row[i] for row in self._rates]
        if all(offer.gpus is None for offer in rates):
            return {
                chain: next((self._whole(one, rates[one].rate) for one in numbers if rates[one].is_paid), NOWHERE)
                for chain, numbers in self._chains.items()
            }
        return self._divided(rates, start_ms, length_ms)

    def _whole(self, number: int, rate: Rate | None) -> tuple[Portion, ...]:
        return (Portion(self._prices.pools[number].name, rate),)

    def _divided(self, rates: "Sequence[_Offer]", start_ms: int, length_ms: int) -> dict[str, tuple[Portion, ...]]:
        """The same, where pools have counts: pool by pool, so that what one does not take comes to the next."""
        left_ms = {chain: self.reported_ms.get((chain, start_ms), 0) for chain in self._chains}
        placed: dict[str, tuple[Portion, ...]] = dict.fromkeys(self._chains, ())
        done: set[str] = set()
        any_paid: set[str] = set()
        for number, (is_paid, rate, count, is_capped) in enumerate(rates):
            if not is_paid:
                continue
            pool, chains = self._prices.pools[number].name, [one for one in self._takers[number] if one not in done]
            demand_ms = sum(left_ms[chain] for chain in chains)
            any_paid.update(chains)
            count_ms = None if count is None else count * length_ms
            if count_ms is not None and count_ms > demand_ms:
                self.unreported.append(Unreported(start_ms, pool, rate, count_ms - demand_ms))
            if count_ms is None or not is_capped or demand_ms <= count_ms:
                count_ms = demand_ms
            at_ms = 0
            for chain in chains:
                upto_ms = at_ms + left_ms[chain]
                is_all = count_ms == demand_ms or not left_ms[chain]
                part_ms = upto_ms * count_ms // demand_ms - at_ms * count_ms // demand_ms if demand_ms else 0
                at_ms = upto_ms
                left_ms[chain] -= part_ms
                if part_ms or is_all:
                    placed[chain] = (*placed[chain], Portion(pool, rate, part_ms))
                if is_all or not left_ms[chain]:
                    done.add(chain)
        for chain, rest_ms in left_ms.items():
            if rest_ms or not placed[chain]:
                placed[chain] = (*placed[chain], Portion(None, None, rest_ms))
                if rest_ms and chain in any_paid:
                    self.beyond_count.add((chain, start_ms - start_ms % MS_PER_DAY))
        return placed
