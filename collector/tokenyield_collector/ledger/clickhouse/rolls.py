"""Which roll-ups of a ClickHouse ledger are current, which hours need new ones, and which nobody needs any more.

An hour's roll-ups are current while their roll includes as many commits as the hour does (`folded`). Any collector may
make them; where two do at once, both are right and one of them is current. A roll that a kill left half made has no
row in `rolled_hours` with a turn, and is removed with those that others took the place of. Days are made of hours once
they have ended (days.py).
"""

import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tokenyield_collector.ledger.clickhouse.days import DAY_TABLES, by_day, current_days, day_of, make_day
from tokenyield_collector.ledger.clickhouse.gpu_owners import changed_hours
from tokenyield_collector.ledger.clickhouse.rollup import RollUp, roll_of, roll_up
from tokenyield_collector.ledger.clickhouse.schema import ROLL_NUMBERS
from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_collector.ledger.sql import is_one_of
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR

ROWS_AT_ONCE = 1_000_000
"""Rows of shares that are rolled up at once, unless one hour has more."""
HOURS_AT_ONCE = 24
KEPT_MS = 6 * MS_PER_HOUR
"""A roll stays for this long after another took its place: a reader that has it is done by then."""
REMOVED_AT_ONCE = 1_000
ROLL_TABLES = ("work_hours", "capacity_hours", "beyond_hours", "contested_hours")


class HourRoll(NamedTuple):
    """The current roll of one hour."""

    roll: int
    turn: int
    begun_ms: int
    commits: int
    rolled: RollUp


