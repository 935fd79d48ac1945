"""What GPUs and workloads of a DuckDB ledger did lately: GPU by GPU, and step by step.

In: a connection whose snapshot of the ledger is kept for the whole call. Out: records, whose fields name the columns.
"""

from typing import Any

from tokenyield_collector.ledger.duckdb.live_hours import all_hours_of, at_most
from tokenyield_collector.ledger.facts import MADE_SUMS, WORK_HELD, GpuNow, MadeSlot, WorkSlot
from tokenyield_collector.ledger.sql import starts_in
from tokenyield_collector.ledger.tables import INTEGER_MAX
from tokenyield_wire.units import MS_PER_HOUR, hour_of_ms
from tokenyield_wire.window import STATES, TOKEN_KINDS


def gpus_between(connection: Any, start_ms: int, end_ms: int, known_since_ms: int) -> list[GpuNow]:
    """See `Ledger`."""
    gpu, where = "cluster, node, gpu_uuid", f"WHERE {starts_in(start_ms, end_ms)}"
    times = {f"{state}_ms": at_most(f"{state}_ms", INTEGER_MAX) for state in STATES}
    energy = " + ".join(f"sum({state}_mj)" for state in STATES)
    columns = {
        "cluster": "cluster",
        "node": "node",
        "uuid": "gpu_uuid",
        "gpu_model": "gpu_model",
        **{name: f"coalesce({name}, 0)" for name in times},
        "energy_mj": "coalesce(energy_mj, 0)",
        "workload": "coalesce(workload, '')",
    }
    sql = f"""
        WITH known AS (SELECT {gpu}, max(gpu_model) AS gpu_model FROM {all_hours_of("gpu")}
                       WHERE hour_ms >= {hour_of_ms(known_since_ms)} GROUP BY ALL),
             now AS (SELECT {gpu}, {", ".join(f"{total} AS {name}" for name, total in times.items())},
                            ({energy}) AS energy_mj FROM gpu_windows {where} GROUP BY ALL),
             held AS (SELECT {gpu}, workload, sum(active_ms + idle_ms) AS held_ms
                      FROM share_windows {where} GROUP BY ALL),
             holder AS (SELECT {gpu}, arg_max(workload, (held_ms, workload)) AS workload FROM held GROUP BY ALL)
        SELECT {", ".join(columns[name] for name in GpuNow._fields)}
        FROM known LEFT JOIN now USING ({gpu}) LEFT JOIN holder USING ({gpu}) ORDER BY {gpu}
        """
    return [GpuNow(*row) for row in connection.execute(sql).fetchall()]


def work_between(connection: Any, start_ms: int, end_ms: int, step_ms: int) -> list[WorkSlot]:
    """See `Ledger`."""
    where, gpu = f"WHERE {starts_in(start_ms, end_ms)}", "cluster, node, gpu_uuid, start_ms"
    held = "(s.active_ms + s.idle_ms)::DOUBLE / nullif(g.active_ms + g.idle_ms, 0)"

    def part(column: str) -> str:
        return f"sum({column} * {held})::HUGEINT"

    columns = {
        "cluster": "s.cluster",
        "workload": "s.workload",
        "gpu_model": "s.gpu_model",
        "slot_ms": _slot("s.start_ms", step_ms),
        "gpus": "count(DISTINCT (s.node, s.gpu_uuid))",
        **{name: at_most(f"s.{name}", INTEGER_MAX) for name in WORK_HELD},
        "activity_known_ms": f"coalesce({part('g.activity_known_ms')}, 0)",
        **{name: part(f"g.{name}") for name in ("sm_ms", "tensor_ms", "dram_ms")},
        "throttled_ms": f"coalesce({part('throttled_ms')}, 0)",
        "throttled_lost_ms": f"coalesce({part('lost_ms')}, 0)",
    }
    sql = f"""
        WITH lost AS (SELECT {gpu}, sum(amount) AS lost_ms FROM measure_windows {where} AND kind = 'throttled_lost'
                      GROUP BY ALL),
             throttled AS (SELECT {gpu}, max(duration_ms) AS throttled_ms FROM reason_windows {where}
                           AND kind = 'throttled' GROUP BY ALL)
        SELECT {", ".join(f"{columns[name]} AS {name}" for name in WorkSlot._fields)}
        FROM (FROM share_windows {where}) s JOIN (FROM gpu_windows {where}) g USING ({gpu}, gpu_model)
        LEFT JOIN lost USING ({gpu}) LEFT JOIN throttled USING ({gpu})
        GROUP BY ALL ORDER BY ALL
        """
    return [WorkSlot(*row) for row in connection.execute(sql).fetchall()]


def made_between(connection: Any, start_ms: int, end_ms: int, step_ms: int) -> list[MadeSlot]:
    """See `Ledger`."""
    columns = {
        **{name: name for name in ("cluster", "workload", "server", "model")},
        "slot_ms": _slot("start_ms", step_ms),
        **{name: at_most(name, INTEGER_MAX) for name in MADE_SUMS},
    }
    selected = ", ".join(f"{columns[name]} AS {name}" for name in MadeSlot._fields)
    sql = f"SELECT {selected} FROM token_windows WHERE {starts_in(start_ms, end_ms)} GROUP BY ALL ORDER BY ALL"
    return [MadeSlot(*row) for row in connection.execute(sql).fetchall()]


def last_tokens(connection: Any) -> dict[tuple[str, str], int]:
    """See `Ledger`. The newest hour first, so that windows of one hour alone are looked at."""
    made = " + ".join(f"coalesce({kind}, 0)" for kind in TOKEN_KINDS)
    sql = f"""
        WITH newest AS (SELECT cluster, workload, max(hour_ms) AS hour_ms FROM {all_hours_of("token")}
                        WHERE {made} > 0 GROUP BY ALL)
        SELECT t.cluster, t.workload, max(start_ms) FROM token_windows t JOIN newest n
        ON t.cluster = n.cluster AND t.workload = n.workload
        AND t.start_ms >= n.hour_ms AND t.start_ms < n.hour_ms + {MS_PER_HOUR}
        WHERE {made} > 0 GROUP BY ALL
        """
    return {(cluster, workload): at_ms for cluster, workload, at_ms in connection.execute(sql).fetchall()}


def _slot(column: str, step_ms: int) -> str:
    """Where a window's step begins."""
    return f"{column} - {column} % {int(step_ms)}"
