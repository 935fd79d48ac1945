"""What a version of a closed month corrects of the one before, as FOCUS rows of the class Correction."""

from tokenyield_collector.reports.focus.corrections import write_corrections
from tokenyield_collector.reports.formats import StatementFormat

FORMAT = StatementFormat(name="focus-corrections", media_type="text/csv", write=write_corrections)
