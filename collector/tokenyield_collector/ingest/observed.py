"""What OpenTelemetry senders report, into the ledger: points at once, slices of spend a little later.

In: points that were read from requests. Out: points that are durable before their senders are answered, and, from
these, the slices of their days, which are made anew from all points of the day and never added to. So what comes again,
late or in another order is harmless, and a kill between the two costs nothing: after a start all days that still take
points are made anew.

A cumulative series that falls without saying that it began anew is taken as begun anew then.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.ingest.stats import IngestStats
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.slices import slice_changes
from tokenyield_collector.spend.otlp.points import ObservedPoint, SeriesState
from tokenyield_collector.spend.otlp.slices import slices_of_day
from tokenyield_wire.units import MS_PER_DAY, NS_PER_MS

KEEP_DAYS_MAX = 31
"""Points are taken as long as windows are, and no longer than this."""
SERIES_REMEMBERED_MAX = 200_000
"""Cumulative series whose newest point is in memory; of others it is read from the ledger."""
DAY_POINTS_MAX = 10_000_000
"""Of one day; beyond it points are refused until the next."""


class FullDay(Exception):
    """So many points came for a day that no more are taken."""


@dataclass
class _Waiting:
    points: Sequence[ObservedPoint]
    stored: "asyncio.Future[None]"


class ObservedIntake:
    """Points of several requests are committed together: whatever came in while the last commit ran."""

    def __init__(
        self,
        settings: CollectorSettings,
        ledger: Ledger,
        writer: Executor,
        stats: IngestStats,
        now_ms: Callable[[], int] = lambda: time.time_ns() // NS_PER_MS,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._writer = writer
        self._stats = stats
        self._now_ms = now_ms
        self._series: OrderedDict[str, SeriesState] = OrderedDict()
        self._shown: dict[int, tuple[int, int]] = {}
        """Days whose slices are made -> of which points (`Ledger.observed_days`)."""
        self._waiting: list[_Waiting] = []
        self._committing: asyncio.Task[None] | None = None

    def span_ms(self) -> tuple[int, int]:
        """[first, last) of what is taken now."""
        now_ms, settings = self._now_ms(), self._settings
        days = min(settings.windows_keep_days, KEEP_DAYS_MAX)
        return now_ms - days * MS_PER_DAY, now_ms + settings.clock_skew_max_s * 1000

    async def add(self, points: Sequence[ObservedPoint]) -> None:
        """Returns when they are durable. Raises `LedgerError`, `FullDay`."""
        waiting = _Waiting(points, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit())
        await waiting.stored

    async def _commit(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                taken, self._waiting = self._waiting, []
                points = [point for one in taken for point in one.points]
                try:
                    await loop.run_in_executor(self._writer, self.store, points)
                except Exception as error:  # noqa: BLE001  whoever waits raises it
                    for one in taken:
                        if not one.stored.done():
                            one.stored.set_exception(error)
                else:
                    for one in taken:
                        if not one.stored.done():
                            one.stored.set_result(None)
        finally:
            self._committing = None

    # --- in the writer's thread ----------------------------------------------------------------------------------

    def store(self, points: Sequence[ObservedPoint]) -> None:
        """Raises `LedgerError`, `FullDay`."""
        for day_ms in {point.key.day_ms for point in points}:
            if self._shown.get(day_ms, (0, 0))[0] >= DAY_POINTS_MAX:
                raise FullDay(f"expected at most {DAY_POINTS_MAX} points of one day, found more; send fewer series")
        series = {point.key.series for point in points if point.key.is_total}
        states = self._states(sorted(series))
        kept = [placed for point in sorted(points, key=_time) if (placed := _placed(point, states)) is not None]
        self._ledger.add_observed(kept, self._now_ms())
        for name in series:
            self._series[name] = states[name]
            self._series.move_to_end(name)
        while len(self._series) > SERIES_REMEMBERED_MAX:
            self._series.popitem(last=False)
        for point in kept:
            self._stats.points[point.signal, "counted"] += 1
        if len(kept) < len(points):
            self._stats.points["metrics", "late"] += len(points) - len(kept)

    def _states(self, series: Sequence[str]) -> dict[str, SeriesState]:
        """As of the ledger; from memory where nobody else writes into it."""
        known = {} if self._ledger.is_shared else {name: self._series[name] for name in series if name in self._series}
        return known | self._ledger.observed_states([name for name in series if name not in known])

    async def add_up(self) -> None:
        """Make the slices of days whose points changed, a day at a time."""
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(self._writer, self._add_up_one):
            pass

    def add_up_now(self) -> None:
        while self._add_up_one():
            pass

    def _add_up_one(self) -> bool:
        """Of the first such day; whether there was one. What a cumulative series counted on a day depends on the days
        before, so those after it are made anew as well."""
        first_ms = self.span_ms()[0]
        days = self._ledger.observed_days(first_ms - first_ms % MS_PER_DAY)
        changed = next((day_ms for day_ms in sorted(days) if self._shown.get(day_ms) != days[day_ms]), None)
        if changed is None:
            return False
        stored = self._ledger.spend(changed, changed + MS_PER_DAY)
        sums = self._ledger.observed_sums(changed)
        changes = slice_changes(stored, slices_of_day(changed, sums, [one.key for one in stored]))
        if changes.to_write:
            self._ledger.replace_spend(changes.to_write, self._now_ms())
        self._shown = {day_ms: of for day_ms, of in self._shown.items() if day_ms < changed and day_ms in days}
        self._shown[changed] = days[changed]
        return True


def _time(point: ObservedPoint) -> int:
    return point.time_ns


def _placed(point: ObservedPoint, states: dict[str, SeriesState]) -> ObservedPoint | None:
    """With the start of what it goes on; None for one that came late, from before a reset. Changes `states`."""
    if not point.key.is_total:
        return point
    name, state = point.key.series, states.get(point.key.series)
    if state is None:
        states[name] = SeriesState(point.key.start_ns, point.time_ns, point.total)
        return point
    start_ns = state.start_ns
    if point.time_ns > state.time_ns:
        start_ns = point.time_ns if point.total < state.total else state.start_ns
        states[name] = SeriesState(start_ns, point.time_ns, point.total)
    elif point.total > state.total or point.time_ns < state.start_ns:
        return None
    return point._replace(key=point.key._replace(start_ns=start_ns))
