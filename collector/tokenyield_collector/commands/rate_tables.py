"""Hourly rates and the bundled reference figures as tables for a terminal."""

from collections.abc import Sequence
from decimal import Decimal

from rich import box
from rich.table import Table

from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.prices.rate_card import rate_document
from tokenyield_collector.prices.reference import ReferenceFigure, reference_figures
from tokenyield_collector.reports.rounding import Rounding
from tokenyield_collector.targets.terminal import cell

_SHOWN = Rounding(10**9, 6)


def rate_table(prices: PriceBook, at_ms: int) -> Table:
    """What every pool's GPU-hour costs at `at_ms`, part by part."""
    document = rate_document(prices, at_ms)
    title = f"{prices.currency} per GPU-hour at {document['at']}"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("pool", min_width=14)
    table.add_column("part", no_wrap=True)
    table.add_column("how", overflow="fold")
    table.add_column(f"{prices.currency}/GPU-h", justify="right", no_wrap=True)
    for pool in document["pools"]:
        kind = pool.get("kind", "")
        if pool.get("count") is not None:
            kind += f", {pool['count']} GPUs"
        left = [cell(pool["name"]), cell(kind)]  # the first column, line by line
        notes = "; ".join(pool["notes"])
        if not pool["parts"]:
            table.add_row(left[0], "-", cell(notes), "-", end_section=True)
            continue
        amounts, whole = _summing(list(pool["parts"].values()), pool["per_gpu_hour"])
        parts = zip(pool["parts"], amounts, strict=True)
        rows = [(cell(part), cell(pool["how"][part]), cell(amount)) for part, amount in parts]
        rows.append((cell("sum", "bold"), cell(notes), cell(whole, "bold")))
        how = "for each kWh at the GPU, PUE included" if pool["energy_per_kwh"] else "in the rent"
        rows.append((cell("energy"), cell(how), cell(f"{pool['energy_per_kwh']:.6f}")))
        for i, row in enumerate(rows):
            table.add_row(left[i] if i < len(left) else "", *row, end_section=i == len(rows) - 1)
    return table


def site_table(prices: PriceBook, at_ms: int) -> Table | None:
    """What the sites cost at `at_ms` whether GPUs take their power or not; None without sites."""
    document = rate_document(prices, at_ms)
    if not document["sites"]:
        return None
    table = Table(title="sites: provisioned power", box=box.SIMPLE_HEAD, title_justify="left")
    for column in ("site", "facility", "how"):
        table.add_column(column, overflow="fold")
    for column in ("kW", "of counted GPUs", f"{document['currency']}/h"):
        table.add_column(column, justify="right", no_wrap=True)
    for site in document["sites"]:
        per_hour = "-" if site["per_hour"] is None else f"{site['per_hour']:,.6f}"
        how = "; ".join([*filter(None, [site["how"]]), *site["notes"]])
        kw = (f"{site['provisioned_kw']:,.2f}", f"{site['committed_kw']:,.2f}")
        table.add_row(cell(site["name"]), cell(site["facility"]), cell(how), *kw, per_hour)
    return table


def _summing(parts: Sequence[Decimal], whole: Decimal) -> tuple[list[str], str]:
    """The parts of a rate and their sum, with six decimals that add up."""
    steps = _SHOWN.whole(round(whole * _SHOWN.per_unit))
    shown = _SHOWN.divided(steps, [round(part * _SHOWN.per_unit) for part in parts])
    return [f"{_SHOWN.number(part):f}" for part in shown], f"{_SHOWN.number(steps):f}"


def reference_table() -> Table:
    """The bundled figures with their sources."""
    table = Table(
        title="Reference figures, USD per GPU: not your prices. (e): estimate or general knowledge",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    table.add_column("GPU", min_width=15)
    for column in ("price", "rent/h", "TDP W", "idle W", "kW"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("source of price and rent", overflow="fold")
    for gpu in reference_figures().gpus:
        figures = (gpu.price, gpu.rent_per_hour, gpu.tdp_watts, gpu.idle_watts, gpu.kw_all_in)
        sources = f"{_source(gpu.price)}; {_source(gpu.rent_per_hour)}"
        table.add_row(gpu.name, *(_cell(figure) for figure in figures), sources, end_section=True)
    return table


def _cell(figure: ReferenceFigure | None) -> str:
    if figure is None:
        return "-"
    return f"{figure.value:,}" + ("" if figure.trust == "verified" else " (e)")


def _source(figure: ReferenceFigure | None) -> str:
    return f"{figure.source}, {figure.as_of}" if figure else "-"
