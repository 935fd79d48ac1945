"""The figures of a row beside its cost: hours, energy, tokens, ratios. Pure.

In: the exact sums of a row, its money (report_money.py), the price book. Out: one dict, whose names are the columns of
every format. Ratios are computed from exact sums; what is unknown is None.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.prices.components import COMPONENTS
from tokenyield_collector.prices.money import QUANTA_PER_UNIT, amount
from tokenyield_collector.statements.lines import BASES, Sums
from tokenyield_wire.units import MJ_PER_JOULE, MS_PER_HOUR
from tokenyield_wire.window import TOKEN_KINDS

_CARBON_PER_GRAM = 1000 * 3_600_000 * 10**9
_MEGA = 10**6
_UJ_PER_JOULE = 10**6
_NJ_PER_JOULE = 10**9


def row_figures(sums: Sums, prices: PriceBook, money: Mapping[str, Decimal]) -> dict[str, Any]:
    tokens = {kind: sums.reported(kind) for kind in TOKEN_KINDS}
    all_tokens = sum(count or 0 for count in tokens.values())
    return {
        **_costs(sums, money),
        **_hours(sums, money),
        **tokens,
        "tokens": all_tokens if any(count is not None for count in tokens.values()) else None,
        "requests": sums.reported("requests"),
        **_energy(sums, all_tokens - sums.get("unmetered_tokens")),
        "revenue": money["revenue"] if prices.token_prices else None,
        **_unit_costs(sums, prices, all_tokens),
        **(_profit(sums, money) if prices.token_prices else {}),
    }


def _costs(sums: Sums, money: Mapping[str, Decimal]) -> dict[str, Decimal | float | None]:
    """The components sum to the cost; the cost of hardware is `hardware` (owned) and `rent` (rented)."""
    names = (
        "energy_cost",
        "idle_capacity_cost",
        "hardware_cost",
        "hardware_cost_owned",
        "hardware_cost_rented",
        *(f"cost_of_{name}" for name in COMPONENTS),
    )
    return {
        **{name: money[name] for name in names},
        "idle_capacity_share_of_hardware_cost": sums.idle_share(),
        "idle_capacity_share_of_hardware_cost_owned": sums.idle_share("hardware"),
        "idle_capacity_share_of_hardware_cost_rented": sums.idle_share("rent"),
    }


def _hours(sums: Sums, money: Mapping[str, Decimal]) -> dict[str, Decimal | float]:
    return {
        "active_gpu_hours": sums.active_ms / MS_PER_HOUR,
        "idle_gpu_hours": sums.get("idle_ms") / MS_PER_HOUR,
        "unallocated_gpu_hours": sums.get("unallocated_ms") / MS_PER_HOUR,
        "dark_gpu_hours": sums.get("dark_ms") / MS_PER_HOUR,
        "unrated_gpu_hours": sums.get("unrated_ms") / MS_PER_HOUR,
        "parked_gpu_hours": sums.get("parked_ms") / MS_PER_HOUR,
        "parked_cost": money["parked_cost"],
        "price_missing_gpu_hours": sums.get("missing_ms") / MS_PER_HOUR,
    }


def _energy(sums: Sums, metered_tokens: int) -> dict[str, float | None]:
    """`metered_tokens` are those whose energy is measured."""
    gpu = sums.get("gpu_mj") / MJ_PER_JOULE
    host = gpu + sums.get("host_uj") / _UJ_PER_JOULE
    facility = sums.get("facility_nj") / _NJ_PER_JOULE
    grams = sums.get("carbon") / _CARBON_PER_GRAM if not sums.get("carbon_missing_nj") else None
    return {
        "joules_gpu": gpu,
        "joules_host": host,
        "joules_facility": facility,
        "tokens_per_second_per_watt": _ratio(metered_tokens, gpu),
        "tokens_per_joule_gpu": _ratio(metered_tokens, gpu),
        "tokens_per_joule_host": _ratio(metered_tokens, host),
        "tokens_per_joule_facility": _ratio(metered_tokens, facility),
        "co2_grams": grams,
        "co2_grams_per_million_tokens": 0.0 if grams == 0 and metered_tokens else _ratio(grams, metered_tokens / _MEGA),
    }


def _unit_costs(sums: Sums, prices: PriceBook, all_tokens: int) -> dict[str, float | None]:
    """By basis: cost per request, per 1,000 tokens and per million tokens; the latter over all tokens, and by kind as
    weight x cost / sum(weight x tokens)."""
    weights = prices.token_weights.per_thousand()
    weighted = sum(weights[kind] * sums.get(kind) for kind in TOKEN_KINDS)
    kinds = {"prompt": "prompt_computed", "cached": "prompt_cached", "completion": "completion"}
    figures: dict[str, float | None] = {}
    for basis in BASES:
        quanta = sums.on_basis(basis)
        per_weight = quanta / QUANTA_PER_UNIT / weighted * _MEGA if weighted else None
        figures[f"cost_per_request_{basis}"] = _ratio(amount(quanta), sums.reported("requests") or 0)
        figures[f"cost_per_1000_tokens_{basis}"] = _ratio(amount(quanta), all_tokens / 1000)
        figures[f"cost_per_mtok_{basis}"] = _ratio(amount(quanta), all_tokens / _MEGA)
        for name, kind in kinds.items():
            is_known = per_weight is not None and sums.get(kind) > 0
            figures[f"cost_per_mtok_{basis}_{name}"] = weights[kind] * (per_weight or 0) if is_known else None
    return figures


def _profit(sums: Sums, money: Mapping[str, Decimal]) -> dict[str, Decimal | float | None]:
    return {
        "margin": money["margin"],
        "break_even_utilization": _break_even_utilization(sums),
    }


def _break_even_utilization(sums: Sums) -> float | None:
    """The share of its GPU time that must be active for revenue to cover cost; above 1 it cannot.

    Revenue comes with active time, cost with all time: u* = (cost / all hours) / (revenue / active hours).
    """
    if not sums.get("revenue") or not sums.paid_ms or not sums.active_ms:
        return None
    return (sums.total / sums.paid_ms) / (sums.get("revenue") / sums.active_ms)


def _ratio(value: float | None, by: float) -> float | None:
    return value / by if value and by else None
