"""Outcomes of a report for people at a terminal, drawn with rich."""

from rich import box
from rich.table import Table

from tokenyield_collector.reports.figure import unit_cost
from tokenyield_collector.reports.report import Report
from tokenyield_collector.reports.report_table import ReportRow
from tokenyield_collector.targets.terminal import cell

ROWS_SHOWN = 200


def outcome_table(report: Report) -> Table:
    """Counts, and the cost of each, of the rows that have some."""
    table = Table(title=f"outcomes, and {report.currency} for each", box=box.SIMPLE_HEAD, title_justify="left")
    for name in report.by:
        table.add_column(name, overflow="fold", min_width=8)
    for outcome in report.outcomes:
        table.add_column(outcome.name, justify="right")
        table.add_column(f"{report.currency} each", justify="right", no_wrap=True)
    names = [outcome.name for outcome in report.outcomes]
    having = [row for row in report.rows if row.has_outcomes]
    for row in sorted(having, key=lambda row: (-row.cost, list(row.by.values())))[:ROWS_SHOWN]:
        table.add_row(*map(cell, row.by.values()), *_cells(row, names))
    table.add_section()
    table.add_row(cell("sum", "bold"), *[""] * (len(report.by) - 1), *_cells(report.total, names))
    return table


def _cells(row: ReportRow, names: list[str]) -> list[str]:
    cells = []
    for name in names:
        count, cost = row.figures[f"outcomes_{name}"], row.figures[f"cost_per_outcome_{name}"]
        cells += ["-" if count is None else f"{count:,}", unit_cost(cost)]
    return cells
