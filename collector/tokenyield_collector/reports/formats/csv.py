"""A report as CSV: a line for each row, without the total. Unknown is empty."""

import csv
import io

from tokenyield_collector.reports.formats import ReportFormat
from tokenyield_collector.reports.report import Report


def to_csv(report: Report) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, report.column_names, lineterminator="\n")
    writer.writeheader()
    for row in report.rows:
        writer.writerow(row.columns)
    return out.getvalue().encode()


FORMAT = ReportFormat(name="csv", media_type="text/csv", encode=to_csv)
