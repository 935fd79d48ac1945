"""Metric families as data: one table in each program makes its /metrics and docs/metrics.md.

Names follow the Prometheus conventions (base units, `_total` for counters); `otel` is the name of the same thing in
OpenTelemetry's semantic conventions (hw.*, gen_ai.*), where they have one.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

if TYPE_CHECKING:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

Labels = TypeVar("Labels", bound=tuple[str, ...])


class Family(NamedTuple):
    """One metric: its exposed name, kind, help text and label names."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()
    otel: str = ""

    def new(self) -> "CounterMetricFamily | GaugeMetricFamily":
        """An empty family to add samples to; label values are neutralized as they are added."""
        from tokenyield_settings.labelled import LabelledCounter, LabelledGauge

        kind = LabelledCounter if self.kind == "counter" else LabelledGauge
        return kind(self.name.removesuffix("_total"), self.help, labels=self.labels)

    def samples(self, values: Mapping[Labels, float]) -> "CounterMetricFamily | GaugeMetricFamily":
        """The family with a sample for each of the label values."""
        metric = self.new()
        for labels, value in values.items():
            metric.add_metric(labels, value)
        return metric

    def of(self, value: float) -> "CounterMetricFamily | GaugeMetricFamily":
        """The family with its one sample, for one without labels."""
        return self.samples({(): value})
