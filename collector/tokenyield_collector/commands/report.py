"""`tokenyield-collector report` and `budget`: from the running collector, or from its ledger while it is down.

A DuckDB file is open in one process only, so a ledger that is in use is asked for over HTTP (`listen` of the settings).
"""

import argparse
import gc
import io
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenyield_collector.commands.client import ask
from tokenyield_collector.config import Settings, load_settings
from tokenyield_collector.errors import LedgerError, LedgerInUse, ParameterError
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.ledger.open import open_ledger
from tokenyield_collector.policy import load_policy
from tokenyield_collector.reports.maker import ReportMaker, budget_document
from tokenyield_wire.units import NS_PER_MS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def report(arguments: argparse.Namespace) -> int:
    """Exit code."""
    gc.disable()  # it ends soon, and millions of integers hold no cycles
    if arguments.format == "parquet" and arguments.output is None and sys.stdout.isatty():
        print("report: parquet is not for a terminal; give --output FILE", file=sys.stderr)
        return 2
    return exit_code("report", _report, arguments)


def budget(arguments: argparse.Namespace) -> int:
    """Exit code."""
    return exit_code("budget", _budget, arguments)


def exit_code(name: str, call: Callable[[argparse.Namespace], None], arguments: argparse.Namespace) -> int:
    """0 done; 1 the ledger or the collector failed; 2 the call is wrong."""
    try:
        call(arguments)
    except ParameterError as error:
        print(f"{name}: {_flag_of(error.field, arguments)}: {error.text}", file=sys.stderr)
        return 2
    except (LedgerError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    return 0


def _flag_of(field: str, arguments: argparse.Namespace) -> str:
    """The flag that a parameter is given with. What is no flag is a column, given with `--where`."""
    return f"--{field.replace('_', '-')}" if hasattr(arguments, field) else f"--where {field}"


def _report(arguments: argparse.Namespace) -> None:
    by = [name.strip() for name in arguments.by.split(",") if name.strip()]
    form, output, where = arguments.format, arguments.output, _where(arguments.where)
    settings = settings_of(arguments)
    opened = None if arguments.collector else open_books(settings, arguments)
    if opened is None:
        query = {"period": arguments.period, "by": ",".join(by), "format": form, **where}
        if arguments.top is not None:
            query["top"] = str(arguments.top)
        ask(settings, arguments, "/v1/report", query, output)
        if form == "focus" and output is not None:
            ask(settings, arguments, "/v1/report", {**query, "format": "focus-metadata"}, _beside(output))
        return
    ledger, maker = opened
    with closing(ledger):
        if form == "table":
            from tokenyield_collector.reports.table import report_tables

            console = console_for(output)
            console.print(report_tables(maker.report(arguments.period, by, where, arguments.top), console.width))
        elif form == "focus" and output is not None and not where:
            with output.open("w", encoding="utf-8", newline="") as file:
                total = maker.focus(arguments.period, file)
            _beside(output).write_bytes(maker.focus_metadata(arguments.period))
            print(f"{output}: {total:,.2f} {maker.policy.prices.currency}", file=sys.stderr)
        elif form == "focus" and not where:
            maker.focus(arguments.period, sys.stdout)
        elif output is not None:
            output.write_bytes(maker.encode(arguments.period, by, form, where, arguments.top))
        else:
            sys.stdout.buffer.write(maker.encode(arguments.period, by, form, where, arguments.top))


def _where(given: list[str]) -> dict[str, str]:
    found = dict(text.partition("=")[::2] for text in given)
    if not all("=" in text for text in given):
        raise ParameterError("where", expected="a column and a value", found=f"'{given[0]}'", fix="write team=search")
    return found


def _budget(arguments: argparse.Namespace) -> None:
    settings = settings_of(arguments)
    opened = None if arguments.collector else open_books(settings, arguments)
    if opened is None:
        query = {"month": arguments.month} if arguments.month is not None else {}
        answer = io.BytesIO()
        ask(settings, arguments, "/v1/budgets", query, answer)
        document = json.loads(answer.getvalue(), parse_float=Decimal)
    else:
        ledger, maker = opened
        with closing(ledger):
            document = budget_document(maker.budgets(arguments.month), maker.policy.prices.currency)
    if arguments.format == "json":
        print(json.dumps(document, indent=2, default=float))
    else:
        console_for(None).print(_budget_table(document))


def settings_of(arguments: argparse.Namespace) -> Settings:
    """With what `--ledger`, `--prices` and `--rules` say. Raises `SettingsError`."""
    own = {"ledger_path": arguments.ledger, "prices_file": arguments.prices, "attribution_file": arguments.rules}
    flags = [f"{name}={file}" for name, file in own.items() if file]
    flags += ["ledger_url="] if arguments.ledger else []
    return load_settings(arguments.config, os.environ, [*arguments.set, *flags])


def open_books(settings: Settings, arguments: argparse.Namespace) -> tuple[Ledger, ReportMaker] | None:
    """None when a collector has the ledger open and is to be asked."""
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
    maker = ReportMaker(ledger=ledger, policy=policy, now_ms=now_ms, settle_ms=settle_ms)
    return ledger, maker


def _beside(output: Path) -> Path:
    """Where a FOCUS file's metadata stand."""
    return output.with_suffix(".metadata.json")


def console_for(output: Path | None) -> "Console":
    """Wide enough for a table where it is no terminal."""
    from rich.console import Console

    if output is not None:
        return Console(file=output.open("w", encoding="utf-8"), width=160)
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, 160))


def _budget_table(document: dict[str, Any]) -> "Table":
    from rich import box
    from rich.table import Table

    currency = document["currency"]
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("budget", "month"):
        table.add_column(column)
    for column in ("monthly", "spent", "remaining", "forecast", "range"):
        table.add_column(f"{column}, {currency}" if column == "monthly" else column, justify="right")
    table.add_column("state")
    colours = {"ok": "green", "at risk": "yellow", "over": "red"}
    for one in document["budgets"]:
        told = one["forecast"]
        state = one["state"]
        table.add_row(
            one["name"],
            one["month"],
            *(f"{one[name]:,.2f}" for name in ("monthly", "spent", "remaining")),
            f"{told['expected']:,.2f}" if told else "-",
            f"{told['low']:,.2f} to {told['high']:,.2f}" if told else "-",
            f"[{colours[state]}]{state}[/]" if state in colours else state,
        )
    if not document["budgets"]:
        table.caption = "no budgets: see `budgets` in attribution.yaml"
    return table
