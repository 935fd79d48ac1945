"""How a test opens a ledger of any engine."""

from collections.abc import Callable

from tokenyield_collector.ledger.base import Ledger

Open = Callable[[], Ledger]
NewPlace = Callable[[], Open]
"""Each call gives another, empty place for a ledger; what it gives opens that ledger, again and again."""
