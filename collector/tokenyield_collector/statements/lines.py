"""What a statement consists of: lines of integers that add up. Pure.

Money is in quanta (prices/money.py), time in ms, energy in mJ and finer, tokens as such. A line's cost is a matrix of
bucket (where the money went) by component (what it paid for); its total is the sum of both ways.
"""

import operator
from collections.abc import Iterable
from typing import Literal, NamedTuple

from tokenyield_collector.ledger.usage import REPORTED, USAGE_KINDS
from tokenyield_collector.prices.components import COMPONENT_AT, COMPONENTS, OWNERSHIP
from tokenyield_collector.statements.buckets import BUCKETS, COSTS, IDLE_CAPACITY
from tokenyield_wire.window import TOKEN_KINDS

COMPONENT_COUNT = len(COMPONENTS)
COST_CELLS = tuple(f"{bucket}.{component}" for bucket in COSTS for component in COMPONENTS)
COST_COUNT = len(COST_CELLS)
UNPRICED_STATES = (*IDLE_CAPACITY, "active")
FIELDS = (
    *COST_CELLS,
    "energy_cost",
    "loaded",
    "revenue",
    "revenue_without_cost",
    "parked",
    *(f"{bucket}_ms" for bucket in BUCKETS),
    "unrated_ms",
    "parked_ms",
    *(f"unpriced_{state}_ms" for state in UNPRICED_STATES),
    "gpu_mj",
    "unpriced_mj",
    "host_uj",
    "facility_nj",
    "carbon",
    "carbon_missing_nj",
    "unmetered_tokens",
    "unplaced_tokens",
    "unsold_tokens",
    *(f"unpriced_{kind}" for kind in USAGE_KINDS),
    *USAGE_KINDS,
    *REPORTED,
)
"""What a line sums. `energy_cost` is the power bill before sharing, of what `gpu_mj`, `host_uj` and `facility_nj`
count; 0 where the rent includes it. `parked` is part of idle; `carbon` is thousandths of a gram a kWh x nJ;
`unmetered_tokens` are those whose energy nobody measures, which no ratio of energy may count; so are
`unplaced_tokens`, made on no GPU that is known, which have no price either.

What is not known: `unpriced_…` is the part of time, energy, tokens and requests that no price is known for, which no
ratio of cost may count; `unsold_tokens` have no token price, so that their revenue is unknown; `revenue_without_cost`
is the part of the revenue whose tokens were made in time without a price."""
FIELD_AT = {name: i for i, name in enumerate(FIELDS)}
COST_AT = {bucket: i * COMPONENT_COUNT for i, bucket in enumerate(COSTS)}
"""Bucket -> where its components begin, in the order of `COMPONENTS`."""
_END = COST_AT["productive"] + COMPONENT_COUNT
_DIRECT = slice(COST_AT["under_yield"], _END)
_ALLOCATED = slice(COST_AT["idle"], _END)
assert COSTS[2:5] == ("idle", "under_yield", "productive"), "what is held stands together"
DURATION_AT = {bucket: FIELD_AT[f"{bucket}_ms"] for bucket in BUCKETS}
UNPRICED_AT = {bucket: FIELD_AT[f"unpriced_{bucket if bucket in IDLE_CAPACITY else 'active'}_ms"] for bucket in BUCKETS}
"""Bucket -> where its time without a price is counted."""
UNPRICED_TOKENS_AT = FIELD_AT[f"unpriced_{USAGE_KINDS[0]}"]
TOKENS_AT = FIELD_AT[USAGE_KINDS[0]]
"""From here on the fields are those of `WORK_SUMS` from its tokens on, see fleet.py."""


