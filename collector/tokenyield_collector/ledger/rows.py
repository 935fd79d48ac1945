"""The rows that a batch becomes. Pure.

In: batches. Out: rows, tuples in the order of `BATCH_COLUMNS` and `columns_of_windows`.
"""

from collections import defaultdict
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import msgspec

from tokenyield_collector.ledger.tables import DEMAND_SUMS, HOST_KINDS, TOKEN_SUMS
from tokenyield_wire.latency import LATENCY_BUCKETS
from tokenyield_wire.window import Batch, GpuWindow, Shipment, WorkloadShare

TableRows = defaultdict[str, list[tuple[Any, ...]]]
"""Table -> rows."""

_token_sums = attrgetter(*TOKEN_SUMS)
_demand_sums = attrgetter(*DEMAND_SUMS)
_NO_TOKENS = ("none", *[None] * len(TOKEN_SUMS))
"""Method and sums of a workload that made no tokens: its row keeps which model the idle server has loaded."""


def rows_of_batch(rows: TableRows, shipment: Shipment, batch: Batch, received_ms: int) -> None:
    """Adds the rows of one batch to those of each table."""
    node, start_ms = (shipment.cluster, shipment.node), batch.start_ms
    rows["batches"].append((shipment.agent_id, shipment.epoch, batch.seq, *node, start_ms, batch.end_ms, received_ms))
    models: dict[str, str] = {}
    for gpu in batch.gpus:
        model = models[gpu.uuid] = gpu.model or ""
        rows["gpu_windows"].append((*node, gpu.uuid, model, start_ms, *_gpu_sums(gpu)))
        for kind, durations in (("unknown", gpu.unknown_reason_ms), ("throttled", gpu.throttled_ms)):
            for reason, duration_ms in durations.items():
                rows["reason_windows"].append((*node, gpu.uuid, kind, reason, start_ms, duration_ms))
        if gpu.energy_method_mj or gpu.throttled_lost_ms or gpu.events:
            for kind, name, amount in _measures(gpu):
                rows["measure_windows"].append((*node, gpu.uuid, kind, name, start_ms, amount))
    for kind, source, amount in _host_energy(batch):
        rows["measure_windows"].append((*node, "", kind, source, start_ms, amount))
    for share in batch.shares:
        gpu_model = models[share.gpu_uuid]
        rows["share_windows"].append(
            (*node, share.gpu_uuid, gpu_model, share.workload, share.split, start_ms, *_share_sums(share))
        )
    for workload in batch.workloads:
        counts = [(count.method, *_token_sums(count)) for count in workload.tokens]
        for method, *sums in counts or ([_NO_TOKENS] if workload.model else []):
            rows["token_windows"].append(
                (*node, workload.key, workload.server, workload.place, workload.model or "", method, start_ms, *sums)
            )
        for latency in workload.latency:
            model, none_above = workload.model or "", [0] * (LATENCY_BUCKETS - len(latency.counts))
            rows["latency_windows"].append(
                (*node, workload.key, model, latency.kind, start_ms, latency.sum_ms, *latency.counts, *none_above)
            )
        if workload.labels:
            labels = encoded_labels(workload.labels)
            rows["label_windows"].append((*node, workload.key, labels, start_ms, batch.end_ms - start_ms))
    for demand in batch.demand:
        caller = encoded_labels(demand.caller)
        rows["demand_windows"].append(
            (*node, demand.gateway, demand.model or "", caller, start_ms, *_demand_sums(demand))
        )


def encoded_labels(labels: dict[str, str]) -> str:
    """One text for one set of labels: a JSON object, its keys sorted."""
    return msgspec.json.encode(labels, order="sorted").decode()


def _gpu_sums(gpu: GpuWindow) -> tuple[int | None, ...]:
    """In the order of `GPU_SUMS`. Named one by one, as `_share_sums`: by far most rows are these."""
    energy = gpu.energy_mj
    return (
        gpu.active_ms, gpu.idle_ms, gpu.unallocated_ms, gpu.unknown_ms,
        energy.active, energy.idle, energy.unallocated, energy.unknown,
        gpu.energy_integrated_mj, gpu.energy_missing_ms, gpu.utilization_ms, gpu.memory_used_mib_seconds,
        gpu.energy_error_mj, gpu.parked_ms, gpu.parked_mj,
        gpu.activity_known_ms, gpu.sm_ms, gpu.tensor_ms, gpu.dram_ms, gpu.nvlink_mib, gpu.pcie_mib,
    )  # fmt: skip


def _share_sums(share: WorkloadShare) -> tuple[int, ...]:
    """In the order of `SHARE_SUMS`."""
    return (share.active_ms, share.idle_ms, share.active_mj, share.idle_mj, share.parked_ms, share.parked_mj)


def _measures(gpu: GpuWindow) -> Iterator[tuple[str, str, int]]:
    measures = (("energy", gpu.energy_method_mj), ("throttled_lost", gpu.throttled_lost_ms), ("event", gpu.events))
    for kind, amounts in measures:
        for name, amount in amounts.items():
            yield kind, name, amount


def _host_energy(batch: Batch) -> Iterator[tuple[str, str, int]]:
    for source, used_mj in batch.host_energy_mj.items():
        gpu_ms = len(batch.gpus) * (batch.end_ms - batch.start_ms)
        gpu_mj = sum(gpu.energy_mj.total() for gpu in batch.gpus)
        for kind, amount in zip(HOST_KINDS, (used_mj, gpu_ms, gpu_mj), strict=True):
            yield kind, source, amount
