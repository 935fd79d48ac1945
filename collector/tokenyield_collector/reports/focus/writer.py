"""Writes the Cost and Usage dataset, streamed: of a month of millions of rows, a day's lines are in memory.

The rows of each bucket of the waterfall sum to the bucket, all rows to the whole, to the last decimal: both at once,
because buckets are rounded as reports round them. That is settled by the last row of a bucket,
which is held back for it.
"""

import operator
from collections.abc import Callable, Iterator
from decimal import Decimal, localcontext
from itertools import groupby

from tokenyield_collector.prices.money import scaled
from tokenyield_collector.reports.focus.columns import COST_AND_USAGE, CURRENCY_DECIMALS, data_type, plain
from tokenyield_collector.reports.focus.invoice import invoice_detail_id
from tokenyield_collector.reports.focus.rows import FocusRows, Row, finished
from tokenyield_collector.reports.formats import PeriodStatement, TextWriter
from tokenyield_collector.reports.report_money import costs_of, whole_money
from tokenyield_collector.reports.rounding import EXACT
from tokenyield_collector.statements.buckets import ACTIVE_BUCKETS
from tokenyield_collector.statements.statement import KeyedLine
from tokenyield_collector.targets.spreadsheet import csv_line
from tokenyield_wire.units import MS_PER_DAY

_DIGITS = 50
"""Enough for the product of any price and quantity."""


def write_cost_and_usage(
    whole: PeriodStatement, out: TextWriter, each: Callable[[Row], object] | None = None
) -> Decimal:
    """Write all rows to `out`, and give each to `each`; returns the sum of their costs."""
    return write_rows(cost_and_usage(whole), whole.focus_version, out, each)


def write_rows(
    rows: Iterator[Row], focus_version: str, out: TextWriter, each: Callable[[Row], object] | None = None
) -> Decimal:
    """Rows as they are computed; returns the sum of their costs."""
    columns = COST_AND_USAGE[focus_version]
    out.write(csv_line(columns))
    values_of = operator.itemgetter(*columns)
    decimals = [name for name in columns if data_type(name) == "Decimal"]
    total = 0
    with localcontext() as context:
        context.prec = _DIGITS
        for row in rows:
            for name in decimals:
                value = row[name]
                if value.__class__ is Decimal:
                    row[name] = plain(value)
            out.write(csv_line(values_of(row)))
            total += sum(row["x_nano"].values())
            if each is not None:
                each(row)
        return scaled(total, CURRENCY_DECIMALS)


def cost_and_usage(whole: PeriodStatement) -> Iterator[Row]:
    """All rows, as they are computed. Their prices are exact in a decimal context of `_DIGITS`; costs are integers."""
    for row in _settled(FocusRows(whole), whole):
        row["InvoiceDetailId"] = invoice_detail_id(row)
        yield row


def _settled(rows: FocusRows, whole: PeriodStatement) -> Iterator[Row]:
    """All rows; the last of each bucket that has a cost comes at the end, with what rounding left."""
    held: dict[str, Row] = {}
    for _, lines in groupby(whole.statement.lines(), _day_of):
        for row in rows.of_day(list(lines)):
            at = row["x_CostBucket"]
            if at in held and not any(row["x_nano"].values()):
                yield finished(row)
                continue
            if at in held:
                yield finished(held[at])
            held[at] = row
    carried = {name: bucket.exact for name, bucket in rows.buckets.items()}
    caused = whole.statement.whole
    assert caused is not None, "a FOCUS file is of the whole fleet"
    columns = whole_money(EXACT, carried, costs_of(caused)).columns
    for name, bucket in rows.buckets.items():
        left = columns[name] - bucket.given
        if left:
            held["used" if name in ACTIVE_BUCKETS else name]["x_nano"][name] += left
    yield from map(finished, held.values())


def _day_of(line: KeyedLine) -> int:
    return line[0].start_ms // MS_PER_DAY
