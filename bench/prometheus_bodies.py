"""The bodies in which Prometheus and its peers take samples: remote write, text, OpenMetrics."""

import struct

Labels = tuple[tuple[str, str], ...]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def write_request(shown: dict[Labels, int], at_ms: int) -> bytes:
    """prometheus.WriteRequest: timeseries = 1 {labels = 1 {name = 1, value = 2}, samples = 2 {value = 1, timestamp = 2}}."""
    out = bytearray()
    for labels, value in shown.items():
        one = b"".join(_field(1, _field(1, name.encode()) + _field(2, text.encode())) for name, text in labels)
        one += _field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + _varint(at_ms))
        out += _field(1, one)
    return bytes(out)


def _series(labels: Labels, without: tuple[str, ...] = ()) -> str:
    names = dict(labels)
    inner = ",".join(f'{name}="{text}"' for name, text in labels if name not in ("__name__", *without))
    return f"{names['__name__']}{{{inner}}}"


def exposition(shown: dict[Labels, int]) -> bytes:
    """As text; Pushgateway takes no time stamps, and wants families together."""
    lines = sorted(f"{_series(labels, ('node',))} {value}" for labels, value in shown.items())
    return ("\n".join(lines) + "\n").encode()


def openmetrics(series: dict[Labels, list[tuple[int, int]]]) -> str:
    lines, family = [], ""
    for labels in sorted(series, key=lambda labels: dict(labels)["__name__"]):
        name = dict(labels)["__name__"].removesuffix("_total")
        if name != family:
            lines.append(f"# TYPE {name} counter")
            family = name
        lines += [f"{_series(labels)} {value} {at_ms / 1000}" for value, at_ms in series[labels]]
    return "\n".join([*lines, "# EOF"]) + "\n"
