"""The versions of a closed month, and what moved between two of them, as documents. Pure.

In: records of the ledger; two reports of the same columns. Out: documents of http/schemas.py. Each row of a difference
is the later report's less the earlier one's, so that rows sum exactly to the difference of the totals, in every column.
"""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from tokenyield_collector.errors import ParameterError
from tokenyield_collector.http.schemas import DifferenceDocument, DifferenceRow, VersionDocument, VersionsDocument
from tokenyield_collector.ledger.closed import StatementRecord
from tokenyield_collector.prices.period import iso
from tokenyield_collector.reports.report import Report
from tokenyield_collector.reports.report_table import ReportRow
from tokenyield_collector.reports.rounding import CENTS, EXACT
from tokenyield_collector.reports.version_content import closed_version
from tokenyield_collector.reports.versions import in_words
from tokenyield_collector.statements.buckets import COSTS
from tokenyield_collector.targets.spreadsheet import csv_line
from tokenyield_wire.units import MS_PER_DAY

RECENT_MS = 31 * MS_PER_DAY
"""How long `check` shows that a closed month changed."""
_MONEY = ("cost", *(f"cost_{name}" for name in COSTS))


def version_document(record: StatementRecord) -> VersionDocument:
    """`total` is unknown of a version that an older collector made, which kept no lines."""
    version = closed_version(record)
    if version is None:
        changes = [record.change] if record.change else []
        return {
            "version": record.version,
            "made_at": None,
            "made_by": None,
            "engine": None,
            "start": None,
            "end": None,
            "currency": None,
            "total": None,
            "shown": None,
            "changes": changes,
        }
    content = version.content
    return {
        "version": record.version,
        "made_at": iso(content.made_ms),
        "made_by": content.made_by,
        "engine": content.engine,
        "start": iso(content.start_ms),
        "end": iso(content.end_ms),
        "currency": content.currency,
        "total": EXACT.plain(EXACT.whole(content.total)),
        "shown": CENTS.plain(CENTS.whole(content.total)),
        "changes": content.changes,
    }


def version_lines(document: VersionsDocument, now_ms: int) -> Iterator[str]:
    """For `check`: what is wrong with the newest version of a month, and what changed after it was closed, lately."""
    at = f"closed month {document['period']}"
    if document["finding"]:
        yield f"{at}: {document['finding']}"
    for version in document["versions"][1:]:
        if version["made_at"] is not None and version["made_at"] >= iso(now_ms - RECENT_MS):
            number = version["version"]
            yield f"{at}: version {number}, changed against version {number - 1}: {in_words(version['changes'])}"


def difference_document(first: Report, second: Report, changes: Sequence[str]) -> DifferenceDocument:
    """Of two versions of a period, by the same columns. Raises `ParameterError` where they have no common currency."""
    if first.currency != second.currency:
        raise ParameterError(
            "diff",
            expected="two versions in one currency",
            found=f"{first.currency} and {second.currency}",
            fix="read each with --version",
        )
    assert first.version is not None
    assert second.version is not None
    old, new = ({tuple(row.by.values()): row for row in report.rows} for report in (first, second))
    rows = [_difference(old.get(values), new.get(values)) for values in sorted(old.keys() | new.keys())]
    return {
        "period": first.period.name,
        "from_version": first.version,
        "to_version": second.version,
        "currency": first.currency,
        "by": list(first.by),
        "where": first.where,
        "changes": list(changes),
        "total": _difference(first.total, second.total),
        "rows": sorted((row for row in rows if _has_moved(row)), key=_by_amount),
    }


def _difference(old: ReportRow | None, new: ReportRow | None) -> DifferenceRow:
    exact, shown = ([_amounts(row, is_shown=is_shown) for row in (old, new)] for is_shown in (False, True))
    either = new if new is not None else old
    assert either is not None, "a row of one of both"
    return {
        "by": either.by,
        "cost_from": exact[0]["cost"],
        "cost_to": exact[1]["cost"],
        "difference": {name: exact[1][name] - exact[0][name] for name in _MONEY},
        "shown": {
            "cost_from": shown[0]["cost"],
            "cost_to": shown[1]["cost"],
            **{name: shown[1][name] - shown[0][name] for name in _MONEY},
        },
    }


def _amounts(row: ReportRow | None, *, is_shown: bool) -> dict[str, Decimal]:
    if row is None:
        return dict.fromkeys(_MONEY, Decimal(0))
    if is_shown:
        return {name: row.shown[name] for name in _MONEY}
    return {"cost": row.cost, **{f"cost_{name}": row.parts[name] for name in COSTS}}


def _by_amount(row: DifferenceRow) -> tuple[Decimal, list[str]]:
    """The rows that moved most come first."""
    return -abs(row["difference"]["cost"]), [*row["by"].values()]


def _has_moved(row: DifferenceRow) -> bool:
    """Also by a cent that rounding put elsewhere, so that what is shown sums too."""
    return any(row["difference"].values()) or any(row["shown"][name] for name in _MONEY)


def differences_csv(document: DifferenceDocument) -> str:
    """A line for each row, without the total; exact."""
    lines = [csv_line([*document["by"], "cost_from", "cost_to", *(f"difference_{name}" for name in _MONEY)])]
    for row in document["rows"]:
        moved = [row["difference"][name] for name in _MONEY]
        lines.append(csv_line([*row["by"].values(), row["cost_from"], row["cost_to"], *moved]))
    return "".join(lines)


def versions_csv(versions: Iterable[VersionDocument]) -> str:
    names = ("version", "made_at", "made_by", "engine", "start", "end", "currency", "total")
    lines = [csv_line([*names, "changes"])]
    for version in versions:
        row: dict[str, Any] = {**version}
        lines.append(csv_line([*(row[name] for name in names), "; ".join(version["changes"])]))
    return "".join(lines)
