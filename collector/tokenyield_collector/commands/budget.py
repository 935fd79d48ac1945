"""`tokenyield-collector budget`: each budget of a month."""

import argparse
from typing import TYPE_CHECKING, Any

from tokenyield_collector.attribution.rules import TOKENS
from tokenyield_collector.commands.console import print_document
from tokenyield_collector.commands.source import add_source_flags, document_from

if TYPE_CHECKING:
    from rich.table import Table

    from tokenyield_collector.config import CollectorSettings
    from tokenyield_collector.http.schemas import BudgetsDocument
    from tokenyield_collector.ledger.base import Ledger
    from tokenyield_collector.reports.maker import ReportMaker

HELP = "each budget of a month, of money or of tokens: spent, remaining, step, forecast"
EXAMPLE = "budget --month 2026-10"
_COLOURS = {"ok": "green", "at risk": "yellow", "over": "red"}


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--month", help="default: the present month")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    add_source_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    def make(settings: "CollectorSettings", ledger: "Ledger", maker: "ReportMaker") -> "BudgetsDocument":
        from tokenyield_collector.reports.maker import budget_document

        return budget_document(maker.budgets(arguments.month), maker.policy.prices.currency)

    query = {"month": arguments.month} if arguments.month is not None else {}
    document = document_from(arguments, "/v1/budgets", query, make)
    print_document(document, arguments.format, budget_table)
    return 0


def budget_table(document: dict[str, Any]) -> "Table":
    """A row for each budget of a `BudgetsDocument`."""
    from rich import box
    from rich.table import Table

    from tokenyield_collector.targets.terminal import cell

    table = Table(box=box.SIMPLE_HEAD)
    for column in ("budget", "month", "unit"):
        table.add_column(column)
    for column in ("monthly", "spent", "%", "step", "remaining", "forecast", "range"):
        table.add_column(column, justify="right")
    table.add_column("state")
    for budget in document["budgets"]:
        shown, step = budget["shown"], budget["step"]
        forecast = shown["forecast"]
        state = budget["state"]
        amount = f",.{0 if budget['unit'] == TOKENS else 2}f"
        table.add_row(
            cell(budget["name"]),
            cell(budget["month"]),
            cell(budget["unit"]),
            *(f"{shown[name]:{amount}}" for name in ("monthly", "spent")),
            f"{budget['spent_percent']:.1f}",
            "-" if step is None else str(step),
            f"{shown['remaining']:{amount}}",
            f"{forecast['expected']:{amount}}" if forecast else "-",
            f"{forecast['low']:{amount}} to {forecast['high']:{amount}}" if forecast else "-",
            cell(state, _COLOURS.get(state, "")),
        )
    if not document["budgets"]:
        table.caption = "no budgets: see `budgets` in attribution.yaml"
    return table
