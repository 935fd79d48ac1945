"""Shipments for tests, sound and small."""

from tokenyield_wire.latency import LatencyCount
from tokenyield_wire.window import (
    Batch,
    Demand,
    GpuWindow,
    Shipment,
    StateMillijoules,
    TokenCount,
    Workload,
    WorkloadShare,
)

HOUR_MS = 3_600_000
NOON_MS = 1_795_435_200_000
"""A full UTC hour."""


def batch(seq: int, start_ms: int, *, gpus: int = 2, completion: int = 100) -> Batch:
    """15 s of `gpus` GPUs: 9 s active and 4 s idle for `chat` (2 s of these parked), 1 s unallocated, 1 s unknown. Of the
    first alone power is integrated and GPM counts."""
    return Batch(
        seq=seq,
        start_ms=start_ms,
        end_ms=start_ms + 15_000,
        gpus=tuple(
            GpuWindow(
                uuid=f"GPU-{i}",
                model="NVIDIA H100 80GB HBM3",
                index=i,
                active_ms=9_000,
                idle_ms=4_000,
                unallocated_ms=1_000,
                unknown_ms=1_000,
                unknown_reason_ms={"agent_down": 1_000},
                energy_mj=StateMillijoules(active=5_400_000, idle=480_000, unallocated=70_000, unknown=50_000),
                utilization_ms=8_000 if i else None,
                throttled_ms={"sw_power_cap": 500},
                energy_integrated_mj=0 if i else 6_000_000,
                energy_method_mj={} if i else {"samples": 5_900_000, "power": 100_000},
                energy_error_mj=0 if i else 30_000,
                parked_ms=2_000,
                parked_mj=240_000,
                activity_known_ms=0 if i else 15_000,
                sm_ms=None if i else 6_000,
                tensor_ms=None if i else 900,
                dram_ms=None if i else 5_000,
                nvlink_mib=None if i else 70,
                pcie_mib=None if i else 7,
                throttled_lost_ms={} if i else {"sw_power_cap": 130},
                events={} if i else {"xid_31": 1},
            )
            for i in range(gpus)
        ),
        shares=tuple(
            WorkloadShare(
                gpu_uuid=f"GPU-{i}",
                workload="chat",
                split="exclusive",
                active_ms=9_000,
                idle_ms=4_000,
                active_mj=5_400_000,
                idle_mj=480_000,
                parked_ms=2_000,
                parked_mj=240_000,
            )
            for i in range(gpus)
        ),
        workloads=(
            Workload(
                key="chat",
                server="vllm",
                place="n1",
                model="llama",
                tokens=(
                    TokenCount(method="count", requests=3, requests_aborted=1),
                    TokenCount(
                        method="rate",
                        prompt_computed=40,
                        completion=completion,
                        load_known_ms=10_000,
                        running_request_ms=35_000,
                        waiting_request_ms=4_000,
                        cache_used_ms=2_500,
                    ),
                ),
                labels={"team": "search", "pod": "chat-0"},
                latency=(
                    LatencyCount(kind="first_token", sum_ms=450, counts=(0, 0, 1, 0, 0, 0, 0, 2)),
                    LatencyCount(kind="end_to_end", sum_ms=4_100, counts=(0,) * 6 + (2, 1)),
                ),
            ),
        ),
        demand=(
            Demand(
                gateway="litellm",
                model="chat",
                caller={"team": "search", "key": "prod"},
                prompt_computed=7,
                prompt_cached=3,
                completion=5,
                requests=2,
                requests_failed=1,
            ),
            Demand(gateway="litellm", model="chat", caller={"team": "ads"}, prompt_unsplit=4, completion=9, requests=1),
        ),
        host_energy_mj={"rapl": 2_700_000},
    )


def shipment(
    *batches: Batch, agent_id: str = "a1", epoch: str = "e1", node: str = "n1", cluster: str = "c"
) -> Shipment:
    return Shipment(schema=1, agent_id=agent_id, epoch=epoch, cluster=cluster, node=node, batches=batches)
