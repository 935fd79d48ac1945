"""NVML's return codes: whose fault each is, and the name under which it is counted and shown.

In: a code, or whatever a call raised. Out: a reason. The names are those of nvml.h, of which there are about thirty; a
code that it does not name is `nvml_other`, so that a driver cannot make names without end.
"""

from typing import Any

import pynvml as nvml

DRIVER_FAULTS = {
    nvml.NVML_ERROR_UNINITIALIZED,
    nvml.NVML_ERROR_DRIVER_NOT_LOADED,
    nvml.NVML_ERROR_LIBRARY_NOT_FOUND,
    nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
}
"""Usually of the driver; where the driver itself still answers, of the GPU that was called."""
GPU_FAULTS = {
    nvml.NVML_ERROR_GPU_IS_LOST: "gpu_lost",
    nvml.NVML_ERROR_RESET_REQUIRED: "reset_required",
}
"""One call that returns such a code speaks for the whole GPU."""
ABSENT = {
    nvml.NVML_ERROR_NOT_SUPPORTED,
    nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
}
"""Of a quantity that was never read: this GPU, or this driver, does not have it."""
_PREFIX = "NVML_ERROR_"
_REASONS = {
    code: f"nvml_{name.removeprefix(_PREFIX).lower()}"
    for name, code in vars(nvml).items()
    if name.startswith(_PREFIX) and isinstance(code, int)
} | GPU_FAULTS
UNREAD = "unread"
"""The binding could not make a value of the answer."""
NO_UUID = "no_uuid"
SAME_UUID = "same_uuid"


class GpuUnreadableError(Exception):
    """Nothing that matters of one GPU can be read now. `reason` is a name as above."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def is_fatal(error: Any) -> bool:
    """Whether an NVMLError says that the GPU or the driver is gone, and not only one quantity."""
    return error.value in DRIVER_FAULTS or error.value in GPU_FAULTS


def reason_of(error: Exception) -> str:
    """The name of what was raised."""
    if isinstance(error, GpuUnreadableError):
        return error.reason
    return _REASONS.get(error.value, "nvml_other") if isinstance(error, nvml.NVMLError) else UNREAD
