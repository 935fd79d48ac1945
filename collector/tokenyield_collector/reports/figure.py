"""Numbers for people at a terminal or on paper. Pure."""

from collections.abc import Mapping
from typing import Any

BAR_CELLS = 30
"""Characters of a bar that is full."""


def figure(value: float | None, digits: int = 2) -> str:
    """'-' for None. Small numbers keep their leading digits."""
    if value is None:
        return "-"
    if value and abs(value) < 10**-digits:
        return f"{value:.2g}"
    return f"{value:,.{digits}f}"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def idle_share(figures: Mapping[str, Any]) -> str:
    """'34.1% of the hardware cost (owned 30.2%, rented 40.0%)', of the figures of row_figures.py."""
    name = "idle_capacity_share_of_hardware_cost"
    shares = {kind: figures[f"{name}_{kind}"] for kind in ("owned", "rented")}
    apart = ", ".join(f"{kind} {percent(share)}" for kind, share in shares.items() if share is not None)
    return f"{percent(figures[name])} of the hardware cost" + (f" ({apart})" if apart else "")
