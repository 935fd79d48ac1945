"""Metric families whose label values are neutralized as they are added: the one way to a label of the collector."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from tokenyield_settings.families import Family
from tokenyield_settings.visible import visible

Labels = TypeVar("Labels", bound=tuple[str, ...])


class LabelledCounter(CounterMetricFamily):
    """A counter."""

    def add_metric(self, labels: Sequence[str], value: float, *more: Any, **named: Any) -> None:
        super().add_metric([visible(label) for label in labels], value, *more, **named)


class LabelledGauge(GaugeMetricFamily):
    """A gauge."""

    def add_metric(self, labels: Sequence[str], value: float, *more: Any, **named: Any) -> None:
        super().add_metric([visible(label) for label in labels], value, *more, **named)


class CollectorFamily(Family):
    """A family of the collector's table."""

    __slots__ = ()

    def new(self) -> CounterMetricFamily | GaugeMetricFamily:
        """Without samples."""
        kind = LabelledCounter if self.kind == "counter" else LabelledGauge
        return kind(self.name.removesuffix("_total"), self.help, labels=self.labels)

    def samples(self, values: Mapping[Labels, float]) -> CounterMetricFamily | GaugeMetricFamily:
        """With a sample for each of the label values."""
        metric = self.new()
        for labels, value in values.items():
            metric.add_metric(labels, value)
        return metric

    def of(self, value: float) -> CounterMetricFamily | GaugeMetricFamily:
        """With its one sample, for one without labels."""
        return self.samples({(): value})
