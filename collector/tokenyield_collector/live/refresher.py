"""From the ledger to what is shown: counters, the live books, and what is to date, each brought up to date in turn.

In: the ledger, settings, the price book and the rules. Out: a `View`. Called by one reading thread at a time, except
for `retire`, which the writing thread calls between two refreshes.
"""

from collections import defaultdict
from collections.abc import Mapping

from tokenyield_collector.attribution.budgets import BudgetState
from tokenyield_collector.attribution.rules import Attribution
from tokenyield_collector.config import Settings
from tokenyield_collector.ledger.base import Facts, Ledger, StatementRecord
from tokenyield_collector.live.counters import Counters
from tokenyield_collector.live.pricing import Books, Stretch, hours_between, keep_books
from tokenyield_collector.live.to_date import GRAIN, Booked, Booking, book
from tokenyield_collector.metrics.exposition import View
from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.statements.statement import Statement
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR, hour_of_ms

HOURS_READ_AT_ONCE = 6
"""Hours of facts in memory at once while counters are brought up to date, at the start all of them."""
CORRECTIONS_EVERY_MS = 300_000
"""How often closed hours that changed are written and reckoned again: of 100,000 GPUs an hour takes two seconds, in
which no batch is committed, and agents that were away send late ones for minutes."""
LATE_MS = 120_000
SILENT_MS = 900_000


def live_stretch(now_ms: int, window_s: int, settings: Settings) -> tuple[int, int]:
    """[start, end) of the newest stretch of `window_s` of which all windows should have arrived."""
    end_ms = now_ms - settings.live_lag_s * 1000
    end_ms -= end_ms % (settings.live_grid_s * 1000)
    return end_ms - window_s * 1000, end_ms


def read_stretch(ledger: Ledger, prices: PriceBook, start_ms: int, end_ms: int) -> tuple[Facts, Books]:
    """The facts of [start_ms, end_ms) as one stretch, and priced, hour by hour; both of one state of the ledger."""
    whole, hours = (start_ms, end_ms), hours_between(start_ms, end_ms)
    wanted = [whole] if hours in ([], [whole]) else [whole, *hours]
    facts, *parts = ledger.facts_of_stretches(wanted, by_node=prices.tells_nodes_apart)
    stretches = [
        Stretch(part, start, end - start)
        for (start, end), part in zip(hours, parts or [facts] * len(hours), strict=True)
    ]
    return facts, keep_books(stretches, prices)


