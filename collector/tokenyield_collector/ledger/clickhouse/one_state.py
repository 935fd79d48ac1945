"""The state of a ClickHouse ledger that one reader answers from: the rolls that were current at its first read.

Roll-ups of a roll never change and stay while a reader may use them, so that nothing of what it reads does.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from tokenyield_collector.ledger.clickhouse.days import current_days
from tokenyield_collector.ledger.clickhouse.names import NO_LABELS, GroupName, IdentityName, RollUpNames
from tokenyield_collector.ledger.clickhouse.rated import listed
from tokenyield_collector.ledger.clickhouse.rolls import ClickHouseRolls, HourRoll
from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_collector.ledger.sql import between
from tokenyield_collector.ledger.usage import GpuGroup


class LedgerState:
    """Of one reader. For one thread."""

    def __init__(self, tables: ClickHouseTables, rolls: ClickHouseRolls, names: RollUpNames) -> None:
        self.tables = tables
        self._source = rolls
        self._names = names

    @cached_property
    def rolls(self) -> Mapping[int, HourRoll]:
        """By hour, in order."""
        rolls, kept = self._source.current(), self.tables.folds()
        self._names.read()  # after the rolls: what they refer to is there
        return {hour_ms: rolls[hour_ms] for hour_ms in sorted(rolls.keys() & kept.keys())}

    @cached_property
    def days(self) -> Mapping[int, int]:
        """Rolls of days that were made of these, by their start."""
        days = current_days(self.tables, {hour_ms: one.roll for hour_ms, one in self.rolls.items()})
        return {day_ms: one.roll for day_ms, one in days.items()}

    @cached_property
    def groups(self) -> dict[int, GpuGroup]:
        """By number, in the order of their names."""
        _ = self.rolls
        labels = self.tables.read_node_labels()
        return {number: GpuGroup(*name, labels.get(name[:2], NO_LABELS)) for number, name in self._names.groups.items()}

    @cached_property
    def group_names(self) -> Mapping[int, GroupName]:
        _ = self.rolls
        return self._names.groups

    @cached_property
    def identities(self) -> Mapping[int, IdentityName]:
        _ = self.rolls
        return self._names.identities

    def of(self, start_ms: int, end_ms: int) -> dict[int, HourRoll]:
        return {hour_ms: roll for hour_ms, roll in self.rolls.items() if start_ms <= hour_ms < end_ms}

    def kept(self, start_ms: int) -> int:
        """Hours that were retired are on the disk for the rest of their day."""
        return max(start_ms, min(self.rolls, default=start_ms))

    def total(self, number: str, start_ms: int, end_ms: int) -> int:
        """Of one of `ROLL_NUMBERS`."""
        return sum(roll.rolled.numbers[number] for roll in self.of(start_ms, end_ms).values())

    def within(self, start_ms: int, end_ms: int) -> str:
        """Rows of these rolls in a period."""
        rolls = [roll.roll for roll in self.of(start_ms, end_ms).values()]
        return f"{between('hour_ms', start_ms, end_ms)} AND roll IN ({listed(rolls)})"

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.tables.client.rows(sql)

    def rows_of_shards(self, table: str, sql_of: Callable[[str], str]) -> list[tuple[Any, ...]]:
        return self.tables.rows_of_shards(table, sql_of)

    def chains(self, chain_of: Callable[[GpuGroup], str]) -> dict[int, str]:
        """By gpu_group."""
        return {number: chain_of(group) for number, group in self.groups.items()}
