"""`tokenyield-collector verify`: whether the sums of a ledger balance."""

import argparse
import sys
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from tokenyield_settings.command_line import add_settings_flags
from tokenyield_settings.terminal import show

if TYPE_CHECKING:
    from tokenyield_collector.config import CollectorSettings
    from tokenyield_collector.ledger.base import Ledger

HELP = "check that the ledger balances, and report where it does not, and what of its facts does not fit"
EXAMPLE = """verify --ledger ledger-2026-11-24.duckdb
verify --quarantine                       # the collector is stopped: move aside what nobody can have measured"""
FINDINGS_SHOWN = 50


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_settings_flags(parser, "collector/collector.yaml")
    parser.add_argument("--ledger", type=Path, help="this ledger instead of ledger_path")
    parser.add_argument(
        "--quarantine",
        action="store_true",
        help="first move windows with impossible amounts aside: they stay in the ledger's table `quarantined`, and "
        "count nowhere; make a backup before",
    )


def run(arguments: argparse.Namespace) -> int:
    """0 the ledger balances, 1 it does not, has a GPU or a workload that two report, or cannot be read."""
    import os

    from tokenyield_collector.commands.source import settings_of
    from tokenyield_collector.errors import LedgerError, LedgerInUse
    from tokenyield_collector.ledger_engine import open_ledger

    settings = settings_of(arguments)
    try:
        ledger = open_ledger(settings, threads=os.cpu_count() or 1, has_to_exist=True)
    except LedgerInUse:
        if arguments.quarantine:
            print("verify: a collector has this ledger open; stop it, and run it again", file=sys.stderr)
            return 1
        print("verify: a collector has this ledger open; verify a copy:\n"
              "  tokenyield-collector backup copy.duckdb && tokenyield-collector verify --ledger copy.duckdb",
              file=sys.stderr)  # fmt: skip
        return 1
    with closing(ledger):
        if arguments.quarantine:
            try:
                _quarantine(ledger)
            except LedgerError as error:  # what was moved stays moved
                show(f"verify: {error}; run it again to go on", is_error=True)
                return 1
        status = _verify(ledger)
        return max(status, _show_gaps(ledger, settings))


def _quarantine(ledger: "Ledger") -> None:
    """Raises `LedgerError`."""
    import time

    from rich.progress import Progress

    from tokenyield_collector.ledger.verify import in_words, quarantine
    from tokenyield_collector.targets.terminal import terminal
    from tokenyield_wire.units import NS_PER_MS

    moved = 0
    with Progress(console=terminal(stderr=True), transient=True) as bar:
        task = bar.add_task("hours", total=None)
        now_ms = time.time_ns() // NS_PER_MS
        for one in quarantine(ledger, now_ms, lambda done, of: bar.update(task, completed=done, total=of)):
            moved += 1
            if moved <= FINDINGS_SHOWN:
                show(f"moved aside: {in_words(one)}")
    print(
        f"{moved} windows and hours moved aside{_of_which_shown(moved)}"
        if moved
        else "nothing is impossible: nothing was moved"
    )


def _of_which_shown(count: int) -> str:
    return f", of which {FINDINGS_SHOWN} are shown" if count > FINDINGS_SHOWN else ""


def _show_gaps(ledger: "Ledger", settings: "CollectorSettings") -> int:
    """What facts show that do not fit each other, whatever the prices are. 1 where a GPU is reported twice, or a
    workload by nodes that do not share it."""
    from tokenyield_collector.attribution.rules import load_rules
    from tokenyield_collector.statements.fact_gaps import fact_gaps
    from tokenyield_collector.statements.gaps import GPU_CONTESTED, GPU_TWICE, WORKLOAD_FOREIGN, gaps_of
    from tokenyield_wire.units import MS_PER_HOUR

    hours = ledger.hours()
    if not hours:
        return 0
    aliases = load_rules(Path(settings.attribution_file) if settings.attribution_file else None).gateway_models
    gaps = gaps_of(fact_gaps(ledger.usage(), hours[0], hours[-1] + MS_PER_HOUR, aliases).gaps)
    for gap in gaps[:FINDINGS_SHOWN]:
        show(gap.text)
    for conflict in ledger.name_conflicts()[:FINDINGS_SHOWN]:
        show(conflict.text)
    return int(any(gap.kind in (GPU_TWICE, GPU_CONTESTED, WORKLOAD_FOREIGN) for gap in gaps))


def _verify(ledger: "Ledger") -> int:
    from rich.progress import Progress

    from tokenyield_collector.ledger.verify import verify
    from tokenyield_collector.reports.version_check import verify_versions
    from tokenyield_collector.statements.bought import BoughtCosts
    from tokenyield_collector.targets.terminal import terminal

    findings = 0
    with Progress(console=terminal(stderr=True), transient=True) as bar:
        task, months = bar.add_task("hours", total=None), bar.add_task("closed months", total=None)
        of_hours = verify(ledger, lambda done, of: bar.update(task, completed=done, total=of))
        of_months = verify_versions(
            ledger, lambda done, of: bar.update(months, completed=done, total=of), (BoughtCosts(ledger),)
        )
        for finding in chain(of_hours, of_months):
            findings += 1
            if findings <= FINDINGS_SHOWN:
                show(finding)
    hours = len(ledger.hours())
    if aside := {row[:3] for row in ledger.quarantined()}:
        print(f"{len(aside)} windows or hours of nodes are in quarantine, and count nowhere")
    if findings:
        print(f"{hours} hours: the ledger does not balance, {findings} findings{_of_which_shown(findings)}")
        return 1
    print(f"{hours} hours: the ledger balances")
    return 0
