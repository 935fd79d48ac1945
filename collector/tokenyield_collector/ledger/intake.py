"""What is new in some shipments, and the receipts for them. Pure but for `is_new`, the engine's memory of what it has.

In: shipments, and whether a batch number is new. Out: the new batches, changed labels of nodes, receipts.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tokenyield_collector.ledger.base import ShipmentReceipt
from tokenyield_collector.ledger.rows import encoded_labels
from tokenyield_wire.window import Batch, Shipment


class BatchSender(NamedTuple):
    """Whose numbers a batch counts in. The node is part of it: of a host that was copied, two agents have one id."""

    agent_id: str
    epoch: str
    cluster: str
    node: str


class Intake(NamedTuple):
    """What a commit has to keep of some shipments."""

    batches: list[tuple[Shipment, Batch]]
    node_labels: dict[tuple[str, str], str]
    """(cluster, node) -> labels as JSON, where they changed."""
    receipts: list[ShipmentReceipt]


def sender_of(shipment: Shipment) -> BatchSender:
    return BatchSender(shipment.agent_id, shipment.epoch, shipment.cluster, shipment.node)


def intake_of(
    shipments: Sequence[Shipment],
    is_new: Callable[[BatchSender, int], bool],
    node_labels: Mapping[tuple[str, str], str],
) -> Intake:
    """`is_new` is called once for each batch, and remembers it."""
    intake = Intake([], {}, [])
    for shipment in shipments:
        node, sender = (shipment.cluster, shipment.node), sender_of(shipment)
        labels = encoded_labels(shipment.labels)
        if node_labels.get(node, "{}") != labels:
            intake.node_labels[node] = labels
        fresh = [(shipment, batch) for batch in shipment.batches if is_new(sender, batch.seq)]
        intake.batches.extend(fresh)
        intake.receipts.append(ShipmentReceipt(len(fresh), len(shipment.batches) - len(fresh)))
    return intake
