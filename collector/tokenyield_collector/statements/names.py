"""How the columns of a line are written for people and machines. Pure.

What is no name (unattributed, unallocated, dark, ...) is a *kind* in a key (lines.py) and becomes a marker only here. A
name that a user chose and that reads like a marker is put in quotes, so that the two are never the same text: in
reports, live figures, metrics and what rules match alike. Every name passes through `own_name` once on its way out.
"""

from collections.abc import Sequence
from functools import lru_cache
from unicodedata import normalize

from tokenyield_collector.prices.period import day_of, iso
from tokenyield_collector.statements.lines import Carrier, LineKey, LineKind

UNATTRIBUTED = "unattributed"
UNTIED = "(untied)"
UNUSED_SITE = "(unused site)"
"""Of provisioned power that no GPU takes."""
UNPRICED = "(price missing)"
OTHER = "(other)"
"""The row or label of all that is not shown by name."""
UNKNOWN_MODEL = "unknown model"
NO_TIER = "(no tier)"
"""Of work that no token price fits."""
_MARKED_BY = "("
"""What every other marker begins with, and what dashboards and the page know them by."""
_WORDS = {"", UNATTRIBUTED, UNKNOWN_MODEL, "sum", "-"}
_REMEMBERED_MAX = 1 << 16
NAMES_AS_THEY_ARE = "as they are; those that read like a marker, such as (dark) or unattributed, in quotes"
"""For the metadata of exports that programs read."""
_MODEL_OF_KIND: dict[LineKind, str] = {
    "untied": UNTIED,
    "idle": "(idle)",
    "unallocated": "(unallocated)",
    "dark": "(dark)",
    "site": UNUSED_SITE,
    "owner_unallocated": "(unallocated)",
    "owner_dark": "(dark)",
}
OWN_FLEET = "(own fleet)"
"""The vendor of what is not bought."""
_WORKLOAD_OF_KIND: dict[LineKind, str] = {
    "unseen": "(billed, not observed)",
    "untied": UNTIED,
    "unallocated": "(unallocated)",
    "dark": "(dark)",
    "site": UNUSED_SITE,
}


@lru_cache(_REMEMBERED_MAX)
def own_name(name: str) -> str:
    """A name that a user chose, as it is written: in quotes where it reads like a marker. Injective. '' stays: nobody
    chose it."""
    return f'"{name}"' if name and _reads_like_marker(name) else name


def _reads_like_marker(name: str) -> bool:
    """Also in other case or width, in quotes, between spaces, or with characters that nobody sees."""
    seen = "".join(one for one in normalize("NFKC", name) if one.isprintable())
    bare = seen.casefold().strip('" ')
    return bare.startswith(_MARKED_BY) or bare in _WORDS


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


def cluster_name(carrier: Carrier) -> str:
    return own_name(carrier.cluster)


def tier_name(carrier: Carrier) -> str:
    if carrier.kind == "work":
        return own_name(carrier.tier) or NO_TIER
    return _MODEL_OF_KIND.get(carrier.kind, NO_TIER)


def vendor_name(carrier: Carrier) -> str:
    return own_name(carrier.vendor) or OWN_FLEET


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
            return own_name(key.node[1])
        case "cluster":
            return cluster_name(carrier)
        case "workload":
            return workload_name(carrier)
        case "model":
            return model_name(carrier)
        case "tier":
            return tier_name(carrier)
        case "vendor":
            return vendor_name(carrier)
        case _:
            return dimension_value(carrier, dimensions.index(name))


def names_of(carrier: Carrier, dimensions: Sequence[str]) -> dict[str, str]:
    """What budgets and, beside plain facts, token prices match on: every dimension, the model and the cluster."""
    named = dict(zip(dimensions, dimension_values(carrier), strict=True))
    return named | {"model": model_name(carrier), "cluster": cluster_name(carrier)}
