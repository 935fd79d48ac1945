"""One GPU through NVML: what it supports is found once, what turns out slow is read less often.

In: its index. Out: a `GpuReading` per `read()`. A quantity that the GPU does not have is absent, and not read again
until NVML is next initialised. One that is slow keeps its last value in between (backoff.py).

How the GPU's energy is measured (windows/energy.py) is chosen here, at the first reading, the best that there is:

* `counter`: nvmlDeviceGetTotalEnergyConsumption, also as a field value;
* `average`: NVML_FI_DEV_POWER_AVERAGE, the mean power over the last second;
* `samples`: nvmlDeviceGetSamples of total power, the sensor's own buffer;
* `instant`: NVML_FI_DEV_POWER_INSTANT, the present power with a time stamp;
* `power`: nvmlDeviceGetPowerUsage, without one.

Nothing here changes a GPU: no setting is written, no counter reset, no mode switched.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

import pynvml as nvml

from tokenyield_agent.gpu.backoff import Backoff
from tokenyield_agent.gpu.nvidia import gpm
from tokenyield_agent.gpu.nvidia.events import ErrorCounters, field_number
from tokenyield_agent.gpu.reading import Activity, GpuPartition, GpuProcess, GpuReading

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
    """One GPU's handle, its fixed facts, and how it is read."""

    def __init__(self, index: int) -> None:
        """Raises NVMLError where the GPU cannot be opened."""
        self.handle = nvml.nvmlDeviceGetHandleByIndex(index)
        self.index = index
        self.uuid: str = nvml.nvmlDeviceGetUUID(self.handle)
        self.absent: set[str] = set()
        self.slow: dict[str, Backoff] = {}
        self._last_values: dict[str, Any] = {}
        """Of quantities that are slow."""
        self._sm_since_us = 0
        self._newest_sample = (0, 0)
        self._error_counters = ErrorCounters()
        self.model: str | None = self.ask("model", nvml.nvmlDeviceGetName)
        self.is_partitioned = self.ask("mig", lambda handle: nvml.nvmlDeviceGetMigMode(handle)[0]) == 1
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
        backoff = self.slow.get(quantity)
        if backoff is not None and not backoff.is_due():
            return self._last_values.get(quantity)
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
        self._note_time(quantity, value, time.perf_counter() - started_s, backoff)
        return value

    def _note_time(self, quantity: str, value: Any, took_s: float, backoff: Backoff | None) -> None:
        fresh = backoff or Backoff()
        fresh.took(took_s)
        if fresh.is_slow:
            if backoff is None:
                log.info("gpu=%s %s took %.0f ms and is read less often", self.uuid, quantity, took_s * 1000)
            self.slow[quantity], self._last_values[quantity] = fresh, value
        elif backoff is not None:
            del self.slow[quantity], self._last_values[quantity]

    def read(self, now_s: float) -> GpuReading:
        """`now_s` is monotonic. Raises NVMLError where the GPU or the driver is gone."""
        power = self._power_of_fields()
        energy_mj = power.get(nvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION)
        average, instant = power.get(nvml.NVML_FI_DEV_POWER_AVERAGE), power.get(nvml.NVML_FI_DEV_POWER_INSTANT)
        utilization = self.ask("utilization", nvml.nvmlDeviceGetUtilizationRates)
        memory = self.ask("memory", nvml.nvmlDeviceGetMemoryInfo)
        throttle = self.ask("throttle", nvml.nvmlDeviceGetCurrentClocksThrottleReasons)
        reasons = None if throttle is None else tuple(n for bit, n in _THROTTLE_BITS.items() if throttle & bit)
        partitions = self._partitions()
        activity = self._activity({number: partition.slices for number, partition in partitions.items()})
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
            core_clock_mhz=self.ask("sm_clock", lambda h: nvml.nvmlDeviceGetClockInfo(h, nvml.NVML_CLOCK_SM)),
            core_clock_max_mhz=self._sm_clock_max_mhz,
            throttle_reasons=reasons,
            processes=self._processes(),
            activity=activity,
            events=self._events(now_s),
            is_partitioned=self.is_partitioned,
            partitions=self._with_activity(partitions),
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
            int(value.fieldId): (int(value.timestamp), field_number(value))
            for value in values
            if value.nvmlReturn == nvml.NVML_SUCCESS
        }

    def _power_samples(self) -> tuple[tuple[int, int], ...] | None:
        """From the newest of the last call to the newest now; None where the GPU keeps none."""
        samples = self.ask("samples", self._ask_samples)
        if samples is None and "samples" in self.absent:
            return None
        fresh = sorted(sample for sample in samples or () if sample[0] > self._newest_sample[0])
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
        return tuple((int(sample.timeStamp), int(getattr(sample.sampleValue, name))) for sample in samples)

    # --- activity ------------------------------------------------------------------------------------------------

    def _activity(self, slices: dict[int, int]) -> Activity | None:
        if self._gpm is None or (self.is_partitioned and not slices):
            return None
        backoff = self.slow.get("gpm_metrics")
        if backoff is not None and not backoff.is_due():
            return None  # the next one covers all the time since the last
        started_s, read = time.perf_counter(), self._gpm.read
        try:
            activity = read(slices, self._mig_slices_max()) if self.is_partitioned else read()
        except nvml.NVMLError as error:
            if error.value in DRIVER_FAULTS or error.value in GPU_FAULTS:
                raise
            if "gpm_metrics" not in self._last_values:
                log.info("gpu=%s GPM cannot be read now (a profiler may hold the counters): %s", self.uuid, error)
            self.slow.setdefault("gpm_metrics", Backoff()).took(float("inf"))
            self._last_values["gpm_metrics"] = None
            return None
        self._note_time("gpm_metrics", None, time.perf_counter() - started_s, backoff)
        return activity

    def _mig_slices_max(self) -> int:
        return int(self.ask("mig_slices_max", nvml.nvmlDeviceGetMaxMigDeviceCount) or 0)

    def _partitions(self) -> dict[int, GpuPartition]:
        return (self.ask("mig_instances", _mig_instances) or {}) if self.is_partitioned else {}

    def _with_activity(self, partitions: dict[int, GpuPartition]) -> dict[int, GpuPartition]:
        by_instance = self._gpm.by_instance if self._gpm is not None else {}
        return {
            number: GpuPartition(
                slices=partition.slices,
                memory_used_mib=partition.memory_used_mib,
                compute_bp=by_instance[number].compute_bp if number in by_instance else None,
            )
            for number, partition in partitions.items()
        }

    def _events(self, now_s: float) -> dict[str, int]:
        if not self._error_counters.is_due(now_s):
            return {}
        return self.ask("counters", lambda handle: self._error_counters.read(handle, now_s)) or {}

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
                compute_percent=sm.get(int(process.pid)) if sm else None,
                partition=int(process.gpuInstanceId) if self.is_partitioned else None,
            )
            for process in running
        )

    def _sm_percent(self) -> dict[int, int]:
        """SM use by pid since the last call; empty where the GPU does not report it."""
        samples = self.ask("compute_percent", lambda h: nvml.nvmlDeviceGetProcessUtilization(h, self._sm_since_us))
        if not samples:
            return {}
        self._sm_since_us = max(int(sample.timeStamp) for sample in samples)
        return {int(sample.pid): int(sample.smUtil) for sample in samples}


def _mig_instances(handle: Any) -> dict[int, GpuPartition]:
    """By number, of every MIG device; several devices of one instance share its slices and its memory."""
    partitions: dict[int, GpuPartition] = {}
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            device = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except nvml.NVMLError as error:
            if error.value in (nvml.NVML_ERROR_NOT_FOUND, nvml.NVML_ERROR_INVALID_ARGUMENT):
                continue
            raise
        instance = int(nvml.nvmlDeviceGetGpuInstanceId(device))
        slices = int(nvml.nvmlDeviceGetAttributes_v2(device).gpuInstanceSliceCount)
        partitions[instance] = GpuPartition(
            slices=slices, memory_used_mib=int(nvml.nvmlDeviceGetMemoryInfo(device).used) >> 20
        )
    return partitions
