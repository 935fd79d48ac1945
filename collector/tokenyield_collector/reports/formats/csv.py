"""A report as CSV: a line for each row, without the total. Money is exact, unknown is empty.

The last two columns are the same in every row: the state of the period, and its version.
"""

from tokenyield_collector.reports.formats import ReportFormat
from tokenyield_collector.reports.report import Report
from tokenyield_collector.targets.spreadsheet import csv_line

PERIOD_COLUMNS = ("period_state", "period_version")


def to_csv(report: Report) -> bytes:
    names = report.column_names
    lines = [csv_line([*names, *PERIOD_COLUMNS])]
    period = (report.state, report.version)
    for row in report.rows:
        columns = row.columns
        lines.append(csv_line([*(columns[name] for name in names), *period]))
    return "".join(lines).encode()


FORMAT = ReportFormat(name="csv", media_type="text/csv", encode=to_csv)
