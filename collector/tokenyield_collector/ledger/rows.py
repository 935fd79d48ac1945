"""What every engine keeps: the tables, their keys and sums, and the rows that a batch becomes.

In: batches. Out: rows, tuples in the order of the columns. A table `x` stands for `x_windows`, a row for each window,
and `x_hours`, their sums.
"""

from collections import defaultdict
from typing import Any, NamedTuple

import msgspec

from tokenyield_collector.ledger.usage import CAPACITY_SUMS
from tokenyield_wire.window import COUNT_MAX, LOAD_KINDS, REQUEST_KINDS, TOKEN_KINDS, Batch, Shipment

Rows = defaultdict[str, list[tuple[Any, ...]]]

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
    "sm_ms",
    "tensor_ms",
    "dram_ms",
    "nvlink_mib",
    "pcie_mib",
]
SHARE_SUMS = ["active_ms", "idle_ms", "active_mj", "idle_mj", "parked_ms", "parked_mj"]
DEMAND_SUMS = [*TOKEN_KINDS, *REQUEST_KINDS]
TOKEN_SUMS = [*DEMAND_SUMS, *LOAD_KINDS]
NULLABLE = {
    "utilization_ms",
    "memory_used_mib_seconds",
    "sm_ms",
    "tensor_ms",
    "dram_ms",
    "nvlink_mib",
    "pcie_mib",
    *TOKEN_SUMS,
}
"""Sums that nobody may have told."""

GPU_KEYS = ["cluster", "node", "gpu_uuid", "gpu_model"]
REASON_KEYS = ["cluster", "node", "gpu_uuid", "kind", "reason"]
SHARE_KEYS = ["cluster", "node", "gpu_uuid", "gpu_model", "workload", "split"]
TOKEN_KEYS = ["cluster", "node", "workload", "server", "place", "model", "method"]

DEMAND_KEYS = ["cluster", "node", "gateway", "model", "asker"]
LABEL_KEYS = ["cluster", "node", "workload", "labels"]
MEASURE_KEYS = ["cluster", "node", "gpu_uuid", "kind", "name"]
"""What few GPUs tell. Kinds: `energy` (mJ that were integrated, by method), `throttled_lost` (ms, by reason), `event`
(times, by what it was); `HOST_KINDS`."""
HOST_KINDS = ("host", "host_gpu_ms", "host_gpu_mj")
"""Of no GPU: what a host used, by where that is from, and the time and energy of its GPUs in the same windows."""

TABLES: dict[str, tuple[list[str], list[str]]] = {
    "gpu": (GPU_KEYS, GPU_SUMS),
    "reason": (REASON_KEYS, ["duration_ms"]),
    "share": (SHARE_KEYS, SHARE_SUMS),
    "token": (TOKEN_KEYS, TOKEN_SUMS),
    "demand": (DEMAND_KEYS, DEMAND_SUMS),
    "label": (LABEL_KEYS, ["seen_ms"]),
    "measure": (MEASURE_KEYS, ["amount"]),
}
INTEGER_MAX = 2**63 - 1
"""What a column holds. Sums of an hour that are greater are cut: whoever reports what nobody can do must not end the
ledger. Windows keep what was sent, and `verify` shows the difference."""
AMOUNT_MAX = COUNT_MAX
"""The same of amounts that are multiplied (by weights, and by parts of other amounts), so that the products fit the 127
bits in which they are computed. 78 billion tokens a second of one workload, or 78 MW of its GPUs on one node."""
SUM_MAX = {table: AMOUNT_MAX if table in ("share", "token", "demand") else INTEGER_MAX for table in TABLES}
"""Of a row of an hour. What workloads held is cut before what their GPUs did, and so stays a part of it."""
NODE_KEYS = ("cluster", "node")
BATCH_COLUMNS = ["agent_id", "epoch", "seq", "cluster", "node", "start_ms", "end_ms", "received_ms"]
TEXT = {
    "agent_id",
    "epoch",
    "cluster",
    "node",
    "gpu_uuid",
    "gpu_model",
    "kind",
    "reason",
    "workload",
    "split",
    "server",
}
TEXT |= {"place", "model", "method", "name", "gateway", "asker", "labels", "real_name"}


class Sender(NamedTuple):
    """Whose numbers a batch counts in. The node is part of it: of a host that was copied, two agents have one id."""

    agent_id: str
    epoch: str
    cluster: str
    node: str


def sender_of(shipment: Shipment) -> Sender:
    return Sender(shipment.agent_id, shipment.epoch, shipment.cluster, shipment.node)


