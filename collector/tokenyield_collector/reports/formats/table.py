"""A report for people at a terminal, drawn with rich."""

import io
from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokenyield_collector.prices.period import iso
from tokenyield_collector.reports.figure import BAR_CELLS, figure, idle_share, unit_cost
from tokenyield_collector.reports.formats import ReportFormat
from tokenyield_collector.reports.outcome_table import outcome_table
from tokenyield_collector.reports.report import Report
from tokenyield_collector.reports.report_table import ReportRow
from tokenyield_collector.statements.buckets import BY_NAME
from tokenyield_collector.statements.lines import BASES
from tokenyield_collector.targets.terminal import cell, terminal

WIDTH = 160
"""Characters, where the width of the reader's terminal is not known."""
ROWS_SHOWN = 200
NAME_CHARS_MIN, NAME_CHARS_MAX = 8, 24
"""Of a column of names: what it has at least, and from where on it is folded before a column of figures is left out."""
PACES_SHOWN = 20
"""Reference paces: each node may have its own."""
BETWEEN_CHARS = 2
"""Between two columns."""
_OF_REVENUE = ("revenue", "margin", "break-even")
_LEAST_NEEDED = ("direct", "gCO2/Mtok", "request", "break-even", "shared", "idle", "margin", "revenue")
"""Columns that are left out, in this order, where there is no room."""
_UNKNOWN = {"Mtok": "tokens", "revenue": "revenue", "margin": "margin"}
_SUMMED = {
    "idle": "cost_idle",
    "shared": "cost_shared",
    "Mtok": "million_tokens",
    "revenue": "revenue",
    "margin": "margin",
}
"""Column -> the shown amount of a row; all of them add up."""


def report_tables(report: Report, width: int) -> RenderableType:
    """Head, waterfall, rows with their total, reference paces, prices of APIs; fewer columns where it is narrow."""
    parts: list[RenderableType] = [cell(line, "bold") for line in _headline_figures(report)]
    parts += [cell(line, "dim") for line in report.head_lines]
    parts += [_waterfall(report), _rows(report, width)]
    if report.outcomes:
        parts.append(outcome_table(report))
    if report.references:
        parts.append(_references(report))
    if report.buy_or_run:
        parts.append(_buy_or_run(report))
    return Group(*parts)


def _headline_figures(report: Report) -> Iterator[str]:
    idle = report.idle_capacity
    yield f"{figure(report.total.figures['tokens_per_second_per_watt'])} tokens/s per watt (= tokens per joule)"
    yield f"{idle.shown:,.2f} {report.currency} idle-capacity cost: {idle_share(idle.share_of_hardware_cost)}"


def to_text(report: Report) -> bytes:
    out = io.StringIO()
    terminal(file=out, width=WIDTH).print(report_tables(report, WIDTH))
    return out.getvalue().encode()


def _waterfall(report: Report) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("where the cost goes")
    table.add_column("")
    is_shared = any(step.shown_shared for step in report.steps.values())
    for column in ("share", "GPU-hours", report.currency, *(["of it shared"] if is_shared else [])):
        table.add_column(column, justify="right")
    whole = sum(step.shown for step in report.steps.values())
    for bucket, step in report.steps.items():
        share = float(step.shown / whole) if whole else 0.0
        bar = Text("█" * round(min(1, share) * BAR_CELLS), style=BY_NAME[bucket].terminal)
        shared = [f"{step.shown_shared:,.2f}"] if is_shared else []
        hours = figure(step.gpu_hours, 1)
        table.add_row(BY_NAME[bucket].title, bar, f"{share:.1%}", hours, f"{step.shown:,.2f}", *shared)
    shared = [f"{sum(step.shown_shared or 0 for step in report.steps.values()):,.2f}"] if is_shared else []
    table.add_row(*(cell(text, "bold") for text in ("sum", "", "", "", f"{whole:,.2f}", *shared)))
    return table


