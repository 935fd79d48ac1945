"""From the body of a shipment to parts that can be committed, within bounds of memory. Pure.

In: bytes and their Content-Encoding. Out: `Part`s. All of a shipment is decoded and checked before its first part is
handed out, so that one wrong batch refuses the whole, as in a small one.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

from tokenyield_collector.config import PART_BYTES_MAX
from tokenyield_collector.ingest.memory import weight_bytes
from tokenyield_wire.codec import Refused, UndecodedShipment, decode_in_parts
from tokenyield_wire.window import Fault, Shipment

OBJECTS_MAX = 400_000
"""In one shipment: 256 batches of 112 MIG instances have 120,000."""


class LargeShipment:
    """One that is decoded part by part. Raises `Refused` when made."""

    def __init__(self, text: bytes) -> None:
        if (objects := text.count(b"{")) > OBJECTS_MAX:  # before a record is made of each
            raise Refused((Fault("batches", f"{objects} objects in all", f"at most {OBJECTS_MAX}"),))
        self.head: UndecodedShipment = decode_in_parts(text)
        weights = [weight_bytes(bytes(batch)) for batch in self.head.batches]
        faults = (
            Fault(f"batches[{i}]", f"objects that need {weight} bytes", f"at most {PART_BYTES_MAX}")
            for i, weight in enumerate(weights)
            if weight > PART_BYTES_MAX
        )
        if fault := next(faults, None):
            raise Refused((fault,))
        self.bounds = list(pairwise(_bounds(weights)))
        """(first batch, batch after the last) of each part."""

    def check(self, check: Callable[[Shipment], None]) -> None:
        """Decode all of it, `check` each part, and keep nothing. Raises `Refused`, and what `check` raises."""
        for start, stop in self.bounds:
            check(self.head.part(start, stop))


def _bounds(weights: list[int]) -> Iterator[int]:
    """Where parts begin, and the end."""
    held = 0
    yield 0
    for i, weight in enumerate(weights):
        if i and held + weight > PART_BYTES_MAX:
            yield i
            held = 0
        held += weight
    yield len(weights)
