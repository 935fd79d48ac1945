"""`tokenyield-collector explain`: why a period cost more or less than another."""

import argparse
from typing import TYPE_CHECKING, Any

from tokenyield_collector.commands.console import print_document
from tokenyield_collector.commands.filters import columns_of, where_of
from tokenyield_collector.commands.source import add_source_flags, document_from

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from tokenyield_collector.config import CollectorSettings
    from tokenyield_collector.http.schemas import ExplainDocument
    from tokenyield_collector.ledger.base import Ledger
    from tokenyield_collector.reports.maker import ReportMaker

HELP = "why a period cost more or less than another: volume, price, mix of models, cache hits, idle, energy, new, gone"
EXAMPLE = "explain --period 2026-11 --against 2026-10 --by team"
TOP = 20


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--period", required=True, help="2026-11, 2026-11-05 or 2026-11-01..2026-11-15 (UTC)")
    parser.add_argument("--against", required=True, metavar="PERIOD", help="the period that it is compared with")
    parser.add_argument("--by", default="", help="columns: dimensions of the rules, model, tier, workload, pool, "
                        "vendor, source, cluster, node; default the first dimension and model")  # fmt: skip
    parser.add_argument("--where", action="append", default=[], metavar="COLUMN=VALUE", help="only lines with this "
                        "value in this column, e.g. team=search; may be repeated")  # fmt: skip
    parser.add_argument("--top", type=int, metavar="N", default=TOP, help="only the N rows that moved most, and one of "
                        f"all others; default {TOP}")  # fmt: skip
    parser.add_argument("--format", choices=("table", "json"), default="table")
    add_source_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    columns, where = columns_of(arguments.by), where_of(arguments.where)

    def make(settings: "CollectorSettings", ledger: "Ledger", maker: "ReportMaker") -> "ExplainDocument":
        from tokenyield_collector.insight.explain import explain

        return explain(maker, arguments.period, arguments.against, columns, where, arguments.top)

    query = {"period": arguments.period, "against": arguments.against, "by": ",".join(columns), **where}
    query["top"] = str(arguments.top)
    print_document(document_from(arguments, "/v1/explain", query, make), arguments.format, explain_tables)
    return 0


def explain_tables(document: dict[str, Any]) -> "RenderableType":
    """Of an `ExplainDocument`: the sentence, the effects, the rows."""
    from rich.console import Group

    from tokenyield_collector.targets.terminal import cell

    head = [cell(document["text"], "bold"), *(cell(note, "dim") for note in document["notes"])]
    return Group(*head, _effects(document), _rows(document))


def _effects(document: dict[str, Any]) -> "Table":
    from rich import box
    from rich.table import Table

    from tokenyield_collector.targets.terminal import cell

    total = document["total"]["shown"]
    table = Table(box=box.SIMPLE_HEAD, show_footer=True)
    table.add_column("effect", footer="difference")
    table.add_column(document["currency"], footer=f"{total['difference']:+,}", justify="right")
    table.add_column("is", overflow="fold")
    for effect in document["effects"]:
        table.add_row(effect["title"], f"{effect['amount']:+,}", cell(effect["meaning"], "dim"))
    return table


def _rows(document: dict[str, Any]) -> "Table":
    from rich import box
    from rich.table import Table

    from tokenyield_collector.targets.terminal import cell

    total = document["total"]["shown"]
    titles = {effect["effect"]: effect["title"] for effect in document["effects"]}
    table = Table(box=box.SIMPLE_HEAD, show_footer=True)
    for i, name in enumerate(document["by"]):
        table.add_column(name, footer="" if i else "sum", overflow="fold")
    for name, title in (("cost_from", document["against"]["name"]), ("cost_to", document["period"]["name"])):
        table.add_column(title, footer=f"{total[name]:,}", justify="right")
    table.add_column("difference", footer=f"{total['difference']:+,}", justify="right")
    table.add_column("most of it", overflow="fold")
    for row in document["rows"]:
        shown = row["shown"]
        effects = sorted(shown["effects"].items(), key=lambda effect: -abs(effect[1]))[:3]
        causes = ", ".join(f"{titles.get(name, name)} {amount:+,}" for name, amount in effects)
        amounts = (f"{shown['cost_from']:,}", f"{shown['cost_to']:,}", f"{shown['difference']:+,}")
        table.add_row(*(cell(value) for value in row["by"].values()), *amounts, causes)
    return table
