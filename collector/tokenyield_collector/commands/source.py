"""Where a command's figures come from: the running collector, or its ledger while no collector has it open.

A DuckDB file is open in one process only, so figures of a ledger that is in use are requested over HTTP (client.py).
"""

import argparse
import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenyield_collector.commands.client import add_client_flags
from tokenyield_settings.command_line import add_settings_flags

if TYPE_CHECKING:
    from tokenyield_collector.config import CollectorSettings
    from tokenyield_collector.ledger.base import Ledger
    from tokenyield_collector.reports.maker import ReportMaker


def add_source_flags(parser: argparse.ArgumentParser) -> None:
    """Those of `settings_of` and `open_reports`, and of client.py."""
    add_settings_flags(parser, "collector/collector.yaml")
    parser.add_argument("--ledger", type=Path, help="this ledger instead of ledger_path")
    add_client_flags(parser)
    parser.add_argument("--prices", type=Path, help="this price book instead of prices_file; reads the ledger itself")
    parser.add_argument("--rules", type=Path, help="these rules instead of attribution_file; reads the ledger itself")


def settings_of(arguments: argparse.Namespace) -> "CollectorSettings":
    """The settings, with `--ledger`, `--prices` and `--rules` over them where the command has these flags.

    Raises `SettingsError`.
    """
    from tokenyield_collector.config import load_settings

    names = {"ledger": "ledger_path", "prices": "prices_file", "rules": "attribution_file"}
    files = {setting: getattr(arguments, flag, None) for flag, setting in names.items()}
    flags = [f"{setting}={file}" for setting, file in files.items() if file]
    flags += ["ledger_url="] if files["ledger_path"] else []
    return load_settings(arguments.config, os.environ, [*arguments.set, *flags])


def open_reports(settings: "CollectorSettings", arguments: argparse.Namespace) -> "tuple[Ledger, ReportMaker] | None":
    """None where the running collector must be asked: `--collector` names one, or it has the ledger open.

    Raises `SettingsError`, `LedgerError`.
    """
    from tokenyield_collector.errors import ParameterError

    if arguments.collector:
        if flag := next((name for name in ("prices", "rules") if getattr(arguments, name)), ""):
            fix = "leave out --collector, and name the --ledger"
            raise ParameterError(flag, expected="nothing with --collector", found="a file", fix=fix)
        return None
    from tokenyield_collector.errors import LedgerError, LedgerInUse
    from tokenyield_collector.ledger_engine import open_ledger
    from tokenyield_collector.policy import load_policy
    from tokenyield_collector.reports.maker import ReportMaker
    from tokenyield_collector.statements.bought import BoughtCosts
    from tokenyield_wire.units import NS_PER_MS

    policy = load_policy(settings)
    try:
        ledger = open_ledger(settings, threads=os.cpu_count() or 1, has_to_exist=True)
    except LedgerInUse:
        if arguments.prices or arguments.rules:
            raise LedgerError(
                "--prices and --rules read the ledger themselves, and a collector has it open; stop it, or use a copy"
            ) from None
        return None
    now_ms, settle_ms = time.time_ns() // NS_PER_MS, settings.live_lag_s * 1000
    is_what_if = bool(arguments.prices or arguments.rules)
    maker = ReportMaker(
        ledger=ledger,
        policy=policy,
        now_ms=now_ms,
        settle_ms=settle_ms,
        close_after_ms=settings.close_after_ms,
        others=(BoughtCosts(ledger),),
        is_what_if=is_what_if,
    )
    return ledger, maker


def document_from(
    arguments: argparse.Namespace,
    path: str,
    query: dict[str, str],
    make: "Callable[[CollectorSettings, Ledger, ReportMaker], Any]",
) -> dict[str, Any]:
    """A JSON document: what `make` gives, or what the running collector answers to `path` and `query`.

    Money is Decimal. Raises `ParameterError`, `SettingsError`, `LedgerError`, OSError.
    """
    import io
    import json
    from decimal import Decimal

    from tokenyield_collector.commands.client import request_from_collector

    settings = settings_of(arguments)
    opened = open_reports(settings, arguments)
    if opened is None:
        body = io.BytesIO()
        request_from_collector(settings, arguments, path, query, body)
        document: dict[str, Any] = json.loads(body.getvalue(), parse_float=Decimal)
        return document
    ledger, maker = opened
    with closing(ledger):
        made: dict[str, Any] = make(settings, ledger, maker)
        return made
