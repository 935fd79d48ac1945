"""`tokenyield-collector shadow`: use of vendors and of own GPUs that nothing explains."""

import argparse
from typing import TYPE_CHECKING, Any

from tokenyield_collector.commands.console import print_document
from tokenyield_collector.commands.source import add_source_flags, document_from

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tokenyield_collector.config import CollectorSettings
    from tokenyield_collector.http.schemas import ShadowDocument
    from tokenyield_collector.ledger.base import Ledger
    from tokenyield_collector.reports.maker import ReportMaker

HELP = "vendors and own GPUs that are used or paid for, and that no gateway, bill or registered server explains"
EXAMPLE = "shadow --period 2026-11"
TOP = 200
TOP_MAX = 10_000


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--period", required=True, help="2026-11, 2026-11-05 or 2026-11-01..2026-11-15 (UTC)")
    parser.add_argument("--top", type=int, metavar="N", default=TOP, help="only the N strongest findings; default "
                        f"{TOP}")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="the document of GET /v1/shadow instead of a table")
    add_source_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    from tokenyield_collector.errors import ParameterError

    if not 1 <= arguments.top <= TOP_MAX:
        raise ParameterError("top", expected=f"1 to {TOP_MAX}", found=str(arguments.top))

    def make(settings: "CollectorSettings", ledger: "Ledger", maker: "ReportMaker") -> "ShadowDocument":
        from tokenyield_collector.ingest.spend_import import egress_rules_of
        from tokenyield_collector.insight.shadow import shadow

        return shadow(maker, ledger, arguments.period, egress_rules_of(settings), settings.people, arguments.top)

    query = {"period": arguments.period, "top": str(arguments.top)}
    document = document_from(arguments, "/v1/shadow", query, make)
    print_document(document, "json" if arguments.json else "table", shadow_table)
    return 0


def shadow_table(document: dict[str, Any]) -> "RenderableType":
    """Of a `ShadowDocument`: the findings, and what they cannot show."""
    from rich import box
    from rich.console import Group
    from rich.table import Table

    from tokenyield_collector.targets.terminal import cell

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("level", "evidence", "vendor", "who", "first", "last"):
        table.add_column(name, overflow="fold")
    for name in ("count", "tokens", "received", "sent", "GPU-hours", "cost"):
        table.add_column(name, justify="right")
    for row in document["findings"]:
        table.add_row(row["level"], *(cell(row[name]) for name in ("evidence", "vendor")), cell(subject(row)),
                      row["first_day"], row["last_day"], *(_whole(row[name]) for name in ("count", "tokens")),
                      *(_bytes(row[f"bytes_{name}"]) for name in ("received", "sent")),
                      "" if row["gpu_hours"] is None else f"{row['gpu_hours']:,.1f}", _cost(row))  # fmt: skip
    if not document["findings"]:
        table.add_row("none", "", "", "", "", "", "", "", "", "", "", "")
    notes = [f"{document['more']:,} more findings are not listed"] if document["more"] else []
    notes += [f"{document['sanctioned']:,} times what was found is sanctioned"] if document["sanctioned"] else []
    notes += [document["hosts"], "Levels are other evidence, perhaps of the same use: never add them up. What this "
              "cannot show:", *(f"- {limit}" for limit in document["limits"])]  # fmt: skip
    return Group(table, *(cell(note, "dim") for note in notes))


def subject(row: dict[str, Any]) -> str:
    """The team, and what else is known of who it is."""
    parts = [row["team"], row["workload"], row["person"]]
    known = [part for part in parts if part] or ([f"account {row['account']}"] if row["account"] else [])
    return ", ".join(known) or "not known"


def _whole(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _bytes(value: int | None) -> str:
    """In units of 1,000."""
    if value is None:
        return ""
    amount, units = float(value), ["B", "kB", "MB", "GB", "TB", "PB"]
    while amount >= 1000 and len(units) > 1:
        amount /= 1000
        units.pop(0)
    return f"{amount:,.0f} {units[0]}" if units[0] == "B" else f"{amount:,.1f} {units[0]}"


def _cost(row: dict[str, Any]) -> str:
    return "unpriced" if row["cost"] is None else f"{row['cost']:,.2f} {row['currency']}"
