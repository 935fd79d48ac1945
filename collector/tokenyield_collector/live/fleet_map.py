"""`GET /v1/fleet`: every GPU of the last day, and what it does now, as columns. Pure.

In: GPUs as the ledger has them. Out: a document; names stand once, and GPUs refer to them by position. A GPU is
`silent` when it said nothing in the stretch: lost, or its node down.
"""

from collections.abc import Sequence

from tokenyield_collector.http.schemas import FleetDocument, GpuColumnsDocument
from tokenyield_collector.ledger.facts import GpuNow
from tokenyield_collector.prices.period import iso
from tokenyield_collector.statements.names import own_name

STATES = ("active", "idle", "unallocated", "unknown", "silent")


def fleet_document(gpus: Sequence[GpuNow], start_ms: int, end_ms: int) -> FleetDocument:
    """Ready for `summary.encode`. `active_permille`: of the time that it reported."""
    nodes: dict[tuple[str, str], int] = {}
    models: dict[str, int] = {}
    workloads: dict[str, int] = {}
    columns = GpuColumnsDocument(node=[], uuid=[], model=[], state=[], active_permille=[], watts=[], workload=[])
    for gpu in gpus:
        spent = gpu.active_ms + gpu.idle_ms + gpu.unallocated_ms + gpu.unknown_ms
        columns["node"].append(nodes.setdefault((own_name(gpu.cluster), own_name(gpu.node)), len(nodes)))
        columns["uuid"].append(gpu.uuid)
        columns["model"].append(models.setdefault(gpu.gpu_model, len(models)))
        columns["state"].append(_state(gpu, spent))
        columns["active_permille"].append(gpu.active_ms * 1000 // spent if spent else 0)
        columns["watts"].append(gpu.energy_mj // spent if spent else 0)
        columns["workload"].append(workloads.setdefault(own_name(gpu.workload), len(workloads)) if gpu.workload else -1)
    return {
        "start": iso(start_ms),
        "end": iso(end_ms),
        "states": list(STATES),
        "nodes": [list(node) for node in nodes],
        "models": list(models),
        "workloads": list(workloads),
        "gpus": columns,
    }


def _state(gpu: GpuNow, spent: int) -> int:
    """What it did longest."""
    if not spent:
        return STATES.index("silent")
    times = {"active": gpu.active_ms, "idle": gpu.idle_ms, "unallocated": gpu.unallocated_ms, "unknown": gpu.unknown_ms}
    return STATES.index(max(times, key=lambda state: times[state]))