class ClickHouseRolls:
    """Of the tables of one ledger. From any thread."""

    def __init__(self, tables: ClickHouseTables) -> None:
        self._tables = tables
        self._lock = threading.Lock()

    def current(self) -> dict[int, HourRoll]:
        """By hour, of those that are kept."""
        rows = self._tables.rows(
            f"SELECT hour_ms, roll, turn, begun_ms, commits, facts, {', '.join(ROLL_NUMBERS)} "
            f"FROM {{rolled_hours}} FINAL WHERE turn > 0 AND hour_ms >= {self._tables.retired_before_ms('hours')}"
        )
        rolls: dict[int, HourRoll] = {}
        for hour_ms, roll, turn, begun_ms, commits, facts, *numbers in rows:
            known = rolls.get(hour_ms)
            if known is None or (known.turn, known.roll) < (int(turn), int(roll)):
                rolled = RollUp(int(facts), dict(zip(ROLL_NUMBERS, numbers, strict=True)))
                rolls[hour_ms] = HourRoll(int(roll), int(turn), int(begun_ms), int(commits), rolled)
        return rolls

    def roll(self, before_ms: int | None, hours_max: int | None) -> bool:
        """See `Ledger.roll`."""
        with self._lock:
            folds, rolls = self._tables.folds(), self.current()
            stale = sorted(
                hour_ms
                for hour_ms, commits in folds.items()
                if (before_ms is None or hour_ms < before_ms)
                and (hour_ms not in rolls or rolls[hour_ms].commits != commits)
            )
            hours = stale[:hours_max]
            for chunk in self._chunks(hours):
                self._make(chunk, folds, rolls)
            if hours:
                rolls = self.current()
                changed = changed_hours(self._tables, {roll.roll for roll in rolls.values()})
                for chunk in self._chunks(changed):
                    self._make(chunk, {hour_ms: rolls[hour_ms].commits for hour_ms in chunk}, rolls)
            return len(hours) < len(stale)

    def roll_day(self, before_ms: int) -> int | None:
        """See `Ledger.roll_day`."""
        with self._lock:
            folds, kept_ms = self._tables.folds(), self._tables.retired_before_ms("hours")
            hours = {hour_ms: one for hour_ms, one in self.current().items() if hour_ms in folds}
            rolls = {hour_ms: one.roll for hour_ms, one in hours.items()}
            known = current_days(self._tables, rolls)
            stale = [
                day_ms
                for day_ms in by_day(rolls)
                if day_ms not in known and kept_ms <= day_ms and day_ms + MS_PER_DAY <= before_ms
            ]
            if not stale:
                return None
            day_ms = max(stale)
            of_day = [one for hour_ms, one in hours.items() if day_of(hour_ms) == day_ms]
            rows = sum(one.rolled.numbers["work_rows"] for one in of_day)
            make_day(self._tables, day_ms, [one.roll for one in of_day], self._now_ms(), rows)
            return day_ms

    def remove_old(self) -> None:
        """What took its place has been there for long."""
        before_ms, current = self._now_ms() - KEPT_MS, self.current()
        self._remove_days(before_ms, current)
        rows = self._tables.rows("SELECT DISTINCT hour_ms, roll FROM {rolled_hours} WHERE begun_ms < %d", before_ms)
        old = []
        for hour_ms, roll in sorted(rows):
            newest = current.get(hour_ms)
            if newest is None or (newest.roll != int(roll) and newest.begun_ms < before_ms):
                old.append((hour_ms, int(roll)))
        for i in range(0, len(old), REMOVED_AT_ONCE):
            chunk = old[i : i + REMOVED_AT_ONCE]
            rolls = ", ".join(str(roll) for _, roll in chunk)
            where = f"{is_one_of(sorted({hour_ms for hour_ms, _ in chunk}))} AND roll IN ({rolls})"
            for shard in self._tables.shards:
                for table in (*ROLL_TABLES, "rolled_hours"):
                    shard.run(f"ALTER TABLE {table} DELETE WHERE {where}")

    def _remove_days(self, before_ms: int, current: Mapping[int, HourRoll]) -> None:
        """Of hours that are gone, those that others took the place of, and those that a kill left half made."""
        days = current_days(self._tables, {hour_ms: one.roll for hour_ms, one in current.items()})
        begun_ms: dict[int, int] = {}
        """When the last of what a day is read from was made."""
        for hour_ms, one in current.items():
            day_ms = day_of(hour_ms)
            since_ms = days[day_ms].begun_ms if day_ms in days else one.begun_ms
            begun_ms[day_ms] = max(since_ms, begun_ms.get(day_ms, since_ms))
        rows = self._tables.rows("SELECT DISTINCT first_ms, roll FROM {rolled_days} WHERE begun_ms < %d", before_ms)
        old = sorted(
            int(roll)
            for day_ms, roll in rows
            if begun_ms.get(day_ms, 0) < before_ms and not (day_ms in days and days[day_ms].roll == int(roll))
        )
        for i in range(0, len(old), REMOVED_AT_ONCE):
            rolls = ", ".join(map(str, old[i : i + REMOVED_AT_ONCE]))
            for shard in self._tables.shards:
                for table in DAY_TABLES:
                    shard.run(f"ALTER TABLE {table} DELETE WHERE roll IN ({rolls})")

    def _now_ms(self) -> int:
        """By the servers' clock."""
        ((now_ms,),) = self._tables.client.rows("SELECT toInt64(toUnixTimestamp(now())) * 1000")
        return int(now_ms)

    def _chunks(self, hours_ms: Sequence[int]) -> Iterator[list[int]]:
        rows = {}
        if hours_ms:
            rows = dict(
                self._tables.rows(
                    f"SELECT hour_ms, count() FROM {{share_hours}} WHERE {is_one_of(hours_ms)} GROUP BY hour_ms"
                )
            )
        chunk: list[int] = []
        for hour_ms in hours_ms:
            together = sum(rows.get(one, 0) for one in (*chunk, hour_ms))
            if chunk and (together > ROWS_AT_ONCE or len(chunk) == HOURS_AT_ONCE):
                yield chunk
                chunk = []
            chunk.append(hour_ms)
        if chunk:
            yield chunk

    def _make(self, hours_ms: Sequence[int], folds: Mapping[int, int], rolls: Mapping[int, HourRoll]) -> None:
        base = secrets.randbits(62)
        now_ms = self._now_ms()
        begun = [(hour_ms, roll_of(base, hour_ms), 0, now_ms) for hour_ms in hours_ms]
        self._tables.insert_rows("rolled_hours", ("hour_ms", "roll", "turn", "begun_ms"), begun)
        rolled = roll_up(self._tables, hours_ms, base)
        columns = ("hour_ms", "roll", "turn", "begun_ms", "commits", "facts", *ROLL_NUMBERS)
        done = []
        for hour_ms in hours_ms:
            turn = rolls[hour_ms].turn + 1 if hour_ms in rolls else 1
            facts, numbers = rolled[hour_ms]
            amounts = (numbers[name] for name in ROLL_NUMBERS)
            done.append((hour_ms, roll_of(base, hour_ms), turn, now_ms, folds[hour_ms], facts, *amounts))
        self._tables.insert_rows("rolled_hours", columns, done)
