"""GPU readings from NVML through nvidia-ml-py.

In: the driver's library. Out: a `Snapshot` per `read()`. What can go wrong never raises:
* NVML or the driver missing, or unloaded while we run: `Snapshot.problem`, and NVML is tried again every
  `RETRY_S`, so a driver that comes back is picked up without a restart;
* one GPU lost or in need of a reset: it stands in `Snapshot.lost`; the others are read on;
* a field the GPU does not support: absent, and not asked for again until NVML is next initialised.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import pynvml as nvml

from tokenyield_agent.gpu.reading import GpuProcess, GpuReading, Snapshot

log = logging.getLogger(__name__)

RETRY_S = 5.0
"""Between attempts to initialise NVML. Loading the library costs milliseconds; a driver upgrade takes minutes."""
RESCAN_S = 30.0
"""Between looks for added or removed GPUs, and for lost ones that came back. NVML lists GPUs only when initialised."""

_DRIVER_FAULTS = {
    nvml.NVML_ERROR_UNINITIALIZED,
    nvml.NVML_ERROR_DRIVER_NOT_LOADED,
    nvml.NVML_ERROR_LIBRARY_NOT_FOUND,
    nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
}
_GPU_FAULTS = {
    nvml.NVML_ERROR_GPU_IS_LOST: "gpu_lost",
    nvml.NVML_ERROR_RESET_REQUIRED: "reset_required",
}
_ABSENT = {
    nvml.NVML_ERROR_NOT_SUPPORTED,
    nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    nvml.NVML_ERROR_NO_PERMISSION,
    nvml.NVML_ERROR_INVALID_ARGUMENT,
}

# Bits of nvmlDeviceGetCurrentClocksThrottleReasons that mean lost performance; idle and a chosen clock do not.
_THROTTLE_BITS = {
    nvml.nvmlClocksThrottleReasonSwPowerCap: "sw_power_cap",
    nvml.nvmlClocksThrottleReasonHwSlowdown: "hw_slowdown",
    nvml.nvmlClocksThrottleReasonSyncBoost: "sync_boost",
    nvml.nvmlClocksThrottleReasonSwThermalSlowdown: "sw_thermal",
    nvml.nvmlClocksThrottleReasonHwThermalSlowdown: "hw_thermal",
    nvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown: "hw_power_brake",
}

_MENDS = {
    nvml.NVML_ERROR_LIBRARY_NOT_FOUND: "libnvidia-ml.so.1 was not found: install the NVIDIA driver, or in a container "
    "run with the NVIDIA runtime and the 'utility' capability",
    nvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA kernel driver is not loaded: check `lsmod | grep nvidia` and dmesg",
    nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the driver library and the loaded kernel module differ in version: "
    "reload the module or reboot after a driver upgrade",
    nvml.NVML_ERROR_NO_PERMISSION: "no permission on /dev/nvidia*: run as a user that may open them",
}


class _Device:
    """One GPU's handle, its fixed facts, and which fields it has turned out not to support."""

    __slots__ = ("absent", "handle", "index", "memory_total_mib", "mig", "model", "sample_us", "uuid")

    def __init__(self, index: int) -> None:
        self.handle = nvml.nvmlDeviceGetHandleByIndex(index)
        self.index = index
        self.uuid: str = nvml.nvmlDeviceGetUUID(self.handle)
        self.absent: set[str] = set()
        self.sample_us = 0
        self.model: str | None = self.ask("model", nvml.nvmlDeviceGetName)
        self.mig = self.ask("mig", lambda handle: nvml.nvmlDeviceGetMigMode(handle)[0]) == 1

    def ask(self, field: str, function: Callable[[Any], Any]) -> Any:
        """The field's value, or None where unsupported. Faults of the GPU or the driver go up as NVMLError."""
        if field in self.absent:
            return None
        try:
            return function(self.handle)
        except nvml.NVMLError as error:
            if error.value in _DRIVER_FAULTS or error.value in _GPU_FAULTS:
                raise
            if error.value in _ABSENT:
                self.absent.add(field)
                log.info("gpu=%s field=%s not available: %s", self.uuid, field, error)
            return None

    def read(self) -> GpuReading:
        utilization = self.ask("utilization", nvml.nvmlDeviceGetUtilizationRates)
        memory = self.ask("memory", nvml.nvmlDeviceGetMemoryInfo)
        throttle = self.ask("throttle", nvml.nvmlDeviceGetCurrentClocksThrottleReasons)
        reasons = None if throttle is None else tuple(n for bit, n in _THROTTLE_BITS.items() if throttle & bit)
        return GpuReading(
            uuid=self.uuid,
            index=self.index,
            model=self.model,
            energy_mj=self.ask("energy", nvml.nvmlDeviceGetTotalEnergyConsumption),
            power_mw=self.ask("power", nvml.nvmlDeviceGetPowerUsage),
            utilization_percent=None if utilization is None else int(utilization.gpu),
            memory_used_mib=None if memory is None else int(memory.used) >> 20,
            memory_total_mib=None if memory is None else int(memory.total) >> 20,
            temperature_c=self.ask(
                "temperature", lambda h: nvml.nvmlDeviceGetTemperature(h, nvml.NVML_TEMPERATURE_GPU)
            ),
            sm_clock_mhz=self.ask("sm_clock", lambda h: nvml.nvmlDeviceGetClockInfo(h, nvml.NVML_CLOCK_SM)),
            memory_clock_mhz=self.ask("memory_clock", lambda h: nvml.nvmlDeviceGetClockInfo(h, nvml.NVML_CLOCK_MEM)),
            throttle_reasons=reasons,
            processes=self._processes(),
            mig=self.mig,
            mig_slices=(self.ask("mig_slices", _mig_slices) or {}) if self.mig else {},
        )

    def _processes(self) -> tuple[GpuProcess, ...] | None:
        running = self.ask("processes", nvml.nvmlDeviceGetComputeRunningProcesses)
        if running is None:
            return None
        sm = self._sm_percent() if len({process.pid for process in running}) > 1 else {}
        return tuple(
            GpuProcess(
                pid=int(process.pid),
                memory_mib=None if process.usedGpuMemory is None else int(process.usedGpuMemory) >> 20,
                sm_percent=sm.get(int(process.pid)) if sm else None,
                mig_instance=int(process.gpuInstanceId) if self.mig else None,
            )
            for process in running
        )

    def _sm_percent(self) -> dict[int, int]:
        """SM use by pid since the last call; empty where the GPU does not tell."""
        samples = self.ask("sm_percent", lambda h: nvml.nvmlDeviceGetProcessUtilization(h, self.sample_us))
        if not samples:
            return {}
        self.sample_us = max(int(sample.timeStamp) for sample in samples)
        return {int(sample.pid): int(sample.smUtil) for sample in samples}