class Refresher:
    """All that is shown of a ledger, under one price book and one set of rules."""

    def __init__(self, settings: Settings, ledger: Ledger, prices: PriceBook, attribution: Attribution) -> None:
        self._settings = settings
        self._ledger = ledger
        self._budgets: list[BudgetState] = []
        self._booked_at_ms = 0
        self._half_retired = False
        self.set_books(prices, attribution)

    def set_books(self, prices: PriceBook, attribution: Attribution) -> None:
        """Other prices or rules: history is priced again at the next refresh."""
        bases = self._ledger.counter_bases()
        self.prices = prices
        self.attribution = attribution
        self._counters = Counters(prices, bases)
        self._booked = Booked(self._make_booking, bases)
        self._all_hours_read = False
        self._half_retired = False

    def refresh(self, changed: list[int], now_ms: int, seen: Mapping[tuple[str, str], int]) -> View:
        """`changed` are the hours that changed since the last call that returned; `seen` gives each node's newest
        window.

        After a call that raised, the next one with the same hours (or more) makes everything good.
        """
        if self._half_retired:
            self.set_books(self.prices, self.attribution)
        first_ms = self._ledger.first_ms()
        known_ms = self._known_ms(now_ms)
        self._booked.mark(hour_ms for hour_ms in changed if hour_ms < known_ms)
        self._count(changed, first_ms, now_ms)
        start_ms, end_ms = live_stretch(now_ms, self._settings.live_window_s, self._settings)
        start_ms = max(start_ms, first_ms or start_ms)
        facts, live = Facts(), None
        if first_ms is not None and end_ms > start_ms:
            facts, live = read_stretch(self._ledger, self.prices, start_ms, end_ms)
        nodes, lags = _health(seen, now_ms)
        return View(
            counters=self._counters.values(),
            workloads=self._counters.workloads(),
            live=live,
            live_facts=facts,
            to_date=self._booked.values(),
            dimensions=self.attribution.dimensions,
            references=self._booked.references(),
            budgets=self._budgets,
            nodes=nodes,
            node_lag_ms=lags,
            currency=self.prices.currency,
            as_of_ms=end_ms,
            booked_to_ms=0 if self._booked.is_behind(known_ms) else known_ms,
            ledger_bytes=self._ledger.size_bytes(),
        )

    def _count(self, changed: list[int], first_ms: int | None, now_ms: int) -> None:
        wanted, by_node = set(changed), self.prices.tells_nodes_apart
        if not self._all_hours_read and first_ms is not None:
            end_ms = now_ms + self._settings.clock_skew_max_s * 1000
            wanted.update(range(hour_of_ms(first_ms), end_ms, MS_PER_HOUR))
        hours = sorted(wanted)
        for k in range(0, len(hours), HOURS_READ_AT_ONCE):
            some = hours[k : k + HOURS_READ_AT_ONCE]
            self._counters.update(some, self._ledger.facts_of_hours(some, by_node=by_node))
        self._all_hours_read = self._all_hours_read or first_ms is not None

    def _known_ms(self, now_ms: int) -> int:
        """The end of the newest hour of which all windows should have arrived."""
        return hour_of_ms(now_ms - self._settings.live_lag_s * 1000)

    def is_due(self, now_ms: int) -> bool:
        """Whether an hour has closed that is not booked yet; corrections wait for others."""
        first_ms, known_ms = self._ledger.first_ms(), self._known_ms(now_ms)
        if first_ms is None or first_ms >= known_ms:
            return False
        corrections = self._booked.is_stale and now_ms - self._booked_at_ms >= CORRECTIONS_EVERY_MS
        return corrections or self._booked.is_behind(known_ms)

    def book(self, now_ms: int) -> None:
        """Bring up to date what is to date. The ledger's roll-ups must be."""
        first_ms = self._ledger.first_ms()
        assert first_ms is not None, "what is due has windows"
        self._booked_at_ms = now_ms
        self._booked.bring_up_to(first_ms, self._known_ms(now_ms))
        self._budgets = self._reckon_budgets(now_ms)

    def _make_booking(self, start_ms: int, end_ms: int) -> Booking:
        statement = Statement(
            reader=self._ledger.usage(),
            prices=self.prices,
            attribution=self.attribution,
            start_ms=start_ms,
            end_ms=end_ms,
            grain=GRAIN,
        )
        return book(statement)

    def _reckon_budgets(self, now_ms: int) -> list[BudgetState]:
        if not self.attribution.budgets:
            return []
        maker = ReportMaker(
            ledger=_RolledUp(self._ledger),
            prices=self.prices,
            attribution=self.attribution,
            now_ms=now_ms,
            settle_ms=self._settings.live_lag_s * 1000,
        )
        return maker.budgets()

    def retire(self, now_ms: int) -> None:
        """Forget old windows and hours; the figures that are shown do not change by it."""
        first_ms = self._ledger.first_ms()
        hours_before_ms = hour_of_ms(now_ms - self._settings.hours_keep_days * MS_PER_DAY)
        self._half_retired = True  # until the ledger has the bases that are taken out of memory here
        bases = self._counters.retire(hours_before_ms)
        if first_ms is not None:
            bases |= self._booked.retire(first_ms, hours_before_ms)
        self._ledger.retire(
            windows_before_ms=now_ms - self._settings.windows_keep_days * MS_PER_DAY,
            hours_before_ms=hours_before_ms,
            counter_bases=bases,
        )
        self._half_retired = False


class _RolledUp:
    """A ledger whose roll-ups are up to date, as reports may use it; without its register of versions."""

    def __init__(self, ledger: Ledger) -> None:
        self.first_ms = ledger.first_ms
        self.usage = ledger.usage

    def roll(self) -> None: ...

    def statements(self, period: str) -> list[StatementRecord]:
        return []

    def add_statement(self, record: StatementRecord) -> None: ...


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
