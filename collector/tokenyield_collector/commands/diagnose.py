"""`tokenyield-collector diagnose`: of the running collector, or of its ledger while it is down."""

import argparse
import io
import json
import time
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tokenyield_collector.commands.client import ask
from tokenyield_collector.commands.report import console_for, exit_code, open_books, settings_of
from tokenyield_collector.diagnosis.findings import KINDS
from tokenyield_collector.diagnosis.make import WINDOW_S_MAX, diagnoses
from tokenyield_collector.errors import ParameterError
from tokenyield_collector.live.refresher import live_stretch
from tokenyield_collector.reports.figure import figure
from tokenyield_wire.units import NS_PER_MS

if TYPE_CHECKING:
    from rich.console import RenderableType

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


def diagnose(arguments: argparse.Namespace) -> int:
    """Exit code."""
    return exit_code("diagnose", _diagnose, arguments)


def _diagnose(arguments: argparse.Namespace) -> None:
    window_s = round(arguments.hours * 3600)
    if not 1 <= window_s <= WINDOW_S_MAX:
        raise ParameterError("hours", expected=f"up to {WINDOW_S_MAX // 3600} hours", found=f"{arguments.hours:g}")
    if not 0 <= arguments.loss <= 100:
        raise ParameterError("loss", expected="a number from 0 to 100", found=f"{arguments.loss:g}")
    settings = settings_of(arguments)
    opened = None if arguments.collector else open_books(settings, arguments)
    if opened is None:
        answer = io.BytesIO()
        query = {"window_s": str(window_s), "loss_percent": str(arguments.loss)}
        ask(settings, arguments, "/v1/diagnosis", query, answer)
        document = json.loads(answer.getvalue(), parse_float=Decimal)
    else:
        ledger, maker = opened
        with closing(ledger):
            now_ms = time.time_ns() // NS_PER_MS
            start_ms, end_ms = live_stretch(now_ms, window_s, settings)
            document = diagnoses(ledger, maker.policy, start_ms, end_ms, loss_percent=arguments.loss)
    if arguments.format == "json":
        print(json.dumps(document, indent=2, default=float))
    else:
        console_for(None).print(diagnosis_table(document))


def diagnosis_table(document: dict[str, Any]) -> "RenderableType":
    """A row for each finding, and below what could not be looked at."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    currency = document["currency"]
    table = Table(box=box.SIMPLE_HEAD, caption_justify="left")
    table.add_column("workload", no_wrap=True)
    table.add_column("GPUs", justify="right")
    table.add_column(f"{currency}/h", justify="right")
    table.add_column("finding", no_wrap=True)
    table.add_column("why")
    table.add_column(f"at stake, {currency}/h", justify="right")
    for one in document["workloads"]:
        cost = _money(one["cost_per_hour"])
        head = (one["workload"], str(one["gpus"]), cost)
        if not one["findings"]:
            table.add_row(*head, Text("nothing found", style="green"), "", "")
        for finding in one["findings"]:
            kind = finding["kind"]
            name = Text(kind.replace("_", " "), style=_COLOURS.get(kind, ""))
            table.add_row(*head, name, finding["text"], _money(finding["at_stake_per_hour"]))
            head = ("", "", "")
    untold = sorted({why for one in document["workloads"] for why in one["untold"]})
    notes = []
    for why in untold:
        names = [one["workload"] for one in document["workloads"] if why in one["untold"]]
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        notes.append(Text(f"not looked at, of {shown}: {why}", style="dim"))
    span = Text(f"{document['start']} to {document['end']}", style="dim")
    if not document["workloads"]:
        notes = [Text("no workload held a GPU in this time, as far as its windows are kept", style="dim")]
    return Group(span, table, *notes)


def _money(value: Any) -> str:
    return figure(None if value is None else float(value))


assert set(_COLOURS) == set(KINDS)
