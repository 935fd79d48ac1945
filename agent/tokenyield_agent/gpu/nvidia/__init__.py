"""NVIDIA GPUs, read through NVML: `gpu_reader: nvml`.

What the neutral reading calls compute are SMs here; matrix, tensor cores; links, NVLink; partitions, MIG's GPU
instances; performance counters, GPM's.
"""

from tokenyield_agent.gpu.nvidia.reader import NvmlReader
from tokenyield_agent.gpu.reading import GpuReader, ReaderOptions


def open_reader(options: ReaderOptions) -> GpuReader:
    """NVML is initialised at the first reading."""
    return NvmlReader(known_uuids=options.known_uuids)
