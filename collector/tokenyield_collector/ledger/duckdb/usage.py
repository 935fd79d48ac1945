"""Usage for reports out of DuckDB: one query over the roll-ups, which joins and groups integers only."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb

from tokenyield_collector.errors import LedgerError
from tokenyield_collector.ledger.duckdb.live_hours import at_most
from tokenyield_collector.ledger.duckdb.rollup import KINDS, NOBODY, REPORTED, TIMES, part, span
from tokenyield_collector.ledger.duckdb.schema import ddl, insert_rows
from tokenyield_collector.ledger.rows import HOST_KINDS, INTEGER_MAX
from tokenyield_collector.ledger.usage import (
    CAPACITY_SUMS,
    WORK_SUMS,
    BestHour,
    CapacityRow,
    GpuGroup,
    HostDay,
    Identity,
    Instance,
    UsageQuery,
    UsageRows,
    WorkRow,
)
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR
from tokenyield_wire.window import TOKEN_KINDS

BUSY_MS = MS_PER_HOUR // 2
"""An hour teaches a reference pace when each GPU worked for at least this long in it."""
FETCH_ROWS = 10_000
_NO_ASKER = "{}"
# By what a gateway's askers share: time and energy by weighted tokens, tokens each by their own.
_SHARED_BY = {
    **dict.fromkeys(("productive_ms", "under_yield_ms", "idle_ms", "unrated_ms"), "units"),
    **dict.fromkeys(("productive_mj", "under_yield_mj", "idle_mj"), "units"),
    **dict.fromkeys(("parked_ms", "parked_mj"), "units"),
    **{kind: "prompt" for kind in TOKEN_KINDS if kind.startswith("prompt")},
    "completion": "completion",
    "requests": "requests",
}
assert (*_SHARED_BY, *REPORTED) == WORK_SUMS


class DuckDbUsage:
    """A `UsageReader` over a cursor of a DuckDB ledger that is its own: it holds temporary tables, and a snapshot from
    the first read on, which both go with the reader."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        with _reading():
            self._connection.execute("BEGIN")

    def gpu_groups(self) -> list[GpuGroup]:
        return [group for _, group in self._gpu_groups()]

    def best_hours(self, start_ms: int, end_ms: int, weights: Mapping[str, int]) -> list[BestHour]:
        self._number_names()
        work = self._work(start_ms, end_ms, weights)
        rows = self._rows(
            f"""
            WITH paced AS (
              SELECT spot, i.model_no, g.gpu_no, gpus, {_units(weights)} AS units, active_ms
              FROM {work} w JOIN t_identities i ON i.id = w.identity JOIN t_gpus g ON g.id = w.gpu_group
              {_within(start_ms, end_ms)} AND active_ms > 0),
            best AS (
              SELECT model_no, gpu_no, gpus,
                     arg_max(spot, (CASE
                       WHEN active_ms >= {BUSY_MS} * gpus THEN units::HUGEINT * 1000 // active_ms ELSE 0
                     END, -spot)) AS spot
              FROM paced GROUP BY ALL)
            SELECT i.model, g.gpu_model, w.gpus, w.hour_ms, i.cluster, i.workload, {_units(weights)}, w.active_ms
            FROM best JOIN {work} w USING (spot)
            JOIN identities i ON i.id = w.identity JOIN gpu_groups g ON g.id = w.gpu_group
            ORDER BY i.model, g.gpu_model, w.gpus
            """
        )
        found = []
        for model, gpu_model, gpus, hour_ms, cluster, workload, units, active_ms in rows:
            pace = units * 1000 // active_ms if active_ms >= BUSY_MS * gpus else 0
            found.append(BestHour(Instance(model, gpu_model, gpus), pace, hour_ms, cluster, workload, units, active_ms))
        return found

    def usage(self, query: UsageQuery) -> UsageRows:
        groups = self._gpu_groups()
        nodes = {number: (group.cluster, group.node) for number, group in groups}
        pools = sorted(query.segments)
        numbers = {pool: i for i, pool in enumerate(pools)}
        pool_of = [(number, numbers.get(query.pool_of(group) or "", -1)) for number, group in groups]
        self._give("t_pools", ("id", "pool"), [*pool_of, (NOBODY, -1)])
        hours = [
            (numbers[pool], query.start_ms + i * MS_PER_HOUR, segment)
            for pool, listed in query.segments.items()
            for i, segment in enumerate(listed)
        ]
        self._give("t_segments", ("pool", "hour_ms", "segment"), hours)
        self._number_names()
        self._refer(query.references)
        asked = self._ask(query)
        self._group(query, asked=asked)
        by = ("day_ms", "segment", "pool", "node_no")
        node = "w.gpu_group" if query.by_node else "0"
        where = _within(query.start_ms, query.end_ms, "w.hour_ms")
        day = f"w.hour_ms - w.hour_ms % {MS_PER_DAY} AS day_ms"
        place = f"{day}, coalesce(s.segment, 0) AS segment, p.pool, {node} AS node_no"
        joins = """JOIN t_pools p ON p.id = w.gpu_group
                   LEFT JOIN t_segments s ON s.pool = p.pool AND s.hour_ms = w.hour_ms"""
        sums = ", ".join(at_most(column, INTEGER_MAX) for column in CAPACITY_SUMS)
        capacity = self._rows(
            f"SELECT {place}, {sums} FROM capacity_hours w {joins} {where} GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
        )
        reported_ms = self._rows(
            "SELECT p.pool, w.hour_ms, sum(active_ms) + sum(idle_ms) + sum(unallocated_ms) + sum(unknown_ms) "
            f"FROM capacity_hours w JOIN t_pools p ON p.id = w.gpu_group {where} AND p.pool >= 0 GROUP BY 1, 2"
        )
        rated = self._rated(query, place, joins, where, asked=asked)
        columns = ", ".join(at_most(column, INTEGER_MAX) for column in WORK_SUMS)
        work = self._stream(
            f"WITH rated AS ({rated}) SELECT {', '.join(by)}, grp, {columns} FROM rated "
            f"GROUP BY {', '.join(by)}, grp ORDER BY {', '.join(by)}, grp"
        )

        def pool(number: int) -> str | None:
            return pools[number] if number >= 0 else None

        return UsageRows(
            (WorkRow(r[0], r[1], pool(r[2]), nodes.get(r[3], ("", "")), r[4], r[5:]) for r in work),
            (CapacityRow(r[0], r[1], pool(r[2]), nodes.get(r[3], ("", "")), r[4:]) for r in capacity),
            {(pools[p], hour_ms): reported for p, hour_ms, reported in reported_ms},
        )

    def host_energy(self, start_ms: int, end_ms: int) -> list[HostDay]:
        sums = ", ".join(f"coalesce(sum(amount) FILTER (kind = '{kind}'), 0)" for kind in HOST_KINDS)
        rows = self._rows(
            f"SELECT hour_ms - hour_ms % {MS_PER_DAY} AS day_ms, cluster, node, name, {sums} FROM measure_hours "
            f"{_within(start_ms, end_ms)} AND kind IN {HOST_KINDS} GROUP BY ALL ORDER BY ALL"
        )
        return [HostDay(*row) for row in rows]

    def checksum(self, start_ms: int, end_ms: int) -> str:
        rows = self._rows(f"SELECT hour_ms, facts FROM rolled_hours {_within(start_ms, end_ms)} ORDER BY hour_ms")
        return hashlib.sha256(repr(rows).encode()).hexdigest()[:32]

    # --- steps -----------------------------------------------------------------------------------------------------

    def _work(self, start_ms: int, end_ms: int, weights: Mapping[str, int]) -> str:
        """The rows of work of a period. The time of a workload with several models is split by their weighted tokens in
        that hour and cluster; a workload with one model, as nearly all have, is read as it stands."""
        of_workload = "PARTITION BY hour_ms, cluster, workload"
        self._table(
            "t_model_spans",
            f"""
            WITH made AS (
              SELECT hour_ms, cluster, workload, model, identity, sum({_units(weights)})::HUGEINT AS units
              FROM work_hours JOIN identities i ON i.id = identity {_within(start_ms, end_ms)} AND models > 1
              GROUP BY ALL),
            shared AS (
              SELECT *, sum(units) OVER n AS upto, sum(units) OVER w AS whole, row_number() OVER n AS place
              FROM made WINDOW w AS ({of_workload}), n AS ({of_workload} ORDER BY model))
            SELECT hour_ms, identity, {span("units")} FROM shared
            """,
        )
        if not self._rows("SELECT 1 FROM t_model_spans LIMIT 1"):
            return "(SELECT rowid AS spot, * FROM work_hours)"
        keys, tokens = ", ".join(("hour_ms", "gpu_group", "identity", "gpus")), ", ".join((*KINDS, *REPORTED))
        split = ", ".join(f"{part(x, 'lo', 'hi', 'den')} AS {x}" for x in TIMES)
        return f"""(
            SELECT rowid AS spot, {keys}, {", ".join(TIMES)}, {tokens} FROM work_hours WHERE models <= 1
            UNION ALL
            SELECT w.rowid AS spot, {keys}, {split}, {tokens}
            FROM work_hours w JOIN t_model_spans USING (hour_ms, identity) WHERE models > 1)"""

    def _rated(self, query: UsageQuery, place: str, joins: str, where: str, *, asked: bool) -> str:
        """Rows of work with their group, their active time split by the reference pace, and by who asked."""
        wanted = "active_ms::HUGEINT * r.pace"
        units = _units(query.weights)

        def productive(x: str) -> str:
            reached = f"{x}::HUGEINT * {units} * 1000 // greatest({wanted}, 1)"
            return f"CASE WHEN r.pace IS NULL THEN {x} ELSE least({x}, {reached}) END::BIGINT"

        rated = f"""
            SELECT {place}, w.hour_ms, i.served, w.identity, i.grp, {productive("active_ms")} AS productive_ms,
                   active_ms - productive_ms AS under_yield_ms, idle_ms,
                   CASE WHEN r.pace IS NULL THEN active_ms ELSE 0 END AS unrated_ms,
                   {productive("active_mj")} AS productive_mj, active_mj - productive_mj AS under_yield_mj, idle_mj,
                   parked_ms, parked_mj, {", ".join(KINDS)}, {", ".join(REPORTED)}
            FROM {self._work(query.start_ms, query.end_ms, query.weights)} w
            JOIN t_identities i ON i.id = w.identity JOIN t_gpus g ON g.id = w.gpu_group
            LEFT JOIN t_references r ON r.model_no = i.model_no AND r.gpu_no = g.gpu_no AND r.gpus = w.gpus
            {joins} {where}
        """
        if not asked:
            return rated

        def share(x: str) -> str:
            by = _SHARED_BY[x]
            left = f"CASE WHEN a.is_rest THEN x.{x} ELSE 0 END"  # nobody asked for any, so nobody but the rest has it
            split = part(f"x.{x}", f"a.{by}_lo", f"a.{by}_hi", f"a.{by}_den")
            return f"CASE WHEN a.asker IS NULL THEN x.{x} WHEN a.{by}_den = 0 THEN {left} ELSE {split} END AS {x}"

        return f"""
            SELECT x.day_ms, x.segment, x.pool, x.node_no, coalesce(b.grp, x.grp) AS grp,
                   {", ".join(share(x) for x in _SHARED_BY)}, {", ".join(f"x.{name}" for name in REPORTED)}
            FROM ({rated}) x LEFT JOIN t_asked a ON a.hour_ms = x.hour_ms AND a.served = x.served
            LEFT JOIN t_asked_groups b ON b.identity = x.identity AND b.asker = a.asker
        """

    def _number_names(self) -> None:
        """t_gpus and t_identities: models and GPU models by number, and `served`, the (cluster, model) asked for."""
        self._table(
            "t_gpus",
            "SELECT id, dense_rank() OVER (ORDER BY gpu_model) AS gpu_no, gpu_model FROM gpu_groups "
            f"UNION ALL SELECT {NOBODY}, 0, ''",
        )
        self._table(
            "t_identities",
            "SELECT id, dense_rank() OVER (ORDER BY model) AS model_no, "
            "dense_rank() OVER (ORDER BY cluster, model) AS served, cluster, model, 0 AS grp FROM identities",
        )

    def _refer(self, references: Mapping[Instance, int]) -> None:
        models = dict(self._rows("SELECT DISTINCT model, model_no FROM t_identities"))
        gpus = dict(self._rows("SELECT DISTINCT gpu_model, gpu_no FROM t_gpus"))
        rows = [
            (models[model], gpus[gpu_model], count, pace)
            for (model, gpu_model, count), pace in references.items()
            if model in models and gpu_model in gpus
        ]
        self._give("t_references", ("model_no", "gpu_no", "gpus", "pace"), rows)

    def _ask(self, query: UsageQuery) -> bool:
        """t_asked: of each model in each hour, who asked for which stretch [lo, hi) of all that was served."""
        where = _within(query.start_ms, query.end_ms)
        self._give("t_aliases", ("name", "real_name"), list(query.gateway_models.items()))
        measures = {
            "units": _units(query.weights),
            "prompt": " + ".join(f"coalesce({kind}, 0)" for kind in TOKEN_KINDS if kind.startswith("prompt")),
            "completion": "coalesce(completion, 0)",
            "requests": "coalesce(requests, 0)",
        }
        demand = ", ".join(f"sum({sql})::HUGEINT AS {m}" for m, sql in measures.items())
        made = ", ".join(f"sum({sql})::HUGEINT AS {m}_made" for m, sql in measures.items())
        self._table(
            "t_demand",
            f"""
            WITH d AS (
              SELECT hour_ms, cluster, coalesce(real_name, model) AS model, asker, {demand}
              FROM demand_hours LEFT JOIN t_aliases ON name = model {where} GROUP BY 1, 2, 3, 4),
            s AS (SELECT DISTINCT served, cluster, model FROM t_identities)
            SELECT hour_ms, served, asker, units, prompt, completion, requests
            FROM d JOIN s USING (cluster, model) WHERE units > 0
            """,
        )
        if not self._rows("SELECT 1 FROM t_demand LIMIT 1"):
            return False
        whole, upto = "OVER (PARTITION BY hour_ms, served)", "OVER (PARTITION BY hour_ms, served ORDER BY asker)"
        spans = ", ".join(
            f"sum(d.{m}) {upto} - d.{m} AS {m}_lo, sum(d.{m}) {upto} AS {m}_hi, sum(d.{m}) {whole} AS {m}_asked, "
            f"greatest(sum(d.{m}) {whole}, {m}_made) AS {m}_den"
            for m in measures
        )
        self._table(
            "t_asked",
            f"""
            WITH made AS (
              SELECT hour_ms, served, {made}
              FROM work_hours w JOIN t_identities i ON i.id = w.identity {where}
              AND served IN (SELECT served FROM t_demand) GROUP BY 1, 2),
            spans AS (SELECT hour_ms, served, d.asker, {spans} FROM t_demand d JOIN made USING (hour_ms, served))
            SELECT hour_ms, served, asker, false AS is_rest,
                   {", ".join(f"{m}_lo, {m}_hi, {m}_den" for m in measures)} FROM spans
            UNION ALL
            SELECT DISTINCT hour_ms, served, '{_NO_ASKER}', true,
                   {", ".join(f"{m}_asked, {m}_den, {m}_den" for m in measures)} FROM spans
            """,
        )
        return True

    def _group(self, query: UsageQuery, *, asked: bool) -> None:
        """Whom each identity of the period belongs to; and each that somebody asked for, by who asked."""
        where = _within(query.start_ms, query.end_ms)
        listed = self._rows(
            "SELECT id, cluster, workload, model, labels FROM identities "
            f"WHERE id IN (SELECT DISTINCT identity FROM work_hours {where}) ORDER BY id"
        )
        found = [(row[0], query.group_of(Identity(row[1], row[2], row[3], row[4], _NO_ASKER))) for row in listed]
        self._give("t_groups", ("id", "grp"), found)
        self._table(
            "t_identities",
            "SELECT i.* EXCLUDE (grp), coalesce(g.grp, 0) AS grp FROM t_identities i LEFT JOIN t_groups g USING (id)",
        )
        if asked:
            listed = self._rows(
                "WITH a AS (SELECT DISTINCT served, asker FROM t_asked WHERE NOT is_rest) "
                "SELECT i.id, i.cluster, i.workload, i.model, i.labels, a.asker FROM identities i "
                "JOIN t_identities t ON t.id = i.id JOIN a ON a.served = t.served "
                "WHERE i.id IN (SELECT id FROM t_groups) ORDER BY i.id, a.asker"
            )
            rows = [
                (row[0], row[5], query.group_of(Identity(row[1], row[2], row[3], row[4], row[5]))) for row in listed
            ]
            self._give("t_asked_groups", ("identity", "asker", "grp"), rows)

    # --- plumbing --------------------------------------------------------------------------------------------------

    def _gpu_groups(self) -> list[tuple[int, GpuGroup]]:
        rows = self._rows(
            "SELECT id, g.cluster, g.node, gpu_model, coalesce(labels, '{}') FROM gpu_groups g "
            "LEFT JOIN node_labels n ON n.cluster = g.cluster AND n.node = g.node ORDER BY id"
        )
        return [(number, GpuGroup(*rest)) for number, *rest in rows]

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        with _reading():
            found: list[tuple[Any, ...]] = self._connection.execute(sql).fetchall()
        return found

    def _stream(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """Rows as they are wanted. Nothing else may be asked of the connection until they are all read."""
        with _reading():
            result = self._connection.execute(sql)
            while rows := result.fetchmany(FETCH_ROWS):
                yield from rows

    def _table(self, name: str, sql: str) -> None:
        with _reading():
            self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {sql}")

    def _give(self, name: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """Make a temporary table of `rows`."""
        with _reading():
            self._connection.execute(ddl(name, columns).replace("CREATE TABLE", "CREATE OR REPLACE TEMP TABLE", 1))
            if rows:
                insert_rows(self._connection, name, columns, rows)


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise LedgerError(f"the ledger cannot be read: {error}; give it more memory (ledger_memory) or disk") from error


def _within(start_ms: int, end_ms: int, column: str = "hour_ms") -> str:
    return f"WHERE {column} >= {int(start_ms)} AND {column} < {int(end_ms)}"


def _units(weights: Mapping[str, int]) -> str:
    """Thousandths of weighted tokens."""
    return "(" + " + ".join(f"{int(weight)} * coalesce({kind}, 0)" for kind, weight in weights.items()) + ")"
