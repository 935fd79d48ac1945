"""Facts of a ledger that do not fit each other: what gateways and servers counted, GPUs reported
twice, names of workloads used twice. Pure.

Nothing is judged here: statements/fact_gaps.py says which of it is a gap.
"""

from typing import NamedTuple


class DemandDay(NamedTuple):
    """What one gateway counted of one model on one day, beside what servers of that cluster made in the same hours.

    `model` is the name under which servers run it (`gateway_models`). `made_…` is what all servers made in hours in
    which any gateway was asked for it; None where none reported that kind.
    """

    day_ms: int
    cluster: str
    model: str
    gateway: str
    tokens: int
    requests: int
    unserved_tokens: int
    """In hours in which no server ran the model."""
    unserved_requests: int
    prompt: int
    """In hours in which a server reported how many it computed; so `completion`."""
    completion: int
    made_prompt: int | None
    made_completion: int | None
    callers: int
    """Different ones that are known by anything."""


class GatewayDay(NamedTuple):
    """What one gateway counted of one model, as servers call it, on one day in one cluster."""

    day_ms: int
    cluster: str
    model: str
    gateway: str


class DoubledGpu(NamedTuple):
    """What of one GPU's time on one day one node reported beyond the hours that it has: two agents report it there."""

    day_ms: int
    gpu_uuid: str
    place: str
    """cluster/node."""
    over_ms: int
    over_mj: int


class ContestedGpu(NamedTuple):
    """One GPU that several nodes reported for the same hours of one day: it counts for the first of them."""

    day_ms: int
    gpu_uuid: str
    first: str
    """cluster/node."""
    others: tuple[str, ...]
    left_out: tuple[int, ...]
    """What the others reported in those hours, as `CAPACITY_SUMS` (usage.py): it is in no figure of a report."""


class ForeignDay(NamedTuple):
    """What a workload came to on one day whose name nodes of another scope used first (workload_names.py)."""

    day_ms: int
    cluster: str
    workload: str
    gpu_ms: int
    energy_mj: int
    tokens: int
    requests: int
