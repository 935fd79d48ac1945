"""Numbers for people at a terminal or on paper. Pure."""

from collections.abc import Mapping
from math import floor, log10

SIGNIFICANT_DIGITS = 4
BAR_CELLS = 30
"""Characters of a bar that is full."""


def figure(value: float | None, digits: int = 2) -> str:
    """'-' for None. Small numbers keep their leading digits."""
    if value is None:
        return "-"
    if value and abs(value) < 10**-digits:
        return f"{value:.2g}"
    return f"{value:,.{digits}f}"


def unit_cost(value: float | None) -> str:
    """What one request, or a number of tokens, costs: at least four significant digits, so that fractions of a cent
    stay; '-' for None."""
    if value is None:
        return "-"
    if not value:
        return "0.00"
    digits = SIGNIFICANT_DIGITS - 1 - floor(log10(abs(value)))
    return f"{value:,.{max(2, digits)}f}"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def idle_share(shares: Mapping[str, float | None]) -> str:
    """'34.1% of the hardware cost (owned 30.2%, rented 40.0%)', of the shares of an `IdleCapacity`."""
    apart = ", ".join(f"{kind} {percent(shares[kind])}" for kind in ("owned", "rented") if shares[kind] is not None)
    return f"{percent(shares['total'])} of the hardware cost" + (f" ({apart})" if apart else "")
