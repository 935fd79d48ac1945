"""What handlers may use of the running collector."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tokenyield_collector.access.audit import Audit
from tokenyield_collector.access.credentials import Credentials
from tokenyield_collector.api.report_queue import ReportQueue
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.executors import Executors
from tokenyield_collector.ingest.committer import Committer
from tokenyield_collector.ingest.observed import ObservedIntake
from tokenyield_collector.ingest.stats import IngestStats
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.live.view import View
from tokenyield_collector.policy import Policy
from tokenyield_collector.pull.state import PullState
from tokenyield_collector.statements.source import OtherCosts
from tokenyield_collector.watch.state import WatchState


@dataclass(frozen=True, kw_only=True)
class Services:
    """Functions give what changes while the collector runs: the policy, the view, the problem (None: none)."""

    settings: CollectorSettings
    ledger: Ledger
    executors: Executors
    committer: Committer
    ingest: IngestStats
    observed: ObservedIntake
    reports: ReportQueue
    audit: Audit
    credentials: Credentials
    policy: Callable[[], Policy]
    view: Callable[[], View | None]
    problem: Callable[[], str | None]
    requires_authentication: Callable[[], bool]
    others: Sequence[OtherCosts] = ()
    """Cost sources beside the fleet."""
    pulls: Callable[[], Sequence[PullState]] = tuple
    """How the pulling of each account stands."""
    watched: Callable[[], Sequence[WatchState]] = tuple
    """How each source's folder in the watched folder stands."""
    after_refresh: list[Callable[[], None]] = field(default_factory=list)
    """Called in the event loop when there is another view."""
