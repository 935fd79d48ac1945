"""One refresh of all that is shown: counters, the live view, what is to date, budgets, nodes. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tokenyield_collector.attribution.budgets import BudgetState
from tokenyield_collector.attribution.rules import DEFAULT_DIMENSIONS
from tokenyield_collector.live.counters import Series
from tokenyield_collector.live.live_view import LiveView
from tokenyield_collector.live.series_names import Labels
from tokenyield_collector.statements.gaps import Gap
from tokenyield_collector.statements.references import AppliedReference


@dataclass(frozen=True, kw_only=True)
class View:
    """What the counters stand at, the live view, and what is to date. `currency` is the price book's."""

    counters: Mapping[Series, int] = field(default_factory=dict)
    names: Mapping[str, tuple[Labels, ...]] = field(default_factory=dict)
    """Class -> names in labels (series_names.py), the first seen first."""
    live: LiveView | None = None
    to_date: Mapping[Series, int] = field(default_factory=dict)
    dimensions: tuple[str, ...] = DEFAULT_DIMENSIONS
    references: Sequence[AppliedReference] = ()
    gaps: Sequence[Gap] = ()
    """What is not known of the closed hours of the present month."""
    newest_gaps: Mapping[str, int] = field(default_factory=dict)
    """Kind -> how many of them the newest day has."""
    budgets: Sequence[BudgetState] = ()
    nodes: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """(cluster, state) -> nodes."""
    node_lag_ms: Mapping[str, int] = field(default_factory=dict)
    currency: str = "USD"
    as_of_ms: int = 0
    to_date_ms: int = 0
    """Up to when what is to date has been computed; 0 while an hour is missing."""
    ledger_bytes: int = 0
    policy_is_fresh: bool = True
    """Whether the price book and the rules in use are those in the files."""
    shows_fleet: bool = True
    """False where another collector on the same ledger shows it."""
