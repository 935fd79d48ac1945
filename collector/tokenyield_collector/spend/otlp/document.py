"""OTLP requests, as far as tokens are in them. What is not named here (bodies, prompts, events of spans, links) is
skipped while a request is decoded, and is nowhere afterwards. Pure."""

import re
from typing import Any, TypeVar

import msgspec

Number = int | float | str
"""64-bit integers and what JSON has no number for come as text."""
OTLP_PREFIX = "/otlp"
"""Of the paths of OTLP where the setting otlp_prefix names no other."""
_INT64_CHARS = 20
_INT64 = re.compile(r"-?[0-9]{1,19}")


class AnyValue(msgspec.Struct, frozen=True, rename="camel"):
    """Of arrays and maps nothing is kept."""

    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | str | None = None
    double_value: Number | None = None

    @property
    def value(self) -> str | int | float | None:
        if self.string_value is not None:
            return self.string_value
        if self.bool_value is not None:
            return "true" if self.bool_value else "false"
        if isinstance(self.int_value, str):  # as JSON has it; protobuf says the same as a number
            return int(self.int_value) if _INT64.fullmatch(self.int_value) else self.int_value[:_INT64_CHARS]
        return self.int_value if self.int_value is not None else self.double_value


class KeyValue(msgspec.Struct, frozen=True):
    key: str = ""
    value: AnyValue | None = None


class Resource(msgspec.Struct, frozen=True):
    attributes: tuple[KeyValue, ...] = ()


class Scope(msgspec.Struct, frozen=True):
    name: str = ""


class Point(msgspec.Struct, frozen=True, rename="camel"):
    """Of a sum (a value), or of a histogram (a sum)."""

    attributes: tuple[KeyValue, ...] = ()
    start_time_unix_nano: int | str = 0
    time_unix_nano: int | str = 0
    as_double: Number | None = None
    as_int: int | str | None = None
    sum: Number | None = None
    flags: int = 0

    @property
    def value(self) -> Number | None:
        if self.as_int is not None:
            return self.as_int
        return self.as_double if self.as_double is not None else self.sum


class Points(msgspec.Struct, frozen=True, rename="camel"):
    """`aggregation_temporality`: 1 delta, 2 cumulative."""

    data_points: tuple[Point, ...] = ()
    aggregation_temporality: int = 0
    is_monotonic: bool = False


class Metric(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    sum: Points | None = None
    histogram: Points | None = None
    exponential_histogram: Points | None = None


class ScopeMetrics(msgspec.Struct, frozen=True):
    scope: Scope | None = None
    metrics: tuple[Metric, ...] = ()


class ResourceMetrics(msgspec.Struct, frozen=True, rename="camel"):
    resource: Resource | None = None
    scope_metrics: tuple[ScopeMetrics, ...] = ()


class MetricsRequest(msgspec.Struct, frozen=True, rename="camel"):
    """What `POST /otlp/v1/metrics` takes."""

    resource_metrics: tuple[ResourceMetrics, ...] = ()


class LogRecord(msgspec.Struct, frozen=True, rename="camel"):
    time_unix_nano: int | str = 0
    observed_time_unix_nano: int | str = 0
    event_name: str = ""
    attributes: tuple[KeyValue, ...] = ()


class ScopeLogs(msgspec.Struct, frozen=True, rename="camel"):
    log_records: tuple[LogRecord, ...] = ()


class ResourceLogs(msgspec.Struct, frozen=True, rename="camel"):
    resource: Resource | None = None
    scope_logs: tuple[ScopeLogs, ...] = ()


class LogsRequest(msgspec.Struct, frozen=True, rename="camel"):
    """What `POST /otlp/v1/logs` takes."""

    resource_logs: tuple[ResourceLogs, ...] = ()


class Span(msgspec.Struct, frozen=True, rename="camel"):
    trace_id: str = ""
    span_id: str = ""
    end_time_unix_nano: int | str = 0
    attributes: tuple[KeyValue, ...] = ()


class ScopeSpans(msgspec.Struct, frozen=True):
    spans: tuple[Span, ...] = ()


class ResourceSpans(msgspec.Struct, frozen=True, rename="camel"):
    resource: Resource | None = None
    scope_spans: tuple[ScopeSpans, ...] = ()


class TracesRequest(msgspec.Struct, frozen=True, rename="camel"):
    """What `POST /otlp/v1/traces` takes."""

    resource_spans: tuple[ResourceSpans, ...] = ()


Request = TypeVar("Request", MetricsRequest, LogsRequest, TracesRequest)
OtlpRequest = MetricsRequest | LogsRequest | TracesRequest
_DECODERS: dict[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (MetricsRequest, LogsRequest, TracesRequest)
}


def decode_json(body: bytes, kind: type[Request]) -> Request:
    """Raises `msgspec.DecodeError` (of which `ValidationError` is one), UnicodeDecodeError."""
    request = _DECODERS[kind].decode(body)
    assert isinstance(request, kind)
    return request
