"""Tables for people at a terminal, drawn with rich. In: a summary. Out: a renderable."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokenyield_collector.reports.figure import BAR_CELLS, figure
from tokenyield_collector.statements.buckets import BY_NAME


def summary_tables(summary: dict[str, Any], notes: Sequence[str]) -> RenderableType:
    """The demo's picture: notes, the fleet in one line, the waterfall, the workloads."""
    fleet = summary["fleet"]
    head = Table(box=box.SIMPLE_HEAD)
    for column in ("tokens/J", "$/Mtok", "$/Mtok compl.", "idle $/h", "fleet $/h", "GPUs", "joules", "tokens"):
        head.add_column(column, justify="right")
    head.add_row(
        figure(fleet["tokens_per_joule"]["total"]),
        figure(fleet["cost_per_million_tokens"]["total"]),
        figure(fleet["cost_per_million_tokens"]["completion"]),
        figure(fleet["idle_capacity"] and fleet["idle_capacity"]["cost_per_hour"]),
        figure(fleet["cost_per_hour"]),
        str(fleet["gpus_reporting"]),
        figure(sum(fleet["energy_joules"].values()), 0),
        figure(fleet["tokens"]["total"], 0),
    )
    parts: list[RenderableType] = [Text(note, style="dim") for note in notes]
    span = Text(f"over {summary['seconds']:.0f} s up to {summary['end']}", style="dim")
    return Group(*parts, span, head, _waterfall(summary), _workloads(summary))


def _waterfall(summary: dict[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("where the capacity cost goes")
    table.add_column("")
    for column in ("share", "GPU-hours", "USD"):
        table.add_column(column, justify="right")
    for row in summary["waterfall"]:
        share = row["share_of_capacity"] or 0.0
        bar = Text("█" * round(share * BAR_CELLS), style=BY_NAME[row["bucket"]].terminal)
        cost = figure(float(row["capacity_cost"]), 4)
        table.add_row(BY_NAME[row["bucket"]].title, bar, f"{share:.1%}", figure(row["gpu_hours"], 4), cost)
    return table


def _workloads(summary: dict[str, Any]) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, caption="direct, allocated, loaded: USD per million tokens", caption_justify="left"
    )
    table.add_column("workload")
    table.add_column("model")
    for column in ("tokens/J", "direct", "allocated", "loaded", "prompt", "cached", "completion", "requests"):
        table.add_column(column, justify="right")
    for row in summary["workloads"]:
        cost = row["cost_per_million_tokens"]["total"]
        table.add_row(
            row["workload"],
            row["model"] or "-",
            figure(row["tokens_per_joule"]["total"]),
            *(figure(cost[basis]) for basis in ("direct", "allocated", "loaded")),
            *(figure(row["tokens"][kind], 0) for kind in ("prompt_computed", "prompt_cached", "completion")),
            figure(row["requests"], 0),
        )
    return table
