"""What GPUs and workloads of a ClickHouse ledger did lately: GPU by GPU, and step by step."""

from typing import Any

from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_collector.ledger.facts import MADE_SUMS, WORK_HELD, GpuNow, MadeSlot, WorkSlot
from tokenyield_collector.ledger.sql import starts_in, starts_in_hour
from tokenyield_wire.units import hour_of_ms
from tokenyield_wire.window import STATES, TOKEN_KINDS

LAST_HOURS_MAX = 24
"""Hours of which it is looked up when in them a workload made its last token."""


def gpus_between(tables: ClickHouseTables, start_ms: int, end_ms: int, known_since_ms: int) -> list[GpuNow]:
    """See `Ledger`."""
    within = starts_in(start_ms, end_ms)
    known = tables.rows(
        "SELECT cluster, node, gpu_uuid, max(gpu_model) FROM {gpu_hours} "
        f"WHERE hour_ms >= {hour_of_ms(known_since_ms)} GROUP BY cluster, node, gpu_uuid"
    )
    sums = [*(f"sum(x.{state}_ms)" for state in STATES), " + ".join(f"sum(x.{state}_mj)" for state in STATES)]
    now = {
        row[:3]: row[3:]
        for row in tables.rows(
            f"SELECT cluster, node, x.gpu_uuid, {', '.join(sums)} "
            f"FROM {{windows}} FINAL ARRAY JOIN gpu AS x WHERE {within} GROUP BY cluster, node, x.gpu_uuid"
        )
    }
    holders: dict[tuple[Any, ...], tuple[int, str]] = {}
    for *gpu, workload, held_ms in tables.rows(
        "SELECT cluster, node, x.gpu_uuid, x.workload, sum(x.active_ms + x.idle_ms) "
        f"FROM {{windows}} FINAL ARRAY JOIN share AS x WHERE {within} GROUP BY cluster, node, x.gpu_uuid, x.workload"
    ):
        holders[tuple(gpu)] = max((held_ms, workload), holders.get(tuple(gpu), (-1, "")))
    amounts, nothing = (*(f"{state}_ms" for state in STATES), "energy_mj"), (0,) * len(sums)
    gpus = []
    for cluster, node, uuid, gpu_model in sorted(known, key=lambda row: row[:3]):
        place = (cluster, node, uuid)
        measured = dict(zip(amounts, now.get(place, nothing), strict=True))
        _, workload = holders.get(place, (0, ""))
        gpus.append(GpuNow(cluster=cluster, node=node, uuid=uuid, gpu_model=gpu_model, workload=workload, **measured))
    return gpus


def work_between(tables: ClickHouseTables, start_ms: int, end_ms: int, step_ms: int) -> list[WorkSlot]:
    """See `Ledger`. A GPU and its shares stand in one row, so that nothing is joined."""

    def of_gpu(column: str) -> str:
        return f"gpu.{column}[indexOf(gpu.gpu_uuid, s.gpu_uuid)]"

    held = f"((s.active_ms + s.idle_ms) / ({of_gpu('active_ms')} + {of_gpu('idle_ms')}))"

    def part(amount: str) -> str:
        # Of a GPU that nothing held the quotient is no number, and of one that reported nothing it is missing.
        return f"sum(if(s.active_ms + s.idle_ms = 0, 0, {amount} * {held}))"

    throttled = (
        "arrayReduce('max', arrayConcat([toInt64(0)], arrayMap((k, u, d) -> if(k = 'throttled' AND u = s.gpu_uuid, "
        "d, toInt64(0)), reason.kind, reason.gpu_uuid, reason.duration_ms)))"
    )
    lost = (
        "arraySum((k, u, a) -> if(k = 'throttled_lost' AND u = s.gpu_uuid, a, toInt64(0)), "
        "measure.kind, measure.gpu_uuid, measure.amount)"
    )
    exact = {
        "cluster": "cluster",
        "workload": "s.workload",
        "gpu_model": "s.gpu_model",
        "slot_ms": _slot(step_ms),
        "gpus": "toInt64(uniqExact(node, s.gpu_uuid))",
        **{name: f"sum(s.{name})" for name in WORK_HELD},
    }
    parts = {
        **{name: part(of_gpu(name)) for name in ("activity_known_ms", "sm_ms", "tensor_ms", "dram_ms")},
        "throttled_ms": part(throttled),
        "throttled_lost_ms": part(lost),
    }
    always = ("activity_known_ms", "throttled_ms", "throttled_lost_ms")
    rows = tables.rows(
        f"SELECT {', '.join((*exact.values(), *parts.values()))} FROM {{windows}} FINAL ARRAY JOIN share AS s "
        f"WHERE {starts_in(start_ms, end_ms)} GROUP BY cluster, s.workload, s.gpu_model, {_slot(step_ms)}"
    )
    slots = []
    for row in rows:
        values = dict(zip((*exact, *parts), row, strict=True))
        for name in parts:
            amount = values[name]
            values[name] = round(amount or 0) if name in always or amount is not None else None
        slots.append(WorkSlot(**values))
    return sorted(slots, key=lambda slot: (slot.cluster, slot.workload, slot.gpu_model, slot.slot_ms))


def made_between(tables: ClickHouseTables, start_ms: int, end_ms: int, step_ms: int) -> list[MadeSlot]:
    """See `Ledger`."""
    columns = {
        "cluster": "cluster",
        **{name: f"x.{name}" for name in ("workload", "server", "model")},
        "slot_ms": _slot(step_ms),
    }
    sums = {name: f"sum(x.{name})" for name in MADE_SUMS}
    rows = tables.rows(
        f"SELECT {', '.join((*columns.values(), *sums.values()))} FROM {{windows}} FINAL ARRAY JOIN token AS x "
        f"WHERE {starts_in(start_ms, end_ms)} GROUP BY {', '.join(columns.values())}"
    )
    slots = [MadeSlot(**dict(zip((*columns, *sums), row, strict=True))) for row in rows]
    return sorted(slots, key=lambda slot: tuple(getattr(slot, name) for name in columns))


def last_tokens(tables: ClickHouseTables) -> dict[tuple[str, str], int]:
    """See `Ledger`."""
    kinds = " + ".join(f"ifNull({kind}, 0)" for kind in TOKEN_KINDS)
    hours = tables.rows(
        f"SELECT cluster, workload, max(hour_ms) FROM {{token_hours}} WHERE {kinds} > 0 GROUP BY cluster, workload"
    )
    made = " + ".join(f"ifNull(x.{kind}, 0)" for kind in TOKEN_KINDS)
    newest: dict[tuple[str, str], int] = {}
    for hour_ms in sorted({row[2] for row in hours}, reverse=True)[:LAST_HOURS_MAX]:
        for cluster, workload, at_ms in tables.rows(
            "SELECT cluster, x.workload, max(start_ms) FROM {windows} ARRAY JOIN token AS x "
            f"WHERE {starts_in_hour(hour_ms)} AND {made} > 0 GROUP BY cluster, x.workload"
        ):
            newest.setdefault((cluster, workload), at_ms)
    return newest


def _slot(step_ms: int) -> str:
    """Where a window's step begins. Not by `%`: old servers give its result too small a type."""
    return f"intDiv(start_ms, {int(step_ms)}) * {int(step_ms)}"
