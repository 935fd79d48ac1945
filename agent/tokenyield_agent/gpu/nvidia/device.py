"""One GPU through NVML: what it supports is found once in a while, what turns out slow is read less often.

In: its index. Out: a `GpuReading` per `read()`. A quantity that the GPU does not have is absent, and not read again for
`PROBE_S`. One that is slow keeps its last value in between (backoff.py). One that fails, with whatever code, is None at
this poll, is named in `GpuReading.failures`, and is read again at the next: a quantity that has been read once is never
taken for absent. A GPU of which neither what it does nor what it uses can be read raises `GpuUnreadableError`.

How the GPU's energy is measured (windows/energy.py) is chosen here, the best that there is:

* `counter`: nvmlDeviceGetTotalEnergyConsumption, also as a field value; not on a module whose counter is not the GPU's
  alone (`_COUNTER_OF_MODULE`);
* `average`: NVML_FI_DEV_POWER_AVERAGE, the mean power over the last second;
* `samples`: nvmlDeviceGetSamples of total power, the sensor's own buffer;
* `instant`: NVML_FI_DEV_POWER_INSTANT, the present power with a time stamp;
* `power`: nvmlDeviceGetPowerUsage, without one.

Fields are asked in NVML_POWER_SCOPE_GPU, which is the binding's default: of the GPU, and not of the module that it
shares with a CPU. Nothing here changes a GPU: no setting is written, no counter reset, no mode switched.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

import pynvml as nvml

from tokenyield_agent.gpu.backoff import SLOW_S, Backoff
from tokenyield_agent.gpu.nvidia import gpm
from tokenyield_agent.gpu.nvidia.events import ErrorCounters, field_number
from tokenyield_agent.gpu.nvidia.faults import (
    ABSENT,
    NO_UUID,
    UNREAD,
    GpuUnreadableError,
    is_fatal,
    reason_of,
)
from tokenyield_agent.gpu.nvidia.partitions import instances_max, mig_instances
from tokenyield_agent.gpu.nvidia.power_samples import PowerSamples
from tokenyield_agent.gpu.nvidia.text import text_of
from tokenyield_agent.gpu.plausible import power_limit_mw
from tokenyield_agent.gpu.reading import Activity, GpuPartition, GpuProcess, GpuReading

log = logging.getLogger(__name__)

PROBE_S = 600.0
"""Between looks for quantities that were absent: a driver's update or a mode that is switched brings some."""
PROBE_AGAIN_S = 30.0
"""The same where a look failed."""
STAMP_AHEAD_US = 3_000_000
"""A time stamp further in the future than this is not believed, or the next samples would seem old."""
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
NUMBER_MAX = 255
"""The highest minor number of a GPU's device file; from there on are other devices of the driver."""
_COUNTER_OF_MODULE = ("GH200",)
"""In the product name of Grace Hopper, whose energy counter is the whole module's: GPU, CPU and memory."""


