"""The money of a report, rounded from the waterfall down to rows, so that all of it sums. Pure.

In: the exact sums of the whole and of each row. Out: decimals by column of a row. The whole is divided among the
buckets of the waterfall, a bucket among what stayed in it and what the policy shared, these among the components of
cost, and each of those among the rows. All other amounts of a row are sums of these cells.

It is done twice: exactly (`EXACT`), and for people (`CENTS`).
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import chain
from typing import NamedTuple

from tokenyield_collector.prices.components import COMPONENTS, OWNERSHIP
from tokenyield_collector.reports.rounding import Rounding
from tokenyield_collector.statements.buckets import BUCKETS, COSTS, IDLE_CAPACITY
from tokenyield_collector.statements.lines import COMPONENT_COUNT, COST_AT, COST_COUNT, Sums

_BUCKET_CELLS = {bucket: range(start, start + COMPONENT_COUNT) for bucket, start in COST_AT.items()}
_COMPONENT_CELLS = {name: range(i, COST_COUNT, COMPONENT_COUNT) for i, name in enumerate(COMPONENTS)}
_HARDWARE_COLUMNS = {component: f"hardware_cost_{ownership}" for component, ownership in OWNERSHIP.items()}

Amounts = dict[str, Decimal]


class WholeMoney(NamedTuple):
    """Steps of the whole: by bucket before anything was shared, what of it was shared, and by column of the rows."""

    waterfall: Mapping[str, int]
    shared: Mapping[str, int]
    columns: Mapping[str, int]


def whole_money(rounding: Rounding, carried: Mapping[str, int], caused: Mapping[str, int] | None = None) -> WholeMoney:
    """Of the exact cost by bucket: as rows carry it, and before anything was shared. Where that is not known, because
    the report is filtered, the waterfall is that of the rows."""
    if caused is None:
        parts = [carried[name] for name in COSTS]
        columns = dict(zip(COSTS, rounding.divided(rounding.whole(sum(parts)), parts), strict=True))
        return WholeMoney(columns, {}, columns)
    parts = [caused[bucket] for bucket in BUCKETS]
    waterfall = rounding.divided(rounding.whole(sum(parts)), parts)
    kept, shared = {}, {}
    for bucket, quanta, steps in zip(BUCKETS, parts, waterfall, strict=True):
        stays = carried[bucket]
        kept[bucket], shared[bucket] = rounding.divided(steps, [stays, quanta - stays])
    columns = {**kept, "shared": sum(shared.values())}
    return WholeMoney(dict(zip(BUCKETS, waterfall, strict=True)), shared, columns)


def costs_of(sums: Sums) -> dict[str, int]:
    """Exact cost by bucket."""
    return {name: sums.cost(name) for name in COSTS}


def days_money(rounding: Rounding, money: WholeMoney, days: Sequence[Sums]) -> list[Amounts]:
    """The cost of each day by bucket; a bucket's days sum to its column."""
    wholes = [money.columns[name] for name in COSTS]
    columns = rounding.table([[sums.cost(name) for sums in days] for name in COSTS], wholes)
    return [dict(zip(COSTS, map(rounding.plain, steps), strict=True)) for steps in zip(*columns, strict=True)]


def rows_money(
    rounding: Rounding, money: WholeMoney, whole: Sums, rows: Sequence[Sums]
) -> tuple[list[Amounts], Amounts]:
    """The amounts of each row, and of their sum."""
    cells_of_buckets = [[whole[i] for i in cells] for cells in _BUCKET_CELLS.values()]
    wholes = list(chain(*rounding.table(cells_of_buckets, [money.columns[name] for name in COSTS])))
    columns = rounding.table([[sums[i] for sums in rows] for i in range(COST_COUNT)], wholes)
    for name in ("energy_cost", "parked"):
        wholes.append(rounding.whole(whole.get(name)))
        columns.append(rounding.divided(wholes[-1], [sums.get(name) for sums in rows]))
    revenue = rounding.divided(rounding.whole(whole.get("revenue")), _revenue(whole))
    wholes += revenue
    columns += rounding.table(list(zip(*map(_revenue, rows), strict=True)), revenue) if rows else [[], []]
    amounts = [_amounts(rounding, cells) for cells in zip(*columns, strict=True)]
    return amounts, _amounts(rounding, wholes)


def _revenue(sums: Sums) -> tuple[int, int]:
    """Of what has a cost, and of what has none: so a row of which all has none has a margin of 0, and not of a cent."""
    without = sums.get("revenue_without_cost")
    return sums.get("revenue") - without, without


def _amounts(rounding: Rounding, cells: Sequence[int]) -> Amounts:
    """By column of a row, of its cells: those of `COST_CELLS`, and the others."""
    parts = {name: sum(cells[at.start : at.stop]) for name, at in _BUCKET_CELLS.items()}
    components = {name: sum(cells[at.start : COST_COUNT : COMPONENT_COUNT]) for name, at in _COMPONENT_CELLS.items()}
    cost = sum(parts.values())
    energy, parked, costed, without = cells[COST_COUNT:]
    steps = {
        "cost": cost,
        **{f"cost_{name}": part for name, part in parts.items()},
        "idle_capacity_cost": sum(parts[name] for name in IDLE_CAPACITY),
        "hardware_cost": sum(components[name] for name in OWNERSHIP),
        **{column: components[name] for name, column in _HARDWARE_COLUMNS.items()},
        **{f"cost_of_{name}": part for name, part in components.items()},
        "energy_cost": energy,
        "parked_cost": parked,
        "revenue": costed + without,
        "revenue_without_cost": without,
        "margin": costed - cost,
    }
    return {name: rounding.plain(value) for name, value in steps.items()}
