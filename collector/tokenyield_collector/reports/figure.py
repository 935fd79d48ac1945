"""Numbers for people at a terminal or on paper. Pure."""

BAR_CELLS = 30
"""Characters of a bar that is full."""


def figure(value: float | None, digits: int = 2) -> str:
    """'-' where there is none. Small numbers keep their leading digits."""
    if value is None:
        return "-"
    if value and abs(value) < 10**-digits:
        return f"{value:.2g}"
    return f"{value:,.{digits}f}"
