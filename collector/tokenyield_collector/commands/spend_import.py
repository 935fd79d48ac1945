"""`tokenyield-collector import SOURCE FILE...` of what is bought: saved answers of vendors, logs, tables, sessions."""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tokenyield_settings.terminal import show

if TYPE_CHECKING:
    from tokenyield_collector.config import CollectorSettings
    from tokenyield_collector.ingest.spend_import import SpendImport
    from tokenyield_collector.spend.slices import SpendSlice

REFUSALS_SHOWN = 20
NOTICES_SHOWN = 20
PROGRESS_EVERY = 1_000
_MICRO = 10**6


def import_spend(settings: "CollectorSettings", arguments: argparse.Namespace) -> int:
    """0 all was understood; 1 a row was refused; 2 a flag cannot be used."""
    from tokenyield_collector.errors import ParameterError

    if not arguments.dry_run:
        raise ParameterError("dry_run", expected="it", found="an import into the ledger, which comes later",
                             fix="give --dry-run to see what is understood")  # fmt: skip
    read = _read(settings, arguments)
    _show_understood(read)
    print("dry run: nothing was changed", file=sys.stderr)
    return 1 if read.refused else 0


def _read(settings: "CollectorSettings", arguments: argparse.Namespace) -> "SpendImport":
    from rich.progress import Progress

    from tokenyield_collector.errors import ParameterError
    from tokenyield_collector.ingest.spend_import import people_of, read_mapping, read_spend_files
    from tokenyield_collector.spend.values import UnusableSpend
    from tokenyield_collector.targets.terminal import terminal

    with Progress(console=terminal(stderr=True), transient=True) as bar:
        tasks = {file: bar.add_task(file.name, total=None) for file in arguments.files}

        def advance(file: Path, documents: int) -> None:
            if documents % PROGRESS_EVERY == 0:
                bar.update(tasks[file], completed=documents)

        try:
            return read_spend_files(
                arguments.kind,
                arguments.files,
                account=arguments.account,
                mapping=read_mapping(arguments.mapping) if arguments.mapping else None,
                people=people_of(settings),
                progress=advance,
            )
        except UnusableSpend as error:
            raise ParameterError("mapping", expected="one that can be used", found=str(error)) from None


def _show_understood(read: "SpendImport") -> None:
    for file, notice in read.notices[:NOTICES_SHOWN]:
        show(f"{file}: {notice}" if file else notice)
    if len(read.notices) > NOTICES_SHOWN:
        show(f"and {len(read.notices) - NOTICES_SHOWN} more notices")
    for file, why in read.refusals[:REFUSALS_SHOWN]:
        show(f"{file}: {why}", is_error=True)
    if read.refused > REFUSALS_SHOWN:
        show(f"and {read.refused - REFUSALS_SHOWN} more rows refused", is_error=True)
    show(f"{read.rows:,} rows understood, {read.refused:,} refused")
    for line in understood_lines(read.slices):
        show(line)


def understood_lines(slices: "Iterable[SpendSlice]") -> list[str]:
    """By layer, vendor, account and report: how much of what, on which days."""
    from tokenyield_collector.prices.period import day_of
    from tokenyield_collector.spend.format import grain_family

    tokens: dict[tuple[str, ...], int] = defaultdict(int)
    requests: dict[tuple[str, ...], int] = defaultdict(int)
    costs: dict[tuple[str, ...], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    days: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for key, layer, lines in slices:
        for fields, amounts in lines:
            row: tuple[str, ...] = (layer, fields.vendor, key.account, f"{key.source} {grain_family(key.grain)}")
            days[row].add(key.day_ms)
            tokens[row] += amounts.tokens or 0
            requests[row] += amounts.requests or 0
            if amounts.cost_micro is not None:
                costs[row][fields.currency] += amounts.cost_micro
    shown = []
    for row in sorted(days):
        first, last = day_of(min(days[row])).isoformat(), day_of(max(days[row])).isoformat()
        when = first if first == last else f"{first}..{last}"
        parts = [f"{tokens[row]:,} tokens"] if tokens[row] else []
        parts += [f"{requests[row]:,} requests"] if requests[row] else []
        parts += [f"{_amount(micro)} {currency}" for currency, micro in sorted(costs[row].items())] or ["no money"]
        of_layer, vendor, account, report = row
        shown.append(f"{of_layer}: {vendor}, account {account}, {when}: {', '.join(parts)} ({report})")
    return shown


def _amount(micro: int) -> str:
    sign = "-" if micro < 0 else ""
    return f"{sign}{abs(micro) // _MICRO:,}.{abs(micro) % _MICRO:06d}"
