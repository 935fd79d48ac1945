"""What is kept of one point, event or span: what it adds to a day. Pure."""

from hashlib import blake2b
from typing import Literal, NamedTuple

from tokenyield_collector.spend.slices import SpendFields

Signal = Literal["spans", "events", "metrics"]
SIGNALS: tuple[Signal, ...] = ("spans", "events", "metrics")
"""The finest first: see slices.py."""
NANO_PER_USD = 10**9
_DIGEST_BYTES = 16


class ObservedAmounts(NamedTuple):
    """Counts may be negative: what was read from a cache is taken from the input that includes it. None where the point
    does not say."""

    fresh: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    output: int | None = None
    reasoning: int | None = None
    requests: int | None = None
    cost_nano: int | None = None


class PointKey(NamedTuple):
    """What makes a point the same where it comes again. Of a cumulative series one is kept for a day: the newest.
    `series` is a digest of the sender and all attributes; `point_ns` is 0 of cumulative ones."""

    is_total: int
    day_ms: int
    series: str
    start_ns: int
    point_ns: int


class ObservedPoint(NamedTuple):
    """`total`: what a cumulative series has counted since `start_ns`, in its own unit; 0 of others. `client`: whose
    signals show the same tokens, as a digest."""

    key: PointKey
    time_ns: int
    total: int
    account: str
    sender: str
    signal: Signal
    client: str
    fields: SpendFields
    amounts: ObservedAmounts


class SeriesState(NamedTuple):
    """The newest of a cumulative series."""

    start_ns: int
    time_ns: int
    total: int


def digest(*parts: object, key: bytes = b"") -> str:
    return blake2b(repr(parts).encode("utf-8", "replace"), digest_size=_DIGEST_BYTES, key=key[:64]).hexdigest()
