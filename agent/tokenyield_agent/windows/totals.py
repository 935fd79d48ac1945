"""What each GPU has done since the agent started, for its own /metrics. Pure. Windows are built in builder.py."""

from collections import defaultdict
from collections.abc import Iterable

from tokenyield_agent.gpu.reading import Activity
from tokenyield_agent.windows.span import GpuSpan
from tokenyield_wire.units import apportion

HOLDERS_MAX = 512
"""Pairs of a workload and a GPU that keep their name; what comes later is '(other)'."""
OTHER = "(other)"
_UNITS = {"compute_bp": "sm", "matrix_bp": "tensor", "memory_bandwidth_bp": "dram"}
_LINKS = {"link_mib_s": "nvlink", "pcie_mib_s": "pcie"}
"""Quantity of an Activity -> its name in the metric."""


class GpuTotals:
    """Sums of spans; the unit of each is in its name."""

    def __init__(self) -> None:
        self.state_ms: dict[tuple[str, str], int] = defaultdict(int)
        """(GPU, state)"""
        self.throttled_ms: dict[tuple[str, str], int] = defaultdict(int)
        """(GPU, reason)"""
        self.held_ms: dict[tuple[str, str, str], int] = defaultdict(int)
        """(workload, GPU, state)"""
        self.parked_ms: dict[str, int] = defaultdict(int)
        """GPU"""
        self.energy_mj: dict[tuple[str, str], int] = defaultdict(int)
        """(GPU, method)"""
        self.energy_error_mj: dict[str, int] = defaultdict(int)
        """GPU"""
        self.activity_bp_ms: dict[tuple[str, str], int] = defaultdict(int)
        """(GPU, unit: sm, tensor, dram) -> hundredths of a percent x ms"""
        self.moved_mib_ms: dict[tuple[str, str], int] = defaultdict(int)
        """(GPU, link: nvlink, pcie) -> MiB/s x ms"""
        self.throttled_lost_us: dict[tuple[str, str], int] = defaultdict(int)
        """(GPU, reason)"""
        self.host_mj: dict[str, int] = defaultdict(int)
        """Source"""
        self.events: dict[tuple[str, str], int] = defaultdict(int)
        """(GPU, event)"""
        self._holders: set[tuple[str, str]] = set()

    def copy(self) -> "GpuTotals":
        """As it is now, for another thread."""
        copied = GpuTotals()
        for name, sums in vars(self).items():
            setattr(copied, name, sums.copy())
        return copied

    def add(self, spans: Iterable[GpuSpan], duration_ms: int) -> None:
        """Every span is `duration_ms` long."""
        for span in spans:
            self.state_ms[span.uuid, span.state] += duration_ms
            self.parked_ms[span.uuid] += duration_ms * span.parked
            for event, times in span.events.items():
                self.events[span.uuid, event] += times
            if span.energy is not None:
                self.energy_mj[span.uuid, span.energy.method] += span.energy.mj
                self.energy_error_mj[span.uuid] += span.energy.error_mj
            if span.reading is not None and span.reading.activity is not None:
                self._add_activity(span.uuid, span.reading.activity)
            if span.state == "unknown":
                continue
            for reason in (span.reading and span.reading.throttle_reasons) or ():
                self.throttled_ms[span.uuid, reason] += duration_ms
            for reason, lost_us in span.throttled_lost_us(duration_ms).items():
                self.throttled_lost_us[span.uuid, reason] += lost_us
            weights = span.holding.weights
            if span.state in ("active", "idle") and weights:
                parts = apportion(duration_ms, list(weights.values()))
                for workload, part_ms in zip(weights, parts, strict=True):
                    self.held_ms[self._name(workload, span.uuid), span.uuid, span.state] += part_ms

    def _add_activity(self, uuid: str, activity: Activity) -> None:
        for quantity, unit in _UNITS.items():
            if (share_bp := getattr(activity, quantity)) is not None:
                self.activity_bp_ms[uuid, unit] += share_bp * activity.span_ms
        for quantity, link in _LINKS.items():
            if (rate_mib_s := getattr(activity, quantity)) is not None:
                self.moved_mib_ms[uuid, link] += rate_mib_s * activity.span_ms

    def _name(self, workload: str, uuid: str) -> str:
        if (workload, uuid) not in self._holders and len(self._holders) >= HOLDERS_MAX:
            return OTHER
        self._holders.add((workload, uuid))
        return _quoted(workload)


def _quoted(workload: str) -> str:
    """In quotes where it reads like '(other)' or '(untied)', which are no names. Injective."""
    return f'"{workload}"' if workload.strip('"').startswith("(") else workload