def _mig_slices(handle: Any) -> dict[int, int]:
    """GPU instance -> compute slices of every MIG device; several devices of one instance share its slices."""
    slices = {}
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            device = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except nvml.NVMLError as error:
            if error.value in (nvml.NVML_ERROR_NOT_FOUND, nvml.NVML_ERROR_INVALID_ARGUMENT):
                continue
            raise
        instance = int(nvml.nvmlDeviceGetGpuInstanceId(device))
        slices[instance] = int(nvml.nvmlDeviceGetAttributes_v2(device).gpuInstanceSliceCount)
    return slices


class NvmlReader:
    """A `GpuReader` on the host's NVIDIA driver."""

    def __init__(
        self, mono_s: Callable[[], float] = time.monotonic, proc_root: str = "/proc", known: Iterable[str] = ()
    ) -> None:
        """`known`: GPUs (uuid) that were there before; one that is not there now is lost and not forgotten."""
        self._mono_s = mono_s
        self._driver_gpus = f"{proc_root}/driver/nvidia/gpus"
        self._devices: list[_Device] = []
        self._known = set(known)
        self._lost: dict[str, str] = {}
        self._driver_gpu_count: int | None = None
        self._initialised = False
        self._problem: str | None = None
        self._retry_at_s = 0.0
        self._rescan_at_s = 0.0
        self.faults: dict[str, int] = {}
        """How often each kind of fault began, for the agent's own metrics."""

    def read(self) -> Snapshot:
        now_s = self._mono_s()
        if self._initialised and self._devices_changed(now_s):
            log.info("the set of GPUs changed or a lost one may be back; initialising NVML again")
            self._shut_down()
        if not self._initialised and now_s >= self._retry_at_s:
            self._initialise(now_s)
        if not self._initialised:
            return Snapshot(lost=dict.fromkeys(self._known, "driver_down"), problem=self._problem)
        readings: list[GpuReading] = []
        lost = dict.fromkeys(self._known - {device.uuid for device in self._devices}, "gone")
        for device in self._devices:
            try:
                readings.append(device.read())
            except nvml.NVMLError as error:
                if error.value in _DRIVER_FAULTS:
                    self._driver_failed(error, now_s)
                    return Snapshot(lost=dict.fromkeys(self._known, "driver_down"), problem=self._problem)
                lost[device.uuid] = _GPU_FAULTS[error.value]
        self._note_lost(lost)
        return Snapshot(gpus=tuple(readings), lost=lost)

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
                    self._devices.append(_Device(index))
                except nvml.NVMLError as error:
                    if error.value in _DRIVER_FAULTS:
                        raise
                    log.warning("gpu index=%d cannot be opened: %s", index, error)
        except nvml.NVMLError as error:
            self._driver_failed(error, now_s)
            return
        if self._problem is not None:
            log.info("NVML is back with %d GPUs", len(self._devices))
        self._problem = None
        self._known |= {device.uuid for device in self._devices}
        self._rescan_at_s = now_s + RESCAN_S
        self._driver_gpu_count = self._count_driver_gpus()

    def _driver_failed(self, error: Any, now_s: float) -> None:
        problem = f"{error}; {_MENDS.get(error.value, 'run `tokenyield-agent doctor` for what is missing')}"
        if self._problem != problem:  # once per change of state
            log.warning("GPUs cannot be read: %s", problem)
            self.faults["driver"] = self.faults.get("driver", 0) + 1
        self._problem = problem
        if self._initialised:
            self._shut_down()
        self._retry_at_s = now_s + RETRY_S

    def _shut_down(self) -> None:
        self._initialised = False
        self._devices = []
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
