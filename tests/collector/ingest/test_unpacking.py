"""Large shipments are decoded part by part, with the faults and the records of small ones."""

import json
from typing import Any

import msgspec
import pytest

from collector.samples import NOON_MS, batch, shipment
from tokenyield_collector.config import PART_BYTES_MAX
from tokenyield_collector.ingest import unpacking
from tokenyield_collector.ingest.memory import weight_bytes
from tokenyield_collector.ingest.unpacking import OBJECTS_MAX, LargeShipment
from tokenyield_wire.codec import BATCHES_MAX, Refused, decode_shipment, encode_shipment
from tokenyield_wire.window import Batch, Shipment

WHOLE = shipment(*[batch(i + 1, NOON_MS + 15_000 * i) for i in range(9)])
BATCH_BYTES = weight_bytes(msgspec.json.encode(WHOLE.batches[0]))


def parts_of(large: LargeShipment) -> list[Shipment]:
    parts: list[Shipment] = []
    large.check(parts.append)
    return parts


@pytest.mark.parametrize("batches_at_once", [1, 2, 4, 100])
def test_parts_are_the_whole(monkeypatch: pytest.MonkeyPatch, batches_at_once: int) -> None:
    monkeypatch.setattr(unpacking, "PART_BYTES_MAX", BATCH_BYTES * batches_at_once + 200)
    parts = parts_of(LargeShipment(encode_shipment(WHOLE)))
    assert [len(part.batches) for part in parts] == [
        min(batches_at_once, 9 - start) for start in range(0, 9, batches_at_once)
    ]
    batches: list[Batch] = [one for part in parts for one in part.batches]
    assert msgspec.structs.replace(parts[0], batches=tuple(batches)) == WHOLE


def changed(change: Any) -> bytes:
    document = json.loads(encode_shipment(WHOLE))
    change(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("node"),
        lambda d: d.update(schema=99),
        lambda d: d["batches"].clear(),
        lambda d: d["batches"][5].pop("end_ms"),
        lambda d: d["batches"][5].update(seq="one"),
        lambda d: d["batches"][5]["gpus"][1].update(idle_ms=5),
        lambda d: d["batches"][5]["gpus"][1].update(idle_ms=-5),
        lambda d: d["batches"][8]["workloads"].clear(),
    ],
)
def test_what_is_wrong_is_named_as_in_a_small_one(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    text = changed(change)
    with pytest.raises(Refused) as small:
        decode_shipment(text)
    monkeypatch.setattr(unpacking, "PART_BYTES_MAX", BATCH_BYTES * 2)
    with pytest.raises(Refused) as large:
        parts_of(LargeShipment(text))
    assert large.value.faults == small.value.faults


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b'{"batches":[' + b"{}," * OBJECTS_MAX + b"{}]}", f"{OBJECTS_MAX + 2} objects in all"),
        (b"[" * 200_000, "got `array`"),
        (b'{"batches":' + b"[" * 200_000, "maximum recursion depth"),
        (b'{"a":' * 200_000, "maximum recursion depth"),
        (b"\xff" * 200_000, "no valid JSON"),
    ],
)
def test_masses_and_depths_are_refused(text: bytes, found: str) -> None:
    with pytest.raises(Refused) as refused:
        LargeShipment(text)
    assert found in refused.value.faults[0].found
    assert refused.value.faults[0].found.isprintable()


def test_one_batch_that_needs_too_much_memory_is_refused() -> None:
    callers = [{"gateway": "g", "asker": {f"l{k}": "x" for k in range(16)}} for _ in range(13_000)]
    text = changed(lambda d: d["batches"][3].update(demand=callers))
    with pytest.raises(Refused, match=rf"batches\[3\]: expected at most {PART_BYTES_MAX}"):
        LargeShipment(text)


def test_more_batches_than_fit_are_refused() -> None:
    text = changed(lambda d: d.update(batches=d["batches"][:1] * (BATCHES_MAX + 1)))
    with pytest.raises(Refused, match="batches"):
        parts_of(LargeShipment(text))
