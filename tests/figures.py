"""What some nodes' facts and figures are in a ledger, to compare ledgers in which others differ."""

import time
from collections.abc import Collection, Iterable
from typing import Any

from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.ledger.facts import FACT_KINDS
from tokenyield_collector.policy import Policy
from tokenyield_collector.reports.maker import ReportMaker

Rows = dict[Any, Any]
ROUNDING = 1e-8
"""Of money that is divided among rows: what is left over goes by the order of all rows, in units of 1e-9."""


def facts_of_nodes(ledger: Ledger, nodes: Collection[str]) -> dict[str, list[str]]:
    """The rows of every kind of fact, by hours."""
    facts = ledger.facts_of_hours()
    return {
        kind.field: sorted(repr(row) for row in getattr(facts, kind.field) if row.node in nodes) for kind in FACT_KINDS
    }


def figures_of_nodes(
    ledger: Ledger, nodes: Collection[str], at_ms: Iterable[int], now_ms: int, policy: Policy | None = None
) -> Rows:
    """(day, node, workload, model) -> figures and cost of the report of each day in which one of these instants is."""
    maker = ReportMaker(ledger=ledger, policy=policy or Policy(), now_ms=now_ms)
    return {
        (day, *row.by.values()): {**row.figures, "cost": row.cost}
        for day in sorted({time.strftime("%Y-%m-%d", time.gmtime(one_ms / 1000)) for one_ms in at_ms})
        for row in maker.report(day, ["node", "workload", "model"]).rows
        if row.by["node"] in nodes
    }


def difference_of_figures(one: Rows, other: Rows) -> str:
    """The first that differs, in words; empty where none does."""
    for key in sorted({*one, *other}, key=repr):
        for name in one.get(key, {}) | other.get(key, {}):
            values = [rows.get(key, {}).get(name) for rows in (one, other)]
            if not _is_same(*values):
                return f"{key}: {name} is {values[0]}, not {values[1]}"
    return ""


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, int) and isinstance(other, int):
        return one == other
    return bool(one == other or (one is not None and other is not None and abs(one - other) <= ROUNDING))
