"""One GPU through NVML: what it supports is found once, what turns out slow is asked less often.

In: its index. Out: a `GpuReading` per `read()`. A quantity that the GPU does not have is absent, and not asked for
again until NVML is next initialised. One that is slow keeps its last value in between (pace.py).

How the GPU's energy is told (energy.py) is chosen here, at the first reading: by its counter, else by its mean power as
a field value, else by the buffer of samples, else by the present power as a field value, else by the plain power
reading.

Nothing here changes a GPU: no setting is written, no counter reset, no mode switched.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

import pynvml as nvml

from tokenyield_agent.gpu.backoff import Pace
from tokenyield_agent.gpu.nvidia import gpm
from tokenyield_agent.gpu.nvidia.events import Counters, number
from tokenyield_agent.gpu.reading import Activity, GpuProcess, GpuReading, MigInstance

log = logging.getLogger(__name__)

DRIVER_FAULTS = {
    nvml.NVML_ERROR_UNINITIALIZED,
    nvml.NVML_ERROR_DRIVER_NOT_LOADED,
    nvml.NVML_ERROR_LIBRARY_NOT_FOUND,
    nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
}
GPU_FAULTS = {
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
_POWER_FIELDS = (
    nvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION,
    nvml.NVML_FI_DEV_POWER_AVERAGE,
    nvml.NVML_FI_DEV_POWER_INSTANT,
)


class Device:
    """One GPU's handle, its fixed facts, and how it is asked."""

    def __init__(self, index: int) -> None:
        """Raises NVMLError where the GPU cannot be opened."""
        self.handle = nvml.nvmlDeviceGetHandleByIndex(index)
        self.index = index
        self.uuid: str = nvml.nvmlDeviceGetUUID(self.handle)
        self.absent: set[str] = set()
        self.slow: dict[str, Pace] = {}
        self._held: dict[str, Any] = {}
        self._sm_since_us = 0
        self._newest_sample = (0, 0)
        self._counters = Counters()
        self.model: str | None = self.ask("model", nvml.nvmlDeviceGetName)
        self.mig = self.ask("mig", lambda handle: nvml.nvmlDeviceGetMigMode(handle)[0]) == 1
        self._sm_clock_max_mhz = self.ask(
            "sm_clock_max", lambda h: nvml.nvmlDeviceGetMaxClockInfo(h, nvml.NVML_CLOCK_SM)
        )
        has_gpm = self.ask("gpm", gpm.is_supported)
        self._gpm = gpm.Gpm(self.handle) if has_gpm else None
        self._fields = self._supported_fields()
        self.energy_method = self._choose_energy_method()

    def _supported_fields(self) -> list[int]:
        values = self.ask("fields", lambda handle: nvml.nvmlDeviceGetFieldValues(handle, list(_POWER_FIELDS))) or ()
        return [int(value.fieldId) for value in values if value.nvmlReturn == nvml.NVML_SUCCESS]

    def _choose_energy_method(self) -> str | None:
        has_counter = nvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION in self._fields
        if has_counter or self.ask("energy", nvml.nvmlDeviceGetTotalEnergyConsumption) is not None:
            self._fields = [field for field in self._fields if field != nvml.NVML_FI_DEV_POWER_INSTANT]
            return "counter"
        if nvml.NVML_FI_DEV_POWER_AVERAGE in self._fields:
            return "average"
        if self._power_samples() is not None:
            return "samples"
        if nvml.NVML_FI_DEV_POWER_INSTANT in self._fields:
            return "instant"
        return "power" if self.ask("power", nvml.nvmlDeviceGetPowerUsage) is not None else None

    def ask(self, quantity: str, function: Callable[[Any], Any]) -> Any:
        """The quantity's value, its last one where it is slow, or None where unsupported. Faults of the GPU or the
        driver go up as NVMLError."""
        if quantity in self.absent:
            return None
        pace = self.slow.get(quantity)
        if pace is not None and not pace.is_due():
            return self._held.get(quantity)
        started_s = time.perf_counter()
        try:
            value = function(self.handle)
        except nvml.NVMLError as error:
            if error.value in DRIVER_FAULTS or error.value in GPU_FAULTS:
                raise
            if error.value in _ABSENT:
                self.absent.add(quantity)
                log.info("gpu=%s %s is not available: %s", self.uuid, quantity, error)
            value = None
        self._mind(quantity, value, time.perf_counter() - started_s, pace)
        return value

    def _mind(self, quantity: str, value: Any, took_s: float, pace: Pace | None) -> None:
        fresh = pace or Pace()
        fresh.took(took_s)
        if fresh.is_slow:
            if pace is None:
                log.info("gpu=%s %s took %.0f ms and is asked less often", self.uuid, quantity, took_s * 1000)
            self.slow[quantity], self._held[quantity] = fresh, value
        elif pace is not None:
            del self.slow[quantity], self._held[quantity]

    def read(self, now_s: float) -> GpuReading:
        """`now_s` is monotonic. Raises NVMLError where the GPU or the driver is gone."""
        power = self._power_of_fields()
        energy_mj = power.get(nvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION)
        average, instant = power.get(nvml.NVML_FI_DEV_POWER_AVERAGE), power.get(nvml.NVML_FI_DEV_POWER_INSTANT)
        utilization = self.ask("utilization", nvml.nvmlDeviceGetUtilizationRates)
        memory = self.ask("memory", nvml.nvmlDeviceGetMemoryInfo)
        throttle = self.ask("throttle", nvml.nvmlDeviceGetCurrentClocksThrottleReasons)
        reasons = None if throttle is None else tuple(n for bit, n in _THROTTLE_BITS.items() if throttle & bit)
        instances = self._mig_instances()
        activity = self._activity({number: instance.slices for number, instance in instances.items()})
        return GpuReading(
            uuid=self.uuid,
            index=self.index,
            model=self.model,
            energy_mj=energy_mj[1] if energy_mj else self.ask("energy", nvml.nvmlDeviceGetTotalEnergyConsumption),
            power_samples=self._power_samples() if self.energy_method == "samples" else None,
            power_average=average if self.energy_method == "average" else None,
            power_instant=instant if self.energy_method == "instant" else None,
            power_mw=average[1] if average else self.ask("power", nvml.nvmlDeviceGetPowerUsage),
            utilization_percent=None if utilization is None else int(utilization.gpu),
            memory_used_mib=None if memory is None else int(memory.used) >> 20,
            memory_total_mib=None if memory is None else int(memory.total) >> 20,
            temperature_c=self.ask(
                "temperature", lambda h: nvml.nvmlDeviceGetTemperature(h, nvml.NVML_TEMPERATURE_GPU)
            ),
            sm_clock_mhz=self.ask("sm_clock", lambda h: nvml.nvmlDeviceGetClockInfo(h, nvml.NVML_CLOCK_SM)),
            sm_clock_max_mhz=self._sm_clock_max_mhz,
            throttle_reasons=reasons,
            processes=self._processes(),
            activity=activity,
            events=self._events(now_s),
            mig=self.mig,
            mig_instances=self._with_activity(instances),
        )

    def close(self) -> None:
        """While NVML is still up."""
        if self._gpm is not None:
            try:
                self._gpm.close()
            except nvml.NVMLError as error:
                log.debug("nvmlGpmSampleFree: %s", error)

    # --- energy and power ----------------------------------------------------------------------------------------

    def _power_of_fields(self) -> dict[int, tuple[int, int]]:
        """Field -> (the driver's time stamp in us, value), all in one call."""
        if not self._fields:
            return {}
        values = self.ask("fields", lambda handle: nvml.nvmlDeviceGetFieldValues(handle, self._fields)) or ()
        return {
            int(value.fieldId): (int(value.timestamp), number(value))
            for value in values
            if value.nvmlReturn == nvml.NVML_SUCCESS
        }

    def _power_samples(self) -> tuple[tuple[int, int], ...] | None:
        """From the newest of the last call to the newest now; None where the GPU keeps none."""
        found = self.ask("samples", self._ask_samples)
        if found is None and "samples" in self.absent:
            return None
        fresh = sorted(sample for sample in found or () if sample[0] > self._newest_sample[0])
        since = (self._newest_sample,) if self._newest_sample[0] else ()
        if fresh:
            self._newest_sample = fresh[-1]
        return (*since, *fresh)

    def _ask_samples(self, handle: Any) -> tuple[tuple[int, int], ...]:
        try:
            kind, samples = nvml.nvmlDeviceGetSamples(handle, nvml.NVML_TOTAL_POWER_SAMPLES, self._newest_sample[0])
        except nvml.NVMLError as error:
            if error.value == nvml.NVML_ERROR_NOT_FOUND:  # nothing new
                return ()
            raise
        name = "ullVal" if kind == nvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG else "uiVal"
        return tuple((int(one.timeStamp), int(getattr(one.sampleValue, name))) for one in samples)

    # --- activity ------------------------------------------------------------------------------------------------

    def _activity(self, slices: dict[int, int]) -> Activity | None:
        if self._gpm is None or (self.mig and not slices):
            return None
        pace = self.slow.get("gpm_metrics")
        if pace is not None and not pace.is_due():
            return None  # the next one speaks of all the time since the last
        started_s, read = time.perf_counter(), self._gpm.read
        try:
            activity = read(slices, self._mig_slices_max()) if self.mig else read()
        except nvml.NVMLError as error:
            if error.value in DRIVER_FAULTS or error.value in GPU_FAULTS:
                raise
            if "gpm_metrics" not in self._held:
                log.info("gpu=%s GPM cannot be read now (a profiler may hold the counters): %s", self.uuid, error)
            self.slow.setdefault("gpm_metrics", Pace()).took(float("inf"))
            self._held["gpm_metrics"] = None
            return None
        self._mind("gpm_metrics", None, time.perf_counter() - started_s, pace)
        return activity

    def _mig_slices_max(self) -> int:
        return int(self.ask("mig_slices_max", nvml.nvmlDeviceGetMaxMigDeviceCount) or 0)

    def _mig_instances(self) -> dict[int, MigInstance]:
        return (self.ask("mig_instances", _mig_instances) or {}) if self.mig else {}

    def _with_activity(self, instances: dict[int, MigInstance]) -> dict[int, MigInstance]:
        by_instance = self._gpm.by_instance if self._gpm is not None else {}
        return {
            number: MigInstance(
                slices=one.slices,
                memory_used_mib=one.memory_used_mib,
                sm_bp=by_instance[number].sm_bp if number in by_instance else None,
            )
            for number, one in instances.items()
        }

    def _events(self, now_s: float) -> dict[str, int]:
        if not self._counters.is_due(now_s):
            return {}
        return self.ask("counters", lambda handle: self._counters.read(handle, now_s)) or {}

    # --- processes -----------------------------------------------------------------------------------------------

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
        samples = self.ask("sm_percent", lambda h: nvml.nvmlDeviceGetProcessUtilization(h, self._sm_since_us))
        if not samples:
            return {}
        self._sm_since_us = max(int(sample.timeStamp) for sample in samples)
        return {int(sample.pid): int(sample.smUtil) for sample in samples}


def _mig_instances(handle: Any) -> dict[int, MigInstance]:
    """By number, of every MIG device; several devices of one instance share its slices and its memory."""
    found: dict[int, MigInstance] = {}
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            device = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except nvml.NVMLError as error:
            if error.value in (nvml.NVML_ERROR_NOT_FOUND, nvml.NVML_ERROR_INVALID_ARGUMENT):
                continue
            raise
        instance = int(nvml.nvmlDeviceGetGpuInstanceId(device))
        slices = int(nvml.nvmlDeviceGetAttributes_v2(device).gpuInstanceSliceCount)
        found[instance] = MigInstance(
            slices=slices, memory_used_mib=int(nvml.nvmlDeviceGetMemoryInfo(device).used) >> 20
        )
    return found
