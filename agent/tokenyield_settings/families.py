"""Metric families as data: one table in each program makes its /metrics and docs/metrics.md.

Names follow the Prometheus conventions (base units, `_total` for counters); `otel` is the name of the same thing in
OpenTelemetry's semantic conventions (hw.*, gen_ai.*), where they have one.
"""

from typing import Literal, NamedTuple


class Family(NamedTuple):
    """One metric: its exposed name, kind, help text and label names."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()
    otel: str = ""
