"""Usage for reports out of DuckDB: one query over the roll-ups, which joins and groups integers only."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tokenyield_collector.ledger.contradictions import ContestedGpu, DemandDay, DoubledGpu, ForeignDay
from tokenyield_collector.ledger.duckdb.caller_split import NO_CALLER, by_callers, group_callers, split_callers
from tokenyield_collector.ledger.duckdb.contradictions import contested_gpus, demand_days, doubled_gpus, foreign_days
from tokenyield_collector.ledger.duckdb.live_hours import at_most
from tokenyield_collector.ledger.duckdb.model_split import work_rows
from tokenyield_collector.ledger.duckdb.query_tables import QueryTables, weighted_tokens
from tokenyield_collector.ledger.duckdb.rollup import NOBODY
from tokenyield_collector.ledger.sql import between
from tokenyield_collector.ledger.tables import HOST_KINDS, INTEGER_MAX, LATENCY_COUNTS
from tokenyield_collector.ledger.usage import (
    BEST_DAYS,
    CAPACITY_SUMS,
    NO_CHAIN,
    NO_GPU_CHAIN,
    REPORTED,
    USAGE_KINDS,
    WORK_SUMS,
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
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR

BUSY_MS = MS_PER_HOUR // 2
"""An hour teaches a reference pace when each GPU worked for at least this long in it."""
_KEYS = ("day_ms", "segment", "chain", "node_no")
"""What rows of work and capacity are summed by; work also by its group."""
_HOURS_DAY = f"w.hour_ms - w.hour_ms % {MS_PER_DAY}"
_PLACED = """JOIN t_chains c ON c.id = w.gpu_group
             LEFT JOIN t_segments s ON s.chain = c.chain AND s.hour_ms = w.hour_ms"""


class DuckDbUsage:
    """A `LedgerUsageReader` over a cursor of a DuckDB ledger that is its own."""

    def __init__(self, connection: Any) -> None:
        self._tables = QueryTables(connection)

    def gpu_groups(self) -> list[GpuGroup]:
        return [group for _, group in self._numbered_groups()]

    def best_hours(self, start_ms: int, end_ms: int, weights: Mapping[str, int]) -> list[BestHour]:
        self._number_names()
        work, units = work_rows(self._tables, start_ms, end_ms, weights), weighted_tokens(weights)
        rows = self._tables.rows(
            f"""
            WITH worked AS (
              SELECT spot, i.model_no, gpu_group, gpus, hour_ms // {MS_PER_DAY} AS day, {units} AS units, active_ms
              FROM {work} w JOIN t_identities i ON i.id = w.identity
              WHERE {between("hour_ms", start_ms, end_ms)} AND active_ms > 0),
            paced AS (
              SELECT spot, model_no, gpu_group, gpus, day,
                     CASE WHEN active_ms >= {BUSY_MS} * gpus THEN units::HUGEINT * 1000 // active_ms ELSE 0 END AS pace
              FROM worked),
            days AS (
              SELECT model_no, gpu_group, gpus, day, max(pace) AS pace, arg_max(spot, (pace, -spot)) AS spot
              FROM paced GROUP BY ALL),
            best AS (
              SELECT spot, pace FROM days
              QUALIFY row_number() OVER (PARTITION BY model_no, gpu_group, gpus ORDER BY pace DESC, day) <= {BEST_DAYS})
            SELECT i.model, g.gpu_model, w.gpus, w.hour_ms, i.cluster, i.workload, {units}, w.active_ms, g.node
            FROM best JOIN {work} w USING (spot)
            JOIN identities i ON i.id = w.identity JOIN gpu_groups g ON g.id = w.gpu_group
            ORDER BY i.model, g.gpu_model, w.gpus, g.cluster, g.node, pace DESC, w.hour_ms
            """
        )
        return [_best_hour(ModelInstance(*row[:3]), *row[3:]) for row in rows]

    def reported_ms(
        self, start_ms: int, end_ms: int, chain_of: Callable[[GpuGroup], str]
    ) -> dict[tuple[str, int], int]:
        groups = self._numbered_groups()
        chains = sorted({chain_of(group) for _, group in groups})
        self._chain(chains, groups, chain_of)
        rows = self._tables.rows(
            "SELECT c.chain, w.hour_ms, sum(active_ms) + sum(idle_ms) + sum(unallocated_ms) + sum(unknown_ms) "
            "FROM capacity_hours w JOIN t_chains c ON c.id = w.gpu_group "
            f"WHERE {between('w.hour_ms', start_ms, end_ms)} AND c.chain >= 0 GROUP BY 1, 2"
        )
        return {(chains[chain], hour_ms): int(reported) for chain, hour_ms, reported in rows}

    def usage(self, query: UsageQuery) -> UsageRows:
        groups = self._numbered_groups()
        chains = sorted(query.segments)
        self._place(query, chains, groups)
        self._number_names()
        self._refer(query, groups)
        has_callers = split_callers(self._tables, query)
        groups_of = self._group(query)
        if has_callers:
            groups_of += group_callers(self._tables, query.group_of)
        self._date(query, groups_of)
        capacity = self._capacity(query)
        work = self._work(query, has_callers=has_callers)
        nodes = {number: (group.cluster, group.node) for number, group in groups}

        def keys(day_ms: int, segment: int, chain: int, node: int) -> tuple[int, int, str, tuple[str, str]]:
            return day_ms, segment, chains[chain] if chain >= 0 else NO_CHAIN, nodes.get(node, ("", ""))

        return UsageRows(
            (WorkRow(*keys(*row[:4]), group=row[4], sums=row[5:]) for row in work),
            (CapacityRow(*keys(*row[:4]), sums=row[4:]) for row in capacity),
        )

    def host_energy(self, start_ms: int, end_ms: int) -> list[HostDay]:
        # A node whose GPUs all count for others in an hour would set what the hosts of its pool draw, for everybody.
        present = (
            "(SELECT DISTINCT hour_ms, cluster, node FROM capacity_hours c JOIN gpu_groups g ON g.id = c.gpu_group "
            f"WHERE {between('hour_ms', start_ms, end_ms)})"
        )
        sums = ", ".join(f"coalesce(sum(amount) FILTER (kind = '{kind}'), 0)" for kind in HOST_KINDS)
        rows = self._tables.rows(
            f"SELECT hour_ms - hour_ms % {MS_PER_DAY} AS day_ms, cluster, node, name, {sums} "
            f"FROM measure_hours SEMI JOIN {present} USING (hour_ms, cluster, node) "
            f"WHERE {between('hour_ms', start_ms, end_ms)} AND kind IN {HOST_KINDS} GROUP BY ALL ORDER BY ALL"
        )
        return [HostDay(*row) for row in rows]

    def demand(self, start_ms: int, end_ms: int, gateway_models: Mapping[str, str]) -> list[DemandDay]:
        return demand_days(self._tables, start_ms, end_ms, gateway_models)

    def doubled_gpus(self, start_ms: int, end_ms: int) -> list[DoubledGpu]:
        return doubled_gpus(self._tables, start_ms, end_ms)

    def contested_gpus(self, start_ms: int, end_ms: int) -> list[ContestedGpu]:
        return contested_gpus(self._tables, start_ms, end_ms)

    def foreign_days(self, start_ms: int, end_ms: int) -> list[ForeignDay]:
        return foreign_days(self._tables, start_ms, end_ms)

    def latency(self, start_ms: int, end_ms: int) -> list[WorkLatency]:
        within = f"WHERE {between('hour_ms', start_ms, end_ms)}"
        sums = ", ".join(f"{at_most(name, INTEGER_MAX)} AS {name}" for name in ("sum_ms", *LATENCY_COUNTS))
        rows = self._tables.rows(
            f"""
            WITH waits AS (SELECT cluster, workload, model, kind, {sums} FROM latency_hours {within} GROUP BY ALL),
                 carried AS (SELECT cluster, workload, labels, sum(seen_ms) AS seen_ms FROM label_hours {within}
                             GROUP BY ALL),
                 longest AS (SELECT cluster, workload, arg_max(labels, (seen_ms, labels)) AS labels FROM carried
                             GROUP BY ALL)
            SELECT cluster, workload, model, coalesce(labels, '{{}}'), kind, sum_ms, {", ".join(LATENCY_COUNTS)}
            FROM waits LEFT JOIN longest USING (cluster, workload) ORDER BY ALL
            """
        )
        return [
            WorkLatency(WorkIdentity(cluster, workload, model, labels, NO_CALLER), kind, sum_ms, tuple(counts))
            for cluster, workload, model, labels, kind, sum_ms, *counts in rows
        ]

    def checksum(self, start_ms: int, end_ms: int) -> str:
        within = between("hour_ms", start_ms, end_ms)
        rows = self._tables.rows(f"SELECT hour_ms, facts FROM rolled_hours WHERE {within} ORDER BY hour_ms")
        return hashlib.sha256(repr(rows).encode()).hexdigest()[:32]

    # --- queries ---------------------------------------------------------------------------------------------------

    def _capacity(self, query: UsageQuery) -> list[tuple[Any, ...]]:
        sums = ", ".join(at_most(column, INTEGER_MAX) for column in CAPACITY_SUMS)
        return self._tables.rows(
            f"SELECT {_placed_keys(query, _day(query))}, {sums} FROM capacity_hours w {_PLACED} {_of_period(query)} "
            f"GROUP BY {_numbers(len(_KEYS))} ORDER BY {_numbers(len(_KEYS))}"
        )

    def _work(self, query: UsageQuery, *, has_callers: bool) -> Any:
        rated = self._rated(query)
        if has_callers:
            rated = by_callers(rated, ", ".join(f"x.{key}" for key in _KEYS))
        sums = ", ".join(at_most(column, INTEGER_MAX) for column in WORK_SUMS)
        by = ", ".join((*_KEYS, "grp"))
        return self._tables.stream(
            f"WITH rated AS ({rated}) SELECT {by}, {sums} FROM rated GROUP BY {by} ORDER BY {by}"
        )

    def _rated(self, query: UsageQuery) -> str:
        """SQL of rows of work with their group, their active time split by the reference pace."""
        units, pace = weighted_tokens(query.weights), "coalesce(r.pace, n.pace)"
        expected = f"active_ms::HUGEINT * {pace}"

        def productive(amount: str) -> str:
            reached = f"{amount}::HUGEINT * {units} * 1000 // greatest({expected}, 1)"
            return f"CASE WHEN {pace} IS NULL THEN {amount} ELSE least({amount}, {reached}) END::BIGINT"

        columns = {
            "productive_ms": productive("active_ms"),
            "under_yield_ms": "active_ms - productive_ms",
            "unrated_ms": f"CASE WHEN {pace} IS NULL THEN active_ms ELSE 0 END",
            "productive_mj": productive("active_mj"),
            "under_yield_mj": "active_mj - productive_mj",
            **{name: name for name in ("idle_ms", "idle_mj", "parked_ms", "parked_mj", *USAGE_KINDS, *REPORTED)},
        }
        return f"""
            SELECT {_placed_keys(query, f"CASE WHEN i.is_dated THEN {_HOURS_DAY} ELSE {_day(query)} END")},
                   w.hour_ms, i.served, w.identity, i.grp,
                   {", ".join(f"{columns[name]} AS {name}" for name in WORK_SUMS)}
            FROM {work_rows(self._tables, query.start_ms, query.end_ms, query.weights)} w
            JOIN t_identities i ON i.id = w.identity JOIN t_gpus g ON g.id = w.gpu_group
            LEFT JOIN t_references r ON r.model_no = i.model_no AND r.gpu_no = g.gpu_no AND r.gpus = w.gpus
            LEFT JOIN t_node_references n ON n.model_no = i.model_no AND n.gpu_group = w.gpu_group AND n.gpus = w.gpus
            {_PLACED} {_of_period(query)}
        """

    # --- temporary tables ------------------------------------------------------------------------------------------

    def _chain(
        self, chains: list[str], groups: list[tuple[int, GpuGroup]], chain_of: Callable[[GpuGroup], str]
    ) -> None:
        """t_chains: the number of each GPU group's chain, -1 where it has no segments, and of its node, that of the
        node's first group."""
        numbers = {chain: i for i, chain in enumerate(chains)}
        first = {(group.cluster, group.node): number for number, group in reversed(groups)}
        rows = [
            (number, numbers.get(chain_of(group), -1), first[group.cluster, group.node]) for number, group in groups
        ]
        self._tables.give(
            "t_chains", ("id", "chain", "node_no"), [*rows, (NOBODY, numbers.get(NO_GPU_CHAIN, -1), NOBODY)]
        )

    def _place(self, query: UsageQuery, chains: list[str], groups: list[tuple[int, GpuGroup]]) -> None:
        """t_chains, and t_segments: the segment of each hour, and the day of its rows."""
        self._chain(chains, groups, query.chain_of)
        first_day_ms = query.start_ms - query.start_ms % MS_PER_DAY
        segments = []
        for i, chain in enumerate(chains):
            undated = query.undated.get(chain, ())
            for hour, segment in enumerate(query.segments[chain]):
                hour_ms = query.start_ms + hour * MS_PER_HOUR
                day_ms = first_day_ms if segment in undated else hour_ms - hour_ms % MS_PER_DAY
                segments.append((i, hour_ms, segment, day_ms))
        # Never empty: DuckDB 2.0.1 narrows sums that are joined to an empty table. No group is of this chain.
        segments.append((-2, query.start_ms, 0, first_day_ms))
        self._tables.give("t_segments", ("chain", "hour_ms", "segment", "day_ms"), segments)

    def _number_names(self) -> None:
        """t_gpus and t_identities: models and GPU models by number, and `served`, the (cluster, model) of requests."""
        self._tables.make(
            "t_gpus",
            "SELECT id, dense_rank() OVER (ORDER BY gpu_model) AS gpu_no, gpu_model FROM gpu_groups "
            f"UNION ALL SELECT {NOBODY}, 0, ''",
        )
        self._tables.make(
            "t_identities",
            "SELECT id, dense_rank() OVER (ORDER BY model) AS model_no, "
            "dense_rank() OVER (ORDER BY cluster, model) AS served, cluster, model, 0 AS grp, false AS is_dated "
            "FROM identities",
        )

    def _refer(self, query: UsageQuery, groups: list[tuple[int, GpuGroup]]) -> None:
        """t_references: paces of all nodes; t_node_references: those of one node's GPUs."""
        models = dict(self._tables.rows("SELECT DISTINCT model, model_no FROM t_identities"))
        gpus = dict(self._tables.rows("SELECT DISTINCT gpu_model, gpu_no FROM t_gpus"))
        rows = [
            (models[model], gpus[gpu_model], count, pace)
            for (model, gpu_model, count), pace in query.references.items()
            if model in models and gpu_model in gpus
        ]
        self._tables.give("t_references", ("model_no", "gpu_no", "gpus", "pace"), rows)
        numbers = {(group.cluster, group.node, group.gpu_model): number for number, group in groups}
        of_nodes = [
            (models[model], numbers[cluster, node, gpu_model], count, pace)
            for (cluster, node, (model, gpu_model, count)), pace in query.node_references.items()
            if model in models and (cluster, node, gpu_model) in numbers
        ]
        self._tables.give("t_node_references", ("model_no", "gpu_group", "gpus", "pace"), of_nodes)

    def _group(self, query: UsageQuery) -> list[tuple[int, int]]:
        """Into t_identities the group of each that worked in the period. Returns (number of the identity, group)."""
        rows = self._tables.rows(
            "SELECT id, cluster, workload, model, labels FROM identities WHERE id IN "
            f"(SELECT DISTINCT identity FROM work_hours WHERE {between('hour_ms', query.start_ms, query.end_ms)}) "
            "ORDER BY id"
        )
        groups = [
            (number, query.group_of(WorkIdentity(cluster, workload, model, labels, NO_CALLER)))
            for number, cluster, workload, model, labels in rows
        ]
        self._tables.give("t_groups", ("id", "grp"), groups)
        self._tables.make(
            "t_identities",
            "SELECT i.* EXCLUDE (grp), coalesce(g.grp, 0) AS grp FROM t_identities i LEFT JOIN t_groups g USING (id)",
        )
        return groups

    def _date(self, query: UsageQuery, groups_of: Sequence[tuple[int, int]]) -> None:
        """Into t_identities whether its rows are by day in any case."""
        are_dated = {group: query.is_dated(group) for group in {group for _, group in groups_of}}
        dated = sorted({(number,) for number, group in groups_of if are_dated[group]})
        if query.undated and dated:
            self._tables.give("t_dated", ("id",), dated)
            self._tables.make(
                "t_identities",
                "SELECT i.* EXCLUDE (is_dated), d.id IS NOT NULL AS is_dated FROM t_identities i "
                "LEFT JOIN t_dated d USING (id)",
            )

    def _numbered_groups(self) -> list[tuple[int, GpuGroup]]:
        rows = self._tables.rows(
            "SELECT id, g.cluster, g.node, gpu_model, coalesce(labels, '{}') FROM gpu_groups g "
            "LEFT JOIN node_labels n ON n.cluster = g.cluster AND n.node = g.node ORDER BY id"
        )
        return [(number, GpuGroup(*names)) for number, *names in rows]


def _best_hour(
    instance: ModelInstance, hour_ms: int, cluster: str, workload: str, units: int, active_ms: int, node: str
) -> BestHour:
    is_busy = active_ms >= BUSY_MS * instance.gpus
    return BestHour(
        instance=instance,
        pace=units * 1000 // active_ms if is_busy else 0,
        hour_ms=hour_ms,
        cluster=cluster,
        workload=workload,
        units=units,
        active_ms=active_ms,
        node=node,
    )


def _day(query: UsageQuery) -> str:
    return f"coalesce(s.day_ms, {_HOURS_DAY})" if query.undated else _HOURS_DAY


def _placed_keys(query: UsageQuery, day: str) -> str:
    columns = {
        "day_ms": day,
        "segment": "coalesce(s.segment, 0)",
        "chain": "c.chain",
        "node_no": "c.node_no" if query.by_node else "0",
    }
    return ", ".join(f"{columns[key]} AS {key}" for key in _KEYS)


def _of_period(query: UsageQuery) -> str:
    return f"WHERE {between('w.hour_ms', query.start_ms, query.end_ms)}"


def _numbers(count: int) -> str:
    """The first columns, for GROUP BY and ORDER BY."""
    return ", ".join(str(i + 1) for i in range(count))
