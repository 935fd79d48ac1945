"""Bundled reference figures of common GPUs: price, power, typical rent, each with source and day. Used only on request.

`reference_prices: rented` (or `owned`) in a price book prices the GPUs that none of its pools fits with these; their
pools are named "reference ...", and every rate is marked so. `tokenyield-collector rate --reference` shows the figures.
"""

from decimal import Decimal
from functools import cache
from pathlib import Path

import msgspec

from tokenyield_collector.prices.book import Owned, Pool, PoolMatch, Rented
from tokenyield_settings.loader import read_yaml

FILE = Path(__file__).with_name("reference_gpus.yaml")


class ReferenceFigure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number with its source. `trust`: verified in the source, general knowledge, or an estimate."""

    value: Decimal
    trust: str
    source: str
    as_of: str


class ReferenceGpu(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One GPU model; money in US dollars per GPU. `price` includes the GPU's share of its server."""

    name: str
    match: tuple[str, ...]
    """Patterns over NVML's product names, the closest first."""
    price: ReferenceFigure
    rent_per_hour: ReferenceFigure | None = None
    tdp_watts: ReferenceFigure
    idle_watts: ReferenceFigure
    kw_all_in: ReferenceFigure


class ReferenceAssumptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What owned reference pools have in common."""

    life_years: Decimal
    residual_fraction: Decimal
    cost_of_capital: Decimal
    maintenance_rate: Decimal


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    assumptions: ReferenceAssumptions
    gpus: tuple[ReferenceGpu, ...]


@cache
def reference_figures() -> _Document:
    return msgspec.convert(read_yaml(FILE), _Document)


def reference_pools(kind: str) -> list[Pool]:
    """One pool for each pattern of each GPU; those without a known rent have none where `kind` is rented."""
    document = reference_figures()
    pools = []
    for gpu in document.gpus:
        for i, pattern in enumerate(gpu.match):
            terms: Owned | Rented
            if kind == "owned":
                assumed = document.assumptions
                terms = Owned(
                    currency="USD",
                    gpu=gpu.price.value,
                    life_years=assumed.life_years,
                    residual_fraction=assumed.residual_fraction,
                    cost_of_capital=assumed.cost_of_capital,
                    maintenance_rate=assumed.maintenance_rate,
                )
            elif gpu.rent_per_hour is not None:
                terms = Rented(currency="USD", per_gpu_hour=gpu.rent_per_hour.value)
            else:
                continue
            name = f"reference {gpu.name}" + (f" ({i + 1})" if i else "")
            pools.append(
                Pool(
                    name=name,
                    match=PoolMatch(gpu=pattern),
                    terms=(terms,),
                    kw_per_gpu=gpu.kw_all_in.value,
                    reference=True,
                )
            )
    return pools
