"""Lies that once went far, or would if a bound were gone: played together in one example, by name."""

from typing import Any, NamedTuple

from tokenyield_wire.latency import LATENCY_BUCKETS, LATENCY_SUM_MS_MAX, OBSERVATIONS_MAX
from tokenyield_wire.window import COUNT_MAX, NAMES_MAX

WINDOW_MS = 15_000


class KeptLie(NamedTuple):
    """What is in the one batch of a shipment, and what the collector answers; 422 with the name of a field."""

    name: str
    batch: dict[str, Any]
    status: int = 200
    field: str = ""


def _gpu(uuid: str = "GPU-own", **fields: Any) -> dict[str, Any]:
    return {"uuid": uuid, "active_ms": WINDOW_MS, **fields}


def _workload(key: str, **fields: Any) -> dict[str, Any]:
    return {"key": key, "server": "vllm", "place": "n1", "model": "llama", **fields}


_COUNTED = [{"method": method, "completion": COUNT_MAX // 4} for method in ("counter", "count", "rate")]
_REASONS = {f"reason-{i}": 1 for i in range(NAMES_MAX)}

LIES = (
    KeptLie("the most energy that a window may have", {"gpus": [_gpu(energy_mj={"active": COUNT_MAX})]}),
    KeptLie("a little more, over two GPUs", {"gpus": [_gpu(energy_mj={"active": COUNT_MAX}), _gpu("b", energy_mj={"active": 1})]},
            422, "energy_mj.active"),
    KeptLie("a GPU of another node", {"gpus": [_gpu("GPU-0", model="NVIDIA H100 80GB HBM3")]}),
    KeptLie("both of them, at rest", {"gpus": [{"uuid": f"GPU-{i}", "idle_ms": WINDOW_MS, "parked_ms": WINDOW_MS} for i in (0, 1)]}),
    KeptLie("as many reasons as may be", {"gpus": [{"uuid": "r", "active_ms": WINDOW_MS - NAMES_MAX, "unknown_ms": NAMES_MAX, "unknown_reason_ms": _REASONS}]}),
    KeptLie("tokens counted in three ways, each of 2^46", {"workloads": [_workload("(dark)", tokens=_COUNTED)]}),
    KeptLie("more tokens than a batch may have", {"workloads": [_workload(f"w{i}", tokens=_COUNTED[:1]) for i in range(5)]}, 422, "completion"),
    KeptLie("the longest waits", {"workloads": [_workload("(other)", latency=[
        {"kind": "first_token", "sum_ms": LATENCY_SUM_MS_MAX, "counts": [OBSERVATIONS_MAX] * LATENCY_BUCKETS}])]}),
    KeptLie("a wait of nobody", {"workloads": [_workload("w", latency=[{"kind": "first_token", "sum_ms": 1}])]}, 422, "latency"),
    KeptLie("labels that are right-to-left marks", {"workloads": [_workload("[/]", labels={f"l{i}": "\u200f" * 512 for i in range(16)})]}),
    KeptLie("a name of escapes and one of a formula", {"workloads": [_workload("\x1b]0;x\x07"), _workload("=cmd|' /C calc'!A0", model="\n")]}),
    KeptLie("a share of a GPU that it has not", {"workloads": [_workload("w")], "shares": [
        {"gpu_uuid": "GPU-0", "workload": "w", "split": "exclusive", "active_ms": 1}]}, 422, "shares[0].gpu_uuid"),
    KeptLie("two workloads of one name", {"workloads": [_workload("w"), _workload("w")]}, 422, "workloads"),
    KeptLie("a caller who asked of everything", {"demand": [{"gateway": "g", "asker": {"team": "(unallocated)"}, "completion": COUNT_MAX, "requests": COUNT_MAX}]}),
    KeptLie("the host's own energy, four times", {"host_energy_mj": {"rapl": COUNT_MAX // 4, "dcmi": COUNT_MAX // 4, "(dark)": COUNT_MAX // 4}}),
    KeptLie("time before it began", {"end_ms": 0}, 422, "end_ms"),
    KeptLie("the last number of all", {"seq": 2**62}),
    KeptLie("one beyond it", {"seq": 2**62 + 1}, 422, "seq"),
)  # fmt: skip


def document(lie: KeptLie, seq: int, node: str, hour_ms: int) -> dict[str, Any]:
    """The shipment. All lies are of one window, which is then there as often as they are."""
    batch = {"seq": seq, "start_ms": hour_ms, "end_ms": hour_ms + WINDOW_MS, **lie.batch}
    return {"schema": 1, "agent_id": node, "epoch": "e", "cluster": "c", "node": node, "batches": [batch]}
