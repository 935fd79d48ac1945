"""Metric families as data: one table in each program makes its /metrics and docs/metrics.md.

Names follow the Prometheus conventions (base units, `_total` for counters); `otel` is the name of the same thing in
OpenTelemetry's semantic conventions (hw.*, gen_ai.*), where they have one.
"""

from collections.abc import Mapping, Sequence
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

Labels = TypeVar("Labels", bound=tuple[str, ...])


class TakesSamples(Protocol):
    """A family with its samples, in the form that a program exposes."""

    def add_metric(self, labels: Sequence[str], value: float) -> None: ...


Metric = TypeVar("Metric", bound=TakesSamples)


class Family(NamedTuple):
    """One metric: its exposed name, kind, help text and label names."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()
    otel: str = ""


class MakesMetrics(Generic[Metric]):
    """What a program's own kind of `Family` has beside: families with samples."""

    __slots__ = ()

    def new(self) -> Metric:
        """Without samples; label values are neutralized as they are added."""
        raise NotImplementedError

    def samples(self, values: Mapping[Labels, float]) -> Metric:
        """With a sample for each of the label values."""
        metric = self.new()
        for labels, value in values.items():
            metric.add_metric(labels, value)
        return metric

    def of(self, value: float) -> Metric:
        """With its one sample, for one without labels."""
        return self.samples({(): value})
