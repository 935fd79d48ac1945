"""Lines of the second opinion: amounts that add up, each with what the product may differ by. Plain Python.

The product divides whole milliseconds, millijoules and tokens; here they stay fractions. `slack` of a line is by how
much that may differ: some units for each piece of something divided.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from oracle.facts import HOUR_MS
from oracle.terms import ZERO, HourRate

BUCKETS = ("dark", "unallocated", "idle", "under_yield", "productive")
COSTS = (*BUCKETS, "shared")
ACTIVE = ("under_yield", "productive")
IDLE_CAPACITY = ("dark", "unallocated", "idle")
MJ_PER_KWH = Decimal(3_600_000_000)
MS = Decimal(HOUR_MS)
ONE = Decimal(1)


class Key(NamedTuple):
    """What a line is about. `kind`: work, untied, idle, unallocated, dark, unused site (its pool is the site),
    owner_unallocated, owner_dark."""

    start_ms: int
    pool: str | None
    cluster: str
    node: str
    kind: str
    values: tuple[str | None, ...]
    model: str = ""
    workload: str = ""
    tier: str = ""

    @property
    def is_carried(self) -> bool:
        return self.kind not in ("idle", "unallocated", "dark", "unused site")


@dataclass
class Slack:
    """By how much the product's whole units may differ from fractions."""

    ms: Decimal = ZERO
    joules: Decimal = ZERO
    site_joules: Decimal = ZERO
    tokens: Decimal = ZERO
    requests: Decimal = ZERO
    cost: Decimal = ZERO
    """Of what the line had before sharing; then what was shared, and what is loaded."""
    shared: Decimal = ZERO
    loaded: Decimal = ZERO
    revenue: Decimal = ZERO
    pace_ms: Decimal = ZERO
    """Between under-yield and productive alone."""
    pace_cost: Decimal = ZERO

    def add_units(self, rate: HourRate | None, ms: Decimal, mj: Decimal, count: int = 4) -> None:
        """So many milliseconds and millijoules that were divided, of `ms` and `mj`: energy goes with whole
        milliseconds."""
        self.ms += count
        moved_mj = mj / ms if ms else ZERO
        self.joules += (count + moved_mj) / 1000
        watts, pue = (rate.host_watts, rate.pue) if rate is not None else (ZERO, ZERO + 1)
        self.site_joules += (Decimal(count) / 1000 * (1 + watts) + moved_mj / 1000) * pue
        if rate is not None:
            self.cost += count * (time_cost(rate, ONE) + energy_cost(rate, ONE)) + energy_cost(rate, moved_mj)


@dataclass
class Line:
    """Amounts that add up."""

    cost: dict[tuple[str, str], Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    """(bucket, component) -> money."""
    ms: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    """By bucket; also unrated, parked, and those without a price: missing, missing_active."""
    money: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    """energy_cost, loaded, revenue, parked; revenue_without_cost."""
    joules: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    """gpu, host (its own), facility; carbon_unknown: of the facility's those without a figure; missing: of the GPUs'
    those without a price."""
    grams: Decimal = ZERO
    counts: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    missing: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    """Of the counts, by kind, those without a price; unplaced: tokens of no known GPU; unsold: without a token price."""
    known: set[str] = field(default_factory=set)
    slack: Slack = field(default_factory=Slack)

    def add(self, other: "Line") -> None:
        for mine, theirs in ((self.cost, other.cost), (self.ms, other.ms), (self.money, other.money),
                             (self.joules, other.joules), (self.counts, other.counts), (self.missing, other.missing)):  # fmt: skip
            for name, value in theirs.items():
                mine[name] += value  # type: ignore[index]
        self.grams += other.grams
        self.known |= other.known
        for name, slack in vars(other.slack).items():
            setattr(self.slack, name, getattr(self.slack, name) + slack)

    def bucket(self, *names: str) -> Decimal:
        return sum((value for (bucket, _), value in self.cost.items() if bucket in names), ZERO)

    def component(self, *names: str, of: tuple[str, ...] = COSTS) -> Decimal:
        return sum((value for (bucket, part), value in self.cost.items() if part in names and bucket in of), ZERO)

    @property
    def total(self) -> Decimal:
        return sum(self.cost.values(), ZERO)

    @property
    def direct(self) -> Decimal:
        return self.bucket(*ACTIVE)

    @property
    def allocated(self) -> Decimal:
        return self.bucket("idle", *ACTIVE)


def add_time(line: Line, rate: HourRate | None, bucket: str, ms: Decimal) -> None:
    """Time is a fact; without a rate it costs an unknown amount."""
    line.ms[bucket] += ms
    if rate is None:
        line.ms["missing"] += ms
        line.ms["missing_active"] += ms if bucket in ACTIVE else ZERO
        line.ms["missing_idle"] += ms if bucket == "idle" else ZERO
        return
    for component, per_hour in rate.per_gpu_hour.items():
        line.cost[bucket, component] += per_hour * ms / MS


def add_usage(line: Line, rate: HourRate | None, bucket: str, ms: Decimal, mj: Decimal) -> None:
    """Time and energy in a bucket, what they cost and what the site drew for them."""
    if not ms and not mj:
        return
    line.joules["gpu"] += mj / 1000
    add_time(line, rate, bucket, ms)
    if rate is None:
        line.joules["missing"] += mj / 1000
        return
    line.cost[bucket, "energy"] += energy_cost(rate, mj)
    host = rate.host_watts * ms / 1000
    line.money["energy_cost"] += energy_cost(rate, mj + host * 1000)
    facility = (mj / 1000 + host) * rate.pue
    line.joules["host"] += host
    line.joules["facility"] += facility
    if rate.carbon is None:
        line.joules["carbon_unknown"] += facility
    else:
        line.grams += facility / 3_600_000 * rate.carbon


def time_cost(rate: HourRate, ms: Decimal) -> Decimal:
    return sum(rate.per_gpu_hour.values(), ZERO) * ms / MS


def energy_cost(rate: HourRate, mj: Decimal) -> Decimal:
    return rate.per_kwh * mj / MJ_PER_KWH


def summed(lines: Iterable[Line]) -> Line:
    whole = Line()
    for line in lines:
        whole.add(line)
    return whole
