"""`tokenyield-collector caching`: what caches of prompts saved and cost."""

import argparse
from typing import TYPE_CHECKING, Any

from tokenyield_collector.commands.console import print_document
from tokenyield_collector.commands.source import add_source_flags, document_from

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tokenyield_collector.config import CollectorSettings
    from tokenyield_collector.http.schemas import CachingDocument
    from tokenyield_collector.ledger.base import Ledger
    from tokenyield_collector.reports.maker import ReportMaker

HELP = "what caches of prompts saved, what writing them cost, and what was never read, by vendor and model"
EXAMPLE = "caching --period 2026-11"
TOP = 50
TOP_MAX = 10_000


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--period", required=True, help="2026-11, 2026-11-05 or 2026-11-01..2026-11-15 (UTC)")
    top = f"only the N rows with the most money; default {TOP}"
    parser.add_argument("--top", type=int, metavar="N", default=TOP, help=top)
    parser.add_argument("--json", action="store_true", help="the document of GET /v1/caching instead of a table")
    add_source_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    from tokenyield_collector.errors import ParameterError

    if not 1 <= arguments.top <= TOP_MAX:
        raise ParameterError("top", expected=f"1 to {TOP_MAX}", found=str(arguments.top))

    def make(settings: "CollectorSettings", ledger: "Ledger", maker: "ReportMaker") -> "CachingDocument":
        from tokenyield_collector.insight.caching import caching

        return caching(maker, ledger, arguments.period, arguments.top)

    query = {"period": arguments.period, "top": str(arguments.top)}
    document = document_from(arguments, "/v1/caching", query, make)
    print_document(document, "json" if arguments.json else "table", caching_table)
    return 0


def caching_table(document: dict[str, Any]) -> "RenderableType":
    """Of a `CachingDocument`."""
    from rich import box
    from rich.console import Group
    from rich.table import Table

    from tokenyield_collector.targets.terminal import cell

    table = Table(box=box.SIMPLE_HEAD, show_footer=bool(document["rows"]))
    currency, total = document["currency"], _cells(document["total"])
    table.add_column("vendor", "total", overflow="fold")
    table.add_column("model", overflow="fold")
    for name, footer in zip(("prompt", "read", "share", "written", "reads a write", f"saved {currency}", "extra", "net",
                             "never read"), total, strict=True):  # fmt: skip
        table.add_column(name, footer, justify="right")
    for row in document["rows"]:
        table.add_row(cell(row["vendor"]), cell(row["model"]), *_cells(row))
    if not document["rows"]:
        table.add_row("none", *[""] * 10)
    notes = [f"{document['more']:,} more rows are not listed; the total has them"] if document["more"] else []
    if document["total"]["unpriced_tokens"]:
        unpriced = document["total"]["unpriced_tokens"]
        notes.append(f"{unpriced:,} tokens that were read or written have no price; name one in bought_prices")
    notes += [f"Prices: {'; '.join(document['prices'])}."] if document["prices"] else []
    notes += [f"- {limit}" for limit in document["limits"]]
    return Group(table, *(cell(note, "dim") for note in notes))


def _cells(figures: dict[str, Any]) -> list[str]:
    share, reads = figures["read_share"], figures["reads_per_write"]
    return [
        f"{figures['prompt_tokens']:,}",
        _whole(figures["read_tokens"]),
        "" if share is None else f"{share * 100:.1f} %",
        _whole(figures["written_tokens"]),
        "" if reads is None else f"{reads:.1f}",
        *(_money(figures[name]) for name in ("saved", "extra", "net")),
        _whole(figures["never_read_tokens"]),
    ]


def _whole(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


def _money(amount: Any) -> str:
    return "" if amount is None else f"{amount:,.2f}"
