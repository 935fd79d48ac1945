"""How long callers waited over a report's period, by the report's columns. Pure.

In: waits by piece of work, the policy, the columns of a report. Out: a `ReportLatency`: histograms, which add up.

Waits are known by who the work belongs to, not by the hour, the pool, the node or the caller: of the report's columns
those that are known are kept; where none is, waits are by model.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tokenyield_collector.ledger.latency import LatencyHistogram, histograms
from tokenyield_collector.ledger.usage import WorkLatency
from tokenyield_collector.policy import Policy
from tokenyield_collector.statements.fleet import FLEET
from tokenyield_collector.statements.lines import Carrier, LineKey
from tokenyield_collector.statements.names import column_values
from tokenyield_collector.statements.source import NO_NODE

_KNOWN = ("source", "cluster", "workload", "model")
"""Built-in columns that waits are known by, beside the dimensions."""


class ReportLatency(NamedTuple):
    """`by` are columns; a row has their values and the waits of one kind."""

    by: tuple[str, ...]
    rows: Sequence[tuple[dict[str, str], LatencyHistogram]]


def report_latency(
    waits: Iterable[WorkLatency], policy: Policy, by: Sequence[str], where: Mapping[str, str]
) -> ReportLatency | None:
    """None where `where` has a column that waits are not known by."""
    dimensions = policy.rules.dimensions
    known = {*dimensions, *_KNOWN}
    if not known.issuperset(where):
        return None
    columns = tuple(name for name in by if name in known) or ("model",)
    wanted = tuple(where.values())

    def values_of(row: WorkLatency, names: Iterable[str]) -> tuple[str, ...]:
        identity = row.identity
        carrier = Carrier(
            "work", policy.dimension_values(*identity), identity.model, identity.workload, identity.cluster
        )
        return column_values(LineKey(0, FLEET, None, NO_NODE, carrier), tuple(names), dimensions)

    shown = [row for row in waits if values_of(row, where) == wanted]
    sums = histograms(shown, lambda row: values_of(row, columns))
    return ReportLatency(
        columns, [(dict(zip(columns, values, strict=True)), sums[values, kind]) for values, kind in sorted(sums)]
    )
