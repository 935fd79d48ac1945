"""From the ledger to what is shown: counters, the live view, and what is to date, each brought up to date in turn.

In: the ledger, settings, the policy. Out: a `View`. Called by one reading thread at a time, except for `retire`, which
the writing thread calls between two refreshes.
"""

import hashlib
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial

from tokenyield_collector.attribution.budgets import BudgetState
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.live.bought_to_date import BoughtToDate
from tokenyield_collector.live.counted_parts import CountedParts
from tokenyield_collector.live.counters import Counters, counted_from_ms
from tokenyield_collector.live.counting import COUNTED, CountedHours, Counting
from tokenyield_collector.live.kept_months import KeptMonths, MonthToDate
from tokenyield_collector.live.live_view import read_live_view
from tokenyield_collector.live.to_date import GRAIN, FiguresToDate, ToDate, month_to_date
from tokenyield_collector.live.view import HistoryState, MonthForecast, View
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.period import iso
from tokenyield_collector.reports.closing import first_fact_ms, retire_before
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.reports.version_content import ENGINE
from tokenyield_collector.statements.source import OtherCosts, Span
from tokenyield_collector.statements.statement import fleet_statement
from tokenyield_wire.units import MS_PER_DAY, hour_of_ms

HOURS_READ_AT_ONCE = 6
"""Hours of facts in memory at once while counters are brought up to date."""
HOURS_COUNTED_AT_ONCE = 48
"""In one refresh. More than that are counted beside it: all hours, at the first start after an upgrade."""
DAYS_COUNTED_MAX = 1
"""Counted beside the refresh and not taken up by one yet: of 10,000 GPUs one is 150 MB until it is packed."""
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
    """All that is shown of a ledger, under one policy. `others` are cost sources beside the fleet whose lines are known
    as they come about; `of_days` those of budgets, which may be known by days only."""

    def __init__(
        self,
        settings: CollectorSettings,
        ledger: Ledger,
        policy: Policy,
        others: Sequence[OtherCosts] = (),
        of_days: Sequence[OtherCosts] = (),
        month_ends: Callable[[ReportMaker], Sequence[MonthForecast]] | None = None,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._others = others
        self._of_days = of_days or others
        self._bought = BoughtToDate(of_days)
        self._budgets: list[BudgetState] = []
        self._month_ends = month_ends
        self._forecasts: Sequence[MonthForecast] = ()
        self._to_forecast: Policy | None = None
        """The policy under which figures were brought to date last, until `forecast_month` has looked at them."""
        self._forecast_of: tuple[int, str] | None = None
        """The day (ms) and the policy that `_forecasts` are of."""
        self._computed_at_ms = 0
        self._half_retired = False
        self._counters: Counters | None = None
        """None until it is read from the ledger, and while another collector shows the fleet."""
        self._backlog: list[int] = []
        """Hours that `count_some` is to count; no counter is shown before it has."""
        self._counted: deque[tuple[Counters, CountedHours, Mapping[int, int | None]]] = deque()
        """What it has counted: for which counters, and of which revisions."""
        self._last_shown: FiguresToDate | None = None
        """What is to date under the policy before, or as of the last run; until that of now is there."""
        self.policy = policy
        self._to_date = self._new_to_date()

    def set_policy(self, policy: Policy) -> None:
        """Another policy: what is to date is priced again beside the refresh, and the old figures stay until then."""
        shown = self._shown_to_date()
        self.policy = policy
        self._to_date = self._new_to_date()
        self._last_shown = shown
        if self._counters is not None:
            self._counters.prices_changed()

    def _new_to_date(self) -> ToDate:
        policy = self.policy
        fingerprint = policy_fingerprint(policy)
        identity = FiguresToDate(
            policy=fingerprint, dimensions=policy.rules.dimensions, currency=policy.prices.currency
        )
        kept = None
        if not self._others:  # what they depend on is not in the ledger
            kept = KeptMonths(self._ledger.figures, fingerprint, identity.dimensions, identity.currency)
        return ToDate(
            partial(self._compute_month, policy),
            self._ledger.counter_bases(),
            inputs_of=partial(self._inputs_of, policy),
            kept=kept,
            identity=identity,
        )

    def _shown_to_date(self) -> FiguresToDate | None:
        if self._to_date.shown is not None:
            return self._to_date.shown
        if self._last_shown is None:
            self._last_shown = self._to_date.shown_last()
        return self._last_shown

    def refresh(
        self, changed: Collection[int], now_ms: int, seen: Mapping[tuple[str, str], int], leads: bool = True
    ) -> View:
        """`changed` are the hours that changed since the last call that returned; `seen` gives each node's newest
        window. Counters are shown by the collector that `leads`.

        After a call that raised, the next one with the same hours (or more) makes everything good.
        """
        if self._half_retired:
            self._counters, self._to_date = None, self._new_to_date()
            self._half_retired = False
        first_ms = self._ledger.first_ms()
        known_ms = self._known_ms(now_ms)
        self._to_date.mark(hour_ms for hour_ms in changed if hour_ms < known_ms)
        counters = self._count(changed) if leads else None
        if not leads:
            self._counters, self._backlog = None, []
        start_ms, end_ms = live_stretch(now_ms, self._settings.live_window_s, self._settings)
        start_ms = max(start_ms, first_ms or start_ms)
        live = None
        if first_ms is not None and end_ms > start_ms:
            live = read_live_view(self._ledger, self.policy, start_ms, end_ms, self._others)
        nodes, lags = _health(seen, now_ms)
        to_date = self._shown_to_date() or FiguresToDate(dimensions=self.policy.rules.dimensions)
        is_of_now = to_date is self._to_date.shown
        return View(
            counters=counters.values() if counters is not None else {},
            names=counters.names() if counters is not None else {},
            live=live,
            to_date=to_date,
            history=HistoryState(
                policy_is_current=to_date.policy in ("", policy_fingerprint(self.policy)),
                months=self._to_date.progress,
                hours_to_count=len(self._backlog),
            ),
            budgets=self._budgets,
            forecasts=self._forecasts,
            bought=self._bought.of(self.policy, now_ms),
            nodes=nodes,
            node_lag_ms=lags,
            currency=self.policy.prices.currency,
            as_of_ms=end_ms,
            to_date_ms=known_ms if is_of_now and not self._to_date.is_behind(known_ms) else 0,
            ledger_bytes=self._ledger.size_bytes(),
        )

    # --- counters --------------------------------------------------------------------------------------------------

    def _count(self, changed: Collection[int]) -> Counters | None:
        """Count what is due; None while that is more than one refresh can do."""
        revisions = self._ledger.hour_revisions()  # before the facts
        if self._counters is None:
            bases = self._ledger.counter_bases()
            self._counters = Counters(bases, CountedParts(self._ledger.figures, counted_from_ms(bases)))
        counters = self._counters
        while self._counted:
            of, hours, of_revisions = self._counted.popleft()
            if of is counters:
                counters.update(hours, of_revisions)
        due = counters.due(changed, revisions)
        if len(due) > HOURS_COUNTED_AT_ONCE:
            self._backlog = due
        else:
            self._backlog = []
            counters.update(self._count_hours(due), revisions)
        counters.keep(revisions)
        return None if self._backlog else counters

    def _count_hours(self, hours_ms: Sequence[int]) -> CountedHours:
        counting, by_node = Counting(self.policy.prices), self.policy.prices.depends_on_node

        def of_hours(some: Sequence[int]) -> CountedHours:
            return counting.of_hours(some, self._ledger.facts_of_hours(some, by_node=by_node, kinds=COUNTED))

        counted: CountedHours = {}
        for i in range(0, len(hours_ms), HOURS_READ_AT_ONCE):
            some = hours_ms[i : i + HOURS_READ_AT_ONCE]
            try:
                counted |= of_hours(some)
            except Exception as error:
                if (bad_ms := next((hour_ms for hour_ms in some if _fails(of_hours, [hour_ms])), None)) is not None:
                    error.add_note(f"in the hour {iso(bad_ms)}; `tokenyield-collector verify` checks it")
                raise
        return counted

    def count_some(self) -> bool:
        """Count a day of the backlog, in a thread beside the refresh; whether there was one."""
        counters = self._counters
        counted = {hour_ms for of, hours, _ in list(self._counted) if of is counters for hour_ms in hours}
        backlog = [hour_ms for hour_ms in self._backlog if hour_ms not in counted]
        if counters is None or not backlog or len(self._counted) >= DAYS_COUNTED_MAX:
            return False
        day = [hour_ms for hour_ms in backlog if hour_ms < backlog[0] - backlog[0] % MS_PER_DAY + MS_PER_DAY]
        revisions = self._ledger.hour_revisions()  # before the facts
        self._counted.append((counters, self._count_hours(day), revisions))
        return True

    def keep(self) -> None:
        """Write what is kept of counters: before they are shown, in the writing thread, between two refreshes."""
        if self._counters is not None:
            self._counters.write()

    def close(self) -> None:
        """Keep what was counted of hours that still grow: the next start may have other prices."""
        if self._counters is not None and not self._backlog:
            self._counters.keep(self._ledger.hour_revisions(), open_ones=True)
            self._counters.write()

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
        """All steps at once. The ledger's roll-ups must be up to date."""
        for _ in self.steps_to_date(now_ms):
            self.keep_to_date()
        self.keep_to_date()

    def steps_to_date(self, now_ms: int) -> Iterator[None]:
        """Compute what is to date, with a step for each month; in a thread beside the refresh. Ends early where another
        policy is set. The ledger's roll-ups must be up to date."""
        first_ms = self._ledger.first_ms()
        assert first_ms is not None, "what is due has windows"
        self._computed_at_ms = now_ms
        to_date, policy = self._to_date, self.policy
        for _ in to_date.steps(first_ms, self._known_ms(now_ms)):
            yield
            if to_date is not self._to_date:
                return
        self._budgets = self._compute_budgets(policy, now_ms)
        self._to_forecast = policy

    def keep_to_date(self) -> None:
        """Write what is kept of what is to date. In the writing thread, while none of the steps runs."""
        if self._to_date.kept is not None:
            self._to_date.kept.write()

    def _inputs_of(self, policy: Policy, start_ms: int, end_ms: int) -> str:
        """A digest of all that a month depends on."""
        facts_from_ms = min(start_ms, first_fact_ms(policy, end_ms))
        parts: tuple[object, ...] = (start_ms, end_ms, self._ledger.revision(facts_from_ms, end_ms))
        if policy.prices.depends_on_node:
            labels = self._ledger.facts_of_hours([], kinds=()).node_labels
            parts = (*parts, sorted((node, sorted(of_node.items())) for node, of_node in labels.items()))
        return hashlib.sha256(repr((policy_fingerprint(policy), *parts)).encode()).hexdigest()[:32]

    def _compute_month(self, policy: Policy, start_ms: int, end_ms: int) -> MonthToDate:
        span = Span(start_ms, end_ms)
        return month_to_date(fleet_statement(self._ledger.usage(), policy, span, GRAIN, self._others))

    def _compute_budgets(self, policy: Policy, now_ms: int) -> list[BudgetState]:
        return self._maker(policy, now_ms).budgets() if policy.rules.budgets else []

    def forecast_month(self, now_ms: int) -> None:
        """After what is to date, once for each day and policy: half a year is read for it."""
        policy, known_ms = self._to_forecast, self._known_ms(now_ms)
        if policy is None:
            return
        self._to_forecast = None
        of = (known_ms - known_ms % MS_PER_DAY, policy_fingerprint(policy))
        if self._month_ends is not None and of != self._forecast_of:
            self._forecasts, self._forecast_of = self._month_ends(self._maker(policy, now_ms)), of

    def _maker(self, policy: Policy, now_ms: int) -> ReportMaker:
        return ReportMaker(
            ledger=_RolledUp(self._ledger),
            policy=policy,
            others=self._of_days,
            now_ms=now_ms,
            settle_ms=self._settings.live_lag_s * 1000,
        )

    def retire(self, now_ms: int) -> None:
        """Forget old windows and hours; the figures that are shown do not change by it."""
        counters, first_ms = self._counters, self._ledger.first_ms()
        if counters is None or self._backlog:
            return  # until all hours are counted none may go
        hours_before_ms = hour_of_ms(now_ms - self._settings.hours_keep_days * MS_PER_DAY)
        hours_before_ms = retire_before(self._ledger.versions, first_ms, hours_before_ms, now_ms)
        hours_before_ms = counters.retirable_ms(hours_before_ms)
        self._half_retired = True  # until the ledger has the bases that are taken out of memory here
        bases = counters.retire(hours_before_ms)
        if first_ms is not None:
            bases |= self._to_date.retire(first_ms, hours_before_ms)
        self._ledger.retire(
            windows_before_ms=now_ms - self._settings.windows_keep_days * MS_PER_DAY,
            hours_before_ms=hours_before_ms,
            counter_bases=bases,
        )
        self._half_retired = False
        counters.write()


def _fails(of_hours: Callable[[Sequence[int]], object], hours_ms: Sequence[int]) -> bool:
    try:
        of_hours(hours_ms)
    except Exception:  # noqa: BLE001 - whatever it is
        return True
    return False


def policy_fingerprint(policy: Policy) -> str:
    """Changes with anything that a figure depends on beside facts."""
    parts = (policy.prices.document, policy.prices.fingerprint, policy.rules.document, ENGINE)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


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
