"""GPUs that are held and make nothing: parked. Pure.

In: what GPUs did in a span, and since when each workload has made no token. Out: the same, with the parked ones marked.

A span is parked when everything that holds the GPU is a workload whose tokens are read and which has made none for
`after_ms`, and the compute units were busy at most up to `activity_bp_max`, by performance counters where the GPU has
them, else by the driver's utilization. Parked time is idle time, though tiny kernels may have run (a server that
polls), and is counted apart within it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from tokenyield_agent.windows.span import GpuSpan
from tokenyield_agent.workloads.binding import UNTIED


def mark_parked(
    spans: Iterable[GpuSpan], quiet_since_ms: Mapping[str, int], *, now_ms: int, after_ms: int, activity_bp_max: int
) -> list[GpuSpan]:
    """The spans, parked ones marked. `quiet_since_ms`: workload -> when it made its last token, or was first watched;
    it holds only workloads whose tokens are read."""
    quiet = {workload for workload, since_ms in quiet_since_ms.items() if now_ms - since_ms >= after_ms}
    return [
        replace(span, state="idle", parked=True) if _is_parked(span, quiet, activity_bp_max) else span for span in spans
    ]


def _is_parked(span: GpuSpan, quiet: set[str], activity_bp_max: int) -> bool:
    if span.state not in ("active", "idle") or not quiet:
        return False
    holders = span.holding.weights.keys() - ({UNTIED} if span.holding.split == "mig" else set())
    compute_bp = span.compute_bp
    return bool(holders) and holders <= quiet and compute_bp is not None and compute_bp <= activity_bp_max
