"""`tokenyield-collector forecast`: what the month and the time after it will come to."""

import argparse
from typing import TYPE_CHECKING, Any

from tokenyield_collector.commands.console import print_document
from tokenyield_collector.commands.filters import columns_of, where_of
from tokenyield_collector.commands.source import add_source_flags, document_from

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tokenyield_collector.config import CollectorSettings
    from tokenyield_collector.http.schemas import ForecastsDocument
    from tokenyield_collector.ledger.base import Ledger
    from tokenyield_collector.reports.maker import ReportMaker

HELP = "what the month, and 3, 6 and 12 months after now, will come to: cost, tokens or energy, with its own back-test"
EXAMPLE = "forecast --by team"
_MEASURES, _TOP, _HISTORY_DAYS = ("cost", "tokens", "energy"), 10, 180
_MILLION = 1_000_000
_QUARTER_DAYS, _YEAR_DAYS = 91, 365


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--measure", choices=_MEASURES, default="cost", help="default cost; energy is that of GPUs and "
                        "hosts, in kWh")  # fmt: skip
    parser.add_argument("--by", default="", help="columns as of a report; each row is forecast by itself; default none")
    parser.add_argument("--where", action="append", default=[], metavar="COLUMN=VALUE", help="only lines with this "
                        "value in this column, e.g. team=search; may be repeated")  # fmt: skip
    parser.add_argument("--top", type=int, metavar="N", default=_TOP, help="only the N rows with most in the last four "
                        f"weeks, and one of all others; default {_TOP}")  # fmt: skip
    parser.add_argument("--history-days", type=int, metavar="N", default=_HISTORY_DAYS, help="how far back is looked; "
                        f"default {_HISTORY_DAYS}")  # fmt: skip
    parser.add_argument("--format", choices=("table", "json"), default="table")
    add_source_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    columns, where = columns_of(arguments.by), where_of(arguments.where)

    def make(settings: "CollectorSettings", ledger: "Ledger", maker: "ReportMaker") -> "ForecastsDocument":
        from tokenyield_collector.insight.forecast import forecasts

        return forecasts(maker, arguments.measure, columns, where, arguments.top, arguments.history_days)

    query = {"measure": arguments.measure, "by": ",".join(columns), "top": str(arguments.top),
             "history_days": str(arguments.history_days), **where}  # fmt: skip
    document = document_from(arguments, "/v1/forecast", query, make)
    print_document(document, arguments.format, forecast_table)
    return 0


def forecast_table(document: dict[str, Any]) -> "RenderableType":
    """A row for the whole, and one for each of the document's."""
    from rich import box
    from rich.console import Group
    from rich.table import Table

    from tokenyield_collector.targets.terminal import cell

    unit = document["unit"] if document["measure"] != "tokens" else "Mtok"
    scale = _MILLION if document["measure"] == "tokens" else 1
    head = f"{document['measure']}, {unit}: {document['month']} and after, as known up to {document['as_of']}"
    table = Table(box=box.SIMPLE_HEAD)
    for name in document["by"] or [""]:
        table.add_column(name, overflow="fold")
    for title in (
        f"{document['month']} to date",
        "month end",
        "80 % within",
        f"next {_QUARTER_DAYS} days",
        "80 % within",
        f"{_YEAR_DAYS} days",
    ):
        table.add_column(title, justify="right")
    table.add_column("back-test", overflow="fold")
    for row in (*document["rows"], document["total"]):
        names = list(row["by"].values()) or ["all", *[""] * (len(document["by"]) - 1)]
        cells = [f"{row['to_date'] / scale:,.2f}"]
        if row["why"]:
            table.add_row(*map(cell, names), *cells, *["-"] * 5, cell(row["why"], "dim"))
            continue
        totals = {band["days"]: band for band in row["totals"]}
        for band in (row["month_end"], totals.get(_QUARTER_DAYS)):
            cells += ["-", "-"] if band is None else [
                f"{band['p50'] / scale:,.2f}", f"{band['p10'] / scale:,.2f} to {band['p90'] / scale:,.2f}"
            ]  # fmt: skip
        cells.append(f"{totals[_YEAR_DAYS]['p50'] / scale:,.2f}" if _YEAR_DAYS in totals else "-")
        table.add_row(*map(cell, names), *cells, _back_test(row))
    notes = [*(f"only {name} {value}" for name, value in document["where"].items()), *document["notes"]]
    return Group(cell(head, "bold"), *(cell(note, "dim") for note in notes), table)


def _back_test(row: dict[str, Any]) -> str:
    """How it would have done, in words."""
    test = row["back_test"]
    if test is None:
        return f"none; {row['method']}, {row['history_days']} days"
    return (f"{test['days']} days: off by {test['median_error']:.1%} in the median, band held {test['within']} of "
            f"{test['origins']}; {row['method']}, {row['history_days']} days")  # fmt: skip
