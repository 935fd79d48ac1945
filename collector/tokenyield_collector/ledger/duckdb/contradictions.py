"""What of the facts in DuckDB does not fit each other, for `ledger/contradictions.py`: SQL over the tables of hours."""

from collections.abc import Mapping

from tokenyield_collector.ledger.contradictions import ContestedGpu, DemandDay, DoubledGpu, ForeignDay
from tokenyield_collector.ledger.duckdb.caller_split import NO_CALLER
from tokenyield_collector.ledger.duckdb.gpu_owners import SPENT, WHOLE_MS
from tokenyield_collector.ledger.duckdb.query_tables import QueryTables
from tokenyield_collector.ledger.foreign_names import FOREIGN
from tokenyield_collector.ledger.sql import between
from tokenyield_collector.ledger.tables import STORED_NAMES
from tokenyield_collector.ledger.usage import CAPACITY_SUMS, CAPACITY_TIMES
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR
from tokenyield_wire.window import TOKEN_KINDS

_DAY = f"hour_ms - hour_ms % {MS_PER_DAY}"
_ENERGY = " + ".join(f"{name.replace('_ms', '_mj')}::HUGEINT" for name in CAPACITY_TIMES)
_PROMPT = "coalesce(prompt_computed, 0) + coalesce(prompt_cached, 0) + coalesce(prompt_unsplit, 0)"
_PROMPT_REPORTED = "prompt_computed_reported + prompt_cached_reported + prompt_unsplit_reported"


def demand_days(tables: QueryTables, start_ms: int, end_ms: int, gateway_models: Mapping[str, str]) -> list[DemandDay]:
    within = between("hour_ms", start_ms, end_ms)
    tables.give("t_real_names", ("name", "real_name"), list(gateway_models.items()))
    rows = tables.rows(
        f"""
        WITH asked AS (
          SELECT hour_ms, cluster, coalesce(real_name, model) AS model, gateway, sum({_PROMPT})::HUGEINT AS prompt,
                 sum(coalesce(completion, 0))::HUGEINT AS completion, sum(coalesce(requests, 0))::HUGEINT AS requests
          FROM demand_hours LEFT JOIN t_real_names ON name = model WHERE {within} GROUP BY ALL),
        wanted AS (SELECT DISTINCT cluster, model FROM asked),
        made AS (
          SELECT hour_ms, cluster, model, sum({_PROMPT})::HUGEINT AS prompt, sum({_PROMPT_REPORTED}) AS prompt_rows,
                 sum(coalesce(completion, 0))::HUGEINT AS completion, sum(completion_reported) AS completion_rows
          FROM work_hours w JOIN (FROM identities SEMI JOIN wanted USING (cluster, model)) i ON i.id = w.identity
          WHERE {within} GROUP BY ALL),
        made_days AS (
          SELECT {_DAY} AS day_ms, cluster, model, sum(prompt) FILTER (prompt_rows > 0) AS made_prompt,
                 sum(completion) FILTER (completion_rows > 0) AS made_completion
          FROM made SEMI JOIN asked USING (hour_ms, cluster, model) GROUP BY ALL),
        asked_days AS (
          SELECT {_DAY} AS day_ms, cluster, model, gateway, sum(a.prompt + a.completion), sum(a.requests),
                 coalesce(sum(a.prompt + a.completion) FILTER (m.prompt IS NULL), 0),
                 coalesce(sum(a.requests) FILTER (m.prompt IS NULL), 0),
                 coalesce(sum(a.prompt) FILTER (prompt_rows > 0), 0),
                 coalesce(sum(a.completion) FILTER (completion_rows > 0), 0)
          FROM asked a LEFT JOIN made m USING (hour_ms, cluster, model) GROUP BY ALL),
        callers AS (
          SELECT {_DAY} AS day_ms, cluster, coalesce(real_name, model) AS model, gateway,
                 count(DISTINCT {STORED_NAMES["caller"]}) FILTER ({STORED_NAMES["caller"]} <> '{NO_CALLER}') AS callers
          FROM demand_hours LEFT JOIN t_real_names ON name = model WHERE {within} GROUP BY ALL)
        SELECT asked_days.*, made_prompt, made_completion, callers
        FROM asked_days LEFT JOIN made_days USING (day_ms, cluster, model)
        JOIN callers USING (day_ms, cluster, model, gateway) ORDER BY day_ms, cluster, model, gateway
        """
    )
    return [DemandDay(*row) for row in rows]


def foreign_days(tables: QueryTables, start_ms: int, end_ms: int) -> list[ForeignDay]:
    tokens = " + ".join(f"{kind}::HUGEINT" for kind in TOKEN_KINDS)
    rows = tables.rows(
        f"""
        SELECT {_DAY} AS day_ms, cluster, workload, sum((active_ms + idle_ms)::HUGEINT // models),
               sum((active_mj + idle_mj)::HUGEINT // models), sum({tokens}), sum(requests::HUGEINT)
        FROM work_hours w JOIN (FROM identities WHERE regexp_matches(workload, '{FOREIGN.pattern}', 's')) i
          ON i.id = w.identity
        WHERE {between("hour_ms", start_ms, end_ms)} GROUP BY ALL ORDER BY ALL
        """
    )
    return [ForeignDay(day_ms, cluster, name, *map(int, sums)) for day_ms, cluster, name, *sums in rows]


def doubled_gpus(tables: QueryTables, start_ms: int, end_ms: int) -> list[DoubledGpu]:
    rows = tables.rows(
        f"""
        WITH hours AS (
          SELECT hour_ms, gpu_uuid, cluster, node, {SPENT} AS spent_ms, {_ENERGY} AS spent_mj
          FROM gpu_hours WHERE {between("hour_ms", start_ms, end_ms)} AND {SPENT} > {WHOLE_MS})
        SELECT {_DAY} AS day_ms, gpu_uuid, h.cluster || '/' || h.node AS place,
               sum(spent_ms - {MS_PER_HOUR}), sum(spent_mj * (spent_ms - {MS_PER_HOUR}) // spent_ms)
        FROM hours h LEFT JOIN gpu_contested c USING (hour_ms, gpu_uuid)
        WHERE c.node IS NULL OR c.cluster = h.cluster AND c.node = h.node
        GROUP BY ALL ORDER BY day_ms, gpu_uuid, place
        """
    )
    return [DoubledGpu(day_ms, uuid, place, int(ms), int(mj)) for day_ms, uuid, place, ms, mj in rows]


def contested_gpus(tables: QueryTables, start_ms: int, end_ms: int) -> list[ContestedGpu]:
    within, sums = between("hour_ms", start_ms, end_ms), ", ".join(f"sum({name}::HUGEINT)" for name in CAPACITY_SUMS)
    rows = tables.rows(
        f"""
        SELECT {_DAY} AS day_ms, gpu_uuid, c.cluster || '/' || c.node AS first,
               list_sort(list(DISTINCT g.cluster || '/' || g.node)), {sums}
        FROM (FROM gpu_contested WHERE {within}) c JOIN (FROM gpu_hours WHERE {within}) g USING (hour_ms, gpu_uuid)
        WHERE c.cluster <> g.cluster OR c.node <> g.node
        GROUP BY day_ms, gpu_uuid, first ORDER BY day_ms, gpu_uuid, first
        """
    )
    return [
        ContestedGpu(day_ms, uuid, first, tuple(others), tuple(map(int, left_out)))
        for day_ms, uuid, first, others, *left_out in rows
    ]
