"""Usage for reports out of ClickHouse: its servers sum the roll-ups (rated.py), and what comes back is the answer.

What a policy divides further, to the last millisecond and token, is divided in one place, DuckDB's SQL: roll-ups of
workloads with several models, of models that somebody requested through a gateway, and of hours whose amounts are
beyond 64-bit arithmetic, go to a DuckDB of the reader's own (divided.py). Nothing else of a period travels.

A reader uses the rolls that were current at its first read, and so answers from one state, but for `demand`,
`host_energy` and `latency`, which are read as the hours are now.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from tokenyield_collector.ledger.clickhouse import beside
from tokenyield_collector.ledger.clickhouse.divided import DividedRows, merged
from tokenyield_collector.ledger.clickhouse.names import NO_LABELS, GroupName, IdentityName, RollUpNames
from tokenyield_collector.ledger.clickhouse.rated import (
    Numbering,
    are_safe,
    capacity_sql,
    listed,
    lookup,
    units_of,
    work_sql,
)
from tokenyield_collector.ledger.clickhouse.rolls import ClickHouseRolls, HourRoll
from tokenyield_collector.ledger.clickhouse.rollup import NOBODY
from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_collector.ledger.clickhouse.undated import of_period
from tokenyield_collector.ledger.contradictions import ContestedGpu, DemandDay, DoubledGpu, ForeignDay
from tokenyield_collector.ledger.duckdb.caller_split import NO_CALLER
from tokenyield_collector.ledger.duckdb.usage import BUSY_MS
from tokenyield_collector.ledger.foreign_names import FOREIGN
from tokenyield_collector.ledger.sql import between
from tokenyield_collector.ledger.usage import (
    BEST_DAYS,
    CAPACITY_TIMES,
    NO_CHAIN,
    NO_GPU_CHAIN,
    BestHour,
    CapacityRow,
    GpuGroup,
    HostDay,
    ModelInstance,
    UsageQuery,
    UsageRows,
    WorkIdentity,
    WorkLatency,
    WorkRow,
)
from tokenyield_wire.units import MS_PER_DAY

ROWS_AT_ONCE = 100_000
"""About as many rows of an answer are in memory at once."""
_DAY_MS = f"intDiv(hour_ms, {MS_PER_DAY}) * {MS_PER_DAY}"


class ClickHouseUsage:
    """A `LedgerUsageReader`. For one thread."""

    def __init__(self, tables: ClickHouseTables, rolls: ClickHouseRolls, names: RollUpNames) -> None:
        self._tables = tables
        self._source = rolls
        self._names = names
        self._divided: dict[tuple[object, ...], DividedRows] = {}

    # --- what is small ---------------------------------------------------------------------------------------------

    def gpu_groups(self) -> list[GpuGroup]:
        return list(self._groups.values())

    def checksum(self, start_ms: int, end_ms: int) -> str:
        facts = sorted((hour_ms, roll.rolled.facts) for hour_ms, roll in self._of(start_ms, end_ms).items())
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]

    def reported_ms(
        self, start_ms: int, end_ms: int, chain_of: Callable[[GpuGroup], str]
    ) -> dict[tuple[str, int], int]:
        of_group = {number: chain_of(group) for number, group in self._groups.items()}
        chains = sorted({*of_group.values()})
        if not chains or not self._of(start_ms, end_ms):
            return {}
        number = lookup("gpu_group", {group: chains.index(chain) for group, chain in of_group.items()})
        sums = ", ".join(f"sum(toDecimal128({name}, 0))" for name in CAPACITY_TIMES)
        rows = self._rows(
            f"SELECT {number} AS chain, hour_ms, {sums} FROM {self._tables.of('capacity_hours')} "
            f"WHERE {self._within(start_ms, end_ms)} GROUP BY chain, hour_ms"
        )
        return {(chains[chain], hour_ms): sum(map(int, times)) for chain, hour_ms, *times in rows}

    def host_energy(self, start_ms: int, end_ms: int) -> list[HostDay]:
        hours = [hour_ms for hour_ms, roll in self._of(start_ms, end_ms).items() if roll.rolled.numbers["host_rows"]]
        days = sorted({hour_ms - hour_ms % MS_PER_DAY for hour_ms in hours})
        stretches = [(max(day_ms, start_ms), min(day_ms + MS_PER_DAY, end_ms)) for day_ms in days]
        within = [(stretch, self._within(*stretch)) for stretch in stretches]
        return beside.host_days(self._tables, within)

    def demand(self, start_ms: int, end_ms: int, gateway_models: Mapping[str, str]) -> list[DemandDay]:
        if not self._total("demand_rows", start_ms, end_ms):
            return []
        divided = self._of_gateways(start_ms, end_ms, gateway_models)
        return [*divided.reader.demand(start_ms, end_ms, gateway_models)]

    def doubled_gpus(self, start_ms: int, end_ms: int) -> list[DoubledGpu]:
        if not self._total("beyond_rows", start_ms, end_ms):
            return []
        return [*self._beyond(start_ms, end_ms).reader.doubled_gpus(start_ms, end_ms)]

    def contested_gpus(self, start_ms: int, end_ms: int) -> list[ContestedGpu]:
        if not self._total("beyond_rows", start_ms, end_ms):
            return []
        return [*self._beyond(start_ms, end_ms).reader.contested_gpus(start_ms, end_ms)]

    def foreign_days(self, start_ms: int, end_ms: int) -> list[ForeignDay]:
        foreign = [number for number, name in self._identities.items() if FOREIGN.search(name.workload)]
        if not foreign or not self._of(start_ms, end_ms):
            return []
        return beside.foreign_days(
            self._tables, self._identities, f"{self._within(start_ms, end_ms)} AND identity IN ({listed(foreign)})"
        )

    def latency(self, start_ms: int, end_ms: int) -> list[WorkLatency]:
        if not self._total("latency_rows", start_ms, end_ms):
            return []
        return beside.latency(self._tables, self._kept(start_ms), end_ms)

    # --- work and capacity -----------------------------------------------------------------------------------------

    def best_hours(self, start_ms: int, end_ms: int, weights: Mapping[str, int]) -> list[BestHour]:
        rolls, divided, simple = self._parted(start_ms, end_ms, weights, 1)
        best: list[BestHour] = []
        if rolls and self._identities:
            models = sorted({name.model for name in self._identities.values()})
            model_no = {model: i for i, model in enumerate(models)}
            number = lookup("identity", {key: model_no[name.model] for key, name in self._identities.items()})
            pace = f"if(active_ms >= {BUSY_MS} * gpus, intDiv(units * 1000, active_ms), toInt64(0))"
            # The same row for each of the four: they see the rows in one order. A tuple would take ten times as long.
            score = "pace * 32 + 24 - intDiv(hour_ms - day_ms, 3600000)"
            found = ", ".join(f"argMax({name}, {score})" for name in ("hour_ms", "identity", "units", "active_ms"))
            rows = self._rows(
                f"SELECT gpu_group, gpus, max(pace) AS best, {found} FROM (SELECT {_DAY_MS} AS day_ms, hour_ms, "
                f"gpu_group, gpus, identity, active_ms, {number} AS model_no, {units_of(weights)} AS units, "
                f"{pace} AS pace FROM {self._tables.of('work_hours')} WHERE {simple} AND active_ms > 0) "
                "GROUP BY model_no, gpu_group, gpus, day_ms ORDER BY model_no, gpu_group, gpus, best DESC, day_ms "
                f"LIMIT {BEST_DAYS} BY model_no, gpu_group, gpus"
            )
            best = [self._best_hour(*map(int, row)) for row in rows]
        if divided is not None:
            best = beside.best_days([*best, *divided.reader.best_hours(start_ms, end_ms, weights)])
        return sorted(
            best,
            key=lambda one: (*one.instance, one.cluster, one.node, -one.pace, one.hour_ms, one.workload),
        )

    def _best_hour(
        self, gpu_group: int, gpus: int, pace: int, hour_ms: int, identity: int, units: int, active_ms: int
    ) -> BestHour:
        _, workload, model, _ = self._identities[identity]
        group = self._groups.get(gpu_group, GpuGroup("", "", ""))
        return BestHour(
            instance=ModelInstance(model, group.gpu_model, gpus),
            pace=pace,
            hour_ms=hour_ms,
            cluster=self._identities[identity].cluster,
            workload=workload,
            units=units,
            active_ms=active_ms,
            node=group.node,
        )

    def usage(self, query: UsageQuery) -> UsageRows:
        pace_max = max((*query.references.values(), *query.node_references.values()), default=0)
        rolls, divided, simple = self._parted(
            query.start_ms, query.end_ms, query.weights, pace_max, query.gateway_models
        )
        if not rolls:
            return divided.reader.usage(query) if divided is not None else UsageRows(iter(()), iter(()))
        chain_of = {number: query.chain_of(group) for number, group in self._groups.items()}
        named = [*self._rows(
            f"SELECT DISTINCT identity FROM {self._tables.of('work_hours')} WHERE {simple}"
        )]  # fmt: skip
        group_of = {
            int(number): query.group_of(WorkIdentity(*self._identities[int(number)], NO_CALLER))
            for (number,) in sorted(named, key=lambda row: self._identities[int(row[0])])
        }
        numbering = Numbering(
            query,
            self._group_names,
            {number: self._identities[number] for number in group_of},
            {NOBODY: NO_GPU_CHAIN, **chain_of},
            group_of,
        )
        chains, nodes = numbering.chains, numbering.nodes

        def keys(day_ms: int, segment: int, chain: int, node: int) -> tuple[int, int, str, tuple[str, str]]:
            return day_ms, segment, chains[chain] if chain >= 0 else NO_CHAIN, nodes[node]

        def work() -> Iterator[WorkRow]:
            source = self._tables.of("work_hours")
            for within in self._stretches(query, len({*group_of.values()}), simple):
                for row in self._rows(work_sql(numbering, query.weights, source, within)):
                    yield WorkRow(*keys(*row[:4]), group=row[4], sums=row[5:])

        def capacity() -> Iterator[CapacityRow]:
            source = self._tables.of("capacity_hours")
            safe = self._within(query.start_ms, query.end_ms, hours=rolls)
            for within in self._stretches(query, len(chains), safe):
                for row in self._rows(capacity_sql(numbering, source, within)):
                    yield CapacityRow(*keys(*row[:4]), sums=row[4:])

        if divided is None:
            return of_period(UsageRows(work(), capacity()), query)
        of_divided = divided.reader.usage(query)
        return of_period(
            UsageRows(
                merged(work(), of_divided.work, WorkRow),
                merged(capacity(), of_divided.capacity, CapacityRow),
            ),
            query,
        )

    def _stretches(self, query: UsageQuery, keys: int, where: str) -> Iterator[str]:
        """Conditions of so many days each that an answer has about `ROWS_AT_ONCE` rows, in order. Of nodes each has
        some workloads, and of workloads without nodes each is in some chains: three of either."""
        rows_a_day = 3 * (max(len(self._groups), keys) if query.by_node else keys)
        days = max(1, ROWS_AT_ONCE // max(rows_a_day, 1))
        start_ms = query.start_ms
        while start_ms < query.end_ms:
            end_ms = min(query.end_ms, start_ms - start_ms % MS_PER_DAY + days * MS_PER_DAY)
            yield f"{where} AND {between('hour_ms', start_ms, end_ms)}"
            start_ms = end_ms

    def _parted(
        self,
        start_ms: int,
        end_ms: int,
        weights: Mapping[str, int],
        pace_max: int,
        gateway_models: Mapping[str, str] | None = None,
    ) -> tuple[dict[int, HourRoll], DividedRows | None, str]:
        """The hours that servers sum, what is divided further, and the condition of rows of work that are not."""
        rolls = self._of(start_ms, end_ms)
        rows = sum(roll.rolled.numbers["work_rows"] for roll in rolls.values()) + len(self._groups) * len(rolls)
        safe = {
            hour_ms: roll for hour_ms, roll in rolls.items() if are_safe(roll.rolled.numbers, weights, pace_max, rows)
        }
        unsafe = sorted(rolls.keys() - safe.keys())
        requested = self._requested(start_ms, end_ms, gateway_models) if gateway_models is not None else []
        divided = None
        if unsafe or requested or any(roll.rolled.numbers["split_rows"] for roll in safe.values()):
            divided = self._rows_of(start_ms, end_ms, requested, unsafe)
        simple = f"{self._within(start_ms, end_ms, hours=safe)} AND models <= 1"
        if requested:
            simple += f" AND identity NOT IN ({listed(requested)})"
        return safe, divided, simple

    def _requested(self, start_ms: int, end_ms: int, gateway_models: Mapping[str, str]) -> list[int]:
        """Identities of models that somebody requested through a gateway."""
        if not self._total("demand_rows", start_ms, end_ms):
            return []
        rows = self._rows(
            f"SELECT DISTINCT cluster, model FROM {self._tables.of('demand_hours')} "
            f"WHERE {between('hour_ms', self._kept(start_ms), end_ms)}"
        )
        served = {(cluster, gateway_models.get(model, model)) for cluster, model in rows}
        return sorted(number for number, name in self._identities.items() if (name.cluster, name.model) in served)

    # --- what DuckDB divides ---------------------------------------------------------------------------------------

    def _of_gateways(self, start_ms: int, end_ms: int, gateway_models: Mapping[str, str]) -> DividedRows:
        return self._rows_of(start_ms, end_ms, self._requested(start_ms, end_ms, gateway_models), [])

    def _rows_of(self, start_ms: int, end_ms: int, requested: Sequence[int], unsafe_ms: Sequence[int]) -> DividedRows:
        key = (start_ms, end_ms, tuple(requested), tuple(unsafe_ms))
        if key not in self._divided:
            rows = self._new_rows()
            chosen = f"(models > 1 OR identity IN ({listed(requested)}) OR hour_ms IN ({listed(unsafe_ms)}))"
            for day_ms in range(start_ms - start_ms % MS_PER_DAY, end_ms, MS_PER_DAY):
                of_day = self._within(max(start_ms, day_ms), min(end_ms, day_ms + MS_PER_DAY))
                rows.take_work(f"{of_day} AND {chosen}")
            if unsafe_ms:
                rows.take_capacity(f"{self._within(start_ms, end_ms)} AND hour_ms IN ({listed(unsafe_ms)})")
            rows.take_demand(between("hour_ms", self._kept(start_ms), end_ms))
            self._divided[key] = rows
        return self._divided[key]

    def _beyond(self, start_ms: int, end_ms: int) -> DividedRows:
        key = ("beyond", start_ms, end_ms)
        if key not in self._divided:
            rows = self._new_rows()
            rows.take_beyond(self._within(start_ms, end_ms))
            self._divided[key] = rows
        return self._divided[key]

    def _new_rows(self) -> DividedRows:
        return DividedRows(self._tables, self._groups, self._identities)

    # --- one state -------------------------------------------------------------------------------------------------

    @cached_property
    def _rolls(self) -> Mapping[int, HourRoll]:
        rolls, kept = self._source.current(), self._tables.folds()
        self._names.read()  # after the rolls: what they refer to is there
        return {hour_ms: rolls[hour_ms] for hour_ms in sorted(rolls.keys() & kept.keys())}

    @cached_property
    def _groups(self) -> dict[int, GpuGroup]:
        """By number, in the order of their names."""
        _ = self._rolls
        labels = self._tables.read_node_labels()
        return {number: GpuGroup(*name, labels.get(name[:2], NO_LABELS)) for number, name in self._names.groups.items()}

    @cached_property
    def _group_names(self) -> Mapping[int, GroupName]:
        _ = self._rolls
        return self._names.groups

    @cached_property
    def _identities(self) -> Mapping[int, IdentityName]:
        _ = self._rolls
        return self._names.identities

    def _of(self, start_ms: int, end_ms: int) -> dict[int, HourRoll]:
        return {hour_ms: roll for hour_ms, roll in self._rolls.items() if start_ms <= hour_ms < end_ms}

    def _kept(self, start_ms: int) -> int:
        """Hours that were retired are on the disk for the rest of their day."""
        return max(start_ms, min(self._rolls, default=start_ms))

    def _total(self, number: str, start_ms: int, end_ms: int) -> int:
        return sum(roll.rolled.numbers[number] for roll in self._of(start_ms, end_ms).values())

    def _within(self, start_ms: int, end_ms: int, hours: Mapping[int, HourRoll] | None = None) -> str:
        """Rows of this reader's rolls in a period, or in these hours of it."""
        rolls = self._of(start_ms, end_ms) if hours is None else hours
        return f"{between('hour_ms', start_ms, end_ms)} AND roll IN ({listed([roll.roll for roll in rolls.values()])})"

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._tables.client.rows(sql)
