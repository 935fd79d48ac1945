"""What every engine keeps: the tables, their keys and sums, and the rows that a batch becomes.

In: batches. Out: rows, tuples in the order of the columns. A table `x` stands for `x_windows`, a row for each window,
and `x_hours`, their sums.
"""

from collections import defaultdict
from typing import Any, NamedTuple

import msgspec

from tokenyield_collector.ledger.usage import CAPACITY_SUMS
from tokenyield_wire.window import REQUEST_KINDS, TOKEN_KINDS, Batch, Shipment

Rows = defaultdict[str, list[tuple[Any, ...]]]

GPU_SUMS = [
    *CAPACITY_SUMS,
    "integrated_mj",
    "energy_missing_ms",
    "utilization_ms",
    "memory_used_mib_seconds",
]
SHARE_SUMS = ["active_ms", "idle_ms", "active_mj", "idle_mj"]
TOKEN_SUMS = [*TOKEN_KINDS, *REQUEST_KINDS]

GPU_KEYS = ["cluster", "node", "gpu_uuid", "gpu_model"]
REASON_KEYS = ["cluster", "node", "gpu_uuid", "kind", "reason"]
SHARE_KEYS = ["cluster", "node", "gpu_uuid", "gpu_model", "workload", "split"]
TOKEN_KEYS = ["cluster", "node", "workload", "server", "place", "model", "method"]

DEMAND_KEYS = ["cluster", "node", "gateway", "model", "asker"]
LABEL_KEYS = ["cluster", "node", "workload", "labels"]

TABLES: dict[str, tuple[list[str], list[str]]] = {
    "gpu": (GPU_KEYS, GPU_SUMS),
    "reason": (REASON_KEYS, ["duration_ms"]),
    "share": (SHARE_KEYS, SHARE_SUMS),
    "token": (TOKEN_KEYS, TOKEN_SUMS),
    "demand": (DEMAND_KEYS, TOKEN_SUMS),
    "label": (LABEL_KEYS, ["seen_ms"]),
}
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
            )
        )  # fmt: skip
        for kind, reasons in (("unknown", gpu.unknown_reason_ms), ("throttled", gpu.throttled_ms)):
            for reason, duration_ms in reasons.items():
                rows["reason_windows"].append((cluster, node, gpu.uuid, kind, reason, start_ms, duration_ms))
    for share in batch.shares:
        rows["share_windows"].append(
            (
                cluster, node, share.gpu_uuid, models[share.gpu_uuid], share.workload, share.split, start_ms,
                share.active_ms, share.idle_ms, share.active_mj, share.idle_mj,
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
        asker = msgspec.json.encode(asked.asker, order="sorted").decode()
        counts = (getattr(asked, kind) for kind in TOKEN_SUMS)
        rows["demand_windows"].append((cluster, node, asked.gateway, asked.model or "", asker, start_ms, *counts))
