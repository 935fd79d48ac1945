"""How long callers waited, as counts in fixed buckets that add up over time, servers and versions. Pure.

In: nothing. Out: the kinds of latency, the edges of their buckets, and the record of the wire.

Every server has its own buckets and changes them between versions; sums of different buckets mean nothing. So each
kind has one set of edges here, for ever: other edges would be a new field of the wire. They were chosen so that, where
most waits fall, the edges of vLLM, SGLang, TensorRT-LLM and LMDeploy are edges here too, or lie little below one.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Annotated, Literal, get_args

from msgspec import Meta, Struct

LatencyKind = Literal["first_token", "inter_token", "end_to_end"]
"""From a request's arrival to its first token; from one token to the next; from arrival to the end of the answer."""
LATENCY_KINDS: tuple[LatencyKind, ...] = get_args(LatencyKind)

LATENCY_EDGES_MS: dict[LatencyKind, tuple[int, ...]] = {
    "first_token": (
        5, 10, 20, 40, 60, 80, 100, 250, 500, 750,
        1_000, 2_500, 5_000, 7_500, 10_000, 20_000, 40_000, 80_000, 160_000, 640_000,
    ),
    "inter_token": (
        2, 4, 6, 8, 10, 15, 20, 25, 30, 40,
        50, 75, 100, 150, 200, 400, 1_000, 2_500, 10_000, 80_000,
    ),
    "end_to_end": (
        100, 200, 300, 500, 800, 1_000, 1_500, 2_500, 5_000, 10_000,
        15_000, 20_000, 30_000, 40_000, 60_000, 120_000, 240_000, 480_000, 960_000, 1_920_000,
    ),
}  # fmt: skip
"""Upper edges, inclusive. What is above the last is counted in one bucket more, which has no upper edge."""
LATENCY_BUCKETS = 21
assert {len(edges) + 1 for edges in LATENCY_EDGES_MS.values()} == {LATENCY_BUCKETS}

OBSERVATIONS_MAX = 2**32
"""In one bucket of one window: a billion tokens a second would take four seconds to reach it."""
LATENCY_SUM_MS_MAX = 2**36
"""Of one kind in one window: a million requests of 19 hours. Both are so low that the sums over all workloads of a
batch stay below the bound that all its sums have."""


class LatencyCount(Struct, gc=False, frozen=True, kw_only=True, omit_defaults=True):
    """What a workload's callers waited for in one window: how many observations fell into each bucket, in the order of
    `LATENCY_EDGES_MS`, empty ones at the end left out; and the sum of all waits. An observation of `inter_token` is a
    token, or, of servers that report a mean, a request."""

    kind: LatencyKind
    sum_ms: Annotated[int, Meta(ge=0, le=LATENCY_SUM_MS_MAX)] = 0
    counts: Annotated[
        tuple[Annotated[int, Meta(ge=0, le=OBSERVATIONS_MAX)], ...], Meta(max_length=LATENCY_BUCKETS)
    ] = ()


def upper_bucket(kind: LatencyKind, upto_ms: float) -> int:
    """The bucket of observations of which only an upper bound is known: the first whose edge is not below it. So a wait
    is never shown shorter than it was."""
    return bisect_left(LATENCY_EDGES_MS[kind], upto_ms)


def latency_fault(latency: Sequence[LatencyCount]) -> tuple[str, str] | None:
    """What is found and what is expected of one workload's latency in a window; None where it is sound."""
    kinds = [count.kind for count in latency]
    if len(set(kinds)) != len(kinds):
        return ", ".join(kinds), "each kind once"
    for count in latency:
        if count.sum_ms and not any(count.counts):
            return f"{count.sum_ms} ms of {count.kind} and no observation", "a sum of observations that are counted"
    return None
