"""`tokenyield-collector import KIND FILE...`: files into the ledger, or through the running collector.

KIND is a source of spend (spend_import.py), or `outcomes`, which is here: counts of what was done with tokens. What a
file says of a source, day and name replaces what was there, and never adds to it: the same file twice changes nothing.
A file with a line that is refused changes nothing, for half a day would look like a whole one; --skip-refused imports
its other lines.
"""

import argparse
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from tokenyield_collector.commands.client import add_client_flags
from tokenyield_collector.spend.sources import SOURCES
from tokenyield_settings.command_line import add_settings_flags
from tokenyield_settings.terminal import show

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from tokenyield_collector.config import CollectorSettings
    from tokenyield_collector.http.schemas import OutcomesReceiptDocument
    from tokenyield_collector.ingest.outcomes import Row
    from tokenyield_collector.ledger.base import Ledger
    from tokenyield_collector.ledger.outcomes import OutcomeSlice

HELP = (
    "put what vendors billed or reported (saved answers, exports, logs), or counts of outcomes (tickets closed), into "
    "the ledger"
)
EXAMPLE = "import anthropic cost_report.json --config collector.yaml --dry-run"
REFUSALS_SHOWN = 20
OUTCOMES = "outcomes"
DAYS_BACK_MAX = 36_600
"""A running collector takes only days that it keeps; a ledger that is not in use may hold older ones."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=(OUTCOMES, *SOURCES), help="what the files hold, see docs/spend.md; outcomes: "
                        "CSV with the columns day, name, count and labels (team, product, ...), or JSON lines of the "
                        "same")  # fmt: skip
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--account", default="", help="spend: the account at the vendor, instead of the one that rows "
                        "name; what is billed, reported and observed of one account is put together")  # fmt: skip
    parser.add_argument("--mapping", type=Path, help="csv: which column is what; egress: this egress.yaml "
                        "instead of egress_file")  # fmt: skip
    parser.add_argument("--day", help="egress: the day (UTC) of pods, and of lines without a time")
    parser.add_argument("--source", default="import", help="outcomes: source of rows that name none; default "
                        "import")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    parser.add_argument("--skip-refused", action="store_true", help="outcomes: import the other lines of a file in "
                        "which some are refused")  # fmt: skip
    add_settings_flags(parser, "collector/collector.yaml")
    parser.add_argument("--ledger", type=Path, help="this ledger instead of ledger_path")
    add_client_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """0 all was understood; 1 a line was refused, or the ledger failed; 2 a flag cannot be used."""
    import gc

    from tokenyield_collector.commands.source import settings_of

    gc.disable()  # it ends soon, and millions of rows hold no cycles
    settings = settings_of(arguments)
    if arguments.kind != OUTCOMES:
        from tokenyield_collector.commands.spend_import import import_spend

        return import_spend(settings, arguments)
    rows, has_refusals = _rows(arguments)
    if rows:
        from tokenyield_collector.ledger.outcomes import slices_of

        _show_receipt(_imported(settings, arguments, slices_of(rows), len(rows)), is_dry=arguments.dry_run)
    else:
        show("nothing to import")
    return 1 if has_refusals else 0


def _rows(arguments: argparse.Namespace) -> "tuple[list[Row], bool]":
    """Of all files; and whether a line was refused. The same content twice counts once."""
    import hashlib
    import time
    from functools import partial

    from rich.progress import Progress

    from tokenyield_collector.errors import ParameterError
    from tokenyield_collector.ingest.outcome_files import FILE_BYTES_MAX, read_outcome_file
    from tokenyield_collector.ingest.outcomes import allowed_days
    from tokenyield_collector.targets.terminal import terminal

    days = allowed_days(DAYS_BACK_MAX, time.time_ns() // 10**6)
    rows: list[Row] = []
    has_refusals, seen = False, set()
    with Progress(console=terminal(stderr=True), transient=True) as bar:
        for file in arguments.files:
            with file.open("rb") as opened:
                body = opened.read(FILE_BYTES_MAX + 1)
            if len(body) > FILE_BYTES_MAX:
                raise ParameterError("files", expected=f"at most {FILE_BYTES_MAX} bytes", found=f"more in {file}",
                                     fix="split it by days")  # fmt: skip
            digest = hashlib.sha256(body).digest()
            if digest in seen:
                show(f"{file}: the same as a file before it, and read once")
                continue
            seen.add(digest)
            task = bar.add_task(file.name, total=body.count(b"\n"))
            read = read_outcome_file(body, days, arguments.source, partial(_advance, bar, task))
            show(f"{file}: {len(read.rows)} lines understood, {read.refused} refused")
            for line, why in read.refusals[:REFUSALS_SHOWN]:
                show(f"{file}:{line}: {why}", is_error=True)
            if read.refused > REFUSALS_SHOWN:
                show(f"{file}: and {read.refused - REFUSALS_SHOWN} more lines refused", is_error=True)
            if read.refused:
                has_refusals = True
                if not arguments.skip_refused:
                    show(f"{file}: not imported; correct these lines, or give --skip-refused", is_error=True)
                    continue
            rows += read.rows
    return rows, has_refusals


def _advance(bar: "Progress", task: "TaskID", line: int) -> None:
    bar.update(task, completed=line)


def _imported(
    settings: "CollectorSettings", arguments: argparse.Namespace, slices: "list[OutcomeSlice]", rows: int
) -> "OutcomesReceiptDocument":
    """Through the collector where `--collector` names one or it has the ledger open."""
    from tokenyield_collector.errors import LedgerInUse
    from tokenyield_collector.ledger_engine import open_ledger

    if not arguments.collector:
        try:
            with closing(open_ledger(settings, has_to_exist=True)) as ledger:
                return _into(ledger, slices, rows, is_dry=arguments.dry_run)
        except LedgerInUse:
            pass
    return _posted(settings, arguments, slices)


def _into(ledger: "Ledger", slices: "list[OutcomeSlice]", rows: int, *, is_dry: bool) -> "OutcomesReceiptDocument":
    import time

    from tokenyield_collector.errors import ParameterError
    from tokenyield_collector.ingest.outcomes import receipt_of, size_faults
    from tokenyield_collector.slices import slice_changes, span_of

    stored = ledger.outcomes(*span_of(slices))
    for field, found, expected in size_faults(stored, slices):
        raise ParameterError("files", expected=expected, found=f"{found} in {field}")
    changes = slice_changes(stored, slices)
    if changes.to_write and not is_dry:
        ledger.replace_outcomes(changes.to_write, time.time_ns() // 10**6)
    return receipt_of(rows, changes)


def _posted(
    settings: "CollectorSettings", arguments: argparse.Namespace, slices: "list[OutcomeSlice]"
) -> "OutcomesReceiptDocument":
    """In requests of whole slices."""
    import io
    import json

    from tokenyield_collector.commands.client import request_from_collector
    from tokenyield_collector.ingest.outcomes import body_of, requests_of

    whole: OutcomesReceiptDocument = {
        "understood": 0, "added": 0, "replaced": 0, "unchanged": 0, "counts": {}, "changes": [],
    }  # fmt: skip
    query = {"dry_run": "true"} if arguments.dry_run else {}
    for part in requests_of(slices, settings.body_bytes_max):
        out = io.BytesIO()
        request_from_collector(settings, arguments, "/v1/outcomes", query, out, body=body_of(part), right="outcomes")
        receipt: OutcomesReceiptDocument = json.loads(out.getvalue())
        whole["understood"] += receipt["understood"]
        whole["added"] += receipt["added"]
        whole["replaced"] += receipt["replaced"]
        whole["unchanged"] += receipt["unchanged"]
        for name, count in receipt["counts"].items():
            whole["counts"][name] = whole["counts"].get(name, 0) + count
        whole["changes"] += receipt["changes"]
    return whole


def _show_receipt(receipt: "OutcomesReceiptDocument", *, is_dry: bool) -> None:
    counts = ", ".join(f"{count:,} {name}" for name, count in sorted(receipt["counts"].items()))
    added, replaced, unchanged = receipt["added"], receipt["replaced"], receipt["unchanged"]
    show(f"{counts} in {added + replaced + unchanged} slices (source, day, name): "
         f"{added} new, {replaced} replaced, {unchanged} unchanged")  # fmt: skip
    for change in receipt["changes"]:
        show(f"replaced: {change['slice']}: {change['before']:,} -> {change['after']:,}")
    if replaced > len(receipt["changes"]):
        show(f"and {replaced - len(receipt['changes'])} more replaced")
    if is_dry:
        print("dry run: nothing was changed", file=sys.stderr)
