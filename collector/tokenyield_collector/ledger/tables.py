"""The tables that every engine keeps: their keys and sums, and how great a sum may be.

A table `x` stands for `x_windows`, a row for each window, and `x_hours`, their sums. `usage.py` has the roll-ups.
"""

from tokenyield_collector.ledger.observed import OBSERVED_TEXT
from tokenyield_collector.ledger.spend import SPEND_TEXT
from tokenyield_collector.ledger.usage import CAPACITY_SUMS
from tokenyield_wire.latency import LATENCY_BUCKETS
from tokenyield_wire.window import COUNT_MAX, LOAD_KINDS, REQUEST_KINDS, TOKEN_KINDS

NODE_KEYS = ("cluster", "node")
GPU_KEYS = [*NODE_KEYS, "gpu_uuid", "gpu_model"]
REASON_KEYS = [*NODE_KEYS, "gpu_uuid", "kind", "reason"]
SHARE_KEYS = [*NODE_KEYS, "gpu_uuid", "gpu_model", "workload", "split"]
TOKEN_KEYS = [*NODE_KEYS, "workload", "server", "place", "model", "method"]
DEMAND_KEYS = [*NODE_KEYS, "gateway", "model", "asker"]
LABEL_KEYS = [*NODE_KEYS, "workload", "labels"]
MEASURE_KEYS = [*NODE_KEYS, "gpu_uuid", "kind", "name"]
"""What few GPUs report. Kinds: `energy` (mJ that were integrated, by method), `throttled_lost` (ms, by reason), `event`
(how often, by what it was); `HOST_KINDS`."""
LATENCY_KEYS = [*NODE_KEYS, "workload", "model", "kind"]
LATENCY_COUNTS = [f"bucket_{i:02}" for i in range(LATENCY_BUCKETS)]
"""Observations by bucket, in the order of the wire's edges for the kind."""
HOST_KINDS = ("host", "host_gpu_ms", "host_gpu_mj")
"""Of no GPU: what a host used, by where that is from, and the time and energy of its GPUs in the same windows."""

ACTIVITY_SUMS = ["sm_ms", "tensor_ms", "dram_ms", "nvlink_mib", "pcie_mib"]
GPU_SUMS = [
    *CAPACITY_SUMS,
    "integrated_mj",
    "energy_missing_ms",
    "utilization_ms",
    "memory_used_mib_seconds",
    "energy_error_mj",
    "parked_ms",
    "parked_mj",
    "activity_known_ms",
    *ACTIVITY_SUMS,
]
SHARE_SUMS = ["active_ms", "idle_ms", "active_mj", "idle_mj", "parked_ms", "parked_mj"]
DEMAND_SUMS = [*TOKEN_KINDS, *REQUEST_KINDS]
TOKEN_SUMS = [*DEMAND_SUMS, *LOAD_KINDS]
NULLABLE = {"utilization_ms", "memory_used_mib_seconds", *ACTIVITY_SUMS, *TOKEN_SUMS}
"""Sums that need not be reported."""

TABLES: dict[str, tuple[list[str], list[str]]] = {
    "gpu": (GPU_KEYS, GPU_SUMS),
    "reason": (REASON_KEYS, ["duration_ms"]),
    "share": (SHARE_KEYS, SHARE_SUMS),
    "token": (TOKEN_KEYS, TOKEN_SUMS),
    "demand": (DEMAND_KEYS, DEMAND_SUMS),
    "label": (LABEL_KEYS, ["seen_ms"]),
    "measure": (MEASURE_KEYS, ["amount"]),
    "latency": (LATENCY_KEYS, ["sum_ms", *LATENCY_COUNTS]),
}
"""Table -> keys and sums. Wholes come before their parts: GPUs before the shares that workloads held of them."""
BATCH_COLUMNS = ["agent_id", "epoch", "seq", *NODE_KEYS, "start_ms", "end_ms", "received_ms"]
STORED_NAMES = {"caller": "asker"}
"""Field of a record -> the column that keeps it, where the two differ."""
TEXT = {
    "agent_id",
    "epoch",
    "real_name",
    "member_kind",
    "member",
    "founder",
    *STORED_NAMES,
    *SPEND_TEXT,
    *OBSERVED_TEXT,
    *(key for keys, _ in TABLES.values() for key in keys),
}
"""Columns of text; all others are integers."""

INTEGER_MAX = 2**63 - 1
"""What a column holds. Sums of an hour that are greater are cut: whoever reports what nobody can do must not end the
ledger. Windows keep what was sent, and `verify` shows the difference."""
AMOUNT_MAX = COUNT_MAX
"""The same of amounts that are multiplied (by weights, and by parts of other amounts), so that the products fit the 127
bits in which they are computed. 78 billion tokens a second of one workload, or 78 MW of its GPUs on one node."""
SUM_MAX = {table: AMOUNT_MAX if table in ("share", "token", "demand") else INTEGER_MAX for table in TABLES}
"""Of a row of an hour. What workloads held is cut before what their GPUs did, and so stays a part of it."""


def columns_of_windows(table: str) -> list[str]:
    keys, sums = TABLES[table]
    return [*keys, "start_ms", *sums]


def columns_of_hours(table: str) -> list[str]:
    keys, sums = TABLES[table]
    return ["hour_ms", *keys, *sums]


def columns_of_batch(table: str) -> list[str]:
    """Its columns but for those that a whole batch shares."""
    keys, sums = TABLES[table]
    return [*(key for key in keys if key not in NODE_KEYS), *sums]
