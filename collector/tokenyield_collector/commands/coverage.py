"""`tokenyield-collector coverage`: how much each dimension covers, and the rules for what is unattributed."""

import argparse
from typing import TYPE_CHECKING, Any

from tokenyield_collector.commands.console import print_document
from tokenyield_collector.commands.source import add_source_flags, document_from

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tokenyield_collector.config import CollectorSettings
    from tokenyield_collector.http.schemas import CoverageDocument
    from tokenyield_collector.ledger.base import Ledger
    from tokenyield_collector.reports.maker import ReportMaker

HELP = "how much of cost, tokens and revenue each dimension covers, and the rules that would cover the rest"
EXAMPLE = "coverage --period 2026-10"
TOP = 10
_HOW_TO_PASTE = (
    "Rules to paste before those of attribution.yaml; check the values that they set. Where there are none yet, write "
    "those of `example attribution.yaml` below them:"
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--period", required=True, help="2026-10, 2026-10-05 or 2026-10-01..2026-10-15 (UTC)")
    parser.add_argument("--top", type=int, metavar="N", default=TOP, help="only the N largest of what is unattributed; "
                        f"default {TOP}")  # fmt: skip
    parser.add_argument("--format", choices=("table", "json", "rules"), default="table", help="rules: only the rules, "
                        "as YAML to paste before those of attribution.yaml")  # fmt: skip
    add_source_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    from tokenyield_settings.terminal import show

    def make(settings: "CollectorSettings", ledger: "Ledger", maker: "ReportMaker") -> "CoverageDocument":
        return maker.coverage(arguments.period, arguments.top)

    query = {"period": arguments.period, "top": str(arguments.top)}
    document = document_from(arguments, "/v1/coverage", query, make)
    if arguments.format == "rules":
        for line in _rule_lines(document):
            show(line)
    else:
        print_document(document, arguments.format, coverage_tables)
    return 0


def coverage_tables(document: dict[str, Any]) -> "RenderableType":
    """A row for each dimension of a `CoverageDocument`, and one for each identity."""
    from rich.console import Group

    from tokenyield_collector.targets.terminal import cell

    parts = [_dimensions(document)]
    if document["unattributed"]:
        parts.append(_unattributed(document))
        parts.append(cell(_HOW_TO_PASTE))
        for line in _rule_lines(document):
            text = cell(f"  {line}")
            text.no_wrap, text.overflow = True, "ignore"  # to be pasted
            parts.append(text)
    return Group(*parts)


def _rule_lines(document: dict[str, Any]) -> list[str]:
    rules = dict.fromkeys(one["rule"] for one in document["unattributed"] if one["rule"])
    return [line for rule in rules for line in rule.split("\n")]


def _dimensions(document: dict[str, Any]) -> "Any":
    from rich import box
    from rich.table import Table

    from tokenyield_collector.targets.terminal import cell

    currency = document["currency"]
    table = Table(title=f"coverage of {document['period']}", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("dimension")
    for column in ("cost", f"attributed, {currency}", "unattributed", "nobody's", "tokens", "revenue"):
        table.add_column(column, justify="right")
    for one in document["dimensions"]:
        cost = one["cost"]
        table.add_row(
            cell(one["dimension"]),
            _percent(cost),
            *(f"{cost[name]:,.2f}" for name in ("attributed", "unattributed", "nobody")),
            _percent(one["tokens"]),
            _percent(one["revenue"]),
        )
    table.caption = "percent: attributed of the whole; nobody's: capacity that the policy leaves apart"
    table.caption_justify = "left"
    return table


def _unattributed(document: dict[str, Any]) -> "Any":
    from rich import box
    from rich.table import Table

    from tokenyield_collector.targets.terminal import cell

    table = Table(title="unattributed, most expensive first", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("who", overflow="fold")
    table.add_column("has no", overflow="fold")
    for column in (document["currency"], "Mtok"):
        table.add_column(column, justify="right")
    for one in document["unattributed"]:
        who = one["who"] or one["hint"]
        table.add_row(cell(who), cell(", ".join(one["missing"])), f"{one['cost']:,.2f}", f"{one['tokens'] / 1e6:,.2f}")
    return table


def _percent(covered: dict[str, Any] | None) -> str:
    return "-" if covered is None or covered["percent"] is None else f"{covered['percent']:.1f} %"
