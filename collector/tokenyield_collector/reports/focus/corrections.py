"""What a version of a closed month corrects of the one before, as rows of Cost and Usage.

FOCUS leaves the rows of an issued invoice as they are. A correction adds rows: those of the earlier version with the
opposite sign, those of the later version as they are (accounting style), all of class Correction, of the later
invoice, and in the billing period in which it was made; their charge periods are the original ones. Only days in which
both versions differ are in it.
"""

import re
from collections.abc import Iterator
from decimal import Decimal

from tokenyield_collector.reports.focus.columns import COST_AND_USAGE, data_type
from tokenyield_collector.reports.focus.rows import Row
from tokenyield_collector.reports.focus.writer import cost_and_usage, write_rows
from tokenyield_collector.reports.formats import PeriodStatement, TextWriter
from tokenyield_collector.targets.spreadsheet import JsonField

_APPLIED = re.compile(r'("ContractCommitmentAppliedQuantity": )')


def write_corrections(whole: PeriodStatement, out: TextWriter) -> Decimal:
    """Of a version after the first; else only the names of the columns. Returns the sum of their costs."""
    return write_rows(correction_rows(whole), whole.focus_version, out)


def correction_rows(whole: PeriodStatement) -> Iterator[Row]:
    if whole.correction is None:
        return
    before, after, billing_period = whole.correction
    for statement, is_reversed in ((before, True), (after, False)):
        part = whole._replace(statement=statement, period=billing_period, invoice_name=whole.invoice_name)
        for row in cost_and_usage(part):
            row["ChargeClass"] = "Correction"
            yield _reversed(row, whole.focus_version) if is_reversed else row


def _reversed(row: Row, version: str) -> Row:
    """With the opposite sign of every cost and quantity."""
    for name in COST_AND_USAGE[version]:
        value = row[name]
        if data_type(name) == "Decimal" and not name.endswith("UnitPrice") and isinstance(value, int | Decimal):
            row[name] = -value
    row["x_nano"] = {bucket: -nano for bucket, nano in row["x_nano"].items()}
    if row.get("ContractApplied"):
        row["ContractApplied"] = JsonField(_APPLIED.sub(r"\1-", row["ContractApplied"]))
    return row
