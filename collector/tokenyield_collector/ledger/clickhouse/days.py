"""Roll-ups of whole days of a ClickHouse ledger: what those of hours have, a row for all hours of a day.

In: the roll-ups of a day's hours. Out: rows of `work_days` and `capacity_days` under the number of a new roll: the sums
of the day, and the amounts of its hours beside each other, so that what depends on hours (paces, prices by hour) is
computed to the same unit. A month of 100,000 GPUs is a scan of 1.1 million rows in place of 27.

A day counts for a reader as long as it was made of the very rolls that the reader has of its hours (`made_of`); when an
hour is rolled up again, the day is read by hours until it is made again. Rows of workloads with several models are in
none, for a policy divides them first (parts.py).
"""

import hashlib
import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tokenyield_collector.ledger.clickhouse.schema import WORK_AMOUNTS, by_hour
from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_collector.ledger.sql import between
from tokenyield_collector.ledger.usage import CAPACITY_SUMS, CAPACITY_TIMES
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR

DAY_TABLES = ("work_days", "capacity_days", "rolled_days")
ROWS_AT_ONCE = 2_000_000
"""About as many rows of hours are put together at once, which take 1 GB of the server's memory."""


class DayRoll(NamedTuple):
    """Of a day that is whole."""

    roll: int
    begun_ms: int
    made_of: int


def by_day(rolls: Mapping[int, int]) -> dict[int, list[int]]:
    """Start of a day -> the rolls of its hours; `rolls` are those of hours."""
    days: dict[int, list[int]] = defaultdict(list)
    for hour_ms, roll in rolls.items():
        days[day_of(hour_ms)].append(roll)
    return dict(days)


def day_of(hour_ms: int) -> int:
    return hour_ms - hour_ms % MS_PER_DAY


def made_of(rolls: Iterable[int]) -> int:
    """One number for the rolls of a day's hours."""
    return int.from_bytes(hashlib.sha256(repr(sorted(rolls)).encode()).digest()[:8])


def current_days(tables: ClickHouseTables, hours: Mapping[int, int]) -> dict[int, DayRoll]:
    """By the day's start, of days that were made of these rolls of hours and are whole. Where several collectors made
    one at once, all are right, and all readers have the same."""
    wanted = {day_ms: made_of(rolls) for day_ms, rolls in by_day(hours).items()}
    rows = tables.rows("SELECT first_ms, roll, begun_ms, made_of FROM {rolled_days} FINAL WHERE is_whole > 0")
    days: dict[int, DayRoll] = {}
    for first_ms, *numbers in sorted(rows):
        one = DayRoll(*map(int, numbers))
        if wanted.get(first_ms) == one.made_of:
            days[first_ms] = one
    return days


def make_day(tables: ClickHouseTables, day_ms: int, hours: Sequence[int], now_ms: int, rows: int) -> None:
    """`hours`: the rolls of its hours; `rows`: how many these have. Its row in `rolled_days` is whole at the end."""
    roll, made = secrets.randbits(62), made_of(hours)
    columns = ("first_ms", "roll", "is_whole", "begun_ms", "made_of")
    tables.insert_rows("rolled_days", columns, [(day_ms, roll, 0, now_ms, made)])
    place = f"toInt64({day_ms}), toUInt64({roll}), gpu_group"
    hour = f"toUInt8(intDiv(hour_ms - {day_ms}, {MS_PER_HOUR}))"
    of_day = f"{between('hour_ms', day_ms, day_ms + MS_PER_DAY)} AND roll IN ({', '.join(map(str, hours))})"
    reported = f"sumForEach(arrayMap(i -> if(i = {hour}, {' + '.join(CAPACITY_TIMES)}, toInt64(0)), range(24)))"
    parts = -(-rows // ROWS_AT_ONCE) or 1
    for part in range(parts):
        where = of_day if parts == 1 else f"{of_day} AND gpu_group % {parts} = {part}"
        tables.client.run(
            f"INSERT INTO {tables.of('work_days')} (first_ms, roll, gpu_group, identity, gpus, "
            f"{_columns(WORK_AMOUNTS)}) SELECT {place}, identity, gpus, {_amounts(hour, WORK_AMOUNTS)} "
            f"FROM {tables.of('work_hours')} WHERE {where} AND models <= 1 GROUP BY gpu_group, identity, gpus"
        )
        tables.client.run(
            f"INSERT INTO {tables.of('capacity_days')} (first_ms, roll, gpu_group, reported_ms, "
            f"{_columns(CAPACITY_SUMS)}) SELECT {place}, {reported}, {_amounts(hour, CAPACITY_SUMS)} "
            f"FROM {tables.of('capacity_hours')} WHERE {where} GROUP BY gpu_group"
        )
    tables.insert_rows("rolled_days", columns, [(day_ms, roll, 1, now_ms, made)])


def _columns(amounts: Sequence[str]) -> str:
    return ", ".join(("hours", *amounts, *map(by_hour, amounts)))


def _amounts(hour: str, amounts: Sequence[str]) -> str:
    """All of one row come in one order, whichever it is."""
    sums = (f"sum({name})" for name in amounts)
    return ", ".join((f"groupArray({hour})", *sums, *(f"groupArray({name})" for name in amounts)))
