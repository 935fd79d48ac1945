"""How the columns of a line are written for people and machines. Pure.

What is no name (unattributed, unallocated, dark, ...) is a *kind* in a key (lines.py) and becomes a marker only here. A
name that a user chose and that reads like a marker is put in quotes, so that the two are never the same text.
"""

from collections.abc import Sequence

from tokenyield_collector.prices.period import day_of, iso
from tokenyield_collector.statements.lines import Carrier, LineKey, LineKind

UNATTRIBUTED = "unattributed"
UNTIED = "(untied)"
UNPRICED = "(price missing)"
OTHER = "(other)"
"""The row or label of all that is not shown by name."""
_MARKERS = {
    UNATTRIBUTED,
    UNTIED,
    UNPRICED,
    OTHER,
    "(idle)",
    "(unallocated)",
    "(dark)",
}
_MODEL_OF_KIND: dict[LineKind, str] = {
    "untied": UNTIED,
    "idle": "(idle)",
    "unallocated": "(unallocated)",
    "dark": "(dark)",
    "owner_unallocated": "(unallocated)",
    "owner_dark": "(dark)",
}
_WORKLOAD_OF_KIND: dict[LineKind, str] = {
    "untied": UNTIED,
    "unallocated": "(unallocated)",
    "dark": "(dark)",
}


def own_name(name: str) -> str:
    """A name that a user chose, as it is written: in quotes where it reads like a marker. Injective."""
    return f'"{name}"' if name.strip('"') in _MARKERS else name


def dimension_value(carrier: Carrier, number: int) -> str:
    """The value of one dimension; a marker where no rule gave one, or where nobody carries the line."""
    if carrier.is_lost:
        return _MODEL_OF_KIND[carrier.kind]
    value = carrier.values[number]
    return UNATTRIBUTED if value is None else own_name(value)


def dimension_values(carrier: Carrier) -> tuple[str, ...]:
    return tuple(dimension_value(carrier, number) for number in range(len(carrier.values)))


def model_name(carrier: Carrier) -> str:
    return _MODEL_OF_KIND.get(carrier.kind) or own_name(carrier.model)


def workload_name(carrier: Carrier) -> str:
    if carrier.kind == "work":
        return own_name(carrier.workload)
    return _WORKLOAD_OF_KIND.get(carrier.kind, "")


def pool_name(pool: str | None) -> str:
    return UNPRICED if pool is None else own_name(pool)


def column_values(key: LineKey, columns: Sequence[str], dimensions: Sequence[str]) -> tuple[str, ...]:
    """The values of one line in `columns`: dimensions of the rules, and the built-in ones."""
    return tuple(_column_value(key, name, dimensions) for name in columns)


def _column_value(key: LineKey, name: str, dimensions: Sequence[str]) -> str:
    carrier = key.carrier
    match name:
        case "hour":
            return iso(key.start_ms)
        case "day":
            return day_of(key.start_ms).isoformat()
        case "source":
            return key.source
        case "pool":
            return pool_name(key.pool)
        case "node":
            return key.node[1]
        case "cluster":
            return carrier.cluster
        case "workload":
            return workload_name(carrier)
        case "model":
            return model_name(carrier)
        case _:
            return dimension_value(carrier, dimensions.index(name))


def names_of(carrier: Carrier, dimensions: Sequence[str]) -> dict[str, str]:
    """What budgets and token prices match on: every dimension, the model and the cluster."""
    named = dict(zip(dimensions, dimension_values(carrier), strict=True))
    return named | {"model": model_name(carrier), "cluster": carrier.cluster}
