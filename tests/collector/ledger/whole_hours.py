"""Shipments of one whole hour in which one GPU worked for one workload."""

from collector.samples import HOUR_MS, shipment
from tokenyield_wire.window import Batch, GpuWindow, Shipment, StateMillijoules, TokenCount, Workload, WorkloadShare


def whole_hour(start_ms: int, node: str, *, gpu: str = "GPU-0", completion: int = 3600) -> Shipment:
    """Workload `w-NODE` was active for all of it, at 2,000 J."""
    key = f"w-{node}"
    active = GpuWindow(uuid=gpu, model="H100", active_ms=HOUR_MS, energy_mj=StateMillijoules(active=2_000_000))
    share = WorkloadShare(
        gpu_uuid=gpu, workload=key, split="exclusive", active_ms=HOUR_MS, idle_ms=0, active_mj=2_000_000, idle_mj=0
    )
    tokens = (TokenCount(method="count", completion=completion),)
    made = Workload(key=key, server="vllm", place=node, model="llama", tokens=tokens)
    sent = Batch(
        seq=start_ms // HOUR_MS, start_ms=start_ms, end_ms=start_ms + HOUR_MS, gpus=(active,), shares=(share,),
        workloads=(made,),
    )  # fmt: skip
    return shipment(sent, node=node, agent_id=node)
