"""Work and capacity as a `UsageQuery` asks, out of ClickHouse's roll-ups: its servers sum them, some days at a time."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tokenyield_collector.ledger.clickhouse.divided import RowSums, merged
from tokenyield_collector.ledger.clickhouse.one_state import LedgerState
from tokenyield_collector.ledger.clickhouse.parts import PeriodParts
from tokenyield_collector.ledger.clickhouse.rated import KEYS, Numbering, capacity_sql, work_sql
from tokenyield_collector.ledger.clickhouse.rated_days import DaySums
from tokenyield_collector.ledger.clickhouse.rollup import NOBODY
from tokenyield_collector.ledger.clickhouse.undated import of_period
from tokenyield_collector.ledger.duckdb.caller_split import NO_CALLER
from tokenyield_collector.ledger.usage import (
    NO_CHAIN,
    NO_GPU_CHAIN,
    CapacityRow,
    UsageQuery,
    UsageRows,
    WorkIdentity,
    WorkRow,
)
from tokenyield_wire.units import MS_PER_DAY

ROWS_AT_ONCE = 100_000
"""About as many rows of an answer are in memory at once."""


def usage_rows(state: LedgerState, parts: PeriodParts, query: UsageQuery) -> UsageRows:
    """`parts` are those of the query's period."""
    divided = parts.divided
    if not parts.hours and not parts.days:
        return divided.reader.usage(query) if divided is not None else UsageRows(iter(()), iter(()))
    of_servers = _OfServers(state, parts, query)
    rows = UsageRows(of_servers.work(), of_servers.capacity())
    if divided is not None:
        others = divided.reader.usage(query)
        rows = UsageRows(merged(rows.work, others.work, WorkRow), merged(rows.capacity, others.capacity, CapacityRow))
    return of_period(rows, query)


class _OfServers:
    """Rows that servers sum, of one query."""

    def __init__(self, state: LedgerState, parts: PeriodParts, query: UsageQuery) -> None:
        self._state, self._parts, self._query = state, parts, query
        names = state.identities
        group_of = {
            number: query.group_of(WorkIdentity(*names[number], NO_CALLER))
            for number in sorted(_worked(state, parts), key=lambda number: names[number])
        }
        self._groups = len({*group_of.values()})
        self._numbering = Numbering(
            query,
            state.group_names,
            {number: names[number] for number in group_of},
            {NOBODY: NO_GPU_CHAIN, **state.chains(query.chain_of)},
            group_of,
        )
        self._of_days = DaySums(self._numbering)

    def work(self) -> Iterator[WorkRow]:
        weights = self._query.weights
        rows = self._rows(
            self._groups,
            len(KEYS) + 1,
            lambda table, where: work_sql(self._numbering, weights, table, where),
            lambda table, where: self._of_days.work_sql(weights, table, where),
            of_work=True,
        )
        for row in rows:
            yield WorkRow(*self._keys(*row[:4]), group=row[4], sums=row[5:])

    def capacity(self) -> Iterator[CapacityRow]:
        rows = self._rows(
            len(self._numbering.chains),
            len(KEYS),
            lambda table, where: capacity_sql(self._numbering, table, where),
            self._of_days.capacity_sql,
            of_work=False,
        )
        for row in rows:
            yield CapacityRow(*self._keys(*row[:4]), sums=row[4:])

    def _rows(
        self,
        groups: int,
        keys: int,
        hours_sql: Callable[[str, str], str],
        days_sql: Callable[[str, str], str],
        *,
        of_work: bool,
    ) -> Iterator[Sequence[Any]]:
        """Of both kinds of roll-ups, in order of their keys. `groups`: the most that have rows on a day; `…_sql`: by
        table and condition."""
        table = "work" if of_work else "capacity"
        for stretch in self._stretches(groups):
            sums = RowSums(keys)
            for where in stretch.of_hours(of_work=of_work):
                sums.add(self._asked(f"{table}_hours", hours_sql, where))
            for where in stretch.of_days(of_work=of_work):
                sums.add(self._of_days.rows(self._asked(f"{table}_days", days_sql, where), keys))
            yield from sums.rows()

    def _asked(self, table: str, sql: Callable[[str, str], str], where: str) -> list[tuple[Any, ...]]:
        return self._state.rows_of_shards(table, lambda name: sql(name, where))

    def _keys(self, day_ms: int, segment: int, chain: int, node: int) -> tuple[int, int, str, tuple[str, str]]:
        chains, nodes = self._numbering.chains, self._numbering.nodes
        return day_ms, segment, chains[chain] if chain >= 0 else NO_CHAIN, nodes[node]

    def _stretches(self, groups: int) -> Iterator[PeriodParts]:
        """What of so many days each that an answer has about `ROWS_AT_ONCE` rows, in order. Of nodes each has some
        workloads, and of workloads without nodes each is in some chains: three of either."""
        query = self._query
        rows_a_day = 3 * (max(len(self._state.groups), groups) if query.by_node else groups)
        days = max(1, ROWS_AT_ONCE // max(rows_a_day, 1))
        for start_ms in range(query.start_ms - query.start_ms % MS_PER_DAY, query.end_ms, days * MS_PER_DAY):
            yield self._parts.between(start_ms, start_ms + days * MS_PER_DAY)


def _worked(state: LedgerState, parts: PeriodParts) -> set[int]:
    """Identities that have rows."""
    return {
        int(number)
        for table, wheres in (("work_hours", parts.of_hours()), ("work_days", parts.of_days()))
        for where in wheres
        for (number,) in state.rows(f"SELECT DISTINCT identity FROM {state.tables.of(table)} WHERE {where}")
    }
