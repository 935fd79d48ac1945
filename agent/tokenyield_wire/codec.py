"""Shipments to bytes and back.

In: a `Shipment`, or the bytes of one. Out: JSON bytes, or a checked `Shipment`. What can go wrong is one exception,
`Refused`, which carries every fault found, each with the path of its field.
Unknown fields are ignored (a newer agent may ship to an older collector); missing required ones are refused.
"""

import inspect
import re
from typing import Any

import msgspec

from tokenyield_wire.window import SCHEMA_VERSIONS_ACCEPTED, Fault, Shipment, faults_of_batch

BATCHES_MAX = 256
"""Batches in one shipment: a little over an hour of one node's 15 s windows, so a backlog drains in few requests."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Shipment)
_MSGSPEC_PATH = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")


class Refused(ValueError):
    """The bytes are not a sound shipment. `faults` are the reasons, field by field."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        self.faults = faults
        super().__init__("; ".join(f"{f.field or '(body)'}: expected {f.expected}, found {f.found}" for f in faults))


def encode_shipment(shipment: Shipment) -> bytes:
    """JSON, not compressed."""
    return _encoder.encode(shipment)


def decode_shipment(body: bytes) -> Shipment:
    """The shipment in `body` (JSON, already decompressed). Raises `Refused`."""
    try:
        shipment = _decoder.decode(body)
    except msgspec.ValidationError as error:
        message = str(error)
        match = _MSGSPEC_PATH.search(message)
        path = match["path"] if match else ""
        missing = re.search(r"missing required field `([^`]+)`", message)
        if missing:
            path = f"{path}.{missing[1]}" if path else missing[1]
        raise Refused(
            (Fault(path, message[: match.start()] if match else message, "see docs/wire-v1.schema.json"),)
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(
            (Fault("", f"no valid JSON ({error})", "a JSON object, see docs/wire-v1.schema.json"),)
        ) from error
    faults: list[Fault] = []
    if shipment.schema not in SCHEMA_VERSIONS_ACCEPTED:
        expected = f"one of {', '.join(map(str, SCHEMA_VERSIONS_ACCEPTED))}: upgrade the collector before its agents"
        faults.append(Fault("schema", str(shipment.schema), expected))
    if not 1 <= len(shipment.batches) <= BATCHES_MAX:
        faults.append(Fault("batches", f"{len(shipment.batches)} batches", f"1 to {BATCHES_MAX}"))
    for i, batch in enumerate(shipment.batches):
        faults.extend(faults_of_batch(batch, f"batches[{i}]"))
    if faults:
        raise Refused(tuple(faults))
    return shipment


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a shipment, generated from the types; kept in docs/wire-v1.schema.json."""
    schema = msgspec.json.schema(Shipment)
    for definition in schema["$defs"].values():
        if "description" in definition:  # Python 3.13 takes the indentation out of docstrings by itself
            definition["description"] = inspect.cleandoc(definition["description"])
    return schema
