"""A report as one HTML file that needs nothing else: tables, plots as SVG, light and dark, prints well.

Nothing is loaded from anywhere; the template is report.html.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import cache
from typing import NamedTuple

import jinja2

from tokenyield_collector.prices.period import iso
from tokenyield_collector.reports.figure import figure, idle_share, percent, unit_cost
from tokenyield_collector.reports.formats import ReportFormat
from tokenyield_collector.reports.report import Report
from tokenyield_collector.reports.report_table import ReportRow, WaterfallStep
from tokenyield_collector.statements.buckets import BY_NAME, COSTS
from tokenyield_collector.targets.html import html_text

ROWS_PLOTTED = 20
_WIDTH = 900
_LABEL = 220
_BAR = 22
_DAYS_HEIGHT = 180
_AXIS = 72


class PlotRectangle(NamedTuple):
    """One part of a stacked bar, in pixels."""

    x: float
    y: float
    width: float
    height: float
    part: str
    title: str


class PlotBar(NamedTuple):
    """One bar with its name and its sum. `at` is where it begins: from the top, of days from the left."""

    name: str
    at: float
    text: str
    pieces: list[PlotRectangle]


def to_html(report: Report) -> bytes:
    rows = sorted(report.rows, key=lambda row: (-row.shown["cost"], -row.cost, list(row.by.values())))
    page = _template().render(
        report=report,
        head=report.head_lines,
        order=COSTS,
        buckets=BY_NAME,
        waterfall=_waterfall(report),
        waterfall_sum=sum(step.shown for step in report.steps.values()),
        shared_sum=sum(step.shown_shared or 0 for step in report.steps.values()),
        some_is_shared=any(step.shown_shared for step in report.steps.values()),
        rows=rows,
        bars=list(_bars(rows[:ROWS_PLOTTED], report)),
        days=list(_days(report)) if len(report.days) > 1 else [],
        days_top=max((sum(day.values()) for day in report.days.values()), default=Decimal(0)),
        width=_WIDTH,
        bar=_BAR,
        days_height=_DAYS_HEIGHT,
        idle_share=idle_share(report.idle_capacity.share_of_hardware_cost),
        has_shared=any(row.parts["shared"] for row in report.rows),
        has_revenue=report.total.figures["revenue"] is not None,
    )
    return page.encode()


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tokenyield_collector", "reports/formats"),
        autoescape=True,
        finalize=html_text,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["money"] = lambda value: "-" if value is None else f"{value:,f}"
    environment.filters["figure"] = figure
    environment.filters["unit_cost"] = unit_cost
    environment.filters["hour"] = iso
    environment.filters["count"] = lambda value: "-" if value is None else f"{value:,}"
    environment.filters["percent"] = percent
    return environment.get_template("report.html")


def _waterfall(report: Report) -> list[tuple[str, WaterfallStep, float]]:
    """(bucket, step, share), in the order of the catalogue."""
    whole = sum(step.shown for step in report.steps.values())
    return [(name, step, float(step.shown / whole) if whole else 0.0) for name, step in report.steps.items()]


def _bars(rows: Sequence[ReportRow], report: Report) -> Iterator[PlotBar]:
    top = max((float(row.cost) for row in rows), default=0.0)
    top = top if top > 0 else 1.0
    room = _WIDTH - _LABEL - 110
    for i, row in enumerate(rows):
        name, x, y, pieces = " / ".join(value or "-" for value in row.by.values()), float(_LABEL), i * (_BAR + 6), []
        for part in COSTS:
            width = float(row.parts[part]) / top * room
            if width > 0:
                title = f"{name}: {BY_NAME[part].title} {row.shown[f'cost_{part}']:,.2f} {report.currency}"
                pieces.append(PlotRectangle(round(x, 2), y, round(width, 2), _BAR, part, title))
                x += width
        yield PlotBar(name if len(name) <= 34 else name[:33] + "…", y, f"{row.shown['cost']:,.2f}", pieces)


def _days(report: Report) -> Iterator[PlotBar]:
    top = float(max(sum(day.values()) for day in report.days.values()))
    top = top if top > 0 else 1.0
    step = (_WIDTH - _AXIS) / len(report.days)
    for i, (day, parts) in enumerate(report.days.items()):
        x, y, pieces = round(_AXIS + i * step, 2), float(_DAYS_HEIGHT), []
        for part in COSTS:
            height = float(parts[part]) / top * (_DAYS_HEIGHT - 10)
            if height > 0:
                y -= height
                title = f"{day}: {BY_NAME[part].title} {parts[part]:,.2f} {report.currency}"
                pieces.append(PlotRectangle(x, round(y, 2), round(step * 0.82, 2), round(height, 2), part, title))
        yield PlotBar(day, x, day[8:], pieces)


FORMAT = ReportFormat(name="html", media_type="text/html", encode=to_html)
