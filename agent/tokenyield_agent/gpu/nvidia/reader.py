"""GPU readings from NVML through nvidia-ml-py.

In: the driver's library. Out: a `Snapshot` per `read()`. What can go wrong never raises:
* NVML or the driver missing, or unloaded while we run: `Snapshot.problem`, and NVML is tried again every
  `RETRY_S`, so a driver that comes back is picked up without a restart;
* one GPU lost or in need of a reset: it is in `Snapshot.lost`; the others are read on;
* what one GPU does not support: device.py.

A reader belongs to one thread (poller.py), because some drivers answer a second one only when the first is done. Time
that passes while it hangs is unknown, with the reason `nvml_slow`.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pynvml as nvml

from tokenyield_agent.gpu.nvidia.device import DRIVER_FAULTS, GPU_FAULTS, Device
from tokenyield_agent.gpu.nvidia.events import XidEvents
from tokenyield_agent.gpu.reading import GpuReading, Snapshot

log = logging.getLogger(__name__)

RETRY_S = 5.0
"""Between attempts to initialise NVML. Loading the library costs milliseconds; a driver upgrade takes minutes."""
RESCAN_S = 30.0
"""Between looks for added or removed GPUs, and for lost ones that came back. NVML lists GPUs only when initialised."""

_FIXES = {
    nvml.NVML_ERROR_LIBRARY_NOT_FOUND: "libnvidia-ml.so.1 was not found: install the NVIDIA driver, or in a container "
    "run with the NVIDIA runtime and the 'utility' capability",
    nvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA kernel driver is not loaded: check `lsmod | grep nvidia` and dmesg",
    nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the driver library and the loaded kernel module differ in version: "
    "reload the module or reboot after a driver upgrade",
    nvml.NVML_ERROR_NO_PERMISSION: "no permission on /dev/nvidia*: run as a user that may open them",
}


class NvmlReader:
    """A `GpuReader` on the host's NVIDIA driver."""

    read_seconds = 0.0

    def __init__(
        self, mono_s: Callable[[], float] = time.monotonic, proc_root: str = "/proc", known_uuids: Iterable[str] = ()
    ) -> None:
        """`known_uuids`: GPUs that were there before; one that is not there now is lost and not forgotten."""
        self._mono_s = mono_s
        self._driver_gpus = f"{proc_root}/driver/nvidia/gpus"
        self._devices: list[Device] = []
        self._xids = XidEvents()
        self._known_uuids = set(known_uuids)
        self._lost: dict[str, str] = {}
        self._driver_gpu_count: int | None = None
        self._initialised = False
        self._problem: str | None = None
        self._retry_at_s = 0.0
        self._rescan_at_s = 0.0
        self.faults: dict[str, int] = {}

    def read(self) -> Snapshot:
        """All GPUs that NVML lists, and those that were there before. Never raises."""
        now_s = self._mono_s()
        if self._initialised and self._devices_changed(now_s):
            log.info("the set of GPUs changed or a lost one may be back; initialising NVML again")
            self._shut_down()
        if not self._initialised and now_s >= self._retry_at_s:
            self._initialise(now_s)
        if not self._initialised:
            return Snapshot(lost=dict.fromkeys(self._known_uuids, "driver_down"), problem=self._problem)
        readings: list[GpuReading] = []
        lost = dict.fromkeys(self._known_uuids - {device.uuid for device in self._devices}, "gone")
        xids = self._xids.read()
        for device in self._devices:
            try:
                reading = device.read(now_s)
                readings.append(replace(reading, events=reading.events | xids.pop(device.uuid, {})))
            except nvml.NVMLError as error:
                if error.value in DRIVER_FAULTS:
                    self._driver_failed(error, now_s)
                    return Snapshot(lost=dict.fromkeys(self._known_uuids, "driver_down"), problem=self._problem)
                lost[device.uuid] = GPU_FAULTS[error.value]
        self._note_lost(lost)
        return Snapshot(gpus=tuple(readings), lost=lost, lost_events=xids)

    def close(self) -> None:
        if self._initialised:
            self._shut_down()

    def _initialise(self, now_s: float) -> None:
        try:
            nvml.nvmlInit()
            self._initialised = True
            self._devices = []
            for index in range(nvml.nvmlDeviceGetCount()):
                try:
                    self._devices.append(Device(index))
                except nvml.NVMLError as error:
                    if error.value in DRIVER_FAULTS:
                        raise
                    log.warning("gpu index=%d cannot be opened: %s", index, error)
        except nvml.NVMLError as error:
            self._driver_failed(error, now_s)
            return
        self._xids.watch({device.uuid: device.handle for device in self._devices})
        if self._problem is not None:
            log.info("NVML is back with %d GPUs", len(self._devices))
        self._problem = None
        self._known_uuids |= {device.uuid for device in self._devices}
        self._rescan_at_s = now_s + RESCAN_S
        self._driver_gpu_count = self._count_driver_gpus()

    def _driver_failed(self, error: Any, now_s: float) -> None:
        problem = f"{error}; {_FIXES.get(error.value, 'run `tokenyield-agent doctor` for what is missing')}"
        if self._problem != problem:  # once per change of state
            log.warning("GPUs cannot be read: %s", problem)
            self.faults["driver"] = self.faults.get("driver", 0) + 1
        self._problem = problem
        if self._initialised:
            self._shut_down()
        self._retry_at_s = now_s + RETRY_S

    def _shut_down(self) -> None:
        self._initialised = False
        for device in self._devices:
            device.close()
        self._devices = []
        self._xids.close()
        try:
            nvml.nvmlShutdown()
        except nvml.NVMLError as error:
            log.debug("nvmlShutdown: %s", error)

    def _devices_changed(self, now_s: float) -> bool:
        count = self._count_driver_gpus()
        if count != self._driver_gpu_count:
            return True
        if now_s < self._rescan_at_s:
            return False
        self._rescan_at_s = now_s + RESCAN_S
        if self._lost:
            return True
        try:
            return bool(nvml.nvmlDeviceGetCount() != len(self._devices))
        except nvml.NVMLError:
            return True

    def _count_driver_gpus(self) -> int | None:
        """GPUs that the kernel driver lists, which changes at hot-plug while NVML's own list does not."""
        try:
            return len(os.listdir(self._driver_gpus))
        except OSError:
            return None

    def _note_lost(self, lost: dict[str, str]) -> None:
        for uuid in lost.keys() - self._lost.keys():
            log.warning("gpu=%s cannot be read: %s; its time is reported as unknown until it is back", uuid, lost[uuid])
            self.faults[lost[uuid]] = self.faults.get(lost[uuid], 0) + 1
        for uuid in self._lost.keys() - lost.keys():
            log.info("gpu=%s is back", uuid)
        self._lost = lost
