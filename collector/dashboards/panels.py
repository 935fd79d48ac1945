"""Parts that all dashboards are made of, built with grafana-foundation-sdk."""

from collections.abc import Sequence
from typing import TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statushistory,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as models
from grafana_foundation_sdk.models import dashboard as kinds
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from tokenyield_collector.statements.buckets import BY_NAME, CATALOGUE, DARK

TAG = "tokenyield"
SOURCE = kinds.DataSourceRef(type_val="prometheus", uid="${datasource}")
Query = tuple[str, str]
"""An expression and its legend."""
Panel = Builder[kinds.Panel]

COLORS = {**{bucket.name: bucket.color for bucket in CATALOGUE}, "unknown": DARK.color}
"""Of every bucket, and of the state that is part of what is dark."""


def _target(expr: str, legend: str = "", *, instant: bool = False, as_table: bool = False) -> prometheus.Dataquery:
    query = prometheus.Dataquery().expr(expr).legend_format(legend or "__auto").datasource(SOURCE)
    if instant:
        query = query.instant()
    return query.format(PromQueryFormat.TABLE) if as_table else query


ColoredPanel = TypeVar("ColoredPanel", timeseries.Panel, bargauge.Panel)


def _colored(panel: ColoredPanel) -> ColoredPanel:
    """With the color and the title of each bucket."""
    for name, color in COLORS.items():
        properties = [kinds.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": color})]
        if name in BY_NAME and BY_NAME[name].title != name:
            properties.append(kinds.DynamicConfigValue(id_val="displayName", value=BY_NAME[name].title))
        panel = panel.override_by_name(name, properties)
    return panel


def number(title: str, expr: str, about: str, *, unit: str = "short", decimals: int = 2, legend: str = "") -> Panel:
    """One figure, with its history as background."""
    return (
        stat.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .with_target(_target(expr, legend))
        .unit(unit)
        .decimals(decimals)
        .color_scheme(dashboard.FieldColor().mode(kinds.FieldColorModeId.FIXED).fixed_color("text"))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .span(4)
        .height(4)
    )


def lines(
    title: str,
    queries: Sequence[Query],
    about: str,
    *,
    unit: str = "short",
    stacked: bool = False,
    bars: bool = False,
    interval: str = "",
    span: int = 12,
) -> Panel:
    """Series over time."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .show_points(models.VisibilityMode.NEVER)
        .fill_opacity(60 if stacked or bars else 5)
        .legend(common.VizLegendOptions().placement(models.LegendPlacement.BOTTOM).show_legend(True))
        .tooltip(common.VizTooltipOptions().mode(models.TooltipDisplayMode.MULTI).sort(models.SortOrder.DESCENDING))
        .span(span)
        .height(8)
    )
    if stacked or bars:
        panel = panel.stacking(common.StackingConfig().mode(models.StackingMode.NORMAL))
    if bars:
        panel = panel.draw_style(models.GraphDrawStyle.BARS)
    if interval:
        panel = panel.interval(interval)
    for expr, legend in queries:
        panel = panel.with_target(_target(expr, legend))
    return _colored(panel)


def bars(title: str, expr: str, legend: str, about: str, *, unit: str = "short", span: int = 12) -> Panel:
    """Figures side by side, as of the end of the range."""
    panel = (
        bargauge.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .orientation(models.VizOrientation.HORIZONTAL)
        .display_mode(models.BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_target(expr, legend, instant=True))
        .span(span)
        .height(8)
    )
    return _colored(panel)


def rows(
    title: str, columns: Sequence[Query], about: str, *, unit: str = "short", link: str = "", span: int = 12
) -> Panel:
    """A table with a row for each set of labels; every query is a column."""
    panel = (
        table.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .unit(unit)
        .decimals(2)
        .span(span)
        .height(9)
        .with_transformation(kinds.DataTransformerConfig(id_val="merge", options={}))
    )
    names: dict[str, str] = {}
    for i, (expr, name) in enumerate(columns):
        ref = chr(ord("A") + i)
        panel = panel.with_target(_target(expr, instant=True, as_table=True).ref_id(ref))
        names["Value" if len(columns) == 1 else f"Value #{ref}"] = name
    organize = {"excludeByName": {"Time": True}, "renameByName": names}
    panel = panel.with_transformation(kinds.DataTransformerConfig(id_val="organize", options=organize))
    panel = panel.sort_by([common.TableSortByFieldState().display_name(columns[0][1]).desc(True)])
    if link:
        label = link.partition("=${__data.fields.")[2].partition("}")[0]
        links = [{"title": "Open", "url": link}]
        panel = panel.override_by_name(label, [kinds.DynamicConfigValue(id_val="links", value=links)])
    return panel


def history(title: str, queries: Sequence[Query], about: str, *, unit: str = "percentunit", span: int = 24) -> Panel:
    """A heatmap: one row for each series, time from left to right."""
    panel = (
        statushistory.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .max(1)
        .show_value(models.VisibilityMode.NEVER)
        .color_scheme(dashboard.FieldColor().mode(kinds.FieldColorModeId.CONTINUOUS_BL_YL_RD))
        .max_data_points(120)
        .span(span)
        .height(8)
    )
    for expr, legend in queries:
        panel = panel.with_target(_target(expr, legend))
    return panel


def choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """A variable with all values of a label; several may be chosen, and all."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(kinds.VariableOption(text="All", value="$__all"))
        .refresh(kinds.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(kinds.VariableSort.ALPHABETICAL_ASC)
    )


CLUSTER = choice("cluster", "Cluster", "label_values(tokenyield_gpu_seconds_total, cluster)")
POOL = choice("pool", "Pool", 'label_values(tokenyield_gpu_seconds_total{cluster=~"$cluster"}, pool)')


def page(
    uid: str,
    title: str,
    about: str,
    variables: Sequence[dashboard.QueryVariable | dashboard.CustomVariable],
    sections: Sequence[tuple[str, Sequence[Panel]]],
    *,
    since: str = "now-24h",
) -> kinds.Dashboard:
    """A dashboard of sections, with links to the others that keep time and variables."""
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(about)
        .tags([TAG])
        .editable()
        .tooltip(kinds.DashboardCursorSync.CROSSHAIR)
        .time(since, "now")
        .timezone("browser")
        .refresh("1m")
        .link(
            dashboard.DashboardLink("tokenyield")
            .type(kinds.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for variable in variables:
        made = made.with_variable(variable)
    for name, panels in sections:
        made = made.with_row(dashboard.Row(name))
        for panel in panels:
            made = made.with_panel(panel)
    return made.build()
