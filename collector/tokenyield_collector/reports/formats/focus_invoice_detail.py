"""FOCUS's Invoice Detail dataset, since version 1.4: the lines of a closed period's invoice."""

from tokenyield_collector.reports.focus.invoice import InvoiceLines
from tokenyield_collector.reports.focus.writer import cost_and_usage
from tokenyield_collector.reports.formats import PeriodStatement, StatementFormat, TextWriter


def write_invoice_detail(whole: PeriodStatement, out: TextWriter) -> None:
    lines = InvoiceLines()
    for row in cost_and_usage(whole) if whole.version is not None else ():  # an open period has no invoice
        lines.add(row)
    lines.write(whole, out)


FORMAT = StatementFormat(name="focus-invoice-detail", media_type="text/csv", write=write_invoice_detail)
