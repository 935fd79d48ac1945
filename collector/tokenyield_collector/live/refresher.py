"""From the ledger to what is shown: counters, the live view, and what is to date, each brought up to date in turn.

In: the ledger, settings, the policy. Out: a `View`. Called by one reading thread at a time, except for `retire`, which
the writing thread calls between two refreshes.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from tokenyield_collector.attribution.budgets import BudgetState
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.live.counters import COUNTED, Counters
from tokenyield_collector.live.live_view import read_live_view
from tokenyield_collector.live.to_date import GRAIN, MonthToDate, ToDate, month_to_date
from tokenyield_collector.live.view import View
from tokenyield_collector.policy import Policy
from tokenyield_collector.reports.closing import retire_before
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.statements.source import CostSource, Span
from tokenyield_collector.statements.statement import fleet_statement
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR, hour_of_ms

HOURS_READ_AT_ONCE = 6
"""Hours of facts in memory at once while counters are brought up to date, at the start all of them."""
CORRECTIONS_EVERY_MS = 300_000
"""How often closed hours that changed are written and computed again: of 100,000 GPUs an hour takes two seconds, in
which no batch is committed, and agents that were away send late ones for minutes."""
LATE_MS = 120_000
SILENT_MS = 900_000


def live_stretch(now_ms: int, window_s: int, settings: CollectorSettings) -> tuple[int, int]:
    """[start, end) of the newest stretch of `window_s` of which all windows should have arrived."""
    end_ms = now_ms - settings.live_lag_s * 1000
    end_ms -= end_ms % (settings.live_grid_s * 1000)
    return end_ms - window_s * 1000, end_ms


class Refresher:
    """All that is shown of a ledger, under one policy. `others` are cost sources beside the fleet."""

    def __init__(
        self, settings: CollectorSettings, ledger: Ledger, policy: Policy, others: Sequence[CostSource] = ()
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._others = others
        self._budgets: list[BudgetState] = []
        self._computed_at_ms = 0
        self._half_retired = False
        self.set_policy(policy)

    def set_policy(self, policy: Policy) -> None:
        """Another policy: history is priced again at the next refresh."""
        bases = self._ledger.counter_bases()
        self.policy = policy
        self._counters = Counters(policy.prices, bases)
        self._to_date = ToDate(self._compute_month, bases)
        self._all_hours_read = False
        self._half_retired = False

    def refresh(self, changed: list[int], now_ms: int, seen: Mapping[tuple[str, str], int]) -> View:
        """`changed` are the hours that changed since the last call that returned; `seen` gives each node's newest
        window.

        After a call that raised, the next one with the same hours (or more) makes everything good.
        """
        if self._half_retired:
            self.set_policy(self.policy)
        first_ms = self._ledger.first_ms()
        known_ms = self._known_ms(now_ms)
        self._to_date.mark(hour_ms for hour_ms in changed if hour_ms < known_ms)
        self._count(changed, first_ms, now_ms)
        start_ms, end_ms = live_stretch(now_ms, self._settings.live_window_s, self._settings)
        start_ms = max(start_ms, first_ms or start_ms)
        live = None
        if first_ms is not None and end_ms > start_ms:
            live = read_live_view(self._ledger, self.policy, start_ms, end_ms, self._others)
        nodes, lags = _health(seen, now_ms)
        return View(
            counters=self._counters.values(),
            names=self._counters.names(),
            live=live,
            to_date=self._to_date.values(),
            dimensions=self.policy.rules.dimensions,
            references=self._to_date.references(),
            gaps=self._to_date.gaps(),
            newest_gaps=self._to_date.newest_gaps(),
            budgets=self._budgets,
            nodes=nodes,
            node_lag_ms=lags,
            currency=self.policy.prices.currency,
            as_of_ms=end_ms,
            to_date_ms=0 if self._to_date.is_behind(known_ms) else known_ms,
            ledger_bytes=self._ledger.size_bytes(),
        )

    def _count(self, changed: list[int], first_ms: int | None, now_ms: int) -> None:
        wanted, by_node = set(changed), self.policy.prices.depends_on_node
        if not self._all_hours_read and first_ms is not None:
            end_ms = now_ms + self._settings.clock_skew_max_s * 1000
            wanted.update(range(hour_of_ms(first_ms), end_ms, MS_PER_HOUR))
        hours = sorted(wanted)
        for k in range(0, len(hours), HOURS_READ_AT_ONCE):
            some = hours[k : k + HOURS_READ_AT_ONCE]
            self._counters.update(some, self._ledger.facts_of_hours(some, by_node=by_node, kinds=COUNTED))
        self._all_hours_read = self._all_hours_read or first_ms is not None

    def _known_ms(self, now_ms: int) -> int:
        """The end of the newest hour of which all windows should have arrived."""
        return hour_of_ms(now_ms - self._settings.live_lag_s * 1000)

    def is_due(self, now_ms: int) -> bool:
        """Whether an hour has closed that is not in what is to date; corrections wait for others."""
        first_ms, known_ms = self._ledger.first_ms(), self._known_ms(now_ms)
        if first_ms is None or first_ms >= known_ms:
            return False
        corrections = self._to_date.is_stale and now_ms - self._computed_at_ms >= CORRECTIONS_EVERY_MS
        return corrections or self._to_date.is_behind(known_ms)

    def bring_to_date(self, now_ms: int) -> None:
        """Compute what is to date. The ledger's roll-ups must be up to date."""
        first_ms = self._ledger.first_ms()
        assert first_ms is not None, "what is due has windows"
        self._computed_at_ms = now_ms
        self._to_date.bring_up_to(first_ms, self._known_ms(now_ms))
        self._budgets = self._compute_budgets(now_ms)

    def _compute_month(self, start_ms: int, end_ms: int) -> MonthToDate:
        span = Span(start_ms, end_ms)
        return month_to_date(fleet_statement(self._ledger.usage(), self.policy, span, GRAIN, self._others))

    def _compute_budgets(self, now_ms: int) -> list[BudgetState]:
        if not self.policy.rules.budgets:
            return []
        maker = ReportMaker(
            ledger=_RolledUp(self._ledger),
            policy=self.policy,
            others=self._others,
            now_ms=now_ms,
            settle_ms=self._settings.live_lag_s * 1000,
        )
        return maker.budgets()

    def retire(self, now_ms: int) -> None:
        """Forget old windows and hours; the figures that are shown do not change by it."""
        first_ms = self._ledger.first_ms()
        hours_before_ms = hour_of_ms(now_ms - self._settings.hours_keep_days * MS_PER_DAY)
        hours_before_ms = retire_before(self._ledger.versions, first_ms, hours_before_ms, now_ms)
        self._half_retired = True  # until the ledger has the bases that are taken out of memory here
        bases = self._counters.retire(hours_before_ms)
        if first_ms is not None:
            bases |= self._to_date.retire(first_ms, hours_before_ms)
        self._ledger.retire(
            windows_before_ms=now_ms - self._settings.windows_keep_days * MS_PER_DAY,
            hours_before_ms=hours_before_ms,
            counter_bases=bases,
        )
        self._half_retired = False


class _RolledUp:
    """A ledger whose roll-ups are up to date, as reports may use it."""

    def __init__(self, ledger: Ledger) -> None:
        self.first_ms = ledger.first_ms
        self.usage = ledger.usage
        self.revision = ledger.revision
        self.versions = ledger.versions
        self.outcomes = ledger.outcomes

    def roll(self) -> None: ...


def _health(seen: Mapping[tuple[str, str], int], now_ms: int) -> tuple[dict[tuple[str, str], int], dict[str, int]]:
    """How many nodes of each cluster report, are late or silent, and how far behind the last of the others is."""
    nodes: dict[tuple[str, str], int] = defaultdict(int)
    lags: dict[str, int] = {}
    for (cluster, _), end_ms in sorted(seen.items()):
        lag_ms = max(0, now_ms - end_ms)
        state = "reporting" if lag_ms <= LATE_MS else "late" if lag_ms <= SILENT_MS else "silent"
        for known in ("reporting", "late", "silent"):
            nodes[cluster, known] += known == state
        if state != "silent":
            lags[cluster] = max(lag_ms, lags.get(cluster, 0))
    return dict(nodes), lags
