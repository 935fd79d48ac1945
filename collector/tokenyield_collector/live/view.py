"""One refresh of all that is shown: counters, the live view, what is to date, budgets, nodes. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tokenyield_collector.attribution.budgets import BudgetState
from tokenyield_collector.http.schemas import HistoryDocument
from tokenyield_collector.live.bought_to_date import BoughtMonth
from tokenyield_collector.live.live_view import LiveView
from tokenyield_collector.live.series import Series
from tokenyield_collector.live.series_names import Labels
from tokenyield_collector.live.to_date import FiguresToDate, Progress


class HistoryState(NamedTuple):
    """What is being computed of the past, beside the refresh."""

    policy_is_current: bool = True
    """Whether what is to date was computed under the price book and rules in use."""
    months: Progress = Progress()
    hours_to_count: int = 0
    """Before which no counter is shown: at the first start after an upgrade."""

    def document(self) -> HistoryDocument:
        return {
            "policy_is_current": self.policy_is_current,
            "months_done": self.months.done,
            "months": self.months.of,
            "hours_to_count": self.hours_to_count,
        }


class MonthForecast(NamedTuple):
    """What the month will come to, in `unit`."""

    measure: str
    unit: str
    p10: float
    p50: float
    p90: float


@dataclass(frozen=True, kw_only=True)
class View:
    """What the counters stand at, the live view, and what is to date. `currency` is the price book's."""

    counters: Mapping[Series, int] = field(default_factory=dict)
    names: Mapping[str, tuple[Labels, ...]] = field(default_factory=dict)
    """Class -> names in labels (series_names.py), the first seen first."""
    live: LiveView | None = None
    to_date: FiguresToDate = field(default_factory=FiguresToDate)
    history: HistoryState = field(default_factory=HistoryState)
    budgets: Sequence[BudgetState] = ()
    forecasts: Sequence[MonthForecast] = ()
    bought: BoughtMonth = field(default_factory=BoughtMonth)
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
