"""Held GPUs that make nothing."""

import pytest

from tokenyield_agent.gpu.reading import Activity, GpuReading
from tokenyield_agent.windows.parked import mark_parked
from tokenyield_agent.windows.span import GpuSpan
from tokenyield_agent.workloads.binding import UNTIED, Holding

NOW_MS, AFTER_MS = 10_000_000, 600_000
QUIET, BUSY = NOW_MS - AFTER_MS, NOW_MS - AFTER_MS + 1


def marked(
    *,
    state: str = "idle",
    compute_bp: int | None = 0,
    percent: int | None = 0,
    weights: dict[str, int] | None = None,
    split: str = "exclusive",
    since: dict[str, int] | None = None,
) -> GpuSpan:
    activity = None if compute_bp is None else Activity(span_ms=1000, compute_bp=compute_bp)
    reading = GpuReading(uuid="G", index=0, activity=activity, utilization_percent=percent)
    holding = Holding(held=True, split=split, weights={"chat": 1} if weights is None else weights)
    span = GpuSpan(uuid="G", state=state, reading=reading, holding=holding)
    quiet_since_ms = {"chat": QUIET} if since is None else since
    (found,) = mark_parked([span], quiet_since_ms, now_ms=NOW_MS, after_ms=AFTER_MS, activity_bp_max=500)
    return found


@pytest.mark.parametrize(
    ("case", "parked"),
    [
        ({}, True),
        ({"state": "active", "compute_bp": 480, "percent": 100}, True),  # polls with tiny kernels
        ({"state": "active", "compute_bp": 520, "percent": 100}, False),
        ({"state": "active", "compute_bp": None, "percent": 4}, True),  # an older GPU: at most so busy
        ({"state": "active", "compute_bp": None, "percent": 60}, False),
        ({"since": {"chat": BUSY}}, False),
        ({"since": {}}, False),  # nobody reads its tokens
        ({"weights": {"chat": 1, "other": 1}}, False),
        ({"weights": {"chat": 1, "other": 1}, "since": {"chat": QUIET, "other": QUIET}}, True),
        ({"weights": {"chat": 1, UNTIED: 1}}, False),  # somebody unknown may be at work
        ({"weights": {"chat": 3, UNTIED: 4}, "split": "mig"}, True),  # slices that nobody holds
        ({"weights": {}}, False),
        ({"state": "unallocated"}, False),
        ({"state": "unknown"}, False),
        ({"compute_bp": None, "percent": None}, False),
    ],
)
def test_what_is_parked(case: dict[str, object], parked: bool) -> None:
    span = marked(**case)  # type: ignore[arg-type]
    assert span.parked == parked
    assert span.state == ("idle" if parked else case.get("state", "idle"))
