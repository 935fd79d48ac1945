"""`tokenyield-collector diagnose`: why each workload yields what it yields."""

import argparse
from typing import TYPE_CHECKING, Any

from tokenyield_collector.commands.console import print_document
from tokenyield_collector.commands.source import add_source_flags, document_from

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from tokenyield_collector.config import CollectorSettings
    from tokenyield_collector.http.schemas import DiagnosesDocument
    from tokenyield_collector.ledger.base import Ledger
    from tokenyield_collector.reports.maker import ReportMaker

HELP = "why each workload yields what it yields: parked, starved, throttled, ..., and what that costs"
EXAMPLE = "diagnose --hours 6 --loss 2"
_COLOURS = {
    "parked": "red",
    "starved": "yellow",
    "saturated": "magenta",
    "memory_bound": "cyan",
    "prefill_heavy": "cyan",
    "throttled": "red",
    "over_provisioned": "yellow",
    "power_cap": "green",
}
"""Kind of a finding -> colour."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hours", type=float, default=1.0, help="length of the newest stretch to look at; default 1")
    parser.add_argument("--loss", type=float, default=2.0, metavar="PERCENT", help="tokens that a power cap may cost; "
                        "default 2")  # fmt: skip
    parser.add_argument("--format", choices=("table", "json"), default="table")
    add_source_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    window_s = _window_s(arguments)

    def make(settings: "CollectorSettings", ledger: "Ledger", maker: "ReportMaker") -> "DiagnosesDocument":
        from tokenyield_collector.diagnosis.make import diagnoses
        from tokenyield_collector.live.refresher import live_stretch

        start_ms, end_ms = live_stretch(maker.now_ms, window_s, settings)
        return diagnoses(ledger, maker.policy, start_ms, end_ms, loss_percent=arguments.loss)

    query = {"window_s": str(window_s), "loss_percent": str(arguments.loss)}
    document = document_from(arguments, "/v1/diagnosis", query, make)
    print_document(document, arguments.format, diagnosis_table)
    return 0


def _window_s(arguments: argparse.Namespace) -> int:
    """Raises `ParameterError` for any flag that is out of range."""
    from tokenyield_collector.diagnosis.make import WINDOW_S_MAX
    from tokenyield_collector.errors import ParameterError

    window_s: int = round(arguments.hours * 3600)
    if not 1 <= window_s <= WINDOW_S_MAX:
        raise ParameterError("hours", expected=f"up to {WINDOW_S_MAX // 3600} hours", found=f"{arguments.hours:g}")
    if not 0 <= arguments.loss <= 100:
        raise ParameterError("loss", expected="a number from 0 to 100", found=f"{arguments.loss:g}")
    return window_s


def diagnosis_table(document: dict[str, Any]) -> "RenderableType":
    """A row for each finding of a `DiagnosesDocument`, and below what could not be examined."""
    from rich import box
    from rich.console import Group
    from rich.table import Table

    from tokenyield_collector.diagnosis.findings import KINDS
    from tokenyield_collector.targets.terminal import cell

    assert set(_COLOURS) == set(KINDS)
    currency = document["currency"]
    table = Table(box=box.SIMPLE_HEAD, caption_justify="left")
    table.add_column("workload", overflow="fold", min_width=8)
    table.add_column("GPUs", justify="right")
    table.add_column(f"{currency}/h", justify="right")
    table.add_column("finding", no_wrap=True)
    table.add_column("why")
    table.add_column(f"at stake, {currency}/h", justify="right")
    for workload in document["workloads"]:
        head = (cell(workload["workload"]), str(workload["gpus"]), _money(workload["cost_per_hour"]))
        if not workload["findings"]:
            table.add_row(*head, cell("nothing found", "green"), "", "")
        for finding in workload["findings"]:
            kind = finding["kind"]
            name = cell(kind.replace("_", " "), _COLOURS.get(kind, ""))
            table.add_row(*head, name, cell(finding["text"]), _shown(finding["shown"]))
            head = (cell(""), "", "")
    if document["shown"] is not None:
        total = f"at stake in all: {_shown(document['shown'])} {currency}/h, the first finding of each workload"
        table.caption = cell(total)
    notes = _not_examined(document["workloads"])
    span = cell(f"{document['start']} to {document['end']}", "dim")
    if not document["workloads"]:
        notes = [cell("no workload held a GPU in this time, as far as windows are kept", "dim")]
    return Group(span, table, *notes)


def _not_examined(workloads: list[dict[str, Any]]) -> "list[Text]":
    """A line for each reason, with the workloads that have it."""
    from tokenyield_collector.targets.terminal import cell

    names: dict[str, list[str]] = {}
    for workload in workloads:
        for reason in workload["unknown"]:
            names.setdefault(reason, []).append(workload["workload"])
    lines = []
    for reason, concerned in sorted(names.items()):
        more = f" and {len(concerned) - 5} more" if len(concerned) > 5 else ""
        lines.append(cell(f"not examined, of {', '.join(concerned[:5])}{more}: {reason}", "dim"))
    return lines


def _shown(value: Any) -> str:
    return "-" if value is None else f"{value:,f}"


def _money(value: Any) -> str:
    from tokenyield_collector.reports.figure import figure

    return figure(None if value is None else float(value))
