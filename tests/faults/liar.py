"""A node of the simulated world that lies, with a token of its own."""

from collections import Counter
from typing import TYPE_CHECKING

from faults.collector import LIAR_SCOPE
from faults.host import HOUR_MS, START_MS, WORKLOAD
from hostile_shipments import LyingNode, encoded
from tokenyield_collector.access.token_file import Grant
from tokenyield_collector.errors import UnstorableShipment
from tokenyield_collector.http.right import Right
from tokenyield_collector.ingest.bounds import too_early
from tokenyield_wire.codec import Refused, decode_shipment, encode_shipment
from tokenyield_wire.window import Shipment

if TYPE_CHECKING:
    from faults.world import World

NODE = "liar"


class Liar:
    """Sends what the wire takes and what it does not, in its own name and in others'."""

    def __init__(self, world: "World", victims: list[str]) -> None:
        self._world = world
        assert world.liar_chosen is not None
        self._chosen = world.liar_chosen
        self._grant = Grant(NODE, frozenset({Right.WRITE, Right.GATEWAY}), "sim", (NODE,))
        self._node = LyingNode(self._chosen, "sim", NODE, victims, [WORKLOAD])
        self.waiting: list[Shipment] = []
        """Sent and not committed: they come into one group with what others send next."""
        self.happened: Counter[str] = Counter()

    def step(self) -> None:
        """No claim of the first hour: who claims a GPU before its true node reported it may get it (decision 0015)."""
        hours_ms = range(START_MS // HOUR_MS * HOUR_MS + HOUR_MS, self._world.now_ms, HOUR_MS)
        if not hours_ms or self._world.collector.ledger is None:
            return
        for _ in range(self._chosen.choice([0, 0, 1, 3])):
            document = self._node.document(hours_ms[-3:])
            if self._chosen.random() < 0.1:
                document["node"] = self._chosen.choice([agent.name for agent in self._world.agents])
            self._send(encoded(document))

    def _send(self, body: bytes) -> None:
        """As api/batches.py does."""
        try:
            shipment = decode_shipment(body)
        except Refused:
            self.happened["liar: refused"] += 1
            return
        if not self._grant.may_write_for(shipment.cluster, shipment.node):
            self.happened["liar: not its node"] += 1
            return
        if too_early(shipment, self._world.now_ms + 300_000):
            self.happened["liar: too early"] += 1
            return
        assert decode_shipment(encode_shipment(shipment)) == shipment
        self.waiting.append(shipment)
        self.happened["liar: taken"] += 1

    def commit_alone(self) -> None:
        """What nobody else's commit took along."""
        ledger, waiting, self.waiting = self._world.collector.ledger, self.waiting, []
        assert ledger is not None
        for shipment in waiting:
            try:
                ledger.append([shipment], self._world.now_ms, [LIAR_SCOPE])
            except UnstorableShipment:
                self.happened["liar: unstorable"] += 1
