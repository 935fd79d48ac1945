"""How much memory shipments may take at once: an estimate of each, and a budget that they share. No clock, no I/O.

A small body can become large records: 12 shipments of 2.4 MB took 4.5 GiB. So every shipment is weighed before it is
decoded, and waits until what it may take is free.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Hashable

COLON_BYTES = 250
OBJECT_BYTES = 1_500
"""What a pair of name and value, and an object, take at most from the decoding to the commit: as records, rows, and
columns of numpy and DuckDB. Measured over shipments of callers, labels, events, workloads and GPUs at their bounds
(tests/collector/ingest/test_memory.py): from 0.2 to 1.0 of the estimate."""


def weight_bytes(text: bytes) -> int:
    """The most memory that JSON takes from its decoding to its commit."""
    return len(text) + COLON_BYTES * text.count(b":") + OBJECT_BYTES * text.count(b"{")


class OverBudget(ValueError):
    """More than the whole budget."""


class MemoryBudget:
    """Bytes that are shared by holders, in the order in which they come. Up to half of them anybody may have; beyond it
    none may have more than its share, so that one that is slow or greedy holds up itself. Of the event loop only."""

    def __init__(self, bytes_max: int, share_max: int) -> None:
        self.bytes_max = bytes_max
        self._share_max = share_max
        self.held_bytes = 0
        self._held_by: Counter[Hashable] = Counter()
        self._waiting: OrderedDict[asyncio.Future[None], tuple[Hashable, int]] = OrderedDict()

    def take_now(self, holder: Hashable, amount: int) -> "Held | None":
        """None where it is not free, or others wait. Raises `OverBudget`."""
        if amount > self.bytes_max:
            raise OverBudget(f"{amount} of {self.bytes_max} bytes")
        if self._waiting or not self._fits(holder, amount):
            return None
        self._take(holder, amount)
        return Held(self, holder, amount)

    async def take(self, holder: Hashable, amount: int) -> "Held":
        """Waits until `amount` is free. Raises `OverBudget`."""
        held = self.take_now(holder, amount)
        if held is None:
            await self._turn(holder, amount)
            held = Held(self, holder, amount)
        return held

    async def _turn(self, holder: Hashable, amount: int) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = (holder, amount)
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if self._waiting.pop(turn, None) is None:  # it was its turn in the same moment
                self.give_back(holder, amount)
            else:
                self._admit()  # a smaller one behind it may fit
            raise

    def _fits(self, holder: Hashable, amount: int) -> bool:
        held, after = self._held_by.get(holder, 0), self.held_bytes + amount  # no entry for who holds nothing
        return after <= self.bytes_max // 2 or (
            after <= self.bytes_max and (not held or held + amount <= self._share_max)
        )

    def _take(self, holder: Hashable, amount: int) -> None:
        self.held_bytes += amount
        self._held_by[holder] += amount

    def give_back(self, holder: Hashable, amount: int) -> None:
        self.held_bytes -= amount
        self._held_by[holder] -= amount
        if not self._held_by[holder]:
            del self._held_by[holder]
        self._admit()

    def _admit(self) -> None:
        """Those whose turn it is: in order, past holders that have their share already, up to the first for which the
        whole has no room, for else a great one would wait for ever."""
        admitted = []
        for turn, (holder, amount) in self._waiting.items():
            if turn.done():
                continue
            if self._fits(holder, amount):
                self._take(holder, amount)
                turn.set_result(None)
                admitted.append(turn)
            elif self.held_bytes + amount > self.bytes_max:
                break
        for turn in admitted:
            del self._waiting[turn]


class Held:
    """What one holder has, until the end of a `with`."""

    def __init__(self, budget: MemoryBudget, holder: Hashable, amount: int) -> None:
        self._budget = budget
        self._holder = holder
        self._amount = amount

    def shrink(self, amount: int) -> None:
        """Give back all but `amount`; nothing where it is not less."""
        if amount < self._amount:
            self._budget.give_back(self._holder, self._amount - amount)
            self._amount = amount

    def __enter__(self) -> "Held":
        return self

    def __exit__(self, *_: object) -> None:
        self.shrink(0)
