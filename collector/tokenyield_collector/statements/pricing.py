"""What facts cost at a rate. Pure."""

from collections.abc import Sequence

from tokenyield_collector.ledger.usage import WORK_SUMS
from tokenyield_collector.prices.components import COMPONENT_AT
from tokenyield_collector.prices.rates import Rate
from tokenyield_collector.statements.lines import COST_AT, DURATION_AT, FIELD_AT, UNPRICED_AT, Sums
from tokenyield_wire.window import TOKEN_KINDS

TIMES = WORK_SUMS.index(TOKEN_KINDS[0])
"""How many of `WORK_SUMS` are times and energies; the rest are tokens, in the order of a line's last fields."""
assert WORK_SUMS[:TIMES] == (
    "productive_ms", "under_yield_ms", "idle_ms", "unrated_ms", "productive_mj", "under_yield_mj", "idle_mj",
    "parked_ms", "parked_mj",
), "as add_work reads them"  # fmt: skip

_ENERGY_AT, _HOST_AT = COMPONENT_AT["energy"], COMPONENT_AT["host"]
_GPU_MJ, _UNPRICED_MJ, _ENERGY_COST = FIELD_AT["gpu_mj"], FIELD_AT["unpriced_mj"], FIELD_AT["energy_cost"]
_HOST_UJ, _FACILITY_NJ = FIELD_AT["host_uj"], FIELD_AT["facility_nj"]
_UNRATED_MS, _PARKED_MS, _PARKED = FIELD_AT["unrated_ms"], FIELD_AT["parked_ms"], FIELD_AT["parked"]
_PRODUCTIVE, _UNDER_YIELD, _IDLE = COST_AT["productive"], COST_AT["under_yield"], COST_AT["idle"]
_PRODUCTIVE_MS, _UNDER_YIELD_MS, _IDLE_MS = (DURATION_AT[name] for name in ("productive", "under_yield", "idle"))
_UNPRICED_ACTIVE_MS, _UNPRICED_IDLE_MS = UNPRICED_AT["productive"], UNPRICED_AT["idle"]
_CARBON, _CARBON_MISSING = FIELD_AT["carbon"], FIELD_AT["carbon_missing_nj"]


def add_held(held: list[int], work: Sequence[int]) -> None:
    """`held` (active ms, idle ms, active mJ, idle mJ) grows by what a `WorkRow`'s sums held."""
    productive_ms, under_ms, idle_ms, _, productive_mj, under_mj, idle_mj = work[:7]
    held[0] += productive_ms + under_ms
    held[1] += idle_ms
    held[2] += productive_mj + under_mj
    held[3] += idle_mj


def add_work(sums: Sums, rate: Rate | None, work: Sequence[int]) -> None:
    """The times and energies of a `WorkRow`'s sums, and what they cost. The same as `add_usage`, written out: a month
    of a big fleet has a million such rows."""
    productive_ms, under_ms, idle_ms, unrated_ms, productive_mj, under_mj, idle_mj, parked_ms, parked_mj = work[:TIMES]
    sums[_UNRATED_MS] += unrated_ms
    if parked_ms or parked_mj:
        sums[_PARKED_MS] += parked_ms
        sums[_PARKED] += usage_cost(rate, parked_ms, parked_mj) if rate is not None else 0
    sums[_PRODUCTIVE_MS] += productive_ms
    sums[_UNDER_YIELD_MS] += under_ms
    sums[_IDLE_MS] += idle_ms
    if rate is None:
        sums[_UNPRICED_ACTIVE_MS] += productive_ms + under_ms
        sums[_UNPRICED_IDLE_MS] += idle_ms
    else:
        for at, duration_ms, energy_mj in (
            (_PRODUCTIVE, productive_ms, productive_mj),
            (_UNDER_YIELD, under_ms, under_mj),
            (_IDLE, idle_ms, idle_mj),
        ):
            if duration_ms:
                for i, quanta in rate.components_paid:
                    sums[at + i] += quanta * duration_ms
            if energy_mj:
                sums[at + _ENERGY_AT] += rate.quanta_per_mj * energy_mj
    _add_site(sums, rate, productive_ms + under_ms + idle_ms, productive_mj + under_mj + idle_mj)


def add_usage(sums: Sums, rate: Rate | None, usage: Sequence[tuple[str, int, int]]) -> None:
    """(bucket, time in ms, energy in mJ) each, with what they cost and what the site drew for them."""
    for bucket, duration_ms, energy_mj in usage:
        add_capacity(sums, rate, bucket, duration_ms)
        if rate is not None:
            sums[COST_AT[bucket] + _ENERGY_AT] += rate.quanta_per_mj * energy_mj
    _add_site(sums, rate, sum(ms for _, ms, _ in usage), sum(mj for _, _, mj in usage))


def _add_site(sums: Sums, rate: Rate | None, all_ms: int, all_mj: int) -> None:
    """What GPUs drew, and where there is a price what hosts and the site drew, and the power bill."""
    sums[_GPU_MJ] += all_mj
    if rate is None:
        sums[_UNPRICED_MJ] += all_mj
        return
    sums[_ENERGY_COST] += rate.quanta_per_mj * all_mj + rate.quanta_per_ms[_HOST_AT] * all_ms
    host_uj = all_ms * rate.host_mw
    facility_nj = (all_mj * 1000 + host_uj) * rate.pue_thousandths
    sums[_HOST_UJ] += host_uj
    sums[_FACILITY_NJ] += facility_nj
    if rate.carbon_mg_per_kwh is None:
        sums[_CARBON_MISSING] += facility_nj
    else:
        sums[_CARBON] += facility_nj * rate.carbon_mg_per_kwh


def add_capacity(sums: Sums, rate: Rate | None, bucket: str, duration_ms: int) -> None:
    """GPU time alone, component by component."""
    sums[DURATION_AT[bucket]] += duration_ms
    if rate is None:
        sums[UNPRICED_AT[bucket]] += duration_ms
        return
    at = COST_AT[bucket]
    for i, quanta in rate.components_paid:
        sums[at + i] += quanta * duration_ms


def usage_cost(rate: Rate, duration_ms: int, energy_mj: int) -> int:
    """What so much time and energy cost, over all components."""
    return sum(rate.quanta_per_ms) * duration_ms + rate.quanta_per_mj * energy_mj
