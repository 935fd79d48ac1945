"""A ClickHouse ledger of a big fleet, made by the server itself: some hours, and the roll-ups of all others like them.

In: a ledger's client. Out: the hours and roll-ups of `big_ledger.make_ledger`, whose month on 100,000 GPUs would be 216
million rows of shares, of which reports read none.
"""

import time
from typing import Any

from big_ledger import GPUS_PER_NODE, HOUR_MS, START_MS

from tokenyield_collector.ledger.clickhouse.ledger import ClickHouseLedger
from tokenyield_collector.ledger.clickhouse.schema import ROLL_NUMBERS, WORK_NUMBERS
from tokenyield_collector.ledger.usage import CAPACITY_SUMS

_NAMES = {
    "node": "concat('ns', toString((n * 3 + k) % 17), '/llm-', toString(n), '-', toString(k))",
    "fleet": "concat('ns', toString(k), '/llm-', toString((n * 3 + k) % 300))",
}


def make_clickhouse(
    ledger: ClickHouseLedger, gpus: int, hours: int, workloads: str, hours_made: int
) -> dict[str, float]:
    """`hours_made`: of so many hours there are the sums of GPUs, of the others roll-ups alone. Returns seconds."""
    client, nodes = ledger._tables.client, gpus // GPUS_PER_NODE
    started = time.perf_counter()
    for hour in range(hours_made):
        _make_hour(client, nodes, hour, _NAMES[workloads])
    _fold(ledger, range(hours_made))
    made = time.perf_counter()
    while ledger.roll(hours_max=24):
        pass
    rolled, done = time.perf_counter(), hours_made
    while done < hours:
        _copy_hours(client, min(done, hours - done), done)
        done += min(done, hours - done)
    _fold(ledger, range(hours_made, hours))
    copied, day_ms = time.perf_counter(), ledger.roll_day(START_MS + hours * HOUR_MS)
    while day_ms is not None:
        day_ms = ledger.roll_day(day_ms)
    return {
        "hours_made_s": made - started,
        "rolled_s_per_hour": (rolled - made) / hours_made,
        "copied_s": copied - rolled,
        "rolled_s_per_day": (time.perf_counter() - copied) / max(1, hours // 24),
    }


def _fold(ledger: ClickHouseLedger, hours: range) -> None:
    for table in ("touched", "folded"):
        rows = [(START_MS + hour * HOUR_MS, 1) for hour in hours]
        ledger._tables.insert_rows(table, ("hour_ms", "commits"), rows)


def _make_hour(client: Any, nodes: int, hour: int, name: str) -> None:
    """As `make_ledger` does, but the first workload of a node is busy for half of each hour, so that models have a pace
    to learn; n: node, g: GPU, k: workload, h: hour."""
    start_ms = START_MS + hour * HOUR_MS
    place = (
        f"toInt64({start_ms}) AS hour_ms, concat('c', toString(n % 4)) AS cluster, concat('node-', toString(n)) AS node"
    )
    client.run(
        f"INSERT INTO share_hours (hour_ms, cluster, node, gpu_uuid, gpu_model, workload, split, active_ms, idle_ms, "
        f"active_mj, idle_mj, version) SELECT {place}, concat('GPU-', lower(hex(MD5(toString(n * 8 + g))))) AS uuid, "
        "[('NVIDIA H100 80GB HBM3'), ('NVIDIA A100-SXM4-80GB'), ('NVIDIA L40S')][n % 3 + 1] AS gpu_model, "
        f"{name} AS workload, 'sm', if(k = 0, 1850000, 150000) + (n * 31 + h * 17 + g * 7 + k * 3) % 250000, "
        "100000 + (n * 11 + h * 3) % 90000, 200000000 + n * 1000 + h, 50000000, 1 FROM ("
        f"SELECT toInt64({hour}) AS h, toInt64(intDiv(number, 24)) AS n, "
        "toInt64(intDiv(number % 24, 3)) AS g, toInt64(number % 3) AS k "
        f"FROM system.numbers LIMIT {nodes * 24})"
    )
    within = f"hour_ms = {start_ms}"
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


def _copy_hours(client: Any, hours: int, later: int) -> None:
    """Roll-ups of the first hours, for others that are so many hours later: rolls are numbered by hour (rollup.py)."""
    within = f"hour_ms < {START_MS + hours * HOUR_MS}"
    for table, columns in (
        ("work_hours", ("gpu_group", "identity", *WORK_NUMBERS)),
        ("capacity_hours", ("gpu_group", *CAPACITY_SUMS)),
        ("rolled_hours", ("turn", "begun_ms", "commits", "facts", *ROLL_NUMBERS)),
    ):
        own, final = ", ".join(columns), " FINAL" if table == "rolled_hours" else ""
        client.run(
            f"INSERT INTO {table} (hour_ms, roll, {own}) SELECT hour_ms + {later * HOUR_MS}, "
            f"roll + {later}, {own} FROM {table}{final} WHERE {within}"
        )
