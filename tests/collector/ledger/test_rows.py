"""Rows stand in the order of the columns that they are written to, name by name."""

from collections import defaultdict
from itertools import count
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from collector.samples import NOON_MS, batch, shipment
from tokenyield_collector.ledger.facts import FACT_KINDS, MADE_SUMS, MadeSlot, WorkSlot
from tokenyield_collector.ledger.rows import TableRows, rows_of_batch
from tokenyield_collector.ledger.tables import (
    BATCH_COLUMNS,
    DEMAND_SUMS,
    GPU_SUMS,
    LATENCY_COUNTS,
    NULLABLE,
    SHARE_SUMS,
    TABLES,
    TOKEN_SUMS,
    columns_of_batch,
    columns_of_hours,
    columns_of_windows,
)
from tokenyield_collector.ledger.usage import CAPACITY_SUMS
from tokenyield_wire.window import STATES, Batch, GpuWindow, StateMillijoules, WorkloadShare

ENERGY = {f"{state}_mj": state for state in STATES}


def distinct(record: Any, first: int) -> Any:
    """The same record with another number in each of its plain fields."""
    numbers = count(first)
    changed = {}
    for field in msgspec.structs.fields(type(record)):
        if field.name.endswith(("_ms", "_mj", "_mib", "_seconds")) and not isinstance(
            getattr(record, field.name), dict | StateMillijoules
        ):
            changed[field.name] = next(numbers)
    return replace(record, **changed)


def all_different() -> Batch:
    sound = batch(7, NOON_MS, gpus=1)
    gpu = distinct(replace(sound.gpus[0], energy_mj=StateMillijoules(active=1, idle=2, unallocated=3, unknown=4)), 100)
    return replace(sound, gpus=(gpu,), shares=(distinct(sound.shares[0], 200),))


@pytest.fixture
def rows() -> TableRows:
    made: TableRows = defaultdict(list)
    rows_of_batch(made, shipment(all_different()), all_different(), 9)
    return made


def named(rows: TableRows, table: str) -> list[dict[str, Any]]:
    return [dict(zip(columns_of_windows(table), row, strict=True)) for row in rows[f"{table}_windows"]]


def test_gpus(rows: TableRows) -> None:
    gpu: GpuWindow = all_different().gpus[0]
    (row,) = named(rows, "gpu")
    assert (row["cluster"], row["node"], row["gpu_uuid"], row["gpu_model"], row["start_ms"]) == (
        "c", "n1", gpu.uuid, gpu.model, NOON_MS,
    )  # fmt: skip
    for column in GPU_SUMS:
        if column in ENERGY:
            assert row[column] == getattr(gpu.energy_mj, ENERGY[column]), column
        else:
            assert row[column] == getattr(gpu, {"integrated_mj": "energy_integrated_mj"}.get(column, column)), column


def test_shares(rows: TableRows) -> None:
    share: WorkloadShare = all_different().shares[0]
    (row,) = named(rows, "share")
    assert {column: row[column] for column in SHARE_SUMS} == {column: getattr(share, column) for column in SHARE_SUMS}
    assert (row["gpu_uuid"], row["gpu_model"], row["workload"], row["split"]) == (
        "GPU-0", "NVIDIA H100 80GB HBM3", "chat", "exclusive",
    )  # fmt: skip


def test_tokens_and_a_workload_without_any(rows: TableRows) -> None:
    (workload,) = all_different().workloads
    for row, tokens in zip(named(rows, "token"), workload.tokens, strict=True):
        assert (row["workload"], row["server"], row["place"], row["model"]) == ("chat", "vllm", "n1", "llama")
        assert row["method"] == tokens.method
        assert {column: row[column] for column in TOKEN_SUMS} == {name: getattr(tokens, name) for name in TOKEN_SUMS}
    silent = replace(all_different(), workloads=(replace(workload, tokens=()),))
    made: TableRows = defaultdict(list)
    rows_of_batch(made, shipment(silent), silent, 9)
    (row,) = named(made, "token")
    assert (row["model"], row["method"]) == ("llama", "none")
    assert {row[column] for column in TOKEN_SUMS} == {None}


def test_demand_labels_reasons_and_batches(rows: TableRows) -> None:
    for row, demand in zip(named(rows, "demand"), all_different().demand, strict=True):
        assert (row["gateway"], row["model"]) == (demand.gateway, demand.model)
        assert msgspec.json.decode(row["asker"]) == demand.caller
        assert {column: row[column] for column in DEMAND_SUMS} == {name: getattr(demand, name) for name in DEMAND_SUMS}
    (labels,) = named(rows, "label")
    assert (labels["workload"], labels["seen_ms"]) == ("chat", 15_000)
    assert {(row["kind"], row["reason"], row["duration_ms"]) for row in named(rows, "reason")} == {
        ("unknown", "agent_down", 1_000),
        ("throttled", "sw_power_cap", 500),
    }
    assert {(row["kind"], row["name"]) for row in named(rows, "measure") if not row["gpu_uuid"]} == {
        ("host", "rapl"), ("host_gpu_ms", "rapl"), ("host_gpu_mj", "rapl"),
    }  # fmt: skip
    assert dict(zip(BATCH_COLUMNS, rows["batches"][0], strict=True)) == {
        "agent_id": "a1", "epoch": "e1", "seq": 7, "cluster": "c", "node": "n1", "start_ms": NOON_MS,
        "end_ms": NOON_MS + 15_000, "received_ms": 9,
    }  # fmt: skip


def test_latency(rows: TableRows) -> None:
    (workload,) = all_different().workloads
    for row, latency in zip(named(rows, "latency"), workload.latency, strict=True):
        assert (row["workload"], row["model"], row["kind"], row["sum_ms"]) == (
            "chat", "llama", latency.kind, latency.sum_ms,
        )  # fmt: skip
        counts = [row[column] for column in LATENCY_COUNTS]
        assert counts == [*latency.counts, *[0] * (len(counts) - len(latency.counts))]


def test_lists_of_columns_agree() -> None:
    assert {kind.table for kind in FACT_KINDS} == set(TABLES)
    assert GPU_SUMS[: len(CAPACITY_SUMS)] == list(CAPACITY_SUMS)
    assert set(MADE_SUMS) <= set(TOKEN_SUMS)
    assert MadeSlot._fields[5:] == MADE_SUMS
    assert set(WorkSlot._fields) - set(SHARE_SUMS) == {
        "cluster", "workload", "gpu_model", "slot_ms", "gpus", "activity_known_ms", "sm_ms", "tensor_ms", "dram_ms",
        "throttled_ms", "throttled_lost_ms",
    }  # fmt: skip
    for table, (keys, sums) in TABLES.items():
        assert len(set(columns_of_windows(table))) == len(keys) + len(sums) + 1
        assert set(columns_of_hours(table)) - {"hour_ms"} == set(columns_of_windows(table)) - {"start_ms"}
        assert [*keys[:2], *columns_of_batch(table)] == [*keys, *sums]
    assert {column for _, sums in TABLES.values() for column in sums} >= NULLABLE
