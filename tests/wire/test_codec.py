import json
from pathlib import Path
from typing import Any

import pytest

from tokenyield_wire.codec import Refused, decode_shipment, encode_shipment

GOLDEN = Path(__file__).parents[1] / "golden" / "wire"
ROOT = Path(__file__).parents[2]


def golden() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((GOLDEN / "v1-batch.json").read_bytes())
    return document


def faults_of(document: Any) -> set[str]:
    with pytest.raises(Refused) as refused:
        decode_shipment(json.dumps(document).encode())
    return {fault.field for fault in refused.value.faults}


def test_a_released_batch_reads_and_writes_the_same_for_ever() -> None:
    raw = (GOLDEN / "v1-batch.json").read_bytes()
    assert json.loads(encode_shipment(decode_shipment(raw))) == json.loads(raw)


def test_waits_travel_in_buckets_and_a_collector_before_them_reads_all_else() -> None:
    raw = (GOLDEN / "v1-latency.json").read_bytes()
    shipment = decode_shipment(raw)
    assert json.loads(encode_shipment(shipment)) == json.loads(raw)
    (workload,) = shipment.batches[0].workloads
    assert [(one.kind, one.sum_ms, sum(one.counts)) for one in workload.latency] == [
        ("first_token", 7_242, 726), ("inter_token", 221_302, 74_306), ("end_to_end", 228_461, 726),
    ]  # fmt: skip
    document = json.loads(raw)
    del document["batches"][0]["workloads"][0]["latency"]
    assert document == golden()


def test_fields_of_a_newer_agent_are_ignored() -> None:
    document = golden()
    document["new_at_top"] = 1
    document["batches"][0]["gpus"][0]["nvlink_bytes"] = 2
    assert decode_shipment(json.dumps(document).encode()).node == "gpu-07"


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (["schema"], 2, "schema"),
        (["node"], None, "node"),
        (["node"], "", "node"),
        (["batches"], [], "batches"),
        (["batches", 0, "seq"], 0, "batches[0].seq"),
        (["batches", 0, "gpus", 0, "active_ms"], -1, "batches[0].gpus[0].active_ms"),
        (["batches", 0, "gpus", 0, "active_ms"], 12.5, "batches[0].gpus[0].active_ms"),
        (["batches", 0, "gpus", 0, "active_ms"], 2**48 + 1, "batches[0].gpus[0].active_ms"),
        (["batches", 0, "gpus", 0, "active_ms"], 11_999, "batches[0].gpus[0]"),
        (["batches", 0, "gpus", 0, "unknown_reason_ms"], {}, "batches[0].gpus[0].unknown_reason_ms"),
        (["batches", 0, "end_ms"], 1795435320000, "batches[0].end_ms"),
        (["batches", 0, "shares", 0, "workload"], "other", "batches[0].shares[0].workload"),
        (["batches", 0, "shares", 0, "gpu_uuid"], "GPU-b", "batches[0].shares[0].gpu_uuid"),
        (["batches", 0, "shares", 0, "active_mj"], 7_200_001, "batches[0].shares[0]"),
        (["batches", 0, "shares", 0, "split"], "guess", "batches[0].shares[0].split"),
        (["batches", 0, "workloads", 0, "tokens", 0, "method"], "feeling", "batches[0].workloads[0].tokens[0].method"),
    ],
)
def test_what_is_unsound_is_refused_by_its_field(path: list[Any], value: Any, field: str) -> None:
    document = golden()
    at = document
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    assert field in faults_of(document)


def test_a_missing_field_is_named() -> None:
    document = golden()
    del document["batches"][0]["start_ms"]
    assert faults_of(document) == {"batches[0].start_ms"}


def test_a_window_over_the_hour_is_refused() -> None:
    document = golden()
    batch = document["batches"][0]
    batch["start_ms"] = 1795435200000 + 3_599_000
    batch["end_ms"] = batch["start_ms"] + 15_000
    assert faults_of(document) == {"batches[0].end_ms"}


def test_a_gpu_or_workload_that_stands_twice_is_refused() -> None:
    document = golden()
    batch = document["batches"][0]
    batch["gpus"] *= 2
    batch["workloads"] *= 2
    assert faults_of(document) == {"batches[0].gpus[1].uuid", "batches[0].workloads"}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b"null", b'{"schema":"one"}'])
def test_no_bytes_break_it(body: bytes) -> None:
    with pytest.raises(Refused):
        decode_shipment(body)
