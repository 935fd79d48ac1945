"""What the receiving side counts of itself. Pure."""

from collections import defaultdict
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class IngestStats:
    """Totals since the collector started, and what waits at present."""

    batches: int = 0
    duplicates: int = 0
    refused: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Reason -> requests."""
    commits: int = 0
    commit_seconds: float = 0.0
    waiting_batches: int = 0
    points: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    """(signal, fate) -> points of OpenTelemetry: counted, refused, late."""
    enrolled: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """By what was presented (secret, kubernetes, renewal) -> tokens issued."""
    enrol_refused: dict[str, int] = field(default_factory=lambda: defaultdict(int, taken=0))
    """Reason -> requests for enrolment. `taken` is there from the start: an alert looks for its increase."""
