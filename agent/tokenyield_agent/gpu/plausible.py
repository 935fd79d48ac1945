"""What a GPU can show at all: bounds of every value of a reading. Pure.

In: a reading as the driver gave it. Out: the same without the values that no board can have, each named in
`failures` as implausible, so that it is counted and shown, and never integrated. Drivers return such values for a
moment when a GPU wakes up or fails: 2^32-1 mW, a used memory above the total, 4,294,967,295 %.

Power is bounded by what this board may draw (`power_max_mw`, the highest limit that it can be set to), with a
tolerance for moments above it, energy by that power times the time (windows/energy.py).
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tokenyield_agent.gpu.reading import GpuProcess, GpuReading

IMPLAUSIBLE = "implausible"
POWER_TOLERANCE_PERCENT = 150
"""Of a board's limit: regulators let a board exceed it for milliseconds, which a present power may show."""
POWER_MW_MAX = 5_000_000
"""Of a board that names no limit of its own, or one outside of this. A module of two GPUs has about 3 kW."""
POWER_LIMIT_MW_MIN = 5_000
ENERGY_MJ_MAX = 2**52
"""Thirty years of a board at `POWER_MW_MAX`."""
STEADY_S = 3.0
"""The longest that power is bridged over (daemon.GAP_MS_MAX): what is older stands for nothing new."""
TEMPERATURE_C_MAX = 150
CLOCK_MHZ_MAX = 10_000
MEMORY_MIB_MAX = 2**24
"""16 TiB."""
PID_MAX = 2**22
"""Of Linux (PID_MAX_LIMIT)."""
_QUANTITIES = {
    "energy_mj": "energy",
    "power_mw": "power",
    "power_average": "power",
    "power_instant": "power",
    "utilization_percent": "utilization",
    "temperature_c": "temperature",
    "core_clock_mhz": "clock",
    "core_clock_max_mhz": "clock",
    "memory_total_mib": "memory",
    "memory_used_mib": "memory",
}
"""Field -> name in `GpuReading.failures`."""


def power_limit_mw(limit_mw: int | None) -> int | None:
    """A board's limit as the driver gave it; None where it is none."""
    return limit_mw if limit_mw is not None and POWER_LIMIT_MW_MIN <= limit_mw <= POWER_MW_MAX else None


def power_bound_mw(power_max_mw: int | None) -> int:
    """The highest power that is believed of a board with this limit."""
    return POWER_MW_MAX if power_max_mw is None else power_max_mw * POWER_TOLERANCE_PERCENT // 100


def plausible(reading: GpuReading, steady: GpuReading | None = None) -> GpuReading:
    """The reading without what cannot be. `steady`: an earlier one, `STEADY_S` ago at most, whose power stands for one
    that cannot be, or that failed."""
    impossible = list(_impossible(reading))
    odd = reading.processes is not None and any(map(_is_odd, reading.processes))
    if not impossible and not odd and "power" not in reading.failures:
        return reading
    changes: dict[str, Any] = dict.fromkeys(impossible)
    failures = reading.failures | dict.fromkeys((_QUANTITIES[name] for name in impossible), IMPLAUSIBLE)
    if odd:
        changes["processes"] = tuple(map(_process, reading.processes or ()))
        failures["processes"] = IMPLAUSIBLE
    if steady is not None and "power" in failures:
        changes |= dict(_steady_power(reading, changes, steady))
    return replace(reading, **changes, failures=failures)


def _steady_power(reading: GpuReading, changes: dict[str, Any], steady: GpuReading) -> Iterator[tuple[str, Any]]:
    if steady.power_mw is not None and changes.get("power_mw", reading.power_mw) is None:
        yield "power_mw", steady.power_mw
    for name in ("power_average", "power_instant"):
        stamped, before = getattr(reading, name), getattr(steady, name)
        if name in changes and before is not None:
            yield name, (stamped[0], before[1])


def _impossible(reading: GpuReading) -> Iterator[str]:
    """Names of fields. Written out for its pace: it is asked of every reading."""
    if reading.energy_mj is not None and not 0 <= reading.energy_mj <= ENERGY_MJ_MAX:
        yield "energy_mj"
    bound_mw = power_bound_mw(reading.power_max_mw)
    if reading.power_mw is not None and not 0 <= reading.power_mw <= bound_mw:
        yield "power_mw"
    if reading.power_average is not None and not 0 <= reading.power_average[1] <= bound_mw:
        yield "power_average"
    if reading.power_instant is not None and not 0 <= reading.power_instant[1] <= bound_mw:
        yield "power_instant"
    if reading.utilization_percent is not None and not 0 <= reading.utilization_percent <= 100:
        yield "utilization_percent"
    if reading.temperature_c is not None and not 0 <= reading.temperature_c <= TEMPERATURE_C_MAX:
        yield "temperature_c"
    if reading.core_clock_mhz is not None and not 0 <= reading.core_clock_mhz <= CLOCK_MHZ_MAX:
        yield "core_clock_mhz"
    if reading.core_clock_max_mhz is not None and not 0 < reading.core_clock_max_mhz <= CLOCK_MHZ_MAX:
        yield "core_clock_max_mhz"
    total_mib = reading.memory_total_mib
    if total_mib is not None and not 0 < total_mib <= MEMORY_MIB_MAX:
        yield "memory_total_mib"
        total_mib = None
    if reading.memory_used_mib is not None and not 0 <= reading.memory_used_mib <= (total_mib or MEMORY_MIB_MAX):
        yield "memory_used_mib"


def _is_odd(process: GpuProcess) -> bool:
    return (
        not 0 <= process.pid <= PID_MAX
        or (process.memory_mib is not None and process.memory_mib > MEMORY_MIB_MAX)
        or (process.compute_percent is not None and process.compute_percent > 100)
    )


def _process(process: GpuProcess) -> GpuProcess:
    """It still holds the GPU, whoever it is and whatever it uses."""
    memory_mib, percent = process.memory_mib, process.compute_percent
    return replace(
        process,
        pid=process.pid if 0 <= process.pid <= PID_MAX else 0,
        memory_mib=None if memory_mib is not None and memory_mib > MEMORY_MIB_MAX else memory_mib,
        compute_percent=None if percent is not None and percent > 100 else percent,
    )
