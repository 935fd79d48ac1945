"""The one catalogue of waterfall buckets: name, title, meaning, color, whether it made no tokens. Pure.

The page, HTML reports, the terminal, FOCUS files, metrics and dashboards all read it, so that a bucket has one color,
one wording and one place in the order everywhere. The order is that in which capacity is lost: what is not reported
first, what made tokens last. `shared` is no loss of its own: cost taken over from others by the sharing policy.
"""

from typing import NamedTuple


class Bucket(NamedTuple):
    """`color` is CSS (Okabe and Ito's palette, which the color-blind can distinguish); `terminal` is rich's name."""

    name: str
    title: str
    meaning: str
    color: str
    terminal: str
    is_lost: bool


DARK = Bucket("dark", "dark", "paid for, and not reporting or unknown", "#7f7f7f", "grey50", True)
UNALLOCATED = Bucket("unallocated", "unallocated", "held by nobody", "#cc79a7", "magenta", True)
IDLE = Bucket("idle", "idle", "held by a workload, no kernel ran", "#e69f00", "yellow", True)
UNDER_YIELD = Bucket(
    "under_yield",
    "under-yield",
    "active, but slower than the reference pace of that model on that GPU",
    "#56b4e9",
    "cyan",
    True,
)
PRODUCTIVE = Bucket("productive", "productive", "active, at or above the reference pace", "#009e73", "green", False)
ACTIVE = Bucket(
    "active", "active", "a kernel ran; closed hours split it into under-yield and productive", "#009e73", "green", False
)
SHARED = Bucket("shared", "shared", "taken over from others by the sharing policy", "#0072b2", "blue", False)

CATALOGUE = (DARK, UNALLOCATED, IDLE, UNDER_YIELD, PRODUCTIVE, ACTIVE, SHARED)
BY_NAME = {bucket.name: bucket for bucket in CATALOGUE}

BUCKETS = ("dark", "unallocated", "idle", "under_yield", "productive")
"""The waterfall of a statement."""
COSTS = (*BUCKETS, "shared")
"""What the total of a line consists of."""
LIVE_BUCKETS = ("dark", "unallocated", "idle", "active")
"""The waterfall of the live view, which knows no reference pace yet: `active` is under_yield and productive."""
ACTIVE_BUCKETS = ("under_yield", "productive")
"""What `active` is in a statement."""
IDLE_CAPACITY = ("dark", "unallocated", "idle")
"""Capacity that is paid for while nothing runs on it."""
LOST = tuple(name for name in BUCKETS if BY_NAME[name].is_lost)

assert set(BUCKETS) | {"active", "shared"} == set(BY_NAME)
