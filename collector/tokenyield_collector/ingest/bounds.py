"""Bounds in time on the windows of a shipment. Pure.

In: a shipment and an instant (Unix ms). Out: a fault for each batch beyond it; none when all are within.
"""

from tokenyield_wire.window import Fault, Shipment


def too_early(shipment: Shipment, limit_ms: int) -> list[Fault]:
    """Batches whose windows end after `limit_ms`: the clock of the agent or of the collector is wrong."""
    expected = f"an end before {limit_ms} by the collector's clock (clock_skew_max_s); check NTP on both"
    return [
        Fault(f"batches[{i}].end_ms", str(batch.end_ms), expected)
        for i, batch in enumerate(shipment.batches)
        if batch.end_ms > limit_ms
    ]


def too_old(shipment: Shipment, limit_ms: int) -> list[Fault]:
    """Batches whose hour could not be recomputed with them, because its other windows may be gone."""
    expected = f"a window that starts at {limit_ms} or later (windows_keep_days)"
    return [
        Fault(f"batches[{i}].start_ms", str(batch.start_ms), expected)
        for i, batch in enumerate(shipment.batches)
        if batch.start_ms < limit_ms
    ]
