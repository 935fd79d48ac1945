"""A statement as a FOCUS file: the Cost and Usage dataset, streamed. What rows mean is in reports/focus/rows.py."""

from tokenyield_collector.reports.focus.writer import write_cost_and_usage
from tokenyield_collector.reports.formats import StatementFormat

FORMAT = StatementFormat(name="focus", media_type="text/csv", write=write_cost_and_usage)
