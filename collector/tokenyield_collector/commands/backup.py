"""`tokenyield-collector backup` and `verify`: a copy of the ledger while it is at work; whether its books balance."""

import argparse
import os
import sys
from contextlib import closing
from pathlib import Path

from tokenyield_collector.commands.client import ask
from tokenyield_collector.config import Settings, load_settings
from tokenyield_collector.errors import LedgerError, LedgerInUse, ParameterError
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.ledger.open import open_ledger

FINDINGS_SHOWN = 50


def backup(arguments: argparse.Namespace) -> int:
    """Exit code. The file appears whole or not at all."""
    target: Path = arguments.file
    if target.exists():
        print(f"backup: {target} is there already; name another file", file=sys.stderr)
        return 2
    settings = _settings(arguments)
    part = target.with_name(f"{target.name}.part")
    try:
        try:
            if arguments.collector:
                raise LedgerInUse
            _copy(settings, part)
        except LedgerInUse:
            ask(settings, arguments, "/v1/backup", {}, part)
        part.rename(target)
    except (LedgerError, ParameterError, OSError) as error:
        part.unlink(missing_ok=True)
        print(f"backup: {error}", file=sys.stderr)
        return 1
    print(f"{target}: {target.stat().st_size} bytes; check it with: tokenyield-collector verify --ledger {target}")
    return 0


def _copy(settings: Settings, target: Path) -> None:
    """Of a ledger that no collector has open."""
    from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger

    with closing(open_ledger(settings, has_to_exist=True)) as ledger:
        if not isinstance(ledger, DuckDbLedger):
            raise LedgerError(
                "this ledger is kept by ClickHouse; back it up with ClickHouse's own means (docs/scale.md)"
            )
        ledger.copy_to(target)


def verify_command(arguments: argparse.Namespace) -> int:
    """Exit code: 0 the books balance, 1 they do not, or cannot be read."""
    try:
        with closing(open_ledger(_settings(arguments), threads=os.cpu_count() or 1, has_to_exist=True)) as ledger:
            return _verified(ledger)
    except LedgerInUse:
        print("verify: a collector has this ledger open; verify a copy:\n"
              "  tokenyield-collector backup copy.duckdb && tokenyield-collector verify --ledger copy.duckdb",
              file=sys.stderr)  # fmt: skip
    except (LedgerError, OSError) as error:
        print(f"verify: {error}", file=sys.stderr)
    return 1


def _verified(ledger: Ledger) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from tokenyield_collector.ledger.verify import verify

    findings = 0
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("hours", total=None)
        for finding in verify(ledger, lambda done, of: bar.update(task, completed=done, total=of)):
            findings += 1
            if findings <= FINDINGS_SHOWN:
                print(finding)
    hours = len(ledger.hours())
    if findings:
        more = f", of which {FINDINGS_SHOWN} are shown" if findings > FINDINGS_SHOWN else ""
        print(f"{hours} hours: the books do not balance, {findings} findings{more}")
        return 1
    print(f"{hours} hours: the books balance")
    return 0


def _settings(arguments: argparse.Namespace) -> Settings:
    flags = [f"ledger_path={arguments.ledger}", "ledger_url="] if getattr(arguments, "ledger", None) else []
    return load_settings(arguments.config, os.environ, [*arguments.set, *flags])
