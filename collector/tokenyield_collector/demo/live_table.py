"""Tables for people at a terminal, drawn with rich. In: a summary. Out: a renderable."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokenyield_collector.reports.figure import BAR_CELLS, figure
from tokenyield_collector.statements.buckets import BY_NAME
from tokenyield_collector.targets.terminal import cell


def summary_tables(summary: dict[str, Any], notes: Sequence[str]) -> RenderableType:
    """The demo's picture: notes, the headline figures, the fleet in one line, the waterfall, the workloads."""
    parts: list[RenderableType] = [cell(note, "dim") for note in notes]
    span = cell(f"over {summary['seconds']:.0f} s up to {summary['end']}", "dim")
    return Group(*parts, span, _headline(summary), _fleet(summary), _waterfall(summary), _workloads(summary))


def _headline(summary: dict[str, Any]) -> Table:
    """Tokens/s per watt, and idle-capacity cost as an amount and as a share of hardware cost."""
    fleet, currency = summary["fleet"], summary["currency"]
    idle = fleet["idle_capacity"] or {"cost_per_hour": None, "share_of_hardware_cost": {}}
    shares = {name: _percent(idle["share_of_hardware_cost"].get(name)) for name in ("total", "owned", "rented")}
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(justify="right", style="bold")
    table.add_column()
    table.add_row(
        figure(fleet["tokens_per_second_per_watt"]["total"]), "tokens/s per watt (the same as tokens per joule)"
    )
    table.add_row(
        figure(idle["cost_per_hour"]),
        f"{currency} an hour idle-capacity cost: {shares['total']} of the amortized hardware cost"
        f" (owned {shares['owned']}, rented {shares['rented']})",
    )
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _fleet(summary: dict[str, Any]) -> Table:
    fleet, currency = summary["fleet"], summary["currency"]
    table = Table(box=box.SIMPLE_HEAD)
    per_token = f"{currency}/Mtok"
    for column in (per_token, f"{per_token} completion", f"{currency}/h", "GPUs", "joules", "tokens"):
        table.add_column(column, justify="right")
    table.add_row(
        figure(fleet["cost_per_million_tokens"]["total"]),
        figure(fleet["cost_per_million_tokens"]["completion"]),
        figure(fleet["cost_per_hour"]),
        str(fleet["gpus_reporting"]),
        figure(sum(fleet["energy_joules"].values()), 0),
        figure(fleet["tokens"]["total"], 0),
    )
    return table


def _waterfall(summary: dict[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("where the capacity cost goes")
    table.add_column("")
    for column in ("share", "GPU-hours", summary["currency"]):
        table.add_column(column, justify="right")
    for row in summary["waterfall"]:
        share = row["share_of_capacity"] or 0.0
        bar = Text("█" * round(share * BAR_CELLS), style=BY_NAME[row["bucket"]].terminal)
        cost = figure(float(row["capacity_cost"]), 4)
        table.add_row(BY_NAME[row["bucket"]].title, bar, f"{share:.1%}", figure(row["gpu_hours"], 4), cost)
    return table


def _workloads(summary: dict[str, Any]) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        caption=f"direct, allocated, loaded: {summary['currency']} per million tokens",
        caption_justify="left",
    )
    for column in ("workload", "model"):
        table.add_column(column, overflow="fold", min_width=8)
    for column in ("tok/s/W", "direct", "allocated", "loaded", "prompt", "cached", "completion", "requests"):
        table.add_column(column, justify="right")
    for row in summary["workloads"]:
        cost = row["cost_per_million_tokens"]["total"]
        table.add_row(
            cell(row["workload"]),
            cell(row["model"] or "-"),
            figure(row["tokens_per_second_per_watt"]["total"]),
            *(figure(cost[basis]) for basis in ("direct", "allocated", "loaded")),
            *(figure(row["tokens"][kind], 0) for kind in ("prompt_computed", "prompt_cached", "completion")),
            figure(row["requests"], 0),
        )
    return table
