"""What a statement consists of: lines of integers that add up. Pure.

Money is in quanta (money.py), time in ms, energy in mJ and finer, tokens as such.
"""

import operator
from typing import NamedTuple

from tokenyield_wire.window import TOKEN_KINDS

BUCKETS = ("dark", "unallocated", "idle", "under_yield", "productive")
"""The waterfall, in the order in which capacity is lost."""
UNTIED = "(untied)"
UNPRICED = "(price missing)"

COSTS = (*BUCKETS, "shared")
"""What the total of a line consists of, in quanta."""
FIELDS = (
    *COSTS,
    "energy_cost",
    "loaded",
    "revenue",
    *(f"{bucket}_ms" for bucket in BUCKETS),
    "unrated_ms",
    "missing_ms",
    "gpu_mj",
    "host_uj",
    "facility_nj",
    "carbon",
    "carbon_missing_nj",
    *TOKEN_KINDS,
    "requests",
    *(f"{kind}_told" for kind in (*TOKEN_KINDS, "requests")),
)
"""What a line sums. `energy_cost` is part of the buckets; `carbon` is thousandths of a gram a kWh x nJ."""
AT = {name: i for i, name in enumerate(FIELDS)}
TOKENS_AT = AT[TOKEN_KINDS[0]]
"""From here on the fields are those of WORK_SUMS after its times and energies."""
TIMES = 7
"""How many those are."""
REVENUE_AT, UNRATED_AT = AT["revenue"], AT["unrated_ms"]
DURATION_AT = {bucket: AT[f"{bucket}_ms"] for bucket in BUCKETS}


class Sums(list[int]):
    """One integer for each of `FIELDS`."""

    def __init__(self) -> None:
        super().__init__([0] * len(FIELDS))

    def get(self, name: str) -> int:
        return self[AT[name]]

    def add(self, name: str, value: int) -> None:
        self[AT[name]] += value

    def take(self, other: "Sums") -> None:
        self[:] = map(operator.add, self, other)

    @property
    def total(self) -> int:
        return sum(self[: len(COSTS)])

    @property
    def direct(self) -> int:
        return self.get("under_yield") + self.get("productive")

    @property
    def allocated(self) -> int:
        return self.direct + self.get("idle")

    @property
    def active_ms(self) -> int:
        return self.get("under_yield_ms") + self.get("productive_ms")


class Group(NamedTuple):
    """Whom a line belongs to. `values` are those of the attribution's dimensions."""

    values: tuple[str, ...]
    model: str = ""
    workload: str = ""
    cluster: str = ""


class LineKey(NamedTuple):
    """What a line is about. `start_ms` is its day, or its hour where asked for."""

    start_ms: int
    pool: str
    node: tuple[str, str]
    group: Group


def is_lost(group: Group) -> bool:
    """Whether the line is of capacity that nobody carries."""
    return group.values[:1] in (("(unallocated)",), ("(dark)",), ("(idle)",))
