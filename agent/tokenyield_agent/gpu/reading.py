"""What one GPU showed at one poll.

In: nothing. Out: the value types and the `GpuReader` protocol that NVML and the trace reader keep.
A field that a GPU does not support is None, never 0. A GPU that was there and cannot be read now stands in
`Snapshot.lost` with the reason, so that its time is reported as unknown and not forgotten.
"""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """A compute process on a GPU. `pid` is the host's."""

    pid: int
    memory_mib: int | None = None
    sm_percent: int | None = None
    """Share of the GPU's SM time, asked for only when several processes share the GPU."""
    mig_instance: int | None = None
    """The GPU instance it runs on, where the GPU is partitioned (MIG)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """One GPU at one instant."""

    uuid: str
    index: int
    model: str | None = None
    energy_mj: int | None = None
    """Total since the driver was loaded."""
    power_mw: int | None = None
    utilization_percent: int | None = None
    """Share of the driver's last sample period (up to 1 s) in which some kernel ran."""
    memory_used_mib: int | None = None
    memory_total_mib: int | None = None
    temperature_c: int | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    throttle_reasons: tuple[str, ...] | None = None
    processes: tuple[GpuProcess, ...] | None = None
    mig: bool = False
    mig_slices: dict[int, int] = field(default_factory=dict)
    """GPU instance -> compute slices, of a partitioned GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All GPUs of the node at one poll. `problem` is set when no GPU can be read at all, in words for people."""

    gpus: tuple[GpuReading, ...] = ()
    lost: dict[str, str] = field(default_factory=dict)
    """uuid -> reason, for GPUs seen before that cannot be read now."""
    problem: str | None = None


class GpuReader(Protocol):
    """Reads every GPU of the node. Never raises for a GPU or driver that fails: the snapshot says so."""

    def read(self) -> Snapshot: ...

    def close(self) -> None: ...
