"""GPU readings from NVML through nvidia-ml-py.

In: the driver's library. Out: a `Snapshot` per `read()`. What can go wrong never raises:
* NVML or the driver missing, or unloaded while we run: `Snapshot.problem`, and NVML is tried again every
  `RETRY_S`, so a driver that comes back is picked up without a restart;
* one GPU that is lost, needs a reset, cannot be opened, or answers every call with an error: it is in `Snapshot.lost`
  with the reason, and is tried again; the others are read on;
* one quantity of a GPU: device.py; a value that no GPU can have: plausible.py.

A code that speaks of the driver and comes from one GPU is that GPU's, as long as the driver lists GPUs and another one
is read. NVML is initialised again for GPUs that are lost or gone, ever less often (`RESCAN_S` to `RESCAN_S_MAX`).

A reader belongs to one thread (poller.py), because some drivers answer a second one only when the first is done. Time
that passes while it hangs is unknown, with the reason `nvml_slow`.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pynvml as nvml

from tokenyield_agent.gpu.nvidia.device import Device
from tokenyield_agent.gpu.nvidia.events import XidEvents
from tokenyield_agent.gpu.nvidia.faults import DRIVER_FAULTS, SAME_UUID, GpuUnreadableError, reason_of
from tokenyield_agent.gpu.nvidia.unopened import UnopenedGpus
from tokenyield_agent.gpu.plausible import IMPLAUSIBLE, STEADY_S, plausible
from tokenyield_agent.gpu.reading import GpuReading, Snapshot

log = logging.getLogger(__name__)

RETRY_S = 5.0
"""Between attempts to initialise NVML. Loading the library costs milliseconds; a driver upgrade takes minutes."""
RESCAN_S, RESCAN_S_MAX = 30.0, 3600.0
"""Between looks for added or removed GPUs, and for lost ones that came back. NVML lists GPUs only when initialised."""

GPUS_MAX = 256
"""Opened of those that NVML lists; a host of 2026 has 16."""
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
        self._unopened = UnopenedGpus()
        self._xids = XidEvents()
        self._known_uuids = set(known_uuids)
        self._uuid_of_index: dict[int, str] = {}
        self._lost: dict[str, str] = {}
        self._failing: dict[str, dict[str, str]] = {}
        """uuid -> `GpuReading.failures` of the last reading, where there were any."""
        self._steady: dict[str, tuple[float, GpuReading]] = {}
        """uuid -> when its power was last read, and that reading."""
        self._listed_count = 0
        self._driver_gpu_count: int | None = None
        self._initialised = False
        self._problem: str | None = None
        self._retry_at_s = self._rescan_at_s = 0.0
        self._rescan_s = RESCAN_S
        self.faults: Counter[str] = Counter()

    def read(self) -> Snapshot:
        """All GPUs that NVML lists, and those that were there before. Never raises for what a GPU answers."""
        now_s = self._mono_s()
        xids = self._read_xids(now_s)
        if self._initialised and self._devices_changed(now_s):
            log.info("the set of GPUs changed or a lost one may be back; initialising NVML again")
            self._shut_down()
        if not self._initialised and now_s >= self._retry_at_s:
            self._initialise(now_s)
        for index in self._unopened.due(now_s):
            self._open(index, now_s)
        if not self._initialised:
            return self._driver_down(xids)
        readings, errors = self._read_devices(now_s)
        if (gone := self._driver_error(errors)) is not None:
            self._driver_failed(gone, now_s)
            return self._driver_down(xids)
        missing = self._known_uuids - {device.uuid for device in self._devices}
        unopened = self._unopened.names(self._uuid_of_index, missing)
        lost = dict.fromkeys(missing, "gone") | {name: self._unopened.reason(i) for name, i in unopened.items()}
        lost |= {uuid: reason_of(error) for uuid, error in errors.items()}
        if lost or self._lost:
            self._note_lost(lost)
        if xids:
            readings = [replace(gpu, events=gpu.events | xids.pop(gpu.uuid, {})) for gpu in readings]
        return Snapshot(gpus=tuple(readings), lost=lost, lost_indices=unopened, lost_events=xids)

    def close(self) -> None:
        """Let go of the driver. The next `read` takes it up again."""
        if self._initialised:
            self._shut_down()

    # --- GPUs ----------------------------------------------------------------------------------------------------

    def _read_devices(self, now_s: float) -> tuple[list[GpuReading], dict[str, Exception]]:
        readings: list[GpuReading] = []
        errors: dict[str, Exception] = {}
        for device in self._devices:
            try:
                reading = self._plausible(device.read(now_s), now_s)
            except Exception as error:
                if not isinstance(error, (nvml.NVMLError, GpuUnreadableError)) and device.uuid not in self._lost:
                    log.exception("gpu=%s cannot be read", device.uuid)
                errors[device.uuid] = error
                continue
            readings.append(reading)
            if reading.failures or device.uuid in self._failing:
                self._note_failures(device.uuid, reading.failures)
        return readings, errors

    def _plausible(self, reading: GpuReading, now_s: float) -> GpuReading:
        read_s, steady = self._steady.get(reading.uuid, (0.0, None))
        reading = plausible(reading, steady if now_s - read_s <= STEADY_S else None)
        if "power" not in reading.failures:
            self._steady[reading.uuid] = now_s, reading
        return reading

    def _open(self, index: int, now_s: float) -> None:
        try:
            device = Device(index, now_s)
            if any(device.uuid == other.uuid for other in self._devices):
                raise GpuUnreadableError(SAME_UUID)
        except Exception as error:  # noqa: BLE001 - whatever a GPU answers costs itself only
            if self._unopened.failed(index, reason_of(error), now_s):
                log.warning("gpu index=%d cannot be opened: %s", index, error)
            return
        self._unopened.opened(index)
        self._devices = sorted([*self._devices, device], key=lambda other: other.index)
        self._uuid_of_index[index] = device.uuid
        self._known_uuids.add(device.uuid)
        self._xids.watch({device.uuid: device.handle}, now_s)

    def _read_xids(self, now_s: float) -> dict[str, dict[str, int]]:
        if not self._initialised:
            return {}
        try:
            well = {device.uuid: device.handle for device in self._devices if device.uuid not in self._lost}
            return self._xids.read(well, now_s)
        except Exception:
            log.exception("XIDs cannot be read")
            return {}

    # --- the driver ----------------------------------------------------------------------------------------------

    def _initialise(self, now_s: float) -> None:
        try:
            nvml.nvmlInit()
            self._initialised = True
            self._listed_count = self._count_listed()
        except nvml.NVMLError as error:
            self._driver_failed(error, now_s)
            return
        for index in range(self._listed_count):
            self._open(index, now_s)
        if self._problem is not None:
            log.info("NVML is back with %d GPUs", len(self._devices))
        self._problem = None
        self._rescan_at_s = now_s + self._rescan_s
        self._driver_gpu_count = self._count_driver_gpus()

    def _driver_error(self, errors: dict[str, Exception]) -> Any:
        """The NVMLError that speaks for the driver, where one does."""
        of_driver = [
            error for error in errors.values() if isinstance(error, nvml.NVMLError) and error.value in DRIVER_FAULTS
        ]
        if not of_driver:
            return None
        if len(of_driver) == len(self._devices):
            return of_driver[0]
        try:
            nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            return error
        return None

    def _driver_failed(self, error: Any, now_s: float) -> None:
        problem = f"{error}; {_FIXES.get(error.value, 'run `tokenyield-agent doctor` for what is missing')}"
        if self._problem != problem:  # once per change of state
            log.warning("GPUs cannot be read: %s", problem)
            self.faults["driver"] += 1
        self._problem = problem
        if self._initialised:
            self._shut_down()
        self._retry_at_s = now_s + RETRY_S

    def _driver_down(self, xids: dict[str, dict[str, int]]) -> Snapshot:
        lost = dict.fromkeys(self._known_uuids, "driver_down")
        return Snapshot(lost=lost, lost_events=xids, problem=self._problem)

    def _shut_down(self) -> None:
        self._initialised = False
        for device in self._devices:
            device.close()
        self._devices = []
        self._unopened.forget()
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
        if len(self._lost) > len(self._unopened):
            self._rescan_s = min(RESCAN_S_MAX, 2 * self._rescan_s)
            return True
        self._rescan_s = RESCAN_S
        self._rescan_at_s = now_s + RESCAN_S
        try:
            return self._count_listed() != self._listed_count
        except nvml.NVMLError:
            return True

    def _count_listed(self) -> int:
        """GPUs that NVML lists. Raises NVMLError."""
        return min(int(nvml.nvmlDeviceGetCount()), GPUS_MAX)

    def _count_driver_gpus(self) -> int | None:
        """GPUs that the kernel driver lists, which changes at hot-plug while NVML's own list does not."""
        try:
            return len(os.listdir(self._driver_gpus))
        except OSError:
            return None

    # --- what is counted and logged, once per change of state -----------------------------------------------------

    def _note_lost(self, lost: dict[str, str]) -> None:
        for uuid, reason in lost.items():
            if self._lost.get(uuid) != reason:
                log.warning("gpu=%s cannot be read: %s; its time is reported as unknown until it is back", uuid, reason)
                self.faults[reason] += 1
        for uuid in self._lost.keys() - lost.keys():
            log.info("gpu=%s is back", uuid)
        self._lost = lost

    def _note_failures(self, uuid: str, failures: dict[str, str]) -> None:
        before = self._failing.get(uuid, {})
        for quantity, reason in failures.items():
            if before.get(quantity) != reason:
                log.warning("gpu=%s %s cannot be read: %s", uuid, quantity, reason)
                self.faults[f"{IMPLAUSIBLE}_{quantity}" if reason == IMPLAUSIBLE else reason] += 1
        self._failing[uuid] = failures
        if not failures:
            del self._failing[uuid]
            log.info("gpu=%s all of it can be read again", uuid)
