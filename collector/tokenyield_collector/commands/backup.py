"""`tokenyield-collector backup`: a copy of the ledger, while the collector is running or not."""

import argparse
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from tokenyield_collector.commands.client import add_client_flags
from tokenyield_settings.command_line import add_settings_flags
from tokenyield_settings.terminal import show

if TYPE_CHECKING:
    from tokenyield_collector.config import CollectorSettings

HELP = "copy the ledger into a file, while the collector is running or not"
EXAMPLE = "backup --config collector.yaml ledger-2026-11-24.duckdb"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="a new file; to restore, stop the collector and put it at ledger_path")
    add_settings_flags(parser, "collector/collector.yaml")
    add_client_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """The file appears whole or not at all."""
    import os

    from tokenyield_collector.commands.source import settings_of

    os.umask(0o077)
    target: Path = arguments.file
    if target.exists():
        show(f"backup: {target} exists already; name another file", is_error=True)
        return 2
    settings = settings_of(arguments)
    part = target.with_name(f"{target.name}.part")
    try:
        _copy(settings, arguments, part)
        part.rename(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    show(f"{target}: {target.stat().st_size} bytes; check it with: tokenyield-collector verify --ledger {target}")
    return 0


def _copy(settings: "CollectorSettings", arguments: argparse.Namespace, target: Path) -> None:
    """From the file; from the collector where `--collector` names one or it has the file open."""
    from tokenyield_collector.commands.client import request_from_collector
    from tokenyield_collector.errors import LedgerInUse

    if not arguments.collector:
        try:
            return _copy_file(settings, target)
        except LedgerInUse:
            pass
    return request_from_collector(settings, arguments, "/v1/backup", {}, target)


def _copy_file(settings: "CollectorSettings", target: Path) -> None:
    from tokenyield_collector.errors import LedgerError
    from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
    from tokenyield_collector.ledger_engine import open_ledger

    with closing(open_ledger(settings, has_to_exist=True)) as ledger:
        if not isinstance(ledger, DuckDbLedger):
            raise LedgerError(
                "this ledger is kept by ClickHouse; back it up with ClickHouse's own means (docs/scale.md)"
            )
        ledger.copy_to(target)
