"""What the GPUs of this host report, what they do not, and how to fix it."""

import time
from collections.abc import Iterator

from tokenyield_agent.config import Settings
from tokenyield_agent.doctor.report import DoctorFinding
from tokenyield_agent.errors import SetUpError
from tokenyield_agent.gpu.readers import open_reader
from tokenyield_agent.gpu.reading import GpuReading, ReaderOptions, Snapshot

SAMPLES_APART_S = 0.3
"""Between two readings: activity is what performance counters moved by between them."""
_NAMES = ("energy_mj", "power_mw", "utilization_percent", "memory_used_mib", "processes")


def read_gpus(settings: Settings) -> Snapshot:
    """Two readings, of which the second counts. Raises `SetUpError`."""
    reader = open_reader(settings.gpu_reader, ReaderOptions(trace_file=settings.gpu_trace_file))
    try:
        reader.read()
        time.sleep(SAMPLES_APART_S)
        return reader.read()
    finally:
        reader.close()


def findings_of_gpus(settings: Settings, gpus: list[GpuReading]) -> Iterator[DoctorFinding]:
    """Adds the GPUs that can be read to `gpus`."""
    if settings.gpu_reader == "none":
        yield DoctorFinding("note", "gpu", "gpu_reader is none: no energy and no GPU time will be reported")
        return
    try:
        snapshot = read_gpus(settings)
    except SetUpError as error:
        yield DoctorFinding("fault", "gpu", str(error))
        return
    if snapshot.problem:
        yield DoctorFinding("fault", "gpu", snapshot.problem)
    elif not snapshot.gpus:
        fix = "check `nvidia-smi` and the container's device access"
        yield DoctorFinding("fault", "gpu", f"the driver lists no GPU; {fix}")
    for gpu in snapshot.gpus:
        gpus.append(gpu)
        yield _finding(gpu)
        for quantity, reason in gpu.failures.items():
            fix = "see `nvidia-smi -q` and dmesg; it is not used while it is so"
            yield DoctorFinding("note", "gpu", f"GPU {gpu.index} {gpu.uuid}: {quantity} is {reason}; {fix}")
    for uuid, reason in snapshot.lost.items():
        fix = "see dmesg for XID errors, then reset the GPU (docs/gpu.md) or the node"
        yield DoctorFinding("fault", "gpu", f"{uuid}: {reason}; {fix}")


def _finding(gpu: GpuReading) -> DoctorFinding:
    text = f"GPU {gpu.index} {gpu.model or 'of unknown model'} {gpu.uuid}"
    absent = [name for name in _NAMES if getattr(gpu, name) is None]
    if gpu.energy_mj is None and gpu.power_mw is None:
        return DoctorFinding("fault", "gpu", f"{text}: neither energy nor power can be read, so no joules")
    if gpu.energy_mj is None:
        return DoctorFinding("note", "gpu", f"{text}: no energy counter; {_integrated(gpu)}")
    if absent:
        return DoctorFinding("note", "gpu", f"{text}: does not report {', '.join(absent)}")
    return DoctorFinding("ok", "gpu", f"{text}: energy by its counter; {_activity(gpu)}")


def _integrated(gpu: GpuReading) -> str:
    if gpu.power_samples is not None:
        return "power is integrated from the sensor's buffer of samples"
    if gpu.power_average is not None:
        return "its mean power over each second is taken"
    if gpu.power_instant is not None:
        return "its present power is integrated, which misses bursts shorter than a poll"
    return "its power reading is integrated, which misses bursts shorter than a poll"


def _activity(gpu: GpuReading) -> str:
    if gpu.activity is None:
        return "no GPM (before Hopper, or a profiler holds the counters), so SM, tensor and memory activity are unknown"
    return "GPM counts SM, tensor and memory activity"
