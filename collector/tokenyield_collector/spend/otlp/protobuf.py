"""OTLP as protobuf: the fields that document.py has, by their numbers, and no other. Pure, and without a package.

Numbers are those of opentelemetry-proto, which never change them. Fields that are not listed are skipped unread.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from tokenyield_collector.spend.otlp import document as otlp
from tokenyield_collector.spend.otlp.document import Request

FieldKind = Literal["message", "messages", "text", "hex", "varint", "int64", "bool", "fixed64", "sfixed64", "double"]
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIRE_TYPES: Mapping[FieldKind, int] = {
    "message": _BYTES,
    "messages": _BYTES,
    "text": _BYTES,
    "hex": _BYTES,
    "varint": _VARINT,
    "int64": _VARINT,
    "bool": _VARINT,
    "fixed64": _FIXED64,
    "sfixed64": _FIXED64,
    "double": _FIXED64,
}
_VARINT_BYTES_MAX = 10


class _Field(NamedTuple):
    name: str
    kind: FieldKind
    message: "_Message | None" = None


class _Message(NamedTuple):
    kind: type
    fields: Mapping[int, _Field]


_VALUE = _Message(
    otlp.AnyValue,
    {
        1: _Field("string_value", "text"),
        2: _Field("bool_value", "bool"),
        3: _Field("int_value", "int64"),
        4: _Field("double_value", "double"),
    },
)
_PAIR = _Message(otlp.KeyValue, {1: _Field("key", "text"), 2: _Field("value", "message", _VALUE)})
_RESOURCE = _Message(otlp.Resource, {1: _Field("attributes", "messages", _PAIR)})
_SCOPE = _Message(otlp.Scope, {1: _Field("name", "text")})


def _point(attributes: int, flags: int, more: Mapping[int, _Field]) -> _Message:
    fields = {
        attributes: _Field("attributes", "messages", _PAIR),
        2: _Field("start_time_unix_nano", "fixed64"),
        3: _Field("time_unix_nano", "fixed64"),
        flags: _Field("flags", "varint"),
    }
    return _Message(otlp.Point, {**fields, **more})


def _points(point: _Message) -> _Message:
    fields = {
        1: _Field("data_points", "messages", point),
        2: _Field("aggregation_temporality", "varint"),
        3: _Field("is_monotonic", "bool"),
    }
    return _Message(otlp.Points, fields)


_NUMBER = _point(7, 8, {4: _Field("as_double", "double"), 6: _Field("as_int", "sfixed64")})
_HISTOGRAM = _point(9, 10, {5: _Field("sum", "double")})
_EXPONENTIAL = _point(1, 10, {5: _Field("sum", "double")})
_METRIC = _Message(
    otlp.Metric,
    {
        1: _Field("name", "text"),
        7: _Field("sum", "message", _points(_NUMBER)),
        9: _Field("histogram", "message", _points(_HISTOGRAM)),
        10: _Field("exponential_histogram", "message", _points(_EXPONENTIAL)),
    },
)
_RECORD = _Message(
    otlp.LogRecord,
    {
        1: _Field("time_unix_nano", "fixed64"),
        6: _Field("attributes", "messages", _PAIR),
        11: _Field("observed_time_unix_nano", "fixed64"),
        12: _Field("event_name", "text"),
    },
)
_SPAN = _Message(
    otlp.Span,
    {
        1: _Field("trace_id", "hex"),
        2: _Field("span_id", "hex"),
        8: _Field("end_time_unix_nano", "fixed64"),
        9: _Field("attributes", "messages", _PAIR),
    },
)


def _request(
    kind: type, of_resource: type, name: str, of_scope: type, scoped: str, items: str, item: _Message
) -> _Message:
    scope = {2: _Field(items, "messages", item)}
    if of_scope is otlp.ScopeMetrics:
        scope[1] = _Field("scope", "message", _SCOPE)
    resource = {
        1: _Field("resource", "message", _RESOURCE),
        2: _Field(scoped, "messages", _Message(of_scope, scope)),
    }
    return _Message(kind, {1: _Field(name, "messages", _Message(of_resource, resource))})


_REQUESTS = {
    otlp.MetricsRequest: _request(
        otlp.MetricsRequest, otlp.ResourceMetrics, "resource_metrics", otlp.ScopeMetrics, "scope_metrics",
        "metrics", _METRIC,
    ),
    otlp.LogsRequest: _request(
        otlp.LogsRequest, otlp.ResourceLogs, "resource_logs", otlp.ScopeLogs, "scope_logs", "log_records", _RECORD
    ),
    otlp.TracesRequest: _request(
        otlp.TracesRequest, otlp.ResourceSpans, "resource_spans", otlp.ScopeSpans, "scope_spans", "spans", _SPAN
    ),
}  # fmt: skip


def decode_protobuf(body: bytes, kind: type[Request]) -> Request:
    """Raises ValueError."""
    request = _decode(memoryview(body), _REQUESTS[kind])
    assert isinstance(request, kind)
    return request


def encode_answer(refused: int, why: str) -> bytes:
    """An Export…ServiceResponse: empty, or with how many points were refused, and why."""
    if not refused:
        return b""
    text = why.encode("utf-8", "replace")
    partial = b"\x08" + _varint(refused) + b"\x12" + _varint(len(text)) + text
    return b"\x0a" + _varint(len(partial)) + partial


def _decode(data: memoryview, message: _Message) -> Any:
    values: dict[str, Any] = {}
    for number, wire_type, value in _fields(data):
        field = message.fields.get(number)
        if field is None:
            continue
        if wire_type != _WIRE_TYPES[field.kind]:
            raise ValueError(f"field {number}: expected wire type {_WIRE_TYPES[field.kind]}, found {wire_type}")
        read = _value(field, value)
        if field.kind == "messages":
            values.setdefault(field.name, []).append(read)
        else:
            values[field.name] = read
    return message.kind(**{name: tuple(one) if isinstance(one, list) else one for name, one in values.items()})


def _value(field: _Field, value: Any) -> Any:
    match field.kind:
        case "message" | "messages":
            assert field.message is not None
            return _decode(value, field.message)
        case "text":
            return str(value, "utf-8", "replace")
        case "hex":
            return value.hex()
        case "int64":
            return value - 2**64 if value >= 2**63 else value
        case "bool":
            return bool(value)
        case "sfixed64":
            return int.from_bytes(value, "little", signed=True)
        case "fixed64":
            return int.from_bytes(value, "little")
        case "double":
            return struct.unpack("<d", value)[0]
        case _:
            return value


def _fields(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """(number, wire type, value) of each field: an integer, or its bytes."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _read_varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            value, at = _read_varint(data, at)
            yield number, wire_type, value
            continue
        if wire_type == _BYTES:
            size, at = _read_varint(data, at)
        elif wire_type in (_FIXED64, _FIXED32):
            size = 8 if wire_type == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire_type}: expected 0, 1, 2 or 5")
        if size > end - at:
            raise ValueError("the message ends within a field")
        yield number, wire_type, data[at : at + size]
        at += size


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for i in range(_VARINT_BYTES_MAX):
        if at + i >= len(data):
            raise ValueError("the message ends within a number")
        byte = data[at + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at + i + 1
    raise ValueError("a number has more than 64 bits")


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
