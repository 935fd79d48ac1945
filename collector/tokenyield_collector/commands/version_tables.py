"""What `report --versions` and `report --diff` print: tables, JSON or CSV."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from tokenyield_collector.commands.source import document_from

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tokenyield_collector.config import CollectorSettings
    from tokenyield_collector.ledger.base import Ledger
    from tokenyield_collector.reports.maker import ReportMaker

FORMATS = ("table", "json", "csv")
ROWS_SHOWN = 200


def print_versions(arguments: argparse.Namespace) -> None:
    """All versions of a month."""

    def make(settings: "CollectorSettings", ledger: "Ledger", maker: "ReportMaker") -> Any:
        return maker.versions(arguments.period)

    _print(arguments, document_from(arguments, "/v1/report/versions", {"period": arguments.period}, make))


def print_difference(arguments: argparse.Namespace, columns: list[str], where: dict[str, str]) -> None:
    """What moved between two versions."""
    first, second = arguments.diff

    def make(settings: "CollectorSettings", ledger: "Ledger", maker: "ReportMaker") -> Any:
        return maker.difference(arguments.period, first, second, columns, where)

    query = {"period": arguments.period, "from": str(first), "to": str(second), "by": ",".join(columns), **where}
    _print(arguments, document_from(arguments, "/v1/report/diff", query, make))


def _print(arguments: argparse.Namespace, document: dict[str, Any]) -> None:
    import msgspec

    is_list = "versions" in document
    if arguments.format == "table":
        from tokenyield_collector.commands.console import console_for

        console_for(arguments.output).print(_versions_table(document) if is_list else _difference_table(document))
        return
    if arguments.format == "json":
        from tokenyield_collector.targets.terminal_json import printable_json

        encoded = msgspec.json.Encoder(decimal_format="number").encode(document)
        text = printable_json(msgspec.json.format(encoded, indent=2)) + b"\n"
    else:
        from tokenyield_collector.reports.version_list import differences_csv, versions_csv

        csv = versions_csv(document["versions"]) if is_list else differences_csv(document)  # type: ignore[arg-type]
        text = csv.encode()
    if arguments.output is not None:
        arguments.output.write_bytes(text)
    else:
        sys.stdout.buffer.write(text)


def _versions_table(document: dict[str, Any]) -> "RenderableType":
    from rich import box
    from rich.table import Table

    from tokenyield_collector.targets.terminal import cell

    table = Table(box=box.SIMPLE_HEAD, title=f"{document['period']}: {document['state']}", title_justify="left")
    table.add_column("version", justify="right")
    table.add_column("made")
    table.add_column("by")
    table.add_column("total", justify="right")
    table.add_column("why", overflow="fold")
    for version in document["versions"]:
        total = f"{version['shown']:,.2f} {version['currency']}" if version["shown"] is not None else "-"
        why = "; ".join(version["changes"]) or "closed"
        table.add_row(
            str(version["version"]), version["made_at"] or "-", cell(version["made_by"] or "-"), total, cell(why)
        )
    if document["finding"]:
        table.caption = cell(document["finding"], "red")
    elif not document["versions"]:
        table.caption = f"no version yet: the collector closes it at {document['closes_at']} or after"
    return table


def _difference_table(document: dict[str, Any]) -> "RenderableType":
    from rich import box
    from rich.console import Group
    from rich.table import Table

    from tokenyield_collector.statements.buckets import BY_NAME, COSTS
    from tokenyield_collector.targets.terminal import cell

    first, second, rows = document["from_version"], document["to_version"], document["rows"]
    head = [cell(f"{document['period']}: version {first} -> {second}, {document['currency']}", "bold")]
    head += [cell(change, "dim") for change in document["changes"]]
    moved = [name for name in COSTS if any(row["difference"][f"cost_{name}"] for row in (*rows, document["total"]))]
    table = Table(box=box.SIMPLE_HEAD, show_footer=True)
    for i, name in enumerate(document["by"]):
        table.add_column(name, footer="sum" if not i else "")
    names = ["cost_from", "cost_to", "cost", *(f"cost_{name}" for name in moved)]
    titles = [f"version {first}", f"version {second}", "difference", *(BY_NAME[name].title for name in moved)]
    for name, title in zip(names, titles, strict=True):
        table.add_column(title, footer=f"{document['total']['shown'][name]:,.2f}", justify="right")
    for row in rows[:ROWS_SHOWN]:
        table.add_row(*(cell(value) for value in row["by"].values()), *(f"{row['shown'][name]:,.2f}" for name in names))
    if len(rows) > ROWS_SHOWN:
        table.caption = f"{len(rows) - ROWS_SHOWN} more rows: json and csv have all"
    return Group(*head, table)
