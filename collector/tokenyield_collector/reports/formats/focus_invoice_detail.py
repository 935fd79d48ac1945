"""FOCUS's Invoice Detail dataset, since version 1.4: the lines of a closed period's invoice."""

from tokenyield_collector.reports.focus.invoice import InvoiceLines
from tokenyield_collector.reports.focus.writer import write_cost_and_usage
from tokenyield_collector.reports.formats import PeriodStatement, StatementFormat, TextWriter


class _Nowhere:
    """Rows that are only summed."""

    def write(self, text: str, /) -> object:
        return len(text)


def write_invoice_detail(whole: PeriodStatement, out: TextWriter) -> None:
    lines = InvoiceLines()
    write_cost_and_usage(whole, _Nowhere(), lines.add)
    lines.write(whole, out)


FORMAT = StatementFormat(name="focus-invoice-detail", media_type="text/csv", write=write_invoice_detail)
