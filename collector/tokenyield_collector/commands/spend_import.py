"""`tokenyield-collector import SOURCE FILE...` of what is bought: saved answers of vendors, logs, tables, sessions."""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenyield_settings.terminal import show

if TYPE_CHECKING:
    from tokenyield_collector.config import CollectorSettings
    from tokenyield_collector.http.schemas import SpendReceiptDocument
    from tokenyield_collector.ingest.spend_import import SpendImport
    from tokenyield_collector.ledger.base import Ledger
    from tokenyield_collector.spend.slices import SpendLine, SpendSlice

REFUSALS_SHOWN = 20
NOTICES_SHOWN = 20
PROGRESS_EVERY = 1_000
_COMPRESSION = 6


def import_spend(settings: "CollectorSettings", arguments: argparse.Namespace) -> int:
    """0 all was understood; 1 a row was refused, or the ledger failed; 2 a flag cannot be used."""
    read = _read(settings, arguments)
    _show_understood(read)
    if read.is_cut:  # a day of which a part is missing would take the place of the whole day
        print("nothing was changed: more lines than an import holds; import fewer days at once", file=sys.stderr)
        return 1
    if read.slices:
        show_receipt(imported(settings, arguments, read.slices))
    if arguments.dry_run:
        print("dry run: nothing was changed", file=sys.stderr)
    return 1 if read.refused else 0


def _read(settings: "CollectorSettings", arguments: argparse.Namespace) -> "SpendImport":
    import time

    from rich.progress import Progress

    from tokenyield_collector.errors import ParameterError
    from tokenyield_collector.ingest.spend_import import people_of, read_spend_files
    from tokenyield_collector.spend.values import UnusableSpend
    from tokenyield_collector.targets.terminal import terminal

    with Progress(console=terminal(stderr=True), transient=True) as bar:
        tasks = {file: bar.add_task(file.name, total=None) for file in arguments.files}

        def advance(file: Path, documents: int) -> None:
            if documents % PROGRESS_EVERY == 0:
                bar.update(tasks[file], completed=documents)

        try:
            return read_spend_files(
                arguments.kind,
                arguments.files,
                account=arguments.account,
                mapping=_mapping(settings, arguments),
                day_ms=_day(arguments.day) if arguments.day else None,
                now_ms=time.time_ns() // 10**6,
                people=people_of(settings),
                progress=advance,
            )
        except UnusableSpend as error:
            raise ParameterError("mapping", expected="one that can be used", found=str(error)) from None


def _mapping(settings: "CollectorSettings", arguments: argparse.Namespace) -> "dict[str, Any] | None":
    from tokenyield_collector.ingest.spend_import import read_egress_file, read_mapping

    if arguments.kind == "egress":
        file = arguments.mapping or settings.egress_file
        return read_egress_file(Path(file)) if file else None
    return read_mapping(arguments.mapping) if arguments.mapping else None


def _day(text: str) -> int:
    from tokenyield_collector.errors import ParameterError
    from tokenyield_collector.spend.values import UnusableSpend, day_ms

    try:
        return day_ms(text, "day")
    except UnusableSpend:
        raise ParameterError("day", expected="a day such as 2026-11-28", found=f"'{text[:40]}'") from None


def imported(
    settings: "CollectorSettings", arguments: argparse.Namespace, slices: "list[SpendSlice]"
) -> "SpendReceiptDocument":
    """Through the collector where `--collector` names one or it has the ledger open. `--ledger` may be a new file; a
    dry run without a ledger compares with an empty one."""
    from tokenyield_collector.errors import LedgerInUse
    from tokenyield_collector.ingest.spend_document import spend_receipt
    from tokenyield_collector.ledger_engine import open_ledger
    from tokenyield_collector.slices import slice_changes

    if not arguments.collector:
        if arguments.dry_run and not settings.ledger_url and not Path(settings.ledger_path).exists():
            return spend_receipt(slice_changes([], slices))
        try:
            with closing(open_ledger(settings, has_to_exist=not arguments.ledger)) as ledger:
                return _into(ledger, slices, is_dry=arguments.dry_run)
        except LedgerInUse:
            pass
    return _posted(settings, arguments, slices)


