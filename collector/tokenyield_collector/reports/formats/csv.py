"""A report as CSV: a line for each row, without the total. Money is exact, unknown is empty."""

from tokenyield_collector.reports.formats import ReportFormat
from tokenyield_collector.reports.report import Report
from tokenyield_collector.targets.spreadsheet import csv_line


def to_csv(report: Report) -> bytes:
    names = report.column_names
    lines = [csv_line(names)]
    for row in report.rows:
        columns = row.columns
        lines.append(csv_line(columns[name] for name in names))
    return "".join(lines).encode()


FORMAT = ReportFormat(name="csv", media_type="text/csv", encode=to_csv)
