"""How a test opens a ledger of any engine, and has it put days together."""

from collections.abc import Callable

from tokenyield_collector.ledger.base import Ledger

Open = Callable[[], Ledger]
NewPlace = Callable[[], Open]
"""Each call gives another, empty place for a ledger; what it gives opens that ledger, again and again."""
FOREVER_MS = 2**62


def roll_days(ledger: Ledger) -> list[int]:
    """Starts of the days whose roll-ups were put together, the newest first; none where the engine keeps none."""
    days: list[int] = []
    while (day_ms := ledger.roll_day(days[-1] if days else FOREVER_MS)) is not None:
        days.append(day_ms)
    return days
