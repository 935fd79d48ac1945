"""The best hour of each day out of ClickHouse's roll-ups, by its servers: of rows of hours, and of rows of days."""

from collections.abc import Mapping
from functools import partial
from itertools import chain

from tokenyield_collector.ledger.clickhouse import beside
from tokenyield_collector.ledger.clickhouse.one_state import LedgerState
from tokenyield_collector.ledger.clickhouse.parts import PeriodParts
from tokenyield_collector.ledger.clickhouse.rated import lookup, units_of
from tokenyield_collector.ledger.clickhouse.rated_days import units_by_hour
from tokenyield_collector.ledger.duckdb.usage import BUSY_MS
from tokenyield_collector.ledger.usage import BEST_DAYS, BestHour, GpuGroup, ModelInstance
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR

_DAY_MS = f"intDiv(hour_ms, {MS_PER_DAY}) * {MS_PER_DAY}"


def best_hours(
    state: LedgerState, parts: PeriodParts, weights: Mapping[str, int], start_ms: int, end_ms: int
) -> list[BestHour]:
    """See `UsageReader.best_hours`; `parts` are those of the period."""
    models = sorted({name.model for name in state.identities.values()})
    numbers = {model: i for i, model in enumerate(models)}
    model_no = lookup("identity", {key: numbers[name.model] for key, name in state.identities.items()})
    sources = []
    for table, sql_of, wheres in (
        ("work_hours", _of_hours_sql, parts.of_hours()),
        ("work_days", _of_days_sql, parts.of_days()),
    ):
        for where in wheres:
            rows = state.rows_of_shards(table, partial(sql_of, where, model_no, weights))
            sources.append([_best_hour(state, *map(int, row)) for row in rows])
    if parts.divided is not None:
        sources.append(parts.divided.reader.best_hours(start_ms, end_ms, weights))
    best = sources[0] if len(sources) == 1 else beside.best_days([*chain.from_iterable(sources)])
    return sorted(best, key=lambda one: (*one.instance, one.cluster, one.node, -one.pace, one.hour_ms, one.workload))


def _best_hour(
    state: LedgerState, gpu_group: int, gpus: int, pace: int, hour_ms: int, identity: int, units: int, active_ms: int
) -> BestHour:
    name, group = state.identities[identity], state.groups.get(gpu_group, GpuGroup("", "", ""))
    return BestHour(
        instance=ModelInstance(name.model, group.gpu_model, gpus),
        pace=pace,
        hour_ms=hour_ms,
        cluster=name.cluster,
        workload=name.workload,
        units=units,
        active_ms=active_ms,
        node=group.node,
    )


def _of_hours_sql(where: str, model_no: str, weights: Mapping[str, int], source: str) -> str:
    """A row for each of the `BEST_DAYS` best days: gpu_group, GPUs, pace, hour, identity, units and active time of its
    best hour, the first of those that are equal."""
    pace = f"if(active_ms >= {BUSY_MS} * gpus, intDiv(units * 1000, active_ms), toInt64(0))"
    # The same row for each of the four: they see the rows in one order. A tuple would take ten times as long.
    score = f"pace * 32 + 24 - intDiv(hour_ms - day_ms, {MS_PER_HOUR})"
    best = ", ".join(f"argMax({name}, {score})" for name in ("hour_ms", "identity", "units", "active_ms"))
    return (
        f"SELECT gpu_group, gpus, max(pace) AS best, {best} FROM (SELECT {_DAY_MS} AS day_ms, hour_ms, "
        f"gpu_group, gpus, identity, active_ms, {model_no} AS model_no, {units_of(weights)} AS units, "
        f"{pace} AS pace FROM {source} WHERE {where} AND active_ms > 0) "
        "GROUP BY model_no, gpu_group, gpus, day_ms ORDER BY model_no, gpu_group, gpus, best DESC, day_ms "
        f"LIMIT {BEST_DAYS} BY model_no, gpu_group, gpus"
    )


def _of_days_sql(where: str, model_no: str, weights: Mapping[str, int], source: str) -> str:
    """The same of rows of days."""
    pace = f"if(y >= {BUSY_MS} * gpus, intDiv(x * 1000, greatest(y, 1)), 0)"
    columns = {
        "model_no": model_no,
        "units": units_by_hour(weights),
        "scores": (
            f"arrayMap((x, y, z) -> if(y > 0, {pace} * 32 + 24 - z, toInt64(-1)), units, active_ms_by_hour, hours)"
        ),
        "score": "arrayReduce('max', scores)",
        "place": "indexOf(scores, score)",
        "best_ms": f"first_ms + hours[place] * {MS_PER_HOUR}",
        "best_units": "units[place]",
        "best_active_ms": "active_ms_by_hour[place]",
    }
    best = ", ".join(f"argMax({one}, score)" for one in ("best_ms", "identity", "best_units", "best_active_ms"))
    return (
        f"SELECT gpu_group, gpus, intDiv(max(score), 32) AS pace, {best} FROM (SELECT first_ms, gpu_group, gpus, "
        f"identity, {', '.join(f'{sql} AS {name}' for name, sql in columns.items())} FROM {source} WHERE {where}) "
        "WHERE score >= 0 GROUP BY model_no, gpu_group, gpus, first_ms "
        f"ORDER BY model_no, gpu_group, gpus, pace DESC, first_ms LIMIT {BEST_DAYS} BY model_no, gpu_group, gpus"
    )