def _rows(report: Report, width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in report.by:
        table.add_column(name, overflow="fold", min_width=NAME_CHARS_MIN)
    ordered = sorted(report.rows, key=lambda row: (-row.shown["cost"], -row.cost, list(row.by.values())))
    listed, hidden = ordered[:ROWS_SHOWN], ordered[ROWS_SHOWN:]
    lines = [_cells(row, report.currency) for row in listed]
    if hidden:
        lines.append(_hidden_cells(hidden, report.currency))
    total = _cells(report.total, report.currency)
    columns = _fitting(report, [*lines, total], width)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    names: list[list[Text | str]] = [[cell(name) for name in row.by.values()] for row in listed]
    blank = [""] * (len(report.by) - 1)
    if hidden:
        names.append([cell(f"({len(hidden)} more rows)"), *blank])
    for left, line in zip(names, lines, strict=True):
        table.add_row(*left, *(line[column] for column in columns))
    table.add_section()
    table.add_row(cell("sum", "bold"), *blank, *(total[column] for column in columns))
    table.caption = _caption(columns, report.currency) + ("; all rows: --format csv" if hidden else "")
    table.caption_justify = "left"
    return table


def _caption(columns: Sequence[str], currency: str) -> str:
    parts = [f"{', '.join(basis for basis in BASES if basis in columns)}: {currency} per million tokens"]
    if "request" in columns:
        parts.append(f"request: {currency} per request, loaded")
    return "; ".join([*parts, "tok/J at the facility"])


def _fitting(report: Report, lines: Sequence[Mapping[str, str]], width: int) -> list[str]:
    """The columns that there is room for beside the names."""
    columns = list(lines[-1])
    if report.total.figures["revenue"] is None:
        columns = [name for name in columns if name not in _OF_REVENUE]
    widths = {name: max(len(name), *(len(line[name]) for line in lines)) + BETWEEN_CHARS for name in columns}
    names = sum(
        min(NAME_CHARS_MAX, max(NAME_CHARS_MIN, len(name), *(len(row.by[name]) for row in report.rows))) + BETWEEN_CHARS
        for name in report.by
    )
    unused = [] if any(row.parts["shared"] for row in report.rows) else ["shared"]
    for name in (*unused, *_LEAST_NEEDED):
        if names + sum(widths[column] for column in columns) < width:
            break
        columns = [column for column in columns if column != name]
    return columns


def _cells(row: ReportRow, currency: str) -> dict[str, str]:
    figures, shown, even = row.figures, row.shown, row.figures.get("break_even_utilization")
    cells = {
        currency: f"{shown['cost']:,f}",
        "idle": f"{shown['cost_idle']:,f}",
        "shared": f"{shown['cost_shared']:,f}",
        "Mtok": f"{shown['million_tokens']:,f}",
        **{basis: unit_cost(figures[f"cost_per_mtok_{basis}"]) for basis in BASES},
        "request": unit_cost(figures["cost_per_request_loaded"]),
        "tok/J": figure(figures["tokens_per_joule_facility"]),
        "gCO2/Mtok": figure(figures["co2_grams_per_million_tokens"], 1),
        "revenue": f"{shown['revenue']:,f}",
        "margin": f"{shown['margin']:,f}",
        "break-even": "-" if even is None else f"{even:.0%}",
    }
    return cells | {column: "-" for column, name in _UNKNOWN.items() if figures.get(name) is None}


def _hidden_cells(rows: Sequence[ReportRow], currency: str) -> dict[str, str]:
    """The sums of rows that are not listed, so that columns add up; no ratios."""
    sums = {column: sum(row.shown[name] for row in rows) for column, name in {currency: "cost", **_SUMMED}.items()}
    return {column: f"{sums[column]:,f}" if column in sums else "-" for column in _cells(rows[0], currency)}


def _references(report: Report) -> Table:
    table = Table(title="reference pace, completion tokens a second", box=box.SIMPLE_HEAD, title_justify="left")
    for column in ("model", "GPUs"):
        table.add_column(column, overflow="fold")
    table.add_column("tok/s", justify="right")
    table.add_column("from", overflow="fold")
    for reference in report.references[:PACES_SHOWN]:
        source, instance = reference.source, reference.instance
        if reference.evidence is not None:
            origin = f"{reference.origin}, " if reference.origin else ""
            source = f"{origin}best hour: {reference.evidence.workload}, {iso(reference.evidence.hour_ms)}"
        gpus = f"{instance.gpus} x {instance.gpu_model}"
        pace = figure(reference.tokens_per_second, 1)
        table.add_row(cell(instance.model), cell(gpus), pace, cell(source))
    if (more := len(report.references) - PACES_SHOWN) > 0:
        table.add_row(f"and {more} more, in JSON", "", "", "")
    return table


def _buy_or_run(report: Report) -> Table:
    table = Table(title=f"run it here or buy it, {report.currency}", box=box.SIMPLE_HEAD, title_justify="left")
    for column in ("model", "API"):
        table.add_column(column, overflow="fold")
    for column in ("there", "here, allocated", "here, loaded", "tok/s/GPU", "break-even"):
        table.add_column(column, justify="right")
    for comparison in report.buy_or_run:
        table.add_row(
            cell(comparison.model),
            cell(comparison.api),
            f"{comparison.api_cost:,.2f}",
            f"{comparison.allocated_cost:,.2f}",
            f"{comparison.loaded_cost:,.2f}",
            figure(comparison.tokens_per_second, 1),
            figure(comparison.break_even_tokens_per_second, 1),
        )
    return table


FORMAT = ReportFormat(name="table", media_type="text/plain", encode=to_text)
