"""How the pulling of an account stands: for /metrics, the API and the log."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

Reason = Literal["key", "rate", "unavailable", "answer", "rows", "ledger"]
REASONS: tuple[Reason, ...] = ("key", "rate", "unavailable", "answer", "rows", "ledger")
"""key: refused, or unreadable; rate: 429 until the vendor was given up; unavailable: no answer, or 5xx; answer: what
cannot be read, or was not expected; rows: some that cannot be used; ledger: it could not be written."""


@dataclass(kw_only=True)
class PullState:
    """Totals since the collector started, and what does not work at present."""

    name: str
    source: str
    success_at_ms: int | None = None
    """When all reports were last pulled up to yesterday."""
    missing: dict[str, int] = field(default_factory=dict)
    """Report -> days that should be known and are not."""
    rows: int = 0
    refused: Counter[Reason] = field(default_factory=Counter)
    """Reason (`REASONS`) -> pulls of a report that failed; rows: rows that cannot be used."""
    problems: dict[str, str] = field(default_factory=dict)
    """Report -> what is wrong, in words."""

    @property
    def missing_days(self) -> int | None:
        """Of the report that lacks most; None before the first pull."""
        return max(self.missing.values(), default=None)
