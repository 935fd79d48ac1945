"""An application with OpenTelemetry's own SDK: sends to argv[1] with the token argv[2], and prints what it counted, as JSON.

Run by the interpreter of own_venv.py's `opentelemetry`. Cumulative and delta meters, a histogram and a counter, spans; it
exports several times, and the last export of each again.
"""

import json
import random
import sys

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

URL, TOKEN, SEED = sys.argv[1], sys.argv[2], int(sys.argv[3])
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
chance = random.Random(SEED)
counted: dict[str, int] = {}


class Twice(MetricExporter):  # type: ignore[misc]
    """Sends all twice, as a sender does that did not get its answer."""

    def __init__(self, exporter: OTLPMetricExporter) -> None:
        self._exporter = exporter
        super().__init__(exporter._preferred_temporality, exporter._preferred_aggregation)

    def export(self, metrics_data, timeout_millis=10_000, **kwargs):  # type: ignore[no-untyped-def]
        self._exporter.export(metrics_data, timeout_millis, **kwargs)
        return self._exporter.export(metrics_data, timeout_millis, **kwargs)

    def force_flush(self, timeout_millis=10_000):  # type: ignore[no-untyped-def]
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis=30_000, **kwargs):  # type: ignore[no-untyped-def]
        self._exporter.shutdown(timeout_millis, **kwargs)


def count(kind: str, amount: int) -> None:
    counted[kind] = counted.get(kind, 0) + amount


def meters(service: str, temporality: AggregationTemporality, draw_names: bool) -> None:
    """One process: tokens by histogram or by counter."""
    exporter = OTLPMetricExporter(
        f"{URL}/v1/metrics", headers=HEADERS, compression=Compression.Gzip,
        preferred_temporality={Counter: temporality, Histogram: temporality},
    )  # fmt: skip
    reader = PeriodicExportingMetricReader(Twice(exporter), export_interval_millis=3_600_000)
    provider = MeterProvider([reader], Resource({"service.name": service, "team.id": "search"}))
    meter = provider.get_meter("app")
    histogram = meter.create_histogram("gen_ai.client.token.usage")
    counters = {of: meter.create_counter(f"gen_ai.client.inference.usage.{of}_tokens") for of in ("input", "output")}
    for _ in range(4):
        for _ in range(chance.randrange(1, 5)):
            of, tokens = chance.choice(("input", "output")), chance.randrange(1, 10_000)
            named = {"gen_ai.provider.name": "openai", "gen_ai.request.model": chance.choice(("a", "b"))}
            if draw_names:
                counters[of].add(tokens, named)
            else:
                histogram.record(tokens, {**named, "gen_ai.token.type": of})
            count(of, tokens)
        provider.force_flush()
    provider.shutdown()


def spans() -> None:
    provider = TracerProvider(resource=Resource({"service.name": "traced"}))
    for _ in range(2):  # all twice
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{URL}/v1/traces", headers=HEADERS)))
    tracer = provider.get_tracer("app")
    for i in range(5):
        with tracer.start_as_current_span("agent", attributes={"gen_ai.operation.name": "invoke_agent"}) as agent:
            tokens = chance.randrange(1, 10_000)
            named = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "anthropic", "gen_ai.request.model": "c",
                     "gen_ai.usage.input_tokens": tokens, "gen_ai.usage.output_tokens": i,
                     "gen_ai.conversation.id": "c-1", "gen_ai.input.messages": "the-secret-prompt"}  # fmt: skip
            with tracer.start_as_current_span("chat", attributes=named):
                pass
            agent.set_attribute("gen_ai.usage.input_tokens", tokens)
            count("input", tokens)
            count("output", i)
    provider.shutdown()


meters("deltas", AggregationTemporality.DELTA, draw_names=False)
meters("totals", AggregationTemporality.CUMULATIVE, draw_names=False)
meters("totals", AggregationTemporality.CUMULATIVE, draw_names=False)  # restarted
meters("counters", AggregationTemporality.CUMULATIVE, draw_names=True)
spans()
print(json.dumps(counted))
