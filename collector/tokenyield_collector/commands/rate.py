"""`tokenyield-collector rate`: what a GPU-hour of each pool costs, and how that is computed."""

import argparse
import sys
from pathlib import Path

HELP = "the hourly rate of each pool, and its parts"
EXAMPLE = "rate --prices prices.yaml --format json"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prices", type=Path, help="a price book, see collector/prices.yaml")
    parser.add_argument("--reference", action="store_true", help="show the bundled reference figures instead")
    parser.add_argument(
        "--by-day", action="store_true", help="the terms of each pool by day, and what is wrong with them"
    )
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.add_argument("--at", help="the day or hour (UTC) to price, 2026-11-23 or 2026-11-23T14:00; default now")


def run(arguments: argparse.Namespace) -> int:
    from tokenyield_collector.commands.console import console_for, print_json
    from tokenyield_collector.commands.rate_tables import rate_table, reference_table, site_table
    from tokenyield_collector.commands.terms_lines import first_day_kept, terms_texts
    from tokenyield_collector.prices.load import load_prices
    from tokenyield_collector.prices.rate_card import rate_document
    from tokenyield_settings.terminal import show

    if arguments.reference:
        console_for(None).print(reference_table())
        return 0
    if arguments.prices is None:
        print("rate: give --prices FILE, or --reference for the bundled figures", file=sys.stderr)
        return 2
    prices = load_prices(arguments.prices)
    if arguments.by_day:
        lines, warnings = terms_texts(prices, first_day_kept())
        for line in lines:
            show(line)
        for warning in warnings:
            show(f"{arguments.prices}: {warning}", is_error=True)
        return 0
    at_ms = _instant_ms(arguments.at)
    if arguments.format == "json":
        print_json(rate_document(prices, at_ms))
    else:
        console = console_for(None)
        console.print(rate_table(prices, at_ms))
        if (sites := site_table(prices, at_ms)) is not None:
            console.print(sites)
    return 0


def _instant_ms(text: str | None) -> int:
    """Now where no text is given. Raises `ParameterError`."""
    from datetime import UTC, datetime

    from tokenyield_collector.errors import ParameterError

    try:
        instant = datetime.fromisoformat(text) if text else datetime.now(UTC)  # noqa: TID251 - the rim
    except ValueError:
        fix = "write 2026-11-23 or 2026-11-23T14:00"
        raise ParameterError("at", expected="a day or an hour", found=f"'{text}'", fix=fix) from None
    return int(instant.replace(tzinfo=instant.tzinfo or UTC).timestamp() * 1000)
