"""Slices of spend: what one source says of one account, day and grain. Pure.

Every vendor restates what it reported, so an import replaces a slice and never adds to it: the same file twice changes
nothing. A slice has one layer:

* `billed`: what a vendor charges (cost APIs, bills, exports of clouds)
* `reported`: what a vendor says was used, without money or before discounts
* `observed`: what was seen being used (gateways, coding agents); perhaps not all of it

Tokens have one meaning for all vendors (meanings.py). Money is in millionths of the currency (`micro`).
"""

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from tokenyield_collector.prices.period import day_of
from tokenyield_wire.units import MS_PER_DAY
from tokenyield_wire.window import COUNT_MAX

Layer = Literal["billed", "reported", "observed"]
LAYERS: tuple[Layer, ...] = ("billed", "reported", "observed")
"""The first that a scope (vendor and account) has on a day fixes its amount; see layers.py."""
FIELD_CHARS_MAX = 200
SLICE_LINES_MAX = 20_000
"""Lines of one slice. Beyond it lines lose their finest fields, see `FOLDED`."""
DAY_LINES_MAX = 200_000
"""Lines of a day, over all slices."""
COST_MICRO_MAX = COUNT_MAX
"""281 million units of a currency in one line of a day."""
TOKENS = "tokens"
INCLUDED = "included"
UNNAMED = "other"
"""Services: tokens that are paid by amount; use that a subscription includes; and what a bill does not name, of which
any use of the vendor may be a part. All others are named by vendors."""
EVIDENCE_SOURCE = "egress"
"""Slices of this source are evidence of use, without tokens and money, and in no sum of spend (sources/egress.py)."""


class SpendFields(NamedTuple):
    """What a line is about; empty where the source does not say. `service` is what was bought: tokens, web_search,
    seats, ..."""

    vendor: str
    service: str = TOKENS
    model: str = ""
    team: str = ""
    product: str = ""
    project: str = ""
    api_key: str = ""
    workload: str = ""
    person: str = ""
    agent_task: str = ""
    session: str = ""
    currency: str = "USD"


FOLDED = ("session", "agent_task", "person", "api_key", "workload")
"""Fields that lines of a slice that is too large lose, the finest first."""


class SpendAmounts(NamedTuple):
    """None where the source does not report it. `reasoning` is a part of `output`, `long_cache_write` one of
    `cache_write`: what is kept for an hour or longer, which vendors price apart."""

    fresh: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    long_cache_write: int | None = None
    output: int | None = None
    reasoning: int | None = None
    requests: int | None = None
    cost_micro: int | None = None

    @property
    def tokens(self) -> int | None:
        """Of all kinds; None where none is reported."""
        known = [count for count in (self.fresh, self.cache_read, self.cache_write, self.output) if count is not None]
        return sum(known) if known else None

    def plus(self, other: "SpendAmounts") -> "SpendAmounts":
        return SpendAmounts(*map(sum_of_two, self, other))


NO_AMOUNTS = SpendAmounts()


class SpendLine(NamedTuple):
    """One line of a slice."""

    fields: SpendFields
    amounts: SpendAmounts


class SpendKey(NamedTuple):
    """What an import replaces. `day_ms` is the start of a UTC day; `grain` is which of its reports the source read."""

    source: str
    account: str
    day_ms: int
    grain: str

    @property
    def text(self) -> str:
        return f"{self.source} {self.grain}, account {self.account}, {day_of(self.day_ms).isoformat()}"


class SpendSlice(NamedTuple):
    """Lines in the order of their fields, each once. Fields may come twice: with money, and without."""

    key: SpendKey
    layer: Layer
    lines: tuple[SpendLine, ...]

    @property
    def is_empty(self) -> bool:
        return not self.lines

    @property
    def tokens(self) -> int:
        return sum(line.amounts.tokens or 0 for line in self.lines)

    def cost_micro(self) -> dict[str, int]:
        """Currency -> the money that is known."""
        costs: dict[str, int] = {}
        for fields, amounts in self.lines:
            if amounts.cost_micro is not None:
                costs[fields.currency] = costs.get(fields.currency, 0) + amounts.cost_micro
        return costs


def spend_findings(slices: Iterable[SpendSlice]) -> Iterator[str]:
    """What cannot be, in words: for `verify`."""
    for key, layer, lines in slices:
        if key.day_ms % MS_PER_DAY:
            yield f"spend: {key.text} begins at {key.day_ms} ms, not with a day"
        if layer not in LAYERS:
            yield f"spend: {key.text} has the layer '{layer[:40]}'; expected one of {', '.join(LAYERS)}"
        if len({(line.fields, line.amounts.cost_micro is None) for line in lines}) != len(lines):
            yield f"spend: {key.text} has the same line more than once: it is in reports twice"
        for _, amounts in lines:
            *counts, cost_micro = amounts
            if any(count is not None and not 0 <= count <= COUNT_MAX for count in counts):
                yield f"spend: {key.text} has a count below 0 or above {COUNT_MAX}"
            if cost_micro is not None and abs(cost_micro) > COST_MICRO_MAX:
                yield f"spend: {key.text} has money beyond {COST_MICRO_MAX} millionths"


def sum_of_two(one: int | None, other: int | None) -> int | None:
    """Of what is known; None where neither is."""
    if one is None:
        return other
    return one if other is None else one + other
