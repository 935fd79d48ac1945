"""What of a period is read how: whole days as days (days.py), other hours as hours, and what a policy divides further
in a DuckDB of the reader's own (divided.py).

Divided are roll-ups of workloads with several models, of models that somebody requested through a gateway, and of hours
whose amounts are beyond 64-bit arithmetic. Nothing else of a period travels.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from tokenyield_collector.ledger.clickhouse.days import day_of
from tokenyield_collector.ledger.clickhouse.divided import DividedRows
from tokenyield_collector.ledger.clickhouse.one_state import LedgerState
from tokenyield_collector.ledger.clickhouse.rated import are_safe, listed
from tokenyield_collector.ledger.clickhouse.rolls import HourRoll
from tokenyield_collector.ledger.sql import between, is_one_of
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR


class PeriodParts(NamedTuple):
    """Of a period: the hours that servers sum, the rolls of days among them, and what is divided further."""

    hours: Mapping[int, HourRoll]
    """Those that are in none of the days."""
    days: Mapping[int, int]
    requested: Sequence[int] = ()
    """Identities whose rows are divided."""
    divided: DividedRows | None = None

    def of_hours(self, *, of_work: bool = True) -> list[str]:
        """The condition of rows of hours that servers sum, if there are any."""
        if not self.hours:
            return []
        start_ms, end_ms = min(self.hours), max(self.hours) + MS_PER_HOUR
        within = between("hour_ms", start_ms, end_ms)
        if len(self.hours) < (end_ms - start_ms) // MS_PER_HOUR:
            within += f" AND {is_one_of(self.hours)}"
        rolls = listed([roll.roll for roll in self.hours.values()])
        return [f"{within} AND roll IN ({rolls}){' AND models <= 1' if of_work else ''}{self._undivided(of_work)}"]

    def of_days(self, *, of_work: bool = True) -> list[str]:
        """The same of rows of days."""
        if not self.days:
            return []
        within = between("first_ms", min(self.days), max(self.days) + MS_PER_DAY)
        return [f"{within} AND roll IN ({listed([*self.days.values()])}){self._undivided(of_work)}"]

    def between(self, start_ms: int, end_ms: int) -> "PeriodParts":
        """Whole days of it."""
        return self._replace(
            hours={at: roll for at, roll in self.hours.items() if start_ms <= at < end_ms},
            days={at: roll for at, roll in self.days.items() if start_ms <= at < end_ms},
        )

    def _undivided(self, of_work: bool) -> str:
        return f" AND identity NOT IN ({listed(self.requested)})" if self.requested and of_work else ""


class Parting:
    """Of one reader. Rows that are divided are fetched once for each period."""

    def __init__(self, state: LedgerState) -> None:
        self._state = state
        self._divided: dict[tuple[object, ...], DividedRows] = {}

    def parted(
        self,
        start_ms: int,
        end_ms: int,
        weights: Mapping[str, int],
        pace_max: int,
        gateway_models: Mapping[str, str] | None = None,
        by_hours_ms: Collection[int] = (),
    ) -> PeriodParts:
        """`by_hours_ms`: days that are not read as such."""
        rolls = self._state.of(start_ms, end_ms)
        safe = self._safe(rolls, weights, pace_max)
        unsafe = sorted(rolls.keys() - safe.keys())
        requested = self._requested(start_ms, end_ms, gateway_models) if gateway_models is not None else []
        divided = None
        if unsafe or requested or any(roll.rolled.numbers["split_rows"] for roll in safe.values()):
            divided = self._rows_of(start_ms, end_ms, requested, unsafe)
        return self._by_days(safe, by_hours_ms)._replace(requested=requested, divided=divided)

    def of_capacity(self, start_ms: int, end_ms: int) -> PeriodParts:
        """Days with sums that 64 bits have room for, and all other hours."""
        rolls = self._state.of(start_ms, end_ms)
        days = self._by_days(self._safe(rolls, {}, 1), ()).days
        return PeriodParts(_beside(days, rolls), days)

    def of_gateways(self, start_ms: int, end_ms: int, gateway_models: Mapping[str, str]) -> DividedRows:
        return self._rows_of(start_ms, end_ms, self._requested(start_ms, end_ms, gateway_models), [])

    def beyond(self, start_ms: int, end_ms: int) -> DividedRows:
        """GPUs that are reported for more time than there is, or by several nodes."""
        key = ("beyond", start_ms, end_ms)
        if key not in self._divided:
            rows = self._new_rows()
            rows.take_beyond(self._state.within(start_ms, end_ms))
            self._divided[key] = rows
        return self._divided[key]

    def _by_days(self, safe: Mapping[int, HourRoll], by_hours_ms: Collection[int]) -> PeriodParts:
        """Days whose hours are all among these, and the other hours."""
        here, whole = (Counter(map(day_of, hours)) for hours in (safe, self._state.rolls))
        days = {
            day_ms: roll
            for day_ms, roll in self._state.days.items()
            if here[day_ms] == whole[day_ms] and day_ms not in by_hours_ms
        }
        return PeriodParts(_beside(days, safe), days)

    def _safe(self, rolls: Mapping[int, HourRoll], weights: Mapping[str, int], pace_max: int) -> dict[int, HourRoll]:
        """Hours that servers can sum."""
        rows = sum(roll.rolled.numbers["work_rows"] for roll in rolls.values()) + len(self._state.groups) * len(rolls)
        return {at: roll for at, roll in rolls.items() if are_safe(roll.rolled.numbers, weights, pace_max, rows)}

    def _requested(self, start_ms: int, end_ms: int, gateway_models: Mapping[str, str]) -> list[int]:
        """Identities of models that somebody requested through a gateway."""
        state = self._state
        if not state.total("demand_rows", start_ms, end_ms):
            return []
        rows = state.rows(
            f"SELECT DISTINCT cluster, model FROM {state.tables.of('demand_hours')} "
            f"WHERE {between('hour_ms', state.kept(start_ms), end_ms)}"
        )
        served = {(cluster, gateway_models.get(model, model)) for cluster, model in rows}
        return sorted(number for number, name in state.identities.items() if (name.cluster, name.model) in served)

    def _rows_of(self, start_ms: int, end_ms: int, requested: Sequence[int], unsafe_ms: Sequence[int]) -> DividedRows:
        key = (start_ms, end_ms, tuple(requested), tuple(unsafe_ms))
        if key not in self._divided:
            rows, within = self._new_rows(), self._state.within
            chosen = f"(models > 1 OR identity IN ({listed(requested)}) OR hour_ms IN ({listed(unsafe_ms)}))"
            for day_ms in _days(start_ms, end_ms):
                rows.take_work(f"{within(max(start_ms, day_ms), min(end_ms, day_ms + MS_PER_DAY))} AND {chosen}")
            if unsafe_ms:
                rows.take_capacity(f"{within(start_ms, end_ms)} AND hour_ms IN ({listed(unsafe_ms)})")
            rows.take_demand(between("hour_ms", self._state.kept(start_ms), end_ms))
            self._divided[key] = rows
        return self._divided[key]

    def _new_rows(self) -> DividedRows:
        return DividedRows(self._state.tables, self._state.groups, self._state.identities)


def _beside(days: Mapping[int, int], hours: Mapping[int, HourRoll]) -> dict[int, HourRoll]:
    """Hours that are in none of these days."""
    return {hour_ms: roll for hour_ms, roll in hours.items() if day_of(hour_ms) not in days}


def _days(start_ms: int, end_ms: int) -> Iterator[int]:
    yield from range(day_of(start_ms), end_ms, MS_PER_DAY)
