"""Usage for reports out of ClickHouse: its servers sum the roll-ups, and what comes back is the answer.

Days that have ended are read as days, those of which the period has a part, and what came late, as hours; what a policy
divides further, to the last millisecond and token, is divided in one place, DuckDB's SQL (parts.py). SQL is in rated.py
and rated_days.py.

A reader uses the rolls that were current at its first read, and so answers from one state (one_state.py), but for
`demand`, `host_energy` and `latency`, which are read as the hours are now.
"""

import hashlib
from collections.abc import Callable, Mapping

from tokenyield_collector.ledger.clickhouse import beside
from tokenyield_collector.ledger.clickhouse.best_hours import best_hours
from tokenyield_collector.ledger.clickhouse.names import RollUpNames
from tokenyield_collector.ledger.clickhouse.one_state import LedgerState
from tokenyield_collector.ledger.clickhouse.parts import Parting
from tokenyield_collector.ledger.clickhouse.rated import listed, lookup
from tokenyield_collector.ledger.clickhouse.rated_days import often_cut
from tokenyield_collector.ledger.clickhouse.rolls import ClickHouseRolls
from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_collector.ledger.clickhouse.usage_rows import usage_rows
from tokenyield_collector.ledger.contradictions import ContestedGpu, DemandDay, DoubledGpu, ForeignDay
from tokenyield_collector.ledger.foreign_names import FOREIGN
from tokenyield_collector.ledger.usage import (
    CAPACITY_TIMES,
    BestHour,
    GpuGroup,
    HostDay,
    UsageQuery,
    UsageRows,
    WorkLatency,
)
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR


class ClickHouseUsage:
    """A `LedgerUsageReader`. For one thread."""

    def __init__(self, tables: ClickHouseTables, rolls: ClickHouseRolls, names: RollUpNames) -> None:
        self._tables = tables
        self._state = LedgerState(tables, rolls, names)
        self._parting = Parting(self._state)

    def gpu_groups(self) -> list[GpuGroup]:
        return list(self._state.groups.values())

    def checksum(self, start_ms: int, end_ms: int) -> str:
        facts = sorted((hour_ms, roll.rolled.facts) for hour_ms, roll in self._state.of(start_ms, end_ms).items())
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]

    def reported_ms(
        self, start_ms: int, end_ms: int, chain_of: Callable[[GpuGroup], str]
    ) -> dict[tuple[str, int], int]:
        state, parts = self._state, self._parting.of_capacity(start_ms, end_ms)
        of_group = state.chains(chain_of)
        chains = sorted({*of_group.values()})
        number = lookup("gpu_group", {group: chains.index(chain) for group, chain in of_group.items()})
        sums = ", ".join(f"sum(toDecimal128({name}, 0))" for name in CAPACITY_TIMES)
        reported: dict[tuple[str, int], int] = {}
        for where in parts.of_hours(of_work=False):
            rows = state.rows(
                f"SELECT {number} AS chain, hour_ms, {sums} FROM {self._tables.of('capacity_hours')} "
                f"WHERE {where} GROUP BY chain, hour_ms"
            )
            reported |= {(chains[chain], hour_ms): sum(map(int, times)) for chain, hour_ms, *times in rows}
        for where in parts.of_days(of_work=False):
            rows = state.rows(
                f"SELECT {number} AS chain, first_ms, sumForEach(reported_ms), groupUniqArrayArray(hours) "
                f"FROM {self._tables.of('capacity_days')} WHERE {where} GROUP BY chain, first_ms"
            )
            reported |= {
                (chains[chain], day_ms + hour * MS_PER_HOUR): int(times[hour])
                for chain, day_ms, times, hours in rows
                for hour in hours
            }
        return reported

    def host_energy(self, start_ms: int, end_ms: int) -> list[HostDay]:
        hours = [
            hour_ms for hour_ms, roll in self._state.of(start_ms, end_ms).items() if roll.rolled.numbers["host_rows"]
        ]
        days = sorted({hour_ms - hour_ms % MS_PER_DAY for hour_ms in hours})
        stretches = [(max(day_ms, start_ms), min(day_ms + MS_PER_DAY, end_ms)) for day_ms in days]
        within = [(stretch, self._state.within(*stretch)) for stretch in stretches]
        return beside.host_days(self._tables, within)

    def demand(self, start_ms: int, end_ms: int, gateway_models: Mapping[str, str]) -> list[DemandDay]:
        if not self._state.total("demand_rows", start_ms, end_ms):
            return []
        divided = self._parting.of_gateways(start_ms, end_ms, gateway_models)
        return [*divided.reader.demand(start_ms, end_ms, gateway_models)]

    def doubled_gpus(self, start_ms: int, end_ms: int) -> list[DoubledGpu]:
        if not self._state.total("beyond_rows", start_ms, end_ms):
            return []
        return [*self._parting.beyond(start_ms, end_ms).reader.doubled_gpus(start_ms, end_ms)]

    def contested_gpus(self, start_ms: int, end_ms: int) -> list[ContestedGpu]:
        if not self._state.total("beyond_rows", start_ms, end_ms):
            return []
        return [*self._parting.beyond(start_ms, end_ms).reader.contested_gpus(start_ms, end_ms)]

    def foreign_days(self, start_ms: int, end_ms: int) -> list[ForeignDay]:
        foreign = [number for number, name in self._state.identities.items() if FOREIGN.search(name.workload)]
        if not foreign or not self._state.of(start_ms, end_ms):
            return []
        return beside.foreign_days(
            self._tables,
            self._state.identities,
            f"{self._state.within(start_ms, end_ms)} AND identity IN ({listed(foreign)})",
        )

    def latency(self, start_ms: int, end_ms: int) -> list[WorkLatency]:
        if not self._state.total("latency_rows", start_ms, end_ms):
            return []
        return beside.latency(self._tables, self._state.kept(start_ms), end_ms)

    def best_hours(self, start_ms: int, end_ms: int, weights: Mapping[str, int]) -> list[BestHour]:
        parts = self._parting.parted(start_ms, end_ms, weights, 1)
        return best_hours(self._state, parts, weights, start_ms, end_ms)

    def usage(self, query: UsageQuery) -> UsageRows:
        pace_max = max((*query.references.values(), *query.node_references.values()), default=0)
        parts = self._parting.parted(
            query.start_ms, query.end_ms, query.weights, pace_max, query.gateway_models, often_cut(query)
        )
        return usage_rows(self._state, parts, query)
