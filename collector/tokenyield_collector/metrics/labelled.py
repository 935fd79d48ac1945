"""Metric families whose label values are neutralized as they are added: the one way to a label of the collector."""

from collections.abc import Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from tokenyield_settings.families import Family, MakesMetrics
from tokenyield_settings.visible import visible


class LabelledCounter(CounterMetricFamily):
    """A counter."""

    def add_metric(self, labels: Sequence[str], value: float, *more: Any, **named: Any) -> None:
        super().add_metric([visible(label) for label in labels], value, *more, **named)


class LabelledGauge(GaugeMetricFamily):
    """A gauge."""

    def add_metric(self, labels: Sequence[str], value: float, *more: Any, **named: Any) -> None:
        super().add_metric([visible(label) for label in labels], value, *more, **named)


class CollectorFamily(Family, MakesMetrics[CounterMetricFamily | GaugeMetricFamily]):
    """A family of the collector's table."""

    __slots__ = ()

    def new(self) -> CounterMetricFamily | GaugeMetricFamily:
        kind = LabelledCounter if self.kind == "counter" else LabelledGauge
        return kind(self.name.removesuffix("_total"), self.help, labels=self.labels)
