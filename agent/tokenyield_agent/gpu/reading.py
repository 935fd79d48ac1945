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
class Activity:
    """What GPM counted between two of its samples, in the mean. `…_bp` are hundredths of a percent of what the GPU (all
    of it, where it is partitioned) can do at most; a quantity that this GPU does not tell is None."""

    span_ms: int
    """Between the samples: longer than the time between two polls where GPM is asked less often."""
    sm_bp: int | None = None
    """SMs that were busy."""
    tensor_bp: int | None = None
    dram_bp: int | None = None
    """Of the memory's bandwidth."""
    nvlink_mib_s: int | None = None
    """Both directions, all links."""
    pcie_mib_s: int | None = None
    """Both directions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigInstance:
    """One GPU instance of a partitioned GPU."""

    slices: int
    """Compute slices, by which time and energy are split."""
    memory_used_mib: int | None = None
    sm_bp: int | None = None
    """Of what the instance can do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """One GPU at one instant."""

    uuid: str
    index: int
    model: str | None = None
    energy_mj: int | None = None
    """Total since the driver was loaded."""
    power_samples: tuple[tuple[int, int], ...] | None = None
    """The sensor's own (time stamp in us, power in mW), from the last one of the reading before to the newest. Read
    only where there is no energy counter; so are the next two."""
    power_average: tuple[int, int] | None = None
    """(time stamp in us, mean power over the second before it in mW)."""
    power_instant: tuple[int, int] | None = None
    """(time stamp in us, power in mW)."""
    power_mw: int | None = None
    utilization_percent: int | None = None
    """Share of the driver's last sample period (up to 1 s) in which some kernel ran."""
    memory_used_mib: int | None = None
    memory_total_mib: int | None = None
    temperature_c: int | None = None
    sm_clock_mhz: int | None = None
    sm_clock_max_mhz: int | None = None
    throttle_reasons: tuple[str, ...] | None = None
    processes: tuple[GpuProcess, ...] | None = None
    activity: Activity | None = None
    """Where GPM is there (Hopper and later) and was asked at this poll."""
    events: dict[str, int] = field(default_factory=dict)
    """What happened since the reading before: `xid_N`, ECC errors, remapped rows, NVLink and PCIe errors; how often."""
    mig: bool = False
    mig_instances: dict[int, MigInstance] = field(default_factory=dict)
    """By number, of a partitioned GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All GPUs of the node at one poll. `problem` is set when no GPU can be read at all, in words for people."""

    gpus: tuple[GpuReading, ...] = ()
    lost: dict[str, str] = field(default_factory=dict)
    """uuid -> reason, for GPUs seen before that cannot be read now."""
    lost_events: dict[str, dict[str, int]] = field(default_factory=dict)
    """uuid -> what a lost GPU's events were, as in `GpuReading.events`."""
    problem: str | None = None


class GpuReader(Protocol):
    """Reads every GPU of the node. Never raises for a GPU or driver that fails: the snapshot says so."""

    def read(self) -> Snapshot: ...

    def close(self) -> None: ...
