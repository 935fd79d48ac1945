"""The gaps that show while the fleet's usage becomes lines: what has no price, and why. Pure.

In: rows of usage without a rate, tokens without a token price. Out: gaps (gaps.py), by what must be added to the price
book.
"""

from collections.abc import Callable, Sequence

from tokenyield_collector.ledger.usage import (
    NO_CHAIN,
    NO_GPU_CHAIN,
    WORK_SUMS,
    CapacityRow,
    CapacityTimes,
    GpuGroup,
    WorkRow,
)
from tokenyield_collector.policy import Policy
from tokenyield_collector.statements.gaps import (
    BEYOND_COUNT,
    NO_EXCHANGE_RATE,
    NO_FACILITY,
    NO_GPU,
    NO_POOL,
    NO_TERMS,
    DayGap,
    GapAmounts,
    GapKind,
    GapSums,
    subject_of,
)
from tokenyield_collector.statements.lines import Carrier
from tokenyield_collector.statements.names import dimension_value, model_name, own_name
from tokenyield_collector.statements.placement import Placements, Portion
from tokenyield_collector.statements.pricing import TIMES
from tokenyield_collector.statements.revenue import DayTier
from tokenyield_wire.window import TOKEN_KINDS

_TIMES_MS = [WORK_SUMS.index(name) for name in ("productive_ms", "under_yield_ms", "idle_ms")]
_TIMES_MJ = [WORK_SUMS.index(name) for name in ("productive_mj", "under_yield_mj", "idle_mj")]
_TOKENS = slice(TIMES, TIMES + len(TOKEN_KINDS))
_REQUESTS_AT = WORK_SUMS.index("requests")

Cause = tuple[GapKind, str]
"""The kind of a gap, and its subject."""


class FleetGaps:
    """Of one statement."""

    def __init__(self, policy: Policy, placements: Placements, gpu_groups: Callable[[], Sequence[GpuGroup]]) -> None:
        self._dimensions = policy.rules.dimensions
        self._has_pools = bool(policy.prices.pools)
        self._placements = placements
        self._gpu_groups = gpu_groups
        self._sums = GapSums()
        self._causes: dict[tuple[str, str | None, int], Cause] = {}

    def by_day(self) -> list[DayGap]:
        return self._sums.by_day()

    def add_work(self, row: WorkRow, sums: Sequence[int], portion: Portion, model: str) -> None:
        """`sums` are those of the part of `row` that has no price."""
        amounts = GapAmounts(
            sum(sums[i] for i in _TIMES_MS), sum(sums[i] for i in _TIMES_MJ), sum(sums[_TOKENS]), sums[_REQUESTS_AT]
        )
        if not any(amounts):
            return
        if row.chain == NO_GPU_CHAIN:
            cause: Cause = NO_GPU, f"model {own_name(model) or '-'}"
        else:
            cause = self._cause(row.chain, portion.pool, row.day_ms)
        self._sums.add(*cause, row.day_ms, amounts)

    def add_lost(self, row: CapacityRow, times: CapacityTimes, pool: str | None) -> None:
        gpu_ms = times.active_ms + times.idle_ms + times.unallocated_ms + times.unknown_ms
        energy_mj = times.active_mj + times.idle_mj + times.unallocated_mj + times.unknown_mj
        if gpu_ms or energy_mj:
            self._sums.add(*self._cause(row.chain, pool, row.day_ms), row.day_ms, GapAmounts(gpu_ms, energy_mj))

    def add_unreported(self, pool: str, day_ms: int, gpu_ms: int) -> None:
        self._sums.add(*self._cause(NO_CHAIN, pool, day_ms), day_ms, GapAmounts(gpu_ms))

    def add_site(self, site: str, currency: str, day_ms: int) -> None:
        """Provisioned power whose cost is unknown."""
        name = f"site {own_name(site)}"
        cause: Cause = (NO_EXCHANGE_RATE, f"{currency} ({name})") if currency else (NO_FACILITY, name)
        self._sums.add(*cause, day_ms, GapAmounts())

    def add_unsold(self, tier: DayTier, carrier: Carrier, day_ms: int, tokens: int) -> None:
        assert tier.gap is not None, "its revenue is unknown"
        first, model = self._dimensions[0], model_name(carrier) or "-"
        subject = f"model {model}, {first} {dimension_value(carrier, 0)}"
        if tier.name:
            subject = f"{tier.currency} (tier {own_name(tier.name)})"
        self._sums.add(tier.gap, subject, day_ms, GapAmounts(tokens=tokens))

    def _cause(self, chain: str, pool: str | None, day_ms: int) -> Cause:
        """Why GPUs of a chain have no price on a day, in `pool` or in none."""
        at = (chain, pool, day_ms if chain or pool is not None else 0)
        if at not in self._causes:
            self._causes[at] = self._find_cause(*at)
        return self._causes[at]

    def _find_cause(self, chain: str, pool: str | None, day_ms: int) -> Cause:
        if pool is not None:
            gap = self._placements.rate_gaps[pool, day_ms]
            name = own_name(pool)
            return (NO_EXCHANGE_RATE, f"{gap.currency} (pool {name})") if gap.currency else (NO_FACILITY, name)
        if chain == NO_CHAIN:
            return NO_POOL, self._gpus_in_no_pool() if self._has_pools else "all GPUs"
        names = subject_of([own_name(name) for name in self._placements.pools_in(chain)])
        return (BEYOND_COUNT if (chain, day_ms) in self._placements.beyond_count else NO_TERMS), names

    def _gpus_in_no_pool(self) -> str:
        """By model, with one place of each."""
        places: dict[str, str] = {}
        for group in self._gpu_groups():
            if self._placements.chain_of(group) == NO_CHAIN:
                places.setdefault(group.gpu_model, f"{own_name(group.cluster)}/{own_name(group.node)}")
        return subject_of([f"{model or 'unknown GPU model'} (e.g. {place})" for model, place in sorted(places.items())])
