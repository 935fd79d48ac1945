"""What a collector can be asked, and how far its figures go: the first answer for a page or a program. Pure."""

from tokenyield_collector.attribution.taken import BUILT_IN
from tokenyield_collector.http.schemas import ContextDocument
from tokenyield_collector.prices.period import iso
from tokenyield_collector.reports.maker import ReportMaker


def context_document(maker: ReportMaker) -> ContextDocument:
    """Raises `LedgerError`."""
    prices, dimensions = maker.policy.prices, list(maker.policy.rules.dimensions)
    start_ms = maker.first_ms()
    return {
        "start": None if start_ms is None else iso(start_ms),
        "as_of": iso(maker.known_ms),
        "currency": prices.currency,
        "price_book": prices.fingerprint or None,
        "dimensions": dimensions,
        "columns": [*dimensions, *BUILT_IN],
        "teams": None if maker.teams is None else list(maker.teams),
    }
