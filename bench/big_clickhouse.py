"""A ClickHouse ledger of a big fleet, made by the server itself: a day of hours, and the roll-ups of the others like it.

In: a ledger's client. Out: the hours and roll-ups of `big_ledger.make_ledger`, whose month on 100,000 GPUs would be 216
million rows of shares, of which reports read none.
"""

import time
from typing import Any

from big_ledger import GPUS_PER_NODE, HOUR_MS, START_MS

from tokenyield_collector.ledger.clickhouse.ledger import ClickHouseLedger
from tokenyield_collector.ledger.clickhouse.schema import ROLL_NUMBERS, WORK_NUMBERS
from tokenyield_collector.ledger.usage import CAPACITY_SUMS

DAY_MS = 24 * HOUR_MS
_NAMES = {
    "node": "concat('ns', toString((n * 3 + k) % 17), '/llm-', toString(n), '-', toString(k))",
    "fleet": "concat('ns', toString(k), '/llm-', toString((n * 3 + k) % 300))",
}


def make_clickhouse(ledger: ClickHouseLedger, gpus: int, days: int, workloads: str, hour_days: int) -> dict[str, float]:
    """`hour_days`: of so many days the hours are made, of the others their roll-ups alone. Returns seconds."""
    client, nodes = ledger._tables.client, gpus // GPUS_PER_NODE
    started = time.perf_counter()
    for day in range(hour_days):
        _make_day(client, nodes, START_MS + day * DAY_MS, _NAMES[workloads])
    ledger._tables.load()
    hours = [START_MS + hour * HOUR_MS for hour in range(24 * hour_days)]
    _fold(ledger, hours)
    made = time.perf_counter()
    while ledger.roll(hours_max=24):
        pass
    rolled = time.perf_counter()
    for day in range(hour_days, days):
        _copy_day(client, day % hour_days, day)
    _fold(ledger, [START_MS + hour * HOUR_MS for hour in range(24 * hour_days, 24 * days)])
    return {
        "hours_made_s": made - started,
        "rolled_s_per_hour": (rolled - made) / len(hours),
        "copied_s": time.perf_counter() - rolled,
    }


def _fold(ledger: ClickHouseLedger, hours_ms: list[int]) -> None:
    for table in ("touched", "folded"):
        ledger._tables.insert_rows(table, ("hour_ms", "commits"), [(hour_ms, 1) for hour_ms in hours_ms])


def _make_day(client: Any, nodes: int, start_ms: int, name: str) -> None:
    """As `make_ledger` does; n: node, g: GPU, k: workload, h: hour."""
    place = (
        f"{start_ms} + h * {HOUR_MS} AS hour_ms, concat('c', toString(n % 4)) AS cluster, "
        "concat('node-', toString(n)) AS node"
    )
    client.run(
        f"INSERT INTO share_hours (hour_ms, cluster, node, gpu_uuid, gpu_model, workload, split, active_ms, idle_ms, "
        f"active_mj, idle_mj, version) SELECT {place}, concat('GPU-', lower(hex(MD5(toString(n * 8 + g))))) AS uuid, "
        "[('NVIDIA H100 80GB HBM3'), ('NVIDIA A100-SXM4-80GB'), ('NVIDIA L40S')][n % 3 + 1] AS gpu_model, "
        f"{name} AS workload, 'sm', 400000 + (n * 31 + h * 17 + g * 7 + k * 3) % 600000, "
        "100000 + (n * 11 + h * 3) % 90000, 200000000 + n * 1000 + h, 50000000, 1 FROM ("
        f"SELECT toInt64(intDiv(number, {nodes * 24})) AS h, toInt64(intDiv(number % {nodes * 24}, 24)) AS n, "
        "toInt64(intDiv(number % 24, 3)) AS g, toInt64(number % 3) AS k "
        f"FROM system.numbers LIMIT {24 * nodes * 24})"
    )
    within = f"hour_ms >= {start_ms} AND hour_ms < {start_ms + DAY_MS}"
    client.run(
        "INSERT INTO gpu_hours (hour_ms, cluster, node, gpu_uuid, gpu_model, active_ms, idle_ms, unallocated_ms, "
        "active_mj, idle_mj, unallocated_mj, version) SELECT hour_ms, cluster, node, gpu_uuid, gpu_model, "
        "sum(active_ms) AS a, sum(idle_ms) AS i, greatest(3600000 - a - i, 0), sum(active_mj), sum(idle_mj), 1000000, 1 "
        f"FROM share_hours WHERE {within} GROUP BY hour_ms, cluster, node, gpu_uuid, gpu_model"
    )
    client.run(
        "INSERT INTO token_hours (hour_ms, cluster, node, workload, server, place, model, method, completion, "
        "prompt_computed, prompt_cached, requests, version) SELECT DISTINCT hour_ms, cluster, node, workload, 'vllm', "
        "node, concat('model-', toString(cityHash64(workload) % 40)), 'counter', "
        "toInt64(200000 + cityHash64(workload, hour_ms) % 900000), 700000, 90000, 900, 1 "
        f"FROM share_hours WHERE {within}"
    )
    client.run(
        "INSERT INTO label_hours (hour_ms, cluster, node, workload, labels, seen_ms, version) SELECT hour_ms, cluster, "
        """node, workload, concat('{"team":"team-', toString(cityHash64(workload) % 50), '"}'), 3600000, 1 """
        f"FROM token_hours WHERE {within}"
    )


def _copy_day(client: Any, from_day: int, to_day: int) -> None:
    """Roll-ups of a day, for another: rolls are numbered by hour (rollup.py)."""
    start_ms, later = START_MS + from_day * DAY_MS, to_day - from_day
    within = f"hour_ms >= {start_ms} AND hour_ms < {start_ms + DAY_MS}"
    for table, columns in (
        ("work_hours", ("gpu_group", "identity", *WORK_NUMBERS)),
        ("capacity_hours", ("gpu_group", *CAPACITY_SUMS)),
        ("rolled_hours", ("turn", "begun_ms", "commits", "facts", *ROLL_NUMBERS)),
    ):
        own, final = ", ".join(columns), " FINAL" if table == "rolled_hours" else ""
        client.run(
            f"INSERT INTO {table} (hour_ms, roll, {own}) SELECT hour_ms + {later * DAY_MS}, "
            f"roll + {later * 24}, {own} FROM {table}{final} WHERE {within}"
        )