def _into(ledger: "Ledger", slices: "list[SpendSlice]", *, is_dry: bool) -> "SpendReceiptDocument":
    import time

    from tokenyield_collector.errors import ParameterError
    from tokenyield_collector.ingest.spend_document import spend_receipt
    from tokenyield_collector.ledger.spend import spend_size_faults
    from tokenyield_collector.slices import slice_changes, span_of

    stored = ledger.spend(*span_of(slices))
    for what, found, expected in spend_size_faults(stored, slices):
        raise ParameterError("files", expected=expected, found=f"{found} in {what}")
    changes = slice_changes(stored, slices)
    if changes.to_write and not is_dry:
        ledger.replace_spend(changes.to_write, time.time_ns() // 10**6)
    return spend_receipt(changes)


def _posted(
    settings: "CollectorSettings", arguments: argparse.Namespace, slices: "list[SpendSlice]"
) -> "SpendReceiptDocument":
    """In requests of whole slices."""
    import gzip
    import io
    import json

    from tokenyield_collector.commands.client import request_from_collector
    from tokenyield_collector.ingest.spend_document import encode_spend, joined, spend_requests

    receipts: list[SpendReceiptDocument] = []
    query = {"dry_run": "true"} if arguments.dry_run else {}
    for part in spend_requests(slices):
        out, body = io.BytesIO(), gzip.compress(encode_spend(part), _COMPRESSION)
        request_from_collector(settings, arguments, "/v1/spend", query, out, body=body, packed=True, right="spend")
        receipts.append(json.loads(out.getvalue()))
    return joined(receipts)


def show_receipt(receipt: "SpendReceiptDocument") -> None:
    added, replaced, unchanged = receipt["added"], receipt["replaced"], receipt["unchanged"]
    show(f"{added + replaced + unchanged} slices (source, account, day, report): "
         f"{added} new, {replaced} replaced, {unchanged} unchanged")  # fmt: skip
    for change in receipt["changes"]:
        show(f"replaced: {change['slice']}: {change['before']} -> {change['after']}")
    if replaced > len(receipt["changes"]):
        show(f"and {replaced - len(receipt['changes'])} more replaced")


def _show_understood(read: "SpendImport") -> None:
    for file, notice in read.notices[:NOTICES_SHOWN]:
        show(f"{file}: {notice}" if file else notice)
    if len(read.notices) > NOTICES_SHOWN:
        show(f"and {len(read.notices) - NOTICES_SHOWN} more notices")
    for file, why in read.refusals[:REFUSALS_SHOWN]:
        show(f"{file}: {why}", is_error=True)
    if read.refused > REFUSALS_SHOWN:
        show(f"and {read.refused - REFUSALS_SHOWN} more rows refused", is_error=True)
    show(f"{read.rows:,} rows understood, {read.refused:,} refused")
    for line in understood_lines(read.slices):
        show(line)


def understood_lines(slices: "Iterable[SpendSlice]") -> list[str]:
    """By layer, vendor, account and report: how much of what, on which days."""
    from tokenyield_collector.ingest.spend_document import evidence_in_words, money_in_words
    from tokenyield_collector.prices.period import day_of
    from tokenyield_collector.spend.format import grain_family
    from tokenyield_collector.spend.slices import EVIDENCE_SOURCE

    tokens: dict[tuple[str, ...], int] = defaultdict(int)
    requests: dict[tuple[str, ...], int] = defaultdict(int)
    costs: dict[tuple[str, ...], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    days: dict[tuple[str, ...], set[int]] = defaultdict(set)
    evidence: dict[tuple[str, ...], list[SpendLine]] = defaultdict(list)
    for key, layer, lines in slices:
        is_evidence = key.source == EVIDENCE_SOURCE
        for line in lines:
            fields, amounts = line
            kind = "evidence" if is_evidence else layer
            row: tuple[str, ...] = (kind, fields.vendor, key.account, f"{key.source} {grain_family(key.grain)}")
            days[row].add(key.day_ms)
            if is_evidence:
                evidence[row].append(line)
                continue
            tokens[row] += amounts.tokens or 0
            requests[row] += amounts.requests or 0
            if amounts.cost_micro is not None:
                costs[row][fields.currency] += amounts.cost_micro
    shown = []
    for row in sorted(days):
        first, last = day_of(min(days[row])).isoformat(), day_of(max(days[row])).isoformat()
        when = first if first == last else f"{first}..{last}"
        parts = [f"{tokens[row]:,} tokens"] if tokens[row] else []
        parts += [f"{requests[row]:,} requests"] if requests[row] else []
        parts += [f"{money_in_words(micro)} {currency}" for currency, micro in sorted(costs[row].items())] or [
            "no money"
        ]
        parts = evidence_in_words(evidence[row]) if row in evidence else parts
        of_layer, vendor, account, report = row
        shown.append(f"{of_layer}: {vendor}, account {account}, {when}: {', '.join(parts)} ({report})")
    return shown
