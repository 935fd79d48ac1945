"""Every list, dict and sum of a batch has a bound, and what is beyond it is refused by its field, with how much it is."""

import re
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from collector.samples import NOON_MS, batch, shipment
from tokenyield_wire.codec import Refused, decode_shipment, encode_shipment
from tokenyield_wire.latency import (
    LATENCY_BUCKETS,
    LATENCY_KINDS,
    LATENCY_SUM_MS_MAX,
    OBSERVATIONS_MAX,
    LatencyCount,
)
from tokenyield_wire.window import (
    COUNT_MAX,
    COUNTS_MAX,
    DEMAND_MAX,
    EVENT_NAMES_MAX,
    GPUS_MAX,
    NAMES_MAX,
    SHARES_MAX,
    SUM_MAX,
    WORKLOADS_MAX,
    Batch,
    Demand,
    Fault,
    GpuWindow,
    StateMillijoules,
    TokenCount,
    Workload,
    WorkloadShare,
)

ONE = batch(1, NOON_MS, gpus=1)
GPU, CHAT, ASKED = ONE.gpus[0], ONE.workloads[0], ONE.demand[0]


def faults_of(one: Batch) -> list[Fault]:
    try:
        assert decode_shipment(encode_shipment(shipment(one))).batches == (one,)
    except Refused as refused:
        return list(refused.faults)
    return []


def gpus(count: int, **fields: Any) -> tuple[GpuWindow, ...]:
    return tuple(replace(GPU, uuid=f"GPU-{i}", **fields) for i in range(count))


def workloads(count: int, **fields: Any) -> tuple[Workload, ...]:
    return tuple(replace(CHAT, key=f"w{i}", **fields) for i in range(count))


def names(count: int) -> dict[str, int]:
    return {f"n{i}": 1 for i in range(count)}


def shares(count: int) -> tuple[WorkloadShare, ...]:
    return (WorkloadShare(gpu_uuid="GPU-0", workload="chat", split="even"),) * count


def waiting(*latency: LatencyCount) -> Batch:
    return replace(ONE, workloads=(replace(CHAT, latency=latency),))


@pytest.mark.parametrize(
    ("latency", "field"),
    [
        ([{"kind": "first_token", "sum_ms": 5}], ".latency"),
        ([{"kind": "first_token", "sum_ms": 5, "counts": [0, 0]}], ".latency"),
        ([{"kind": "first_token", "counts": [1]}, {"kind": "first_token", "counts": [2]}], ".latency"),
        ([{"kind": "queue", "counts": [1]}], ".latency[...].kind"),
        ([{"kind": "first_token", "counts": [1] * (LATENCY_BUCKETS + 1)}], ".latency[...].counts"),
        ([{"kind": "first_token", "counts": [-1]}], ".latency[...].counts[...]"),
        ([{"kind": "first_token", "counts": [OBSERVATIONS_MAX + 1]}], ".latency[...].counts[...]"),
        ([{"kind": "first_token", "counts": [1], "sum_ms": LATENCY_SUM_MS_MAX + 1}], ".latency[...].sum_ms"),
        ([{"kind": kind, "counts": [1]} for kind in (*LATENCY_KINDS, "first_token")], ".latency"),
    ],
)
def test_unsound_waits_are_refused(latency: list[dict[str, Any]], field: str) -> None:
    document = msgspec.to_builtins(shipment(ONE))
    document["batches"][0]["workloads"][0]["latency"] = latency
    with pytest.raises(Refused) as refused:
        decode_shipment(msgspec.json.encode(document))
    (fault,) = refused.value.faults
    assert re.sub(r"\[\d+\]|\[...\]", "", fault.field) == "batches.workloads" + field.replace("[...]", "")


def test_the_most_waits_that_a_batch_can_hold_are_taken() -> None:
    most = tuple(
        LatencyCount(kind=kind, sum_ms=LATENCY_SUM_MS_MAX, counts=(OBSERVATIONS_MAX,) * LATENCY_BUCKETS)
        for kind in LATENCY_KINDS
    )
    assert faults_of(waiting(*most)) == []
    assert WORKLOADS_MAX * LATENCY_SUM_MS_MAX <= SUM_MAX


def in_gpu(**fields: Any) -> Batch:
    return replace(ONE, gpus=(replace(GPU, **fields),))


