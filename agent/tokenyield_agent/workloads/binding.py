"""Which workloads hold which GPUs. Pure.

In: the GPUs' compute processes, the workloads with their explicit GPUs or their processes, and each process's
ancestors. Out: a `Holding` per GPU.

Explicit configuration wins: a workload that lists GPUs holds those, whoever runs there. Otherwise a GPU process belongs
to the workload whose root process it is or descends from (tensor-parallel workers are children of the server). A
process that belongs to no workload holds the GPU but is tied to nothing, and its share is shown as such. A GPU without
processes is still held by the pod that the kubelet allocated it to.

A GPU of several workloads is divided by its MIG slices, else by SM time, else by memory, else evenly. CUDA's MPS server
holds memory for its clients; while they are listed beside it, it counts for nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from tokenyield_agent.gpu.reading import GpuProcess, GpuReading

UNTIED = ""
"""Stands for processes that belong to no known workload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A workload as binding sees it: its key, the GPUs it names (index or uuid), and its root processes."""

    workload: str
    gpus: tuple[str, ...] = ()
    root_pids: frozenset[int] = frozenset()
    allocated: frozenset[str] = frozenset()
    """uuids of GPUs that the kubelet gave it, whether or not anything runs there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Which workloads hold one GPU, and in what proportion.

    `held` is None when it is unknown. `weights` maps workload keys (and UNTIED) to integer weights in the unit
    that `split` names.
    """

    held: bool | None
    split: str = "exclusive"
    weights: Mapping[str, int] = field(default_factory=dict)


UNHELD = Holding(held=False)


def bind(
    gpus: Sequence[GpuReading],
    holders: Sequence[Holder],
    ancestors: Mapping[int, tuple[int, ...]],
    mps_servers: Collection[int] = (),
) -> dict[str, Holding]:
    """uuid -> Holding. `ancestors[pid]` are the parents of `pid`, nearest first; a pid that is missing has none."""
    root_of = {pid: holder.workload for holder in holders for pid in holder.root_pids if not holder.gpus}
    return {gpu.uuid: _holding(gpu, holders, root_of, ancestors, mps_servers) for gpu in gpus}


def _holding(
    gpu: GpuReading,
    holders: Sequence[Holder],
    root_of: Mapping[int, str],
    ancestors: Mapping[int, tuple[int, ...]],
    mps_servers: Collection[int],
) -> Holding:
    explicit = [h.workload for h in holders if gpu.uuid in h.gpus or str(gpu.index) in h.gpus]
    if explicit:
        # The processes of workloads that share a GPU by configuration cannot be distinguished without their roots.
        return Holding(
            held=True,
            split="exclusive" if len(explicit) == 1 else "even",
            weights=dict.fromkeys(explicit, 1),
        )
    if gpu.processes is None:
        return Holding(held=None)
    if not gpu.processes:
        allocated = [h.workload for h in holders if gpu.uuid in h.allocated]
        if not allocated:
            return UNHELD
        split = "exclusive" if len(allocated) == 1 else "even"
        return Holding(held=True, split=split, weights=dict.fromkeys(allocated, 1))
    clients = [process for process in gpu.processes if process.pid not in mps_servers]
    by_workload: dict[str, list[GpuProcess]] = {}
    for process in clients or gpu.processes:
        chain = (process.pid, *ancestors.get(process.pid, ()))
        workload = next((root_of[pid] for pid in chain if pid in root_of), UNTIED)
        by_workload.setdefault(workload, []).append(process)
    if gpu.partitions and (slices := _by_slices(gpu, by_workload)) is not None:
        return Holding(held=True, split="mig", weights=slices)
    if len(by_workload) == 1:
        return Holding(held=True, weights=dict.fromkeys(by_workload, 1))
    for split, unit in (("sm", "compute_percent"), ("memory", "memory_mib")):
        measured = {w: [getattr(p, unit) for p in processes] for w, processes in by_workload.items()}
        # A process with no SM sample did not run; one with no memory figure could hold any amount.
        is_known = (
            any(None not in v for v in measured.values())
            if split == "sm"
            else all(None not in v for v in measured.values())
        )
        weights = {w: sum(value or 0 for value in values) for w, values in measured.items()}
        if is_known and sum(weights.values()) > 0:
            return Holding(held=True, split=split, weights=weights)
    return Holding(held=True, split="even", weights=dict.fromkeys(by_workload, 1))


def _by_slices(gpu: GpuReading, by_workload: Mapping[str, Sequence[GpuProcess]]) -> dict[str, int] | None:
    """Compute slices by workload; slices without a holder are untied. None where instances are unknown."""
    of_instance: dict[int, str] = {}
    for workload, processes in by_workload.items():
        for process in processes:
            if process.partition not in gpu.partitions:
                return None
            of_instance.setdefault(process.partition or 0, workload)
    weights: dict[str, int] = {}
    for instance, partition in sorted(gpu.partitions.items()):
        workload = of_instance.get(instance, UNTIED)
        weights[workload] = weights.get(workload, 0) + partition.slices
    return weights
