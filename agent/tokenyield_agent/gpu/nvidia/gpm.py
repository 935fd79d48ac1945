"""GPM, the performance counters of Hopper and later, as means between two polls.

In: a GPU's handle. Out: an `Activity` per `read()`, the means since the one before.
GPM needs no privilege, but the counters must be free: while a profiler holds them `read` gives None.
A partitioned GPU (MIG) is counted instance by instance, and the whole is the mean by compute slices.

What a reading costs is in bench/gpu/README.md.
"""

import ctypes
import time
from collections.abc import Callable, Collection
from math import inf
from typing import Any

import pynvml as nvml

from tokenyield_agent.gpu.reading import Activity

_METRICS = (
    nvml.NVML_GPM_METRIC_SM_UTIL,
    nvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL,
    nvml.NVML_GPM_METRIC_DRAM_BW_UTIL,
    nvml.NVML_GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC,
    nvml.NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC,
    nvml.NVML_GPM_METRIC_PCIE_RX_PER_SEC,
    nvml.NVML_GPM_METRIC_PCIE_TX_PER_SEC,
)
# Attributes of the binding's structures look for text to decode, which took a fifth of a poll of eight GPUs.
_RETURN_OF = nvml.c_nvmlGpmMetric_t.nvmlReturn.__get__
_VALUE_OF = nvml.c_nvmlGpmMetric_t.value.__get__
PERCENT_MAX = 101.0
RATE_MIB_S_MAX = 2**24
"""16 TiB/s; the links of a GPU of 2026 move a fifth of that."""


def is_supported(handle: Any) -> bool:
    """Raises NVMLError where the driver is too old to report it (before 520)."""
    return bool(nvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice)


class _SamplePair:
    """Two samples of one GPU or one instance of it, taken in turn."""

    def __init__(self, take: Callable[[Any], Any]) -> None:
        self._take = take
        self._request = nvml.c_nvmlGpmMetricsGet_t()
        self._request.version = nvml.NVML_GPM_METRICS_GET_VERSION
        self._request.numMetrics = len(_METRICS)
        self._answers = [self._request.metrics[place] for place in range(len(_METRICS))]
        for answer, metric in zip(self._answers, _METRICS, strict=True):
            answer.metricId = metric
        self._samples = [nvml.nvmlGpmSampleAlloc(), nvml.nvmlGpmSampleAlloc()]
        self._taken_s: float | None = None

    def read(self) -> Activity | None:
        """Of the time since the last call; None at the first one. Raises NVMLError."""
        older, newer = self._samples
        before_s = self._taken_s
        self._taken_s = None  # unless this goes well the next call begins anew
        self._take(newer)
        taken_s = time.monotonic()
        self._samples = [newer, older]
        self._taken_s = taken_s
        if before_s is None:
            return None
        self._request.sample1, self._request.sample2 = older, newer
        nvml.nvmlGpmMetricsGet(self._request)
        sm, tensor, dram, nvlink_rx, nvlink_tx, pcie_rx, pcie_tx = self._values()
        return Activity(
            span_ms=round((taken_s - before_s) * 1000),
            compute_bp=_share_bp(sm),
            matrix_bp=_share_bp(tensor),
            memory_bandwidth_bp=_share_bp(dram),
            link_mib_s=_rate(_sum(nvlink_rx, nvlink_tx)),
            pcie_mib_s=_rate(_sum(pcie_rx, pcie_tx)),
        )

    def _values(self) -> list[float | None]:
        """As `_METRICS`; None for what this GPU does not count, and for what is not a number."""
        return [
            value if _RETURN_OF(answer) == nvml.NVML_SUCCESS and 0 <= (value := _VALUE_OF(answer)) < inf else None
            for answer in self._answers
        ]

    def close(self) -> None:
        for sample in self._samples:
            nvml.nvmlGpmSampleFree(sample)


class Gpm:
    """What GPM counts of one GPU."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._whole: _SamplePair | None = None
        self._instances: dict[int, _SamplePair] = {}
        self.by_instance: dict[int, Activity] = {}
        """At the last `read`, of a partitioned GPU."""

    def read(self, slices: dict[int, int] | None = None, slices_max: int = 0) -> Activity | None:
        """Since the last call. `slices`: compute slices of each GPU instance where the GPU is partitioned, of
        `slices_max` in all. Raises NVMLError."""
        if not slices:
            if self._whole is None:
                self._whole = _SamplePair(lambda sample: nvml.nvmlGpmSampleGet(self._handle, sample))
            return self._whole.read()
        self._forget_all_but(slices.keys())
        self.by_instance = {}
        for instance in slices:
            if instance not in self._instances:
                self._instances[instance] = _SamplePair(_taker(self._handle, instance))
            if (activity := self._instances[instance].read()) is not None:
                self.by_instance[instance] = activity
        return _whole(self.by_instance, slices, slices_max) if self.by_instance else None

    def _forget_all_but(self, instances: Collection[int]) -> None:
        for instance in self._instances.keys() - instances:
            self._instances.pop(instance).close()

    def close(self) -> None:
        """Raises NVMLError."""
        for samples in (self._whole, *self._instances.values()):
            if samples is not None:
                samples.close()
        self._whole, self._instances = None, {}


def _taker(handle: Any, instance: int) -> Callable[[Any], Any]:
    number = ctypes.c_uint(instance)
    return lambda sample: nvml.nvmlGpmMigSampleGet(handle, number, sample)


def _whole(of: dict[int, Activity], slices: dict[int, int], slices_max: int) -> Activity:
    """Of the whole GPU, whose slices without an instance do nothing; traffic is not reported by instance."""
    all_slices = max(slices_max, sum(slices.values()))

    def mean(name: str) -> int | None:
        values = [(slices[instance], getattr(activity, name)) for instance, activity in of.items()]
        known = [(weight, value) for weight, value in values if value is not None]
        return round(sum(weight * value for weight, value in known) / all_slices) if known else None

    return Activity(
        span_ms=max(activity.span_ms for activity in of.values()),
        compute_bp=mean("compute_bp"),
        matrix_bp=mean("matrix_bp"),
        memory_bandwidth_bp=mean("memory_bandwidth_bp"),
    )


def _sum(one: float | None, other: float | None) -> float | None:
    return one + other if one is not None and other is not None else None


def _share_bp(percent: float | None) -> int | None:
    """None where it is more than all; a mean of two samples may be a little above it."""
    return None if percent is None or percent > PERCENT_MAX else min(10_000, round(percent * 100))


def _rate(mib_s: float | None) -> int | None:
    return None if mib_s is None or mib_s > RATE_MIB_S_MAX else round(mib_s)