LISTS: list[tuple[str, int, Any]] = [
    ("gpus", GPUS_MAX, lambda n: replace(ONE, gpus=gpus(n), shares=())),
    ("shares", SHARES_MAX, lambda n: replace(ONE, shares=shares(n))),
    ("workloads", WORKLOADS_MAX, lambda n: replace(ONE, shares=(), workloads=workloads(n, tokens=()))),
    ("demand", DEMAND_MAX, lambda n: replace(ONE, demand=(Demand(gateway="g"),) * n)),
    ("host_energy_mj", NAMES_MAX, lambda n: replace(ONE, host_energy_mj=names(n))),
    ("gpus[0].throttled_ms", NAMES_MAX, lambda n: in_gpu(throttled_ms=names(n))),
    ("gpus[0].throttled_lost_ms", NAMES_MAX, lambda n: in_gpu(throttled_lost_ms=names(n))),
    ("gpus[0].events", EVENT_NAMES_MAX, lambda n: in_gpu(events=names(n))),
    (
        "gpus[0].unknown_reason_ms",
        NAMES_MAX,
        lambda n: in_gpu(unknown_ms=n, idle_ms=5_000 - n, unknown_reason_ms=names(n)),
    ),
    (
        "gpus[0].energy_method_mj",
        NAMES_MAX,
        lambda n: in_gpu(energy_integrated_mj=n, energy_method_mj=names(n)),
    ),
]


@pytest.mark.parametrize(("field", "most", "make"), LISTS, ids=[field for field, _, _ in LISTS])
def test_lists_and_dicts_are_bounded(field: str, most: int, make: Any) -> None:
    assert faults_of(make(most)) == []
    assert faults_of(make(most + 1)) == [Fault(f"batches[0].{field}", f"{most + 1} entries", f"at most {most}")]


def test_forty_thousand_counts_of_one_workload_are_refused() -> None:
    """They summed to more than 64 bits, and the collector that had taken them in ended at every refresh."""
    lie = TokenCount(method="count", completion=COUNT_MAX)
    one = replace(ONE, workloads=(replace(CHAT, tokens=(lie,) * 40_000),))
    assert faults_of(one) == [Fault("batches[0].workloads[0].tokens", "40000 entries", f"at most {COUNTS_MAX}")]


def test_each_method_counts_once() -> None:
    one = replace(ONE, workloads=(replace(CHAT, tokens=(CHAT.tokens[0],) * 2),))
    assert faults_of(one) == [Fault("batches[0].workloads[0].tokens", "count, count", "each method once")]
    every = tuple(TokenCount(method=method) for method in ("count", "counter", "rate"))
    assert faults_of(replace(ONE, workloads=(replace(CHAT, tokens=every),))) == []


HALF = SUM_MAX // 2
SUMS: list[tuple[str, Any]] = [
    ("gpus[].energy_mj.unallocated", lambda n: {"gpus": gpus(2, energy_mj=replace(GPU.energy_mj, unallocated=n))}),
    ("gpus[].energy_error_mj", lambda n: {"gpus": gpus(2, energy_error_mj=n)}),
    ("gpus[].memory_used_mib_seconds", lambda n: {"gpus": gpus(2, memory_used_mib_seconds=n)}),
    ("gpus[].pcie_mib", lambda n: {"gpus": gpus(2, pcie_mib=n)}),
    ("gpus[].throttled_ms", lambda n: {"gpus": gpus(2, throttled_ms={"a": n - 1, "b": 1})}),
    ("gpus[].events", lambda n: {"gpus": gpus(2, events={"xid_31": n})}),
    (
        "workloads[].tokens[].completion",
        lambda n: {"workloads": workloads(2, tokens=(TokenCount(method="rate", completion=n),)), "shares": ()},
    ),
    (
        "workloads[].tokens[].running_request_ms",
        lambda n: {"workloads": workloads(2, tokens=(TokenCount(method="rate", running_request_ms=n),)), "shares": ()},
    ),
    ("demand[].requests_failed", lambda n: {"demand": (replace(ASKED, requests_failed=n),) * 2}),
    ("host_energy_mj", lambda n: {"host_energy_mj": {"rapl": n, "dcmi": n}}),
]


@pytest.mark.parametrize(("field", "make"), SUMS, ids=[field for field, _ in SUMS])
def test_sums_are_bounded(field: str, make: Any) -> None:
    assert faults_of(replace(ONE, **make(HALF))) == []
    wanted = f"at most {SUM_MAX} over the whole batch"
    assert faults_of(replace(ONE, **make(HALF + 1))) == [
        Fault(f"batches[0].{field}", f"a sum of {SUM_MAX + 2}", wanted)
    ]


def test_what_cannot_be_summed_beyond_it_is_bounded_by_the_gpus() -> None:
    """Shares are at most what their GPU has: no bound of their own is needed."""
    lie = WorkloadShare(gpu_uuid="GPU-0", workload="chat", split="even", active_mj=HALF)
    gpu = replace(GPU, energy_mj=StateMillijoules(active=HALF), parked_ms=0, parked_mj=0)
    (fault,) = faults_of(replace(ONE, gpus=(gpu,), shares=(lie, lie)))
    assert fault.field == "batches[0].shares[1]"