class Device:
    """One GPU's handle, its fixed facts, and how it is read."""

    def __init__(self, index: int, now_s: float) -> None:
        """`now_s` is monotonic. Raises NVMLError or `GpuUnreadableError` where the GPU cannot be opened."""
        self.handle = nvml.nvmlDeviceGetHandleByIndex(index)
        self.index = index
        self.uuid = text_of(nvml.nvmlDeviceGetUUID, self.handle)
        if not self.uuid:
            raise GpuUnreadableError(NO_UUID)
        self.absent: set[str] = set()
        self.slow: dict[str, Backoff] = {}
        self.failures: dict[str, str] = {}
        """Quantity -> reason, at the last reading."""
        self._failures_before: dict[str, str] = {}
        self._last_values: dict[str, Any] = {}
        """Of quantities that are slow."""
        self._known: set[str] = set()
        """Quantities that have been read once."""
        self._is_stale = False
        """Whether a slow quantity kept its last value since this was last cleared."""
        self._energy_read_ms: int | None = None
        self._now_s = now_s
        self._sm_since_us = 0
        self._samples = PowerSamples()
        self._error_counters = ErrorCounters()
        self._gpm: gpm.Gpm | None = None
        self.model: str | None = None
        self._number: int | None = None
        self.is_partitioned = False
        self._sm_clock_max_mhz: int | None = None
        self._power_max_mw: int | None = None
        self._fields: list[int] = []
        self.energy_method: str | None = None
        self._probe(now_s)

    def _probe(self, now_s: float) -> None:
        """Look for what the GPU supports. What was found before and cannot be asked now stays as it was."""
        self.absent.clear()
        self.model = self.ask("model", lambda handle: text_of(nvml.nvmlDeviceGetName, handle)) or self.model
        number = self.ask("device_number", nvml.nvmlDeviceGetMinorNumber)
        self._number = number if number is not None and number <= NUMBER_MAX else self._number
        if (mode := self.ask("mig", lambda handle: nvml.nvmlDeviceGetMigMode(handle)[0])) is not None:
            self.is_partitioned = mode == 1
        clock_mhz = self.ask("sm_clock_max", lambda h: nvml.nvmlDeviceGetMaxClockInfo(h, nvml.NVML_CLOCK_SM))
        self._sm_clock_max_mhz = clock_mhz if clock_mhz is not None else self._sm_clock_max_mhz
        self._power_max_mw = self._power_limit_mw() or self._power_max_mw
        if self._gpm is None and self.ask("gpm", gpm.is_supported):
            self._gpm = gpm.Gpm(self.handle)
        self._fields = self._supported_fields() or self._fields
        self.energy_method = self._choose_energy_method() or self.energy_method
        self._probe_at_s = now_s + (PROBE_AGAIN_S if self.failures else PROBE_S)

    def _power_limit_mw(self) -> int | None:
        """The highest that can be set, else the present one."""
        highest = self.ask("power_limits", lambda h: nvml.nvmlDeviceGetPowerManagementLimitConstraints(h)[1])
        return power_limit_mw(highest) or power_limit_mw(self.ask("power_limit", nvml.nvmlDeviceGetEnforcedPowerLimit))

    def _supported_fields(self) -> list[int]:
        values = self.ask("fields", lambda handle: nvml.nvmlDeviceGetFieldValues(handle, list(_POWER_FIELDS))) or ()
        fields = [int(value.fieldId) for value in values if value.nvmlReturn == nvml.NVML_SUCCESS]
        return [field for field in fields if self._has_own_counter or field != _POWER_FIELDS[0]]

    @property
    def _has_own_counter(self) -> bool:
        return not any(name in (self.model or "") for name in _COUNTER_OF_MODULE)

    def _choose_energy_method(self) -> str | None:
        has_counter = nvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION in self._fields
        if has_counter or self._energy_mj() is not None:
            self._fields = [field for field in self._fields if field != nvml.NVML_FI_DEV_POWER_INSTANT]
            return "counter"
        if nvml.NVML_FI_DEV_POWER_AVERAGE in self._fields:
            return "average"
        if self.energy_method == "samples" or self._power_samples() is not None:
            return "samples"
        if nvml.NVML_FI_DEV_POWER_INSTANT in self._fields:
            return "instant"
        return "power" if self.ask("power", nvml.nvmlDeviceGetPowerUsage) is not None else None

    def ask(self, quantity: str, function: Callable[[Any], Any]) -> Any:
        """The quantity's value, its last one where it is slow, or None where it is unsupported or failed. That the GPU
        or the driver is gone goes up as NVMLError."""
        if quantity in self.absent:
            return None
        backoff = self.slow.get(quantity)
        if backoff is not None and not backoff.is_due():
            if quantity in self._failures_before:
                self.failures[quantity] = self._failures_before[quantity]
            self._is_stale = True
            return self._last_values.get(quantity)
        started_s = time.perf_counter()
        try:
            value = function(self.handle)
        except Exception as error:
            if isinstance(error, nvml.NVMLError) and is_fatal(error):
                raise
            self._note_failure(quantity, error)
            value = None
        else:
            self._known.add(quantity)
        took_s = time.perf_counter() - started_s
        if took_s > SLOW_S or backoff is not None:
            self._note_time(quantity, value, took_s, backoff)
        return value

    def _note_failure(self, quantity: str, error: Exception) -> None:
        if isinstance(error, nvml.NVMLError) and error.value in ABSENT and quantity not in self._known:
            self.absent.add(quantity)
            log.debug("gpu=%s %s is not available: %s", self.uuid, quantity, error)
            return
        reason = reason_of(error)
        if reason == UNREAD and self._failures_before.get(quantity) != UNREAD:
            log.warning("gpu=%s %s cannot be understood: %r", self.uuid, quantity, error)
        self.failures[quantity] = reason

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
        """`now_s` is monotonic. Raises NVMLError where the GPU or the driver is gone, `GpuUnreadableError` where
        nothing that matters can be read."""
        self._now_s = now_s
        self._failures_before, self.failures = self.failures, {}
        if now_s >= self._probe_at_s:
            self._probe(now_s)
        self._is_stale = False
        power = self._power_of_fields()
        counter = power.get(nvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION)
        energy_mj = counter[1] if counter else self._energy_mj()
        if not self._is_stale:
            self._energy_read_ms = int(time.monotonic() * 1000)
        average, instant = power.get(nvml.NVML_FI_DEV_POWER_AVERAGE), power.get(nvml.NVML_FI_DEV_POWER_INSTANT)
        power_mw = average[1] if average else self.ask("power", nvml.nvmlDeviceGetPowerUsage)
        utilization = self.ask("utilization", nvml.nvmlDeviceGetUtilizationRates)
        if utilization is None and energy_mj is None and power_mw is None and instant is None and self.failures:
            raise GpuUnreadableError(self.failures.get("utilization") or next(iter(self.failures.values())))
        memory = self.ask("memory", nvml.nvmlDeviceGetMemoryInfo)
        throttle = self.ask("throttle", nvml.nvmlDeviceGetCurrentClocksThrottleReasons)
        reasons = None if throttle is None else tuple(n for bit, n in _THROTTLE_BITS.items() if throttle & bit)
        partitions = self._partitions()
        activity = self._activity({number: partition.slices for number, partition in partitions.items()})
        return GpuReading(
            uuid=self.uuid,
            index=self.index,
            device_number=self._number,
            model=self.model,
            energy_mj=energy_mj,
            energy_read_ms=self._energy_read_ms,
            power_samples=self._power_samples() if self.energy_method == "samples" else None,
            power_average=average if self.energy_method == "average" else None,
            power_instant=instant if self.energy_method == "instant" else None,
            power_mw=power_mw,
            power_max_mw=self._power_max_mw,
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
            failures=self.failures,
            is_partitioned=self.is_partitioned,
            partitions=self._with_activity(partitions),
        )

    def close(self) -> None:
        """While NVML is still up."""
        if self._gpm is not None:
            try:
                self._gpm.close()
            except Exception as error:  # noqa: BLE001 - it is given up either way
                log.debug("nvmlGpmSampleFree: %s", error)

    # --- energy and power ----------------------------------------------------------------------------------------

    def _energy_mj(self) -> int | None:
        energy_mj: int | None = None
        if self._has_own_counter:
            energy_mj = self.ask("energy", nvml.nvmlDeviceGetTotalEnergyConsumption)
        return energy_mj

    def _power_of_fields(self) -> dict[int, tuple[int, int]]:
        """Field -> (the driver's time stamp in us, value), all in one call."""
        if not self._fields:
            return {}
        values = self.ask("fields", lambda handle: nvml.nvmlDeviceGetFieldValues(handle, self._fields)) or ()
        return {
            int(value.fieldId): (int(value.timestamp), number)
            for value in values
            if value.nvmlReturn == nvml.NVML_SUCCESS and (number := field_number(value)) is not None
        }

    def _power_samples(self) -> tuple[tuple[int, int], ...] | None:
        """From the newest of the last call to the newest now; None where the GPU keeps none."""
        fresh = self.ask("samples", self._samples.ask)
        if fresh is None and "samples" in self.absent:
            return None
        return self._samples.since_last(fresh or (), self._power_max_mw, self._now_s)

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
        except Exception as error:
            if isinstance(error, nvml.NVMLError) and is_fatal(error):
                raise
            if "gpm_metrics" not in self._last_values:
                log.info("gpu=%s GPM cannot be read now (a profiler may hold the counters): %s", self.uuid, error)
            self.slow.setdefault("gpm_metrics", Backoff()).took(float("inf"))
            self._last_values["gpm_metrics"] = None
            return None
        self._note_time("gpm_metrics", None, time.perf_counter() - started_s, backoff)
        return activity

    def _mig_slices_max(self) -> int:
        return int(self.ask("mig_slices_max", instances_max) or 0)

    def _partitions(self) -> dict[int, GpuPartition]:
        return (self.ask("mig_instances", mig_instances) or {}) if self.is_partitioned else {}

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
        samples = self.ask("compute_percent", self._ask_sm_percent)
        if not samples:
            return {}
        now_us = time.time_ns() // 1000 + STAMP_AHEAD_US
        stamps = [int(sample.timeStamp) for sample in samples]
        self._sm_since_us = max((stamp for stamp in stamps if stamp <= now_us), default=self._sm_since_us)
        return {int(sample.pid): int(sample.smUtil) for sample in samples}

    def _ask_sm_percent(self, handle: Any) -> Any:
        if self._sm_since_us > time.time_ns() // 1000 + STAMP_AHEAD_US:
            self._sm_since_us = 0  # the wall clock, which they are stamped by, was set back
        try:
            return nvml.nvmlDeviceGetProcessUtilization(handle, self._sm_since_us)
        except nvml.NVMLError as error:
            if error.value == nvml.NVML_ERROR_NOT_FOUND:  # none of them ran
                return ()
            raise
