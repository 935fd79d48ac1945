"""A report for people at a terminal, drawn with rich."""

import io
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokenyield_collector.prices.period import iso
from tokenyield_collector.reports.figure import BAR_CELLS, figure, idle_share
from tokenyield_collector.reports.formats import ReportFormat
from tokenyield_collector.reports.report import Report, ReportRow
from tokenyield_collector.statements.buckets import BUCKETS, BY_NAME
from tokenyield_collector.statements.lines import BASES
from tokenyield_collector.targets.terminal import cell, terminal

WIDTH = 160
"""Characters, where the width of the reader's terminal is not known."""
ROWS_SHOWN = 200
WIDE = 145
"""Characters from which on all columns are shown."""


def report_tables(report: Report, width: int) -> RenderableType:
    """Head, waterfall, rows with their total, reference paces, prices of APIs; fewer columns where it is narrow."""
    parts: list[RenderableType] = [cell(line, "bold") for line in _headline_figures(report)]
    parts += [cell(line, "dim") for line in report.head_lines]
    parts += [_waterfall(report), _rows(report, is_wide=width >= WIDE)]
    if report.references:
        parts.append(_references(report))
    if report.buy_or_run:
        parts.append(_buy_or_run(report))
    return Group(*parts)


def _headline_figures(report: Report) -> Iterator[str]:
    figures = report.total.figures
    yield f"{figure(figures['tokens_per_second_per_watt'])} tokens/s per watt (= tokens per joule)"
    yield f"{figure(figures['idle_capacity_cost'])} {report.currency} idle-capacity cost: {idle_share(figures)}"


def to_text(report: Report) -> bytes:
    out = io.StringIO()
    terminal(file=out, width=WIDTH).print(report_tables(report, WIDTH))
    return out.getvalue().encode()


def _waterfall(report: Report) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("where the cost goes")
    table.add_column("")
    for column in ("share", "GPU-hours", report.currency):
        table.add_column(column, justify="right")
    whole = sum(report.waterfall.values())
    for bucket in BUCKETS:
        share = float(report.waterfall[bucket] / whole) if whole else 0.0
        bar = Text("█" * round(share * BAR_CELLS), style=BY_NAME[bucket].terminal)
        hours = figure(report.waterfall_gpu_hours[bucket], 1)
        table.add_row(BY_NAME[bucket].title, bar, f"{share:.1%}", hours, f"{report.waterfall[bucket]:,.2f}")
    table.add_row(cell("sum", "bold"), "", "", "", cell(f"{whole:,.2f}", "bold"))
    return table


def _rows(report: Report, *, is_wide: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in report.by:
        table.add_column(name, overflow="fold", min_width=8)
    has_revenue = report.total.figures["revenue"] is not None and is_wide
    columns = [report.currency, "idle", "shared", "Mtok", "direct", "allocated", "loaded", "tok/J", "gCO2/Mtok"]
    if not is_wide:
        columns = [report.currency, "Mtok", "allocated", "loaded", "tok/J"]
    columns += ["revenue", "margin", "break-even"] if has_revenue else []
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    shown = sorted(report.rows, key=lambda row: (-row.cost, list(row.by.values())))
    for row in shown[:ROWS_SHOWN]:
        table.add_row(*map(cell, row.by.values()), *_cells(row, columns, report.currency))
    if len(shown) > ROWS_SHOWN:
        note = f"... and {len(shown) - ROWS_SHOWN} more rows: see format csv"
        table.add_row(note, *[""] * (len(report.by) - 1 + len(columns)))
    table.add_section()
    table.add_row(cell("sum", "bold"), *[""] * (len(report.by) - 1), *_cells(report.total, columns, report.currency))
    table.caption = f"direct, allocated, loaded: {report.currency} per million tokens; tok/J at the facility"
    table.caption_justify = "left"
    return table


def _cells(row: ReportRow, columns: Sequence[str], currency: str) -> list[str]:
    figures = row.figures
    tokens, even = figures["tokens"], figures.get("break_even_utilization")
    cells = {
        currency: f"{row.cost:,.2f}",
        "idle": f"{row.parts['idle']:,.2f}",
        "shared": f"{row.parts['shared']:,.2f}",
        "Mtok": figure(tokens / 1e6 if tokens is not None else None),
        **{basis: figure(figures[f"cost_per_mtok_{basis}"]) for basis in BASES},
        "tok/J": figure(figures["tokens_per_joule_facility"]),
        "gCO2/Mtok": figure(figures["co2_grams_per_million_tokens"], 1),
        "revenue": figure(figures["revenue"]),
        "margin": figure(figures.get("margin")),
        "break-even": "-" if even is None else f"{even:.0%}",
    }
    return [cells[column] for column in columns]


def _references(report: Report) -> Table:
    table = Table(title="reference pace, completion tokens a second", box=box.SIMPLE_HEAD, title_justify="left")
    for column in ("model", "GPUs"):
        table.add_column(column, overflow="fold")
    table.add_column("tok/s", justify="right")
    table.add_column("from", overflow="fold")
    for reference in report.references:
        source, instance = reference.source, reference.instance
        if reference.evidence is not None:
            source = f"best hour: {reference.evidence.workload}, {iso(reference.evidence.hour_ms)}"
        gpus = f"{instance.gpus} x {instance.gpu_model}"
        pace = figure(reference.tokens_per_second, 1)
        table.add_row(cell(instance.model), cell(gpus), pace, cell(source))
    return table


def _buy_or_run(report: Report) -> Table:
    table = Table(title=f"run it here or buy it, {report.currency}", box=box.SIMPLE_HEAD, title_justify="left")
    for column in ("model", "API"):
        table.add_column(column, overflow="fold")
    for column in ("there", "here, allocated", "here, loaded", "break-even tok/s/GPU"):
        table.add_column(column, justify="right")
    for comparison in report.buy_or_run:
        table.add_row(
            cell(comparison.model),
            cell(comparison.api),
            f"{comparison.api_cost:,.2f}",
            f"{comparison.allocated_cost:,.2f}",
            f"{comparison.loaded_cost:,.2f}",
            figure(comparison.break_even_tokens_per_second, 1),
        )
    return table


FORMAT = ReportFormat(name="table", media_type="text/plain", encode=to_text)
