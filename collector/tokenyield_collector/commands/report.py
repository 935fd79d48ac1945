"""`tokenyield-collector report`: what a period cost."""

import argparse
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from tokenyield_collector.commands.filters import columns_of, where_of
from tokenyield_collector.commands.source import add_source_flags, open_reports, settings_of
from tokenyield_collector.reports.focus.columns import DATASETS, DEFAULT_VERSION, VERSIONS
from tokenyield_collector.reports.formats import FORMAT_NAMES
from tokenyield_settings.terminal import show

if TYPE_CHECKING:
    from tokenyield_collector.config import CollectorSettings
    from tokenyield_collector.reports.maker import ReportMaker

HELP = (
    "what a period cost, by team, model or any other column; from the running collector, or from its ledger "
    "while it is down"
)
_DATASET_NAMES = {"BillingPeriod": "billing-period", "InvoiceDetail": "invoice-detail"}
"""Datasets of FOCUS that have a file of their own -> how its format and its name end."""
EXAMPLE = "report --period 2026-10 --by team,model --format html --output october.html"


def _beside(focus_version: str) -> dict[str, str]:
    """The formats that are written beside a FOCUS file, and what their names end in."""
    names = [name for dataset, name in _DATASET_NAMES.items() if dataset in DATASETS[focus_version]]
    return {"focus-metadata": ".metadata.json", **{f"focus-{name}": f".{name}.csv" for name in names}}


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--period", required=True, help="2026-10, 2026-10-05 or 2026-10-01..2026-10-15 (UTC)")
    parser.add_argument("--by", default="", help="columns: dimensions of the rules, model, tier, workload, pool, "
                        "source, cluster, node, day, hour; default the first dimension and model")  # fmt: skip
    parser.add_argument("--where", action="append", default=[], metavar="COLUMN=VALUE", help="only lines with this "
                        "value in this column, e.g. team=search; may be repeated")  # fmt: skip
    parser.add_argument("--top", type=int, metavar="N", help="only the N rows that lose most, and one of all others")
    parser.add_argument("--format", choices=FORMAT_NAMES, default="table")
    parser.add_argument("--focus-version", choices=VERSIONS, default=DEFAULT_VERSION, help="of the FOCUS "
                        f"specification; default {DEFAULT_VERSION}")  # fmt: skip
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--version", type=int, metavar="N", help="this version of a closed month, not the newest")
    which.add_argument("--versions", action="store_true", help="list the versions of a closed month: when, why, total")
    which.add_argument("--diff", type=int, nargs=2, metavar=("N", "M"), help="what moved from version N to M, and why")
    parser.add_argument("--output", type=Path, help="write into this file; focus: what belongs to it is written "
                        "beside it (metadata; since 1.4 billing period and invoice detail)")  # fmt: skip
    add_source_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    import gc

    gc.disable()  # it ends soon, and millions of integers hold no cycles
    if arguments.format == "parquet" and arguments.output is None and sys.stdout.isatty():
        print("report: parquet is not for a terminal; give --output FILE", file=sys.stderr)
        return 2
    columns, where = columns_of(arguments.by), where_of(arguments.where)
    if arguments.versions or arguments.diff:
        _write_about_versions(arguments, columns, where)
        return 0
    settings = settings_of(arguments)
    opened = open_reports(settings, arguments)
    if opened is None:
        _from_collector(settings, arguments, columns, where)
        return 0
    ledger, maker = opened
    with closing(ledger):
        if arguments.format == "focus" and not where:
            _write_focus(maker, arguments)
        else:
            _write(maker, arguments, columns, where)
    return 0


def _write_about_versions(arguments: argparse.Namespace, columns: list[str], where: dict[str, str]) -> None:
    from tokenyield_collector.commands.version_tables import FORMATS, print_difference, print_versions
    from tokenyield_collector.errors import ParameterError

    if arguments.format not in FORMATS:
        raise ParameterError("format", expected=f"one of {', '.join(FORMATS)}", found=f"'{arguments.format}'")
    if arguments.prices or arguments.rules:
        flag = "prices" if arguments.prices else "rules"
        raise ParameterError(flag, expected="nothing with --versions and --diff", found="a file", fix="leave it out")
    if arguments.diff:
        print_difference(arguments, columns, where)
    else:
        print_versions(arguments)


def _from_collector(
    settings: "CollectorSettings", arguments: argparse.Namespace, columns: list[str], where: dict[str, str]
) -> None:
    from tokenyield_collector.commands.client import request_from_collector

    form, output = arguments.format, arguments.output
    query = {"period": arguments.period, "by": ",".join(columns), "format": form, **where}
    if form.startswith("focus"):
        query["focus_version"] = arguments.focus_version
    query |= {name: str(value) for name in ("top", "version") if (value := getattr(arguments, name)) is not None}
    request_from_collector(settings, arguments, "/v1/report", query, output)
    if form == "focus" and output is not None:
        for beside, suffix in _beside(arguments.focus_version).items():
            query["format"] = beside
            request_from_collector(settings, arguments, "/v1/report", query, output.with_suffix(suffix))


def _write_focus(maker: "ReportMaker", arguments: argparse.Namespace) -> None:
    """Streamed: a month has millions of rows."""
    period, version, output = arguments.period, arguments.focus_version, arguments.output
    if output is None:
        import io

        out = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="")  # whatever the terminal's encoding is
        maker.focus(period, out, focus_version=version, version=arguments.version)
        out.detach()
        return
    beside = {form: output.with_suffix(suffix) for form, suffix in _beside(version).items()}
    with ExitStack() as opened:
        file, *files = (
            opened.enter_context(path.open("w", encoding="utf-8", newline="")) for path in (output, *beside.values())
        )
        total = maker.focus(
            period, file, focus_version=version, version=arguments.version, beside=dict(zip(beside, files, strict=True))
        )
    show(f"{output}: {total:,.2f} {maker.policy.prices.currency}", is_error=True)


def _write(maker: "ReportMaker", arguments: argparse.Namespace, columns: list[str], where: dict[str, str]) -> None:
    period, form, output = arguments.period, arguments.format, arguments.output
    if form == "table":
        from tokenyield_collector.commands.console import console_for
        from tokenyield_collector.reports.formats.table import report_tables

        console = console_for(output)
        report = maker.report(period, columns, where, arguments.top, version=arguments.version)
        console.print(report_tables(report, console.width))
        return
    data = maker.encode(period, columns, form, where, arguments.top, arguments.focus_version, arguments.version)
    if output is not None:
        output.write_bytes(data)
    else:
        sys.stdout.buffer.write(data)
