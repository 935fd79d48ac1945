"""The money of the live summary, rounded from its waterfall down, so that all of it sums. Pure.

The whole is divided among the buckets, a bucket among the components of cost, and among the pools. All other amounts
are sums of these cells.
"""

from collections.abc import Sequence
from decimal import Decimal

from tokenyield_collector.live.live_view import live_cost, live_costs
from tokenyield_collector.prices.components import COMPONENTS, OWNERSHIP, POWER_BILL
from tokenyield_collector.reports.rounding import Rounding
from tokenyield_collector.statements.buckets import IDLE_CAPACITY, LIVE_BUCKETS
from tokenyield_collector.statements.lines import Sums


class SummaryMoney:
    """Amounts of one stretch of time, as decimals of one rounding."""

    def __init__(self, rounding: Rounding, whole: Sums) -> None:
        self._rounding = rounding
        self._buckets = rounding.divided(rounding.whole(whole.total), [live_cost(whole, name) for name in LIVE_BUCKETS])
        """Steps of each bucket."""
        cells = rounding.table([live_costs(whole, name) for name in LIVE_BUCKETS], self._buckets)
        self._cells = [dict(zip(COMPONENTS, steps, strict=True)) for steps in cells]

    @property
    def cost(self) -> Decimal:
        return self._plain(sum(self._buckets))

    def bucket(self, name: str) -> dict[str, Decimal]:
        at = LIVE_BUCKETS.index(name)
        cost, energy = self._buckets[at], sum(self._cells[at][name] for name in POWER_BILL)
        return {
            "cost": self._plain(cost),
            "capacity_cost": self._plain(cost - energy),
            "energy_cost": self._plain(energy),
        }

    @property
    def components(self) -> dict[str, Decimal]:
        return {name: self._plain(sum(cells[name] for cells in self._cells)) for name in COMPONENTS}

    @property
    def idle_capacity(self) -> Decimal:
        return self._plain(sum(self._buckets[LIVE_BUCKETS.index(name)] for name in IDLE_CAPACITY))

    @property
    def hardware(self) -> dict[str, Decimal]:
        """What the hardware itself cost: in total, owned and rented."""
        steps = {ownership: sum(cells[name] for cells in self._cells) for name, ownership in OWNERSHIP.items()}
        return {name: self._plain(value) for name, value in {"total": sum(steps.values()), **steps}.items()}

    def places(self, places: Sequence[Sums]) -> list[dict[str, Decimal]]:
        """The cost by bucket of each place; a bucket's places sum to it."""
        columns = self._rounding.table(
            [[live_cost(sums, name) for sums in places] for name in LIVE_BUCKETS], self._buckets
        )
        return [dict(zip(LIVE_BUCKETS, map(self._plain, steps), strict=True)) for steps in zip(*columns, strict=True)]

    def _plain(self, steps: int) -> Decimal:
        return self._rounding.plain(steps)
