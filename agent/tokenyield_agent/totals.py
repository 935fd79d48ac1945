"""What each GPU has done since the agent started, for its own /metrics. Pure. Windows are reckoned in window.py."""

from collections import defaultdict
from collections.abc import Iterable

from tokenyield_agent.gpu.span import GpuSpan
from tokenyield_wire.units import apportion

HOLDERS_MAX = 512
"""Pairs of a workload and a GPU that keep their name; what comes later is '(other)'."""
OTHER = "(other)"


class Totals:
    """Sums of spans, in ms."""

    def __init__(self) -> None:
        self.state_ms: dict[tuple[str, str], int] = defaultdict(int)
        """(GPU, state)"""
        self.throttled_ms: dict[tuple[str, str], int] = defaultdict(int)
        """(GPU, reason)"""
        self.held_ms: dict[tuple[str, str, str], int] = defaultdict(int)
        """(workload, GPU, state)"""
        self._holders: set[tuple[str, str]] = set()

    def add(self, spans: Iterable[GpuSpan], duration_ms: int) -> None:
        """Every span is `duration_ms` long."""
        for span in spans:
            self.state_ms[span.uuid, span.state] += duration_ms
            if span.state == "unknown":
                continue
            for reason in (span.reading and span.reading.throttle_reasons) or ():
                self.throttled_ms[span.uuid, reason] += duration_ms
            weights = span.holding.weights
            if span.state in ("active", "idle") and weights:
                parts = apportion(duration_ms, list(weights.values()))
                for workload, part_ms in zip(weights, parts, strict=True):
                    self.held_ms[self._name(workload, span.uuid), span.uuid, span.state] += part_ms

    def _name(self, workload: str, uuid: str) -> str:
        if (workload, uuid) not in self._holders and len(self._holders) >= HOLDERS_MAX:
            return OTHER
        self._holders.add((workload, uuid))
        return workload
