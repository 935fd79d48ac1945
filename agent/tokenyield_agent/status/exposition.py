"""The agent's metrics as text for Prometheus. Pure.

Written here because `prometheus_client` brings an HTTP server, `ssl` and `hashlib` with it, 6 MiB in a process that
runs beside every GPU; tests hold that its parsers read the same from this. Formats: Prometheus text 0.0.4
(https://prometheus.io/docs/instrumenting/exposition_formats/) and OpenMetrics 1.0
(https://prometheus.io/docs/specs/om/open_metrics_spec/).
"""

from collections.abc import Iterable, Iterator, Sequence

from tokenyield_settings.families import Family, MakesMetrics
from tokenyield_settings.visible import visible

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class MetricSamples:
    """A family with its samples; label values are neutralized as they are added."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self._samples: list[tuple[str, float]] = []

    def add_metric(self, labels: Sequence[str], value: float) -> None:
        """`labels` are the values of the family's labels, in its order."""
        pairs = (f'{name}="{_escaped(visible(label))}"' for name, label in zip(self.family.labels, labels, strict=True))
        self._samples.append((f"{{{','.join(pairs)}}}" if labels else "", value))

    def lines(self, *, openmetrics: bool) -> Iterator[str]:
        """`# HELP`, `# TYPE`, and a line for each sample."""
        family = self.family
        named = family.name.removesuffix("_total") if openmetrics else family.name
        help_text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
        yield f"# HELP {named} {help_text.replace(chr(34), chr(92) + chr(34)) if openmetrics else help_text}"
        yield f"# TYPE {named} {family.kind}"
        for labels, value in self._samples:
            yield f"{family.name}{labels} {float(value)!r}"


class AgentFamily(Family, MakesMetrics[MetricSamples]):
    """A family of the agent's table."""

    __slots__ = ()

    def new(self) -> MetricSamples:
        return MetricSamples(self)


def metrics_page(metrics: Iterable[MetricSamples], accept: str = "") -> tuple[str, str]:
    """(text, content type), in the format that the header `Accept` of the request asks for."""
    openmetrics = "application/openmetrics-text" in accept
    lines = [line for metric in metrics for line in metric.lines(openmetrics=openmetrics)]
    if openmetrics:
        lines.append("# EOF")
    return "".join(f"{line}\n" for line in lines), OPENMETRICS if openmetrics else TEXT


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
