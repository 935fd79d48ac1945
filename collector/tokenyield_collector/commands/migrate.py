"""`tokenyield-collector migrate`: a DuckDB ledger into ClickHouse, hour by hour; a second run goes on where one stops.

In: a DuckDB file that no collector has open, and the ledger that the settings name. Out: the same hours, windows,
statements and counters there. An hour is done when ClickHouse gives the same sums for it, so a second run does what the
first left, and a run after the last finds nothing to do. Hours whose windows are still kept are recomputed from them,
as for windows that come late; of older hours the sums are copied.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tokenyield_settings.command_line import add_settings_flags
from tokenyield_settings.terminal import show
from tokenyield_wire.units import hour_of_ms

if TYPE_CHECKING:
    from tokenyield_collector.ledger.clickhouse.ledger import ClickHouseLedger
    from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
    from tokenyield_collector.ledger.facts import Facts

HELP = "move a DuckDB ledger into the ClickHouse that the settings name; run again to go on where it stopped"
EXAMPLE = "migrate --config collector.yaml --ledger old.duckdb"


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_settings_flags(parser, "collector/collector.yaml")
    parser.add_argument("--ledger", type=Path, required=True, help="the DuckDB file; no collector may have it open")


def run(arguments: argparse.Namespace) -> int:
    """0 every hour is there; 1 something failed, or differs; 2 the settings name no ClickHouse."""
    from tokenyield_collector.config import load_settings
    from tokenyield_collector.errors import LedgerError, LedgerInUse
    from tokenyield_collector.ledger_engine import open_ledger

    settings = load_settings(arguments.config, os.environ, arguments.set)
    if not settings.ledger_url:
        print("migrate: the settings have no ledger_url; name the ClickHouse to move into, as in docs/scale.md",
              file=sys.stderr)  # fmt: skip
        return 2
    from tokenyield_collector.ledger.clickhouse.ledger import ClickHouseLedger
    from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger

    path: Path = arguments.ledger
    try:
        if not path.exists():
            raise LedgerError(f"there is no ledger at {path}")
        source = DuckDbLedger(path, memory_limit=settings.ledger_memory)
        with closing(source), closing(open_ledger(settings)) as target:
            assert isinstance(target, ClickHouseLedger)
            return _migrate(source, target, settings.ledger_url)
    except LedgerInUse:
        print(f"migrate: a collector has {path} open; stop it, or migrate a copy:\n"
              "  tokenyield-collector backup copy.duckdb && tokenyield-collector migrate --ledger copy.duckdb …",
              file=sys.stderr)  # fmt: skip
    except (LedgerError, OSError) as error:
        show(f"migrate: {error}; what was moved stays: run it again to go on", is_error=True)
    return 1


def _migrate(source: "DuckDbLedger", target: "ClickHouseLedger", name: str) -> int:
    """With progress, and a summary at the end."""
    from rich.progress import Progress

    from tokenyield_collector.prices.period import iso
    from tokenyield_collector.targets.terminal import terminal

    with Progress(console=terminal(stderr=True), transient=True) as bar:
        task = bar.add_task("hours", total=None)
        hours = list(migrate(source, target, lambda done, of: bar.update(task, completed=done, total=of)))
    moved = [hour for hour in hours if not hour.was_there]
    batches = sum(hour.batches for hour in moved)
    print(f"{name}: {len(moved)} hours moved with {batches} batches, {len(hours) - len(moved)} were there")
    differing = [hour for hour in hours if not hour.is_whole]
    for hour in differing:
        print(f"{iso(hour.hour_ms)}: ClickHouse has other sums than the file; run it again; if it stays, report it")
    print("check it with: tokenyield-collector verify; keep the old file until reports are as they were")
    return 1 if differing else 0


@dataclass(frozen=True, slots=True)
class MigratedHour:
    """What became of one hour."""

    hour_ms: int
    batches: int
    was_there: bool
    is_whole: bool
    """Both ledgers have the same sums, or ClickHouse has windows of its own beside them."""


def migrate(
    source: "DuckDbLedger", target: "ClickHouseLedger", progress: Callable[[int, int], None] = lambda done, of: None
) -> Iterator[MigratedHour]:
    """Every hour of `source`, the oldest first. `progress`: hours done, of how many. Raises `LedgerError`."""
    source.roll()
    export, importer, hours = source.export(), target.importer(), source.hours()
    oldest_window_ms = source.windows_from_ms()
    windows_from_ms = hour_of_ms(oldest_window_ms) if oldest_window_ms is not None else 0
    for digest, parts in export.closed_days():  # before the versions that name them
        target.versions.add_day(digest, parts)
    importer.rest(
        windows_from_ms=windows_from_ms,
        node_labels=export.node_labels(),
        last_seen=export.last_seen(),
        counter_bases=source.counter_bases(),
        statements=export.statements(),
        period_checks=export.period_checks(),
        outcomes=export.outcomes(),
        spend=export.spend(),
        observed=source.export().observed(),
        quarantined=source.quarantined(),
        workload_names=export.workload_names(),
    )
    for i, hour_ms in enumerate(hours):
        facts, batches = _facts(source, hour_ms), export.batches(hour_ms)
        was_there = _facts(target, hour_ms) == facts and importer.batches_in(hour_ms) >= batches
        if not was_there and oldest_window_ms is not None and hour_ms >= windows_from_ms:
            for columns in export.windows(hour_ms):
                importer.windows(columns)
            importer.refold(hour_ms)
        elif not was_there:
            importer.hour(hour_ms, export.hour(hour_ms))
        is_whole = was_there or _facts(target, hour_ms) == facts or importer.batches_in(hour_ms) > batches
        yield MigratedHour(hour_ms, batches, was_there, is_whole)
        progress(i + 1, len(hours))


def _facts(ledger: "DuckDbLedger | ClickHouseLedger", hour_ms: int) -> "Facts":
    """Of one hour; without the labels of nodes, of which only the newest are kept."""
    return replace(ledger.facts_of_hours([hour_ms]), node_labels={})