class NoCount(NamedTuple):
    """Stands for the tokens of a workload that made none: its row keeps which model the idle server holds."""

    method: str = "none"
    prompt_computed: None = None
    prompt_cached: None = None
    prompt_unsplit: None = None
    completion: None = None
    requests: None = None
    requests_aborted: None = None
    requests_failed: None = None
    load_known_ms: None = None
    running_request_ms: None = None
    waiting_request_ms: None = None
    cache_used_ms: None = None


def columns_of_windows(table: str) -> list[str]:
    keys, sums = TABLES[table]
    return [*keys, "start_ms", *sums]


def nested(table: str) -> list[str]:
    """Its columns but for those that a whole batch shares."""
    keys, sums = TABLES[table]
    return [*(key for key in keys if key not in NODE_KEYS), *sums]


_NO_TOKENS = (NoCount(),)


def rows_of_batch(rows: Rows, shipment: Shipment, batch: Batch, received_ms: int) -> None:
    """Adds the rows of one batch to those of each table, in the order of `BATCH_COLUMNS` and `columns_of_windows`."""
    cluster, node, start_ms = shipment.cluster, shipment.node, batch.start_ms
    rows["batches"].append(
        (shipment.agent_id, shipment.epoch, batch.seq, cluster, node, start_ms, batch.end_ms, received_ms)
    )
    models: dict[str, str] = {}
    for gpu in batch.gpus:
        model = models[gpu.uuid] = gpu.model or ""
        energy = gpu.energy_mj
        rows["gpu_windows"].append(
            (
                cluster, node, gpu.uuid, model, start_ms,
                gpu.active_ms, gpu.idle_ms, gpu.unallocated_ms, gpu.unknown_ms,
                energy.active, energy.idle, energy.unallocated, energy.unknown,
                gpu.energy_integrated_mj, gpu.energy_missing_ms, gpu.utilization_ms, gpu.memory_used_mib_seconds,
                gpu.energy_error_mj, gpu.parked_ms, gpu.parked_mj,
                gpu.activity_known_ms, gpu.sm_ms, gpu.tensor_ms, gpu.dram_ms, gpu.nvlink_mib, gpu.pcie_mib,
            )
        )  # fmt: skip
        for kind, reasons in (("unknown", gpu.unknown_reason_ms), ("throttled", gpu.throttled_ms)):
            for reason, duration_ms in reasons.items():
                rows["reason_windows"].append((cluster, node, gpu.uuid, kind, reason, start_ms, duration_ms))
        if gpu.energy_method_mj or gpu.throttled_lost_ms or gpu.events:
            measures = (
                ("energy", gpu.energy_method_mj),
                ("throttled_lost", gpu.throttled_lost_ms),
                ("event", gpu.events),
            )
            rows["measure_windows"] += [
                (cluster, node, gpu.uuid, kind, name, start_ms, amount)
                for kind, amounts in measures
                for name, amount in amounts.items()
            ]
    for source, used_mj in batch.host_energy_mj.items():
        gpu_ms = len(batch.gpus) * (batch.end_ms - start_ms)
        amounts = (used_mj, gpu_ms, sum(gpu.energy_mj.total() for gpu in batch.gpus))
        for kind, amount in zip(HOST_KINDS, amounts, strict=True):
            rows["measure_windows"].append((cluster, node, "", kind, source, start_ms, amount))
    for share in batch.shares:
        rows["share_windows"].append(
            (
                cluster, node, share.gpu_uuid, models[share.gpu_uuid], share.workload, share.split, start_ms,
                share.active_ms, share.idle_ms, share.active_mj, share.idle_mj, share.parked_ms, share.parked_mj,
            )
        )  # fmt: skip
    for workload in batch.workloads:
        for count in workload.tokens or (_NO_TOKENS if workload.model else ()):
            rows["token_windows"].append(
                (
                    cluster, node, workload.key, workload.server, workload.place, workload.model or "", count.method,
                    start_ms, *(getattr(count, kind) for kind in TOKEN_SUMS),
                )
            )  # fmt: skip
        if workload.labels:
            labels = msgspec.json.encode(workload.labels, order="sorted").decode()
            rows["label_windows"].append((cluster, node, workload.key, labels, start_ms, batch.end_ms - start_ms))
    for asked in batch.demand:
        asker = msgspec.json.encode(asked.caller, order="sorted").decode()
        counts = (getattr(asked, kind) for kind in DEMAND_SUMS)
        rows["demand_windows"].append((cluster, node, asked.gateway, asked.model or "", asker, start_ms, *counts))
