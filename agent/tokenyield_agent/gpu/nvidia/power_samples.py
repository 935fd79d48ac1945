"""The sensor's buffer of power samples, from one poll to the next.

In: NVML's buffer. Out: (time stamp in us, power in mW) of what is new, after the newest of the call before, so that
spans join. Samples that no board can have are left out, and spans do not join over more time than has passed. Stamps
follow the wall clock: where it is set back, or one stamp lies in the future, all later samples seem old. Then, after
`STEADY_S`, the buffer is begun anew.
"""

from collections.abc import Sequence
from typing import Any

import pynvml as nvml

from tokenyield_agent.gpu.plausible import STEADY_S, power_bound_mw

LAG_S = 1.0
"""How far the newest sample of the call before may have lain behind it."""
Samples = tuple[tuple[int, int], ...]


class PowerSamples:
    """Those of one GPU."""

    def __init__(self) -> None:
        self._newest = (0, 0)
        self._fresh_at_s: float | None = None

    def ask(self, handle: Any) -> Samples:
        """What the buffer holds since the newest. Raises NVMLError."""
        try:
            kind, samples = nvml.nvmlDeviceGetSamples(handle, nvml.NVML_TOTAL_POWER_SAMPLES, self._newest[0])
        except nvml.NVMLError as error:
            if error.value == nvml.NVML_ERROR_NOT_FOUND:  # nothing new
                return ()
            raise
        name = "ullVal" if kind == nvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG else "uiVal"
        return tuple((int(sample.timeStamp), int(getattr(sample.sampleValue, name))) for sample in samples)

    def since_last(self, samples: Sequence[tuple[int, int]], power_max_mw: int | None, now_s: float) -> Samples:
        """The newest of the call before, and the new ones in order. `now_s` is monotonic."""
        bound_mw = power_bound_mw(power_max_mw)
        fresh = sorted(sample for sample in samples if sample[0] > self._newest[0] and sample[1] <= bound_mw)
        since = (self._newest,) if self._newest[0] else ()
        if fresh:
            passed_s = now_s - self._fresh_at_s if self._fresh_at_s is not None else 0.0
            if since and fresh[-1][0] - since[0][0] > (passed_s + LAG_S) * 1e6:
                since = ()
            self._newest, self._fresh_at_s = fresh[-1], now_s
        elif self._fresh_at_s is not None and now_s - self._fresh_at_s > STEADY_S:
            self._newest, self._fresh_at_s = (0, 0), None
            return ()
        return (*since, *fresh)
