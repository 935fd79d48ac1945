"""What all closed hours cost, and who carries it: the figures *to date* of /metrics. Pure.

In: statements of the calendar months (UTC), each reckoned as the report of that month is. Out: series -> integer (money
in nano-units of the currency, ms, mJ, tokens). So the difference between two instants of what is to date is what a
report says of the time between, and a correction (late data, new prices, a better pace learned) corrects it.

A month is reckoned again when one of its hours changed or closed. What retention takes from the ledger goes into a base
kept there (`Ledger.retire`), priced as it was then; `FROM` says up to where that goes.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tokenyield_collector.live.counters import Series
from tokenyield_collector.prices.money import nano
from tokenyield_collector.prices.period import month_of, parse_period
from tokenyield_collector.statements.lines import BUCKETS, COSTS, is_lost
from tokenyield_collector.statements.references import AppliedReference
from tokenyield_collector.statements.statement import Grain, Statement
from tokenyield_wire.units import hour_of_ms
from tokenyield_wire.window import TOKEN_KINDS

GRAIN = Grain(workload=True, cluster=True)
"""What a statement must be made with."""
FROM = Series("booked_from_ms", ())
MONEY = ("cost", "workload_cost", "attributed_cost")
METRICS = (
    *MONEY,
    "workload_bucket_ms",
    "attributed_gpu_ms",
    "attributed_energy_mj",
    "attributed_tokens",
    "attributed_requests",
)
_HELD = ("productive", "under_yield", "idle")


@dataclass(frozen=True, kw_only=True)
class Booking:
    """A statement as series. Money is still in quanta, so that months add up exactly."""

    values: dict[Series, int] = field(default_factory=dict)
    references: list[AppliedReference] = field(default_factory=list)


def book(statement: Statement) -> Booking:
    """Reckon `statement`, whose grain must be `GRAIN`."""
    found: dict[Series, int] = defaultdict(int)
    for key, sums in statement.lines():
        group = key.group
        who = (group.cluster, key.pool, group.model, *group.values)
        for bucket in COSTS:
            if quanta := sums.get(bucket):
                found[Series("attributed_cost", (*who, bucket))] += quanta
        for bucket in BUCKETS:
            if duration_ms := sums.get(f"{bucket}_ms"):
                found[Series("attributed_gpu_ms", (*who, bucket))] += duration_ms
        if energy_mj := sums.get("gpu_mj"):
            found[Series("attributed_energy_mj", who)] += energy_mj
        for kind in TOKEN_KINDS:
            if sums.get(f"{kind}_told"):
                found[Series("attributed_tokens", (*who, kind))] += sums.get(kind)
        if sums.get("requests_told"):
            found[Series("attributed_requests", who)] += sums.get("requests")
        if is_lost(group):
            continue
        workload = (group.cluster, group.workload, group.model)
        for bucket in (*_HELD, "shared"):
            if quanta := sums.get(bucket):
                found[Series("workload_cost", (*workload, bucket))] += quanta
        for bucket in _HELD:
            if duration_ms := sums.get(f"{bucket}_ms"):
                found[Series("workload_bucket_ms", (*workload, bucket))] += duration_ms
    for (cluster, pool), sums in statement.before_sharing.items():
        for bucket in BUCKETS:
            if quanta := sums.get(bucket):
                found[Series("cost", (cluster, pool, bucket))] += quanta
    return Booking(values=dict(found), references=statement.references)


class Booked:
    """All months so far. `make` gives the booking of [start, end)."""

    def __init__(self, make: Callable[[int, int], Booking], bases: Mapping[str, int]) -> None:
        self._make = make
        known = {Series.of_key(key): value for key, value in bases.items()}
        self._bases = {series: value for series, value in known.items() if series.metric in METRICS}
        self._from_ms = known.get(FROM)
        self._months: dict[str, tuple[int, int, Booking]] = {}
        """Month -> the stretch that its booking is of, and that."""
        self._stale: set[str] = set()

    def mark(self, hours_ms: Iterable[int]) -> None:
        """These hours changed."""
        self._stale.update(month_of(hour_ms) for hour_ms in hours_ms)

    def bring_up_to(self, first_ms: int, known_ms: int) -> None:
        """Reckon every month whose hours changed or closed. `known_ms` is the end of the newest closed hour."""
        at_ms = hour_of_ms(first_ms) if self._from_ms is None else self._from_ms
        kept = {}
        while at_ms < known_ms:
            month = month_of(at_ms)
            end_ms = min(parse_period(month).end_ms, known_ms)
            before = self._months.get(month)
            if before is None or before[:2] != (at_ms, end_ms) or month in self._stale:
                before = (at_ms, end_ms, self._make(at_ms, end_ms))
            kept[month] = before
            at_ms = end_ms
        self._months = kept
        self._stale.clear()

    def is_behind(self, known_ms: int) -> bool:
        """Whether an hour has closed since."""
        return self._to_ms() < known_ms

    def _to_ms(self) -> int:
        return max((end_ms for _, end_ms, _ in self._months.values()), default=-1)

    @property
    def is_stale(self) -> bool:
        return bool(self._stale)

    def values(self) -> dict[Series, int]:
        """To date."""
        sums: dict[Series, int] = defaultdict(int)
        for _, _, booking in self._months.values():
            for series, value in booking.values.items():
                sums[series] += value
        shown = {series: nano(value) if series.metric in MONEY else value for series, value in sums.items()}
        for series, base in self._bases.items():
            shown[series] = shown.get(series, 0) + base
        return shown

    def references(self) -> list[AppliedReference]:
        """Those of the newest month."""
        return self._months[max(self._months)][2].references if self._months else []

    def retire(self, first_ms: int, before_ms: int) -> dict[str, int]:
        """Move what is before `before_ms` into the bases; returns what is added, for `Ledger.retire`."""
        from_ms = hour_of_ms(first_ms) if self._from_ms is None else self._from_ms
        if before_ms <= from_ms:
            return {}
        added: dict[Series, int] = {FROM: before_ms - (self._from_ms or 0)}
        for series, value in self._make(from_ms, before_ms).values.items():
            added[series] = nano(value) if series.metric in MONEY else value
            self._bases[series] = self._bases.get(series, 0) + added[series]
        self._from_ms = before_ms
        self.bring_up_to(first_ms, self._to_ms())  # without what is now in the bases
        return {series.key(): value for series, value in added.items()}
