"""The effective terms of a price book as lines of text, for `check` and `rate --by-day`."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import groupby

from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.prices.effective import TermsStretch, effective_terms
from tokenyield_collector.prices.period import DAYS_MAX
from tokenyield_collector.prices.site_fee import site_fee_warnings
from tokenyield_collector.prices.site_power import site_warnings


def first_day_kept() -> date:
    """Terms that ended before the hours that a ledger keeps are of no use."""
    return datetime.now(UTC).date() - timedelta(days=DAYS_MAX)  # noqa: TID251 - the rim


def terms_texts(prices: PriceBook, since: date) -> tuple[list[str], list[str]]:
    """Lines that show the terms, and warnings."""
    stretches = effective_terms(prices, since)
    warnings = [*_warnings(stretches), *site_fee_warnings(prices, since), *site_warnings(prices, since)]
    return list(_lines(stretches, prices.currency)), warnings


def _lines(stretches: Sequence[TermsStretch], currency: str) -> Iterator[str]:
    """A line for each stretch of days with equal terms, and what it inherits below it."""
    for stretch in stretches:
        yield f"{stretch.pool}: {_days(stretch.first, stretch.end)}: {'; '.join(_terms(stretch, currency))}"
        yield from (f"    inherited: {text}" for text in stretch.inherited)


def _warnings(stretches: Sequence[TermsStretch]) -> Iterator[str]:
    """`pool NAME, days: what is wrong; how to fix it`; what is wrong in stretches that follow each other, once."""
    for (pool, warning), equal in groupby(stretches, lambda one: (one.pool, one.warning)):
        if warning is not None:
            listed = list(equal)
            yield f"pool {pool}, {_days(listed[0].first, listed[-1].end)}: {warning}"


def _days(first: date | None, end: date | None) -> str:
    if end is None:
        return f"from {first}" if first else "always"
    return f"{first} to {end}" if first else f"before {end}"


def _terms(stretch: TermsStretch, currency: str) -> Iterator[str]:
    if stretch.kind is None:
        yield f"does not hold, its GPUs go to {stretch.goes_to}" if stretch.goes_to else "does not hold"
        return
    yield stretch.kind + (f", {stretch.count} GPUs" if stretch.count is not None else "")
    if stretch.gap is not None:
        yield f"no price: {stretch.gap}"
    elif stretch.lowest is not None and stretch.highest is not None:
        low, high = f"{stretch.lowest:.6f}", f"{stretch.highest:.6f}"
        yield f"{low if low == high else f'{low} to {high}'} {currency}/GPU-h"
    if stretch.is_past_life:
        yield "past its life"
    if stretch.facility is not None:
        yield f"facility {stretch.facility}"
    if stretch.exchange:
        yield f"exchange rate {', '.join(stretch.exchange)}"
    if stretch.is_capped:
        yield f"beyond the count: {stretch.goes_to or 'no price, unless another pool matches'}"
