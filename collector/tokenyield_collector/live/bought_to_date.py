"""What was bought in the present month (UTC) up to now, by vendor: for /v1/summary, beside the fleet's newest stretch.

Vendors report by days, and late, so that nothing of them is in a stretch of minutes. Pure but for what the cost sources
read; computed again only when what they have of the month changed.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from tokenyield_collector.http.schemas import BoughtDocument
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.money import decimal
from tokenyield_collector.prices.period import month_of, parse_period
from tokenyield_collector.statements.gaps import DayGap, Gap, gaps_of
from tokenyield_collector.statements.lines import Sums
from tokenyield_collector.statements.names import own_name
from tokenyield_collector.statements.source import Grain, OtherCosts, Span

COST_DIGITS = 6


class VendorToDate(NamedTuple):
    """One vendor in one month. `unseen` is the part of its cost that nothing observed."""

    month: str
    vendor: str
    sums: Sums
    unseen: int

    def document(self) -> BoughtDocument:
        tokens = sum(self.sums.reported(kind) or 0 for kind in ("prompt_computed", "prompt_cached", "completion"))
        return {
            "month": self.month,
            "vendor": own_name(self.vendor),
            "cost": decimal(self.sums.total, COST_DIGITS),
            "cost_not_observed": decimal(self.unseen, COST_DIGITS),
            "tokens": tokens,
            "requests": self.sums.reported("requests"),
            "price_missing_tokens": self.sums.unpriced_tokens,
        }


class BoughtMonth(NamedTuple):
    """Vendors, the most expensive first; what is not known of them."""

    vendors: Sequence[VendorToDate] = ()
    gaps: Sequence[Gap] = ()


class BoughtToDate:
    """Of these sources. In the thread of the refresh."""

    def __init__(self, others: Sequence[OtherCosts]) -> None:
        self._others = others
        self._policy: Policy | None = None
        self._inputs: list[str] = []
        self._month = BoughtMonth()

    def of(self, policy: Policy, now_ms: int) -> BoughtMonth:
        """Raises `LedgerError`."""
        month = parse_period(month_of(now_ms))
        inputs = [month.name, *(other.revision(month.start_ms, month.end_ms) for other in self._others)]
        if policy is not self._policy or inputs != self._inputs:
            self._month = self._computed(policy, Span(month.start_ms, month.end_ms), month.name)
            self._policy, self._inputs = policy, inputs
        return self._month

    def _computed(self, policy: Policy, span: Span, month: str) -> BoughtMonth:
        whole: dict[str, Sums] = defaultdict(Sums)
        unseen: dict[str, int] = defaultdict(int)
        gaps: list[DayGap] = []
        for other in self._others:
            source = other.source(policy, Grain())
            for key, sums in source.lines(span):
                whole[key.carrier.vendor].take(sums)
                unseen[key.carrier.vendor] += sums.total if key.carrier.kind == "unseen" else 0
            gaps += source.gaps
        vendors = [VendorToDate(month, vendor, sums, unseen[vendor]) for vendor, sums in whole.items()]
        return BoughtMonth(sorted(vendors, key=lambda one: (-one.sums.total, one.vendor)), gaps_of(gaps))
