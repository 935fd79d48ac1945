"""The price book and the rules as files: loading both, and noticing that one changed."""

from pathlib import Path

from tokenyield_collector.attribution.rules import Attribution, load_attribution
from tokenyield_collector.config import Settings
from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.prices.load import load_prices
from tokenyield_settings.loader import SettingsError


def load_books(settings: Settings) -> tuple[PriceBook, Attribution]:
    """The price book and the rules. Raises `SettingsError` with the faults of both."""
    faults: list[str] = []
    prices, attribution = PriceBook(), Attribution()
    try:
        prices = load_prices(Path(settings.prices_file)) if settings.prices_file else prices
    except SettingsError as error:
        faults += error.faults
    try:
        attribution = load_attribution(Path(settings.attribution_file) if settings.attribution_file else None)
    except SettingsError as error:
        faults += error.faults
    if faults:
        raise SettingsError(faults)
    return prices, attribution


def changed_at(settings: Settings) -> list[tuple[int, int] | None]:
    """What tells a changed file from the one before: its time and size; None where there is none."""
    found: list[tuple[int, int] | None] = []
    for name in (settings.prices_file, settings.attribution_file):
        try:
            status = Path(name).stat() if name else None
        except OSError:
            status = None
        found.append((status.st_mtime_ns, status.st_size) if status else None)
    return found
