"""Windows that no node can have measured, as a ledger may have them that another program, or an older collector, wrote into.

In: a seeded `random.Random`. Out: shipments of one window each, whose amounts the wire would refuse: below 0, beyond
their bounds, of more time than the window has, in more entries than fit. They are written past the checks, by
`Ledger.append`; `verify --quarantine` moves each of them aside.
"""

import random
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from collector.samples import HOUR_MS, batch, shipment
from hostile_shipments import GPU_FREE, amounts
from tokenyield_collector.ledger.quarantine import WINDOW_SUM_MAX
from tokenyield_wire.window import COUNTS_MAX, WORKLOADS_MAX, Batch, Demand, Shipment, TokenCount

BEYOND = (-1, -(2**40), 2**57, 2**62)
"""Of an amount. 2^57 is more than all that one column can have of one window (`WINDOW_SUM_MAX`)."""
assert BEYOND[2] > max(WINDOW_SUM_MAX.values())
CALLERS = {"team": "liar"}


def _of_gpu(chosen: random.Random, window: Batch) -> Batch:
    (gpu, *others) = window.gpus
    name = chosen.choice([name for name in GPU_FREE if isinstance(getattr(gpu, name), int)])
    return replace(window, gpus=(replace(gpu, **{name: chosen.choice(BEYOND)}), *others))


def _of_energy(chosen: random.Random, window: Batch) -> Batch:
    (gpu, *others) = window.gpus
    return replace(window, gpus=(replace(gpu, energy_mj=replace(gpu.energy_mj, active=chosen.choice(BEYOND))), *others))


def _of_time(chosen: random.Random, window: Batch) -> Batch:
    (gpu, *others) = window.gpus
    changed = {chosen.choice(["active_ms", "idle_ms", "unallocated_ms"]): chosen.choice([-1, 16_000, 2**62])}
    return replace(window, gpus=(replace(gpu, **changed), *others))


def _of_length(chosen: random.Random, window: Batch) -> Batch:
    return replace(window, end_ms=window.start_ms + chosen.choice([2, 30 * 24]) * HOUR_MS)


def _of_shares(chosen: random.Random, window: Batch) -> Batch:
    (share, *others) = window.shares
    return replace(window, shares=(replace(share, active_ms=chosen.choice([-1, 14_000, 2**62])), *others))


def _of_tokens(chosen: random.Random, window: Batch) -> Batch:
    count = TokenCount(method="count", **{chosen.choice(_numbers(TokenCount)): chosen.choice(BEYOND)})
    return _with_counts(window, (count,))


def _of_many_counts(chosen: random.Random, window: Batch) -> Batch:
    return _with_counts(window, (TokenCount(method="count", completion=1),) * (COUNTS_MAX * WORKLOADS_MAX + 1))


def _of_demand(chosen: random.Random, window: Batch) -> Batch:
    name = chosen.choice(_numbers(Demand))
    return replace(
        window, demand=(Demand(gateway="g", model="llama", caller=CALLERS, **{name: chosen.choice(BEYOND)}),)
    )


def _of_host(chosen: random.Random, window: Batch) -> Batch:
    return replace(window, host_energy_mj={"rapl": chosen.choice([-1, 2**60])})


LIES: tuple[Callable[[random.Random, Batch], Batch], ...] = (
    _of_gpu, _of_energy, _of_time, _of_length, _of_shares, _of_tokens, _of_many_counts, _of_demand, _of_host,
)  # fmt: skip


def impossible_shipments(chosen: random.Random, node: str, hours_ms: list[int]) -> list[Shipment]:
    """Some, each of another window of this node, which has an agent of its own for them."""
    sent = []
    for seq, lie in enumerate(chosen.sample(LIES, chosen.randrange(1, 5)), 1):
        window = batch(seq, chosen.choice(hours_ms) + HOUR_MS // 2 + seq * 15_000)
        own = tuple(replace(gpu, uuid=f"{gpu.uuid}-{node}") for gpu in window.gpus)
        shares = tuple(replace(share, gpu_uuid=f"{share.gpu_uuid}-{node}") for share in window.shares)
        window = lie(chosen, replace(window, gpus=own, shares=shares, demand=()))
        sent.append(shipment(window, node=node, agent_id=f"{node}-past-the-checks"))
    return sent


def _with_counts(window: Batch, counts: tuple[TokenCount, ...]) -> Batch:
    (workload,) = window.workloads
    return replace(window, workloads=(replace(workload, tokens=counts),))


def _numbers(record: type[Any]) -> list[str]:
    """Amounts, by the names of their fields."""
    encoded = set(amounts(record))
    return [field.name for field in msgspec.structs.fields(record) if field.encode_name in encoded]
