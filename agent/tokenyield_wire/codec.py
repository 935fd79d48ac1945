"""Shipments to bytes and back.

In: a `Shipment`, or the bytes of one. Out: JSON bytes, or a checked `Shipment`. What can go wrong is one exception,
`Refused`, which carries every fault found, each with the path of its field.
Unknown fields are ignored (a newer agent may ship to an older collector); missing required ones are refused.
"""

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from tokenyield_wire.window import SCHEMA_VERSIONS_ACCEPTED, Batch, Fault, Shipment, faults_of_batch

BATCHES_MAX = 256
"""Batches in one shipment: a little over an hour of one node's 15 s windows, so a backlog drains in few requests."""

_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
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
    except _UNDECODABLE as error:
        raise _refused(error) from error
    return _checked(shipment, len(shipment.batches), 0)


class UndecodedShipment(Shipment, gc=False, frozen=True, kw_only=True):
    """A shipment whose batches are still JSON: for one that is large, and is decoded in parts."""

    batches: Annotated[tuple[msgspec.Raw, ...], Meta(max_length=BATCHES_MAX)]  # type: ignore[assignment]

    def part(self, start: int, stop: int) -> Shipment:
        """With its batches from `start` to before `stop` alone, decoded. Raises `Refused`."""
        batches = []
        for i in range(start, stop):
            try:
                batches.append(_batch_decoder.decode(self.batches[i]))
            except _UNDECODABLE as error:
                raise _refused(error, f"batches[{i}]") from error
        names = {name: getattr(self, name) for name in self.__struct_fields__ if name != "batches"}
        return _checked(Shipment(**names, batches=tuple(batches)), len(self.batches), start)


_undecoded = msgspec.json.Decoder(UndecodedShipment)
_batch_decoder = msgspec.json.Decoder(Batch)


def decode_in_parts(body: bytes) -> UndecodedShipment:
    """The shipment in `body`, whose batches are decoded later. Raises `Refused`."""
    try:
        return _undecoded.decode(body)
    except _UNDECODABLE as error:
        raise _refused(error) from error


def _checked(shipment: Shipment, count: int, start: int) -> Shipment:
    """`shipment`, whose batches are those from number `start` of `count`. Raises `Refused`."""
    faults: list[Fault] = []
    if shipment.schema not in SCHEMA_VERSIONS_ACCEPTED:
        expected = f"one of {', '.join(map(str, SCHEMA_VERSIONS_ACCEPTED))}: upgrade the collector before its agents"
        faults.append(Fault("schema", str(shipment.schema), expected))
    if not 1 <= count <= BATCHES_MAX:
        faults.append(Fault("batches", f"{count} batches", f"1 to {BATCHES_MAX}"))
    for i, batch in enumerate(shipment.batches, start):
        faults.extend(faults_of_batch(batch, f"batches[{i}]"))
    if faults:
        raise Refused(tuple(faults))
    return shipment


def _refused(error: Exception, within: str = "") -> Refused:
    """`within`: the path of what was decoded."""
    if not isinstance(error, msgspec.ValidationError):
        return Refused((Fault(within, f"no valid JSON ({error})", "a JSON object, see docs/wire-v1.schema.json"),))
    message = str(error)
    match = _MSGSPEC_PATH.search(message)
    missing = re.search(r"missing required field `([^`]+)`", message)
    parts = (within, match["path"] if match else "", missing[1] if missing else "")
    path = ".".join(part for part in parts if part)
    found = message[: match.start()] if match else message
    return Refused((Fault(path, found, "see docs/wire-v1.schema.json"),))


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a shipment, generated from the types; kept in docs/wire-v1.schema.json."""
    import inspect

    schema = msgspec.json.schema(Shipment)
    for definition in schema["$defs"].values():
        if "description" in definition:  # Python 3.13 takes the indentation out of docstrings by itself
            definition["description"] = inspect.cleandoc(definition["description"])
    return schema