class Sums(list[int]):
    """One integer for each of `FIELDS`. A bucket's name alone is its cost over all components."""

    def __init__(self) -> None:
        super().__init__([0] * len(FIELDS))

    def get(self, name: str) -> int:
        if name in COST_AT:
            return self.cost(name)
        return self[FIELD_AT[name]]

    def reported(self, kind: str) -> int | None:
        """Tokens of one kind, or requests; None where no server reported them."""
        return self.get(kind) if self.get(f"{kind}_reported") else None

    def add(self, name: str, value: int) -> None:
        self[FIELD_AT[name]] += value

    def take(self, other: "Sums") -> None:
        self[:] = map(operator.add, self, other)

    def take_costs(self, other: "Sums") -> None:
        """The costs of `other` alone."""
        self[:COST_COUNT] = map(operator.add, self[:COST_COUNT], other)

    def cost(self, bucket: str) -> int:
        """What the bucket cost, over all components."""
        start = COST_AT[bucket]
        return sum(self[start : start + COMPONENT_COUNT])

    def components(self, bucket: str) -> list[int]:
        """What the bucket cost, in the order of `COMPONENTS`."""
        start = COST_AT[bucket]
        return self[start : start + COMPONENT_COUNT]

    def add_components(self, bucket: str, quanta: "list[int]") -> None:
        start = COST_AT[bucket]
        for i, value in enumerate(quanta):
            self[start + i] += value

    def component(self, name: str) -> int:
        """What the line cost in one component, over all buckets."""
        return sum(self[COMPONENT_AT[name] : COST_COUNT : COMPONENT_COUNT])

    def cell(self, bucket: str, component: str) -> int:
        return self[COST_AT[bucket] + COMPONENT_AT[component]]

    @property
    def total(self) -> int:
        return sum(self[:COST_COUNT])

    @property
    def tokens(self) -> int:
        """Of all kinds, as far as they were reported."""
        return sum(self[TOKENS_AT : FIELD_AT["requests"]])

    @property
    def direct(self) -> int:
        return sum(self[_DIRECT])

    @property
    def allocated(self) -> int:
        return sum(self[_ALLOCATED])

    def on_basis(self, basis: str) -> int:
        """The cost on one of `BASES`."""
        return {"direct": self.direct, "allocated": self.allocated, "loaded": self.get("loaded")}[basis]

    @property
    def gpu_ms(self) -> int:
        """All GPU time, whichever bucket it is in."""
        return sum(self.get(f"{bucket}_ms") for bucket in BUCKETS)

    @property
    def active_ms(self) -> int:
        return self.get("under_yield_ms") + self.get("productive_ms")

    @property
    def held_ms(self) -> int:
        return self.active_ms + self.get("idle_ms")

    def duration_ms(self, state: str) -> int:
        """GPU time in one of `UNPRICED_STATES`, with or without a price."""
        return self.active_ms if state == "active" else self.get(f"{state}_ms")

    def priced_ms(self, *states: str) -> int:
        """The part with a price of the time in these of `UNPRICED_STATES`, or of all GPU time."""
        listed = states or UNPRICED_STATES
        return sum(self.duration_ms(state) - self.get(f"unpriced_{state}_ms") for state in listed)

    @property
    def unpriced_ms(self) -> int:
        return sum(self.get(f"unpriced_{state}_ms") for state in UNPRICED_STATES)

    def priced(self, kind: str) -> int:
        """The tokens of one kind, or requests, whose cost is known."""
        return self.get(kind) - self.get(f"unpriced_{kind}")

    @property
    def unpriced_tokens(self) -> int:
        return sum(self.get(f"unpriced_{kind}") for kind in TOKEN_KINDS)

    @property
    def unmetered(self) -> int:
        """Tokens that no ratio of energy may count."""
        return self.get("unmetered_tokens") + self.get("unplaced_tokens")

    @property
    def has_unpriced(self) -> bool:
        """Whether the cost is that of a part only."""
        return bool(
            self.unpriced_ms or self.get("unpriced_mj") or any(self.get(f"unpriced_{kind}") for kind in USAGE_KINDS)
        )

    @property
    def idle_capacity(self) -> int:
        """What was paid for capacity on which nothing ran: dark, unallocated and idle, all components."""
        return sum(self.cost(bucket) for bucket in IDLE_CAPACITY)

    def idle_component(self, name: str) -> int:
        """The part of a component that was paid for idle capacity."""
        return sum(self.cell(bucket, name) for bucket in IDLE_CAPACITY)

    def hardware(self, component: str | None = None) -> int:
        """What the hardware itself cost: owned (`hardware`), rented (`rent`), or both."""
        return sum(self.component(name) for name in OWNERSHIP if component in (None, name))

    def idle_share(self, component: str | None = None) -> float | None:
        """The part of `hardware` that was paid for idle capacity; None where no such hardware was paid for."""
        whole = self.hardware(component)
        idle = sum(self.idle_component(name) for name in OWNERSHIP if component in (None, name))
        return idle / whole if whole else None


LineKind = Literal["work", "untied", "idle", "unallocated", "dark", "site", "owner_unallocated", "owner_dark", "unseen"]
"""What a line is about.

work: what a workload (or whoever bought) did. untied: GPUs held by processes of no known workload. idle: held and not
used, where the policy keeps that apart. unallocated, dark: capacity that nobody carries. site: provisioned power that
no GPU takes; its pool is the name of the site. owner_…: the same as without, carried by the owner of its pool.
unseen: bought, and seen in use by nothing that reports to the ledger.
"""
LOST_KINDS: tuple[LineKind, ...] = ("idle", "unallocated", "dark", "site")
"""Kinds of lines that nobody carries."""


class Carrier(NamedTuple):
    """Who a line belongs to. `values` are those of the dimensions of the rules; None where no rule gave one."""

    kind: LineKind
    values: tuple[str | None, ...]
    model: str = ""
    workload: str = ""
    cluster: str = ""
    tier: str = ""
    """The token price that holds for it on the line's day; empty where none does."""
    vendor: str = ""
    """Who is paid for it; empty for what the own fleet makes."""

    @property
    def is_lost(self) -> bool:
        """Whether this is capacity that nobody carries."""
        return self.kind in LOST_KINDS


class LineKey(NamedTuple):
    """What a line is about.

    `start_ms` is its day, or its hour where the grain asks for hours; `source` names the cost source; `pool` is None
    where no pool of the price book fits; `node` is (cluster, node), empty where the grain asks for none.
    """

    start_ms: int
    source: str
    pool: str | None
    node: tuple[str, str]
    carrier: Carrier


BASES = ("direct", "allocated", "loaded")
"""What a cost per token can be based on: active time; and the idle time held; and a share of what the pool lost."""


def sum_of_sums(parts: Iterable[Sums]) -> Sums:
    """All of them together, field by field."""
    whole = Sums()
    for part in parts:
        whole.take(part)
    return whole


def sum_of_known(values: Iterable[int | None]) -> int | None:
    """The sum of what is known; None when nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
