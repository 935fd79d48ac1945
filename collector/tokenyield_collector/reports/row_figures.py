"""The figures of a row beside its cost: hours, energy, tokens, ratios. Pure.

In: the exact sums of a row, its money (report_money.py), the price book. Out: one dict, whose names are the columns of
every format. Ratios are computed from exact sums; what is unknown is None.

Time and tokens without a price are in no ratio, neither above nor below its line: cost per token, tokens per joule of
hosts and site, CO2 per token, margin and break-even are those of the priced part, and None where there is none.
`price_missing_…` says how much is left out, of the row's own hours, tokens and joules. Margin and break-even are also
None where tokens have no token price (`revenue_missing_tokens`): what they were sold for is unknown, not 0.
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
        **_energy(sums, all_tokens),
        **_missing(sums),
        **_revenue(sums, prices, all_tokens, money),
        **_unit_costs(sums, prices),
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
    }


def _missing(sums: Sums) -> dict[str, Any]:
    return {
        "price_missing_gpu_hours": sums.unpriced_ms / MS_PER_HOUR,
        "price_missing_tokens": sums.unpriced_tokens,
        "price_missing_joules": sums.get("unpriced_mj") / MJ_PER_JOULE,
    }


def _revenue(sums: Sums, prices: PriceBook, all_tokens: int, money: Mapping[str, Decimal]) -> dict[str, Any]:
    """`revenue_without_cost` is the part of it whose tokens were made in time without a price."""
    if not prices.token_prices:
        return {"revenue": None, "revenue_missing_tokens": None, "revenue_without_cost": None}
    missing = sums.get("unsold_tokens")
    return {
        "revenue": None if missing and missing == all_tokens else money["revenue"],
        "revenue_missing_tokens": missing,
        "revenue_without_cost": money["revenue_without_cost"],
    }


def _energy(sums: Sums, all_tokens: int) -> dict[str, float | None]:
    """What GPUs use is measured; what their hosts and the site add is known where their time has a price."""
    gpu = sums.get("gpu_mj") / MJ_PER_JOULE
    host = (sums.get("gpu_mj") - sums.get("unpriced_mj")) / MJ_PER_JOULE + sums.get("host_uj") / _UJ_PER_JOULE
    metered_tokens = all_tokens - sums.unmetered
    priced_tokens = all_tokens - sums.get("unmetered_tokens") - sums.unpriced_tokens
    facility = sums.get("facility_nj") / _NJ_PER_JOULE
    grams = sums.get("carbon") / _CARBON_PER_GRAM if not sums.get("carbon_missing_nj") else None
    return {
        "joules_gpu": gpu,
        "joules_host": host,
        "joules_facility": facility,
        "tokens_per_second_per_watt": _ratio(metered_tokens, gpu),
        "tokens_per_joule_gpu": _ratio(metered_tokens, gpu),
        "tokens_per_joule_host": _ratio(priced_tokens, host),
        "tokens_per_joule_facility": _ratio(priced_tokens, facility),
        "co2_grams": grams,
        "co2_grams_per_million_tokens": 0.0 if grams == 0 and priced_tokens else _ratio(grams, priced_tokens / _MEGA),
    }


def _unit_costs(sums: Sums, prices: PriceBook) -> dict[str, float | None]:
    """By basis, of the priced part: cost per request, per 1,000 tokens and per million tokens; the latter over all
    tokens, and by kind as weight x cost / sum(weight x tokens)."""
    weights = prices.token_weights.per_thousand()
    weighted = sum(weights[kind] * sums.priced(kind) for kind in TOKEN_KINDS)
    all_tokens = sum(sums.priced(kind) for kind in TOKEN_KINDS)
    kinds = {"prompt": "prompt_computed", "cached": "prompt_cached", "completion": "completion"}
    figures: dict[str, float | None] = {}
    for basis in BASES:
        quanta = sums.on_basis(basis)
        per_weight = quanta / QUANTA_PER_UNIT / weighted * _MEGA if weighted else None
        cost = amount(quanta)
        figures[f"cost_per_request_{basis}"] = _unit_cost(cost, sums.priced("requests"))
        figures[f"cost_per_1000_tokens_{basis}"] = _unit_cost(cost, all_tokens / 1000)
        figures[f"cost_per_mtok_{basis}"] = _unit_cost(cost, all_tokens / _MEGA)
        for name, kind in kinds.items():
            is_known = per_weight is not None and sums.priced(kind) > 0
            figures[f"cost_per_mtok_{basis}_{name}"] = weights[kind] * (per_weight or 0) if is_known else None
    return figures


def _unit_cost(cost: float, units: float) -> float | None:
    """0 where what has a price is free; None where nothing has one."""
    return cost / units if units else None


def _profit(sums: Sums, money: Mapping[str, Decimal]) -> dict[str, Decimal | float | None]:
    has_priced = sums.total or sums.priced_ms() or _costed_revenue(sums)
    is_known = not sums.get("unsold_tokens") and bool(has_priced or not sums.has_unpriced)
    return {
        "margin": money["margin"] if is_known else None,
        "break_even_utilization": _break_even_utilization(sums) if is_known else None,
    }


def _costed_revenue(sums: Sums) -> int:
    return sums.get("revenue") - sums.get("revenue_without_cost")


def _break_even_utilization(sums: Sums) -> float | None:
    """The share of its GPU time that must be active for revenue to cover cost; above 1 it cannot.

    Revenue comes with active time, cost with all time: u* = (cost / all hours) / (revenue / active hours), over the
    hours with a price.
    """
    revenue, all_ms, active_ms = _costed_revenue(sums), sums.priced_ms(), sums.priced_ms("active")
    if revenue <= 0 or not all_ms or not active_ms:
        return None
    return (sums.total / all_ms) / (revenue / active_ms)


def _ratio(value: float | None, by: float) -> float | None:
    return value / by if value and by else None
