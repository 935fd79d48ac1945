"""How a source's folder in the watched folder stands: for /metrics, the API and the log."""

from dataclasses import dataclass, field

FAILED_SHOWN = 100
"""Names of failed units in an answer."""


@dataclass(kw_only=True)
class WatchState:
    """At present, but for `rows` and `refused`, which are totals since the collector started."""

    folder: str
    """SOURCE, or SOURCE@ACCOUNT; empty: the watched folder itself."""
    imported: int = 0
    """Units that are in the ledger as they are."""
    waiting: int = 0
    """Units that change, or whose turn has not come."""
    failed: dict[str, str] = field(default_factory=dict)
    """Unit -> why it is not imported."""
    problem: str = ""
    """Why nothing of the folder can be imported."""
    links: int = 0
    """Links, which are not followed."""
    rows: int = 0
    refused: int = 0
    """Rows that could not be used, of units that were imported or failed."""

    @property
    def is_failing(self) -> bool:
        return bool(self.failed or self.problem)
