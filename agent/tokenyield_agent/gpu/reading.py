"""What one GPU showed at one poll, whoever made it.

In: nothing. Out: the value types, and the `GpuReader` protocol that every vendor's reader and the trace reader keep.
Words are neutral: *compute* is what runs kernels (SMs, compute units), *matrix* what multiplies matrices (tensor cores,
matrix cores), a *link* joins GPUs (NVLink, Infinity Fabric), a *partition* is a part of a GPU that is given out as a
GPU of its own (MIG). A vendor's folder documents what it takes for each.

A field that a GPU does not support is None, never 0; so is one whose value no board can have (plausible.py). A GPU that
is there and cannot be read now is in `Snapshot.lost` with the reason, so that its time is reported as unknown and not
forgotten.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """A compute process on a GPU. `pid` is the host's."""

    pid: int
    memory_mib: int | None = None
    compute_percent: int | None = None
    """Share of the GPU's compute time, read only when several processes share the GPU."""
    partition: int | None = None
    """The partition it runs on, where the GPU is partitioned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """Means of performance counters between two of their samples. `…_bp` are hundredths of a percent of what the GPU
    (all of it, where it is partitioned) can do at most; a quantity that this GPU does not report is None."""

    span_ms: int
    """Between the samples: longer than the time between two polls where the counters are read less often."""
    compute_bp: int | None = None
    """Compute units that were busy."""
    matrix_bp: int | None = None
    memory_bandwidth_bp: int | None = None
    link_mib_s: int | None = None
    """Both directions, all links to other GPUs."""
    pcie_mib_s: int | None = None
    """Both directions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPartition:
    """One partition of a GPU."""

    slices: int
    """Compute slices, by which time and energy are split."""
    memory_used_mib: int | None = None
    compute_bp: int | None = None
    """Of what the partition can do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """One GPU at one instant."""

    uuid: str
    index: int
    device_number: int | None = None
    """N of its device file (/dev/nvidiaN), by which Slurm numbers GPUs; `index` is by the bus."""
    model: str | None = None
    energy_mj: int | None = None
    """Total since the driver was loaded."""
    energy_read_ms: int | None = None
    """When that was, by the host's monotonic clock: other GPUs may have kept the reading waiting, and a slow counter is
    not read at every poll."""
    power_samples: tuple[tuple[int, int], ...] | None = None
    """The sensor's own (time stamp in us, power in mW), from the last one of the reading before to the newest. Read
    only where there is no energy counter; so are the next two."""
    power_average: tuple[int, int] | None = None
    """(time stamp in us, mean power over the second before it in mW)."""
    power_instant: tuple[int, int] | None = None
    """(time stamp in us, power in mW)."""
    power_mw: int | None = None
    power_max_mw: int | None = None
    """The highest limit that the board's power can be set to: what it can draw at most."""
    utilization_percent: int | None = None
    """Share of the driver's last sample period (up to 1 s) in which some kernel ran."""
    memory_used_mib: int | None = None
    memory_total_mib: int | None = None
    temperature_c: int | None = None
    core_clock_mhz: int | None = None
    core_clock_max_mhz: int | None = None
    throttle_reasons: tuple[str, ...] | None = None
    """Why clocks are held down now, by the driver's names; empty when they are not."""
    processes: tuple[GpuProcess, ...] | None = None
    activity: Activity | None = None
    """Where the GPU has performance counters and they were read at this poll."""
    events: dict[str, int] = field(default_factory=dict)
    """Hardware and driver errors since the reading before (`xid_N`, ECC, remapped rows, links) -> how often."""
    failures: dict[str, str] = field(default_factory=dict)
    """Quantity -> why it could not be read at this poll, by the driver's name for it, or `implausible`. What the GPU
    does not support is not here."""
    is_partitioned: bool = False
    partitions: dict[int, GpuPartition] = field(default_factory=dict)
    """By number, of a partitioned GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All GPUs of the node at one poll. `problem` is set when no GPU can be read at all, in words for people."""

    gpus: tuple[GpuReading, ...] = ()
    lost: dict[str, str] = field(default_factory=dict)
    """uuid -> reason, for GPUs seen before that cannot be read now."""
    lost_indices: dict[str, int] = field(default_factory=dict)
    """uuid -> index, of lost GPUs of which it is known."""
    lost_events: dict[str, dict[str, int]] = field(default_factory=dict)
    """uuid -> the events of a lost GPU, as in `GpuReading.events`."""
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderOptions:
    """What a reader may need; each takes what concerns it."""

    known_uuids: tuple[str, ...] = ()
    """GPUs that were there before; one that is not there now is lost and not forgotten."""
    trace_file: str | None = None


class GpuReader(Protocol):
    """Reads every GPU of the node. Never raises for a GPU or driver that fails: the snapshot shows that."""

    @property
    def faults(self) -> Mapping[str, int]:
        """How often each kind of fault began, for the agent's own metrics."""
        ...

    @property
    def read_seconds(self) -> float:
        """What readings have taken, in all; 0 where that is not measured."""
        ...

    def read(self) -> Snapshot:
        """All GPUs, now."""
        ...

    def close(self) -> None:
        """Release the driver or file. A `read` after it takes it up again."""
        ...
