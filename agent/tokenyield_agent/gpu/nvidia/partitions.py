"""The GPU instances of a GPU in MIG mode.

In: its handle. Out: a `GpuPartition` by number. An instance whose size is none that a GPU can have is left out.
"""

from typing import Any

import pynvml as nvml

from tokenyield_agent.gpu.reading import GpuPartition

INSTANCES_MAX = 64
"""Looked at; GPUs of today have 7."""
SLICES_MAX = 64


def instances_max(handle: Any) -> int:
    """How many instances it can have. Raises NVMLError."""
    return min(int(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)), INSTANCES_MAX)


def mig_instances(handle: Any) -> dict[int, GpuPartition]:
    """By number, of every MIG device; several devices of one instance share its slices and its memory. Raises
    NVMLError."""
    partitions: dict[int, GpuPartition] = {}
    for index in range(instances_max(handle)):
        try:
            device = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except nvml.NVMLError as error:
            if error.value in (nvml.NVML_ERROR_NOT_FOUND, nvml.NVML_ERROR_INVALID_ARGUMENT):
                continue
            raise
        instance = int(nvml.nvmlDeviceGetGpuInstanceId(device))
        slices = int(nvml.nvmlDeviceGetAttributes_v2(device).gpuInstanceSliceCount)
        if 0 < slices <= SLICES_MAX:
            memory = nvml.nvmlDeviceGetMemoryInfo(device)
            used_mib = int(memory.used) >> 20 if memory.used <= memory.total else None
            partitions[instance] = GpuPartition(slices=slices, memory_used_mib=used_mib)
    return partitions
