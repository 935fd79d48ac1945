"""The gaps that facts show without any price: demand that no server made, requests and GPUs counted twice. Pure.

In: what of the facts does not fit each other (ledger/contradictions.py). Out: gaps (gaps.py). Reports and `verify` find
the same.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple, Protocol

from tokenyield_collector.ledger.contradictions import (
    ContestedGpu,
    DemandDay,
    DoubledGpu,
    ForeignDay,
    GatewayDay,
)
from tokenyield_collector.ledger.usage import CapacityTimes
from tokenyield_collector.statements.chained_gateways import behind_another, beyond_made, outermost_first
from tokenyield_collector.statements.gaps import (
    BEYOND_SERVED,
    GATEWAYS_CHAINED,
    GPU_CONTESTED,
    GPU_TWICE,
    NOT_SERVED,
    WORKLOAD_FOREIGN,
    DayGap,
    GapAmounts,
    GapSums,
    subject_of,
)
from tokenyield_collector.statements.names import own_name

EQUAL = 0.005
"""Two gateways whose tokens and requests of a day differ by less, of a model that no server ran, counted the same."""


class ContradictionReader(Protocol):
    """The part of a ledger's usage that is needed."""

    def demand(self, start_ms: int, end_ms: int, gateway_models: Mapping[str, str]) -> Sequence[DemandDay]: ...

    def doubled_gpus(self, start_ms: int, end_ms: int) -> Sequence[DoubledGpu]: ...

    def contested_gpus(self, start_ms: int, end_ms: int) -> Sequence[ContestedGpu]: ...

    def foreign_days(self, start_ms: int, end_ms: int) -> Sequence[ForeignDay]: ...


class FactGaps(NamedTuple):
    """What does not fit, and what gateways counted that another one counted too."""

    gaps: list[DayGap]
    uncounted: list[GatewayDay]


def fact_gaps(reader: ContradictionReader, start_ms: int, end_ms: int, gateway_models: Mapping[str, str]) -> FactGaps:
    found, uncounted = GapSums(), []
    by_model: dict[tuple[int, str, str], list[DemandDay]] = defaultdict(list)
    for row in reader.demand(start_ms, end_ms, gateway_models):
        by_model[row.day_ms, row.cluster, row.model].append(row)
    for (day_ms, cluster, model), rows in by_model.items():
        left_out = behind_another(rows)
        uncounted += [GatewayDay(day_ms, cluster, model, row.gateway) for row in left_out]
        _add_demand(found, day_ms, f"{own_name(cluster)}: model {own_name(model) or '-'}", rows, left_out)
    for gpu in reader.doubled_gpus(start_ms, end_ms):
        subject = f"{own_name(gpu.gpu_uuid)}, by two agents of {_place(gpu.place)}"
        found.add(GPU_TWICE, subject, gpu.day_ms, GapAmounts(gpu.over_ms, gpu.over_mj))
    for contested in reader.contested_gpus(start_ms, end_ms):
        others = subject_of([_place(place) for place in contested.others])
        subject = f"{own_name(contested.gpu_uuid)} of {_place(contested.first)}, also by {others}"
        times = CapacityTimes(*contested.left_out)
        found.add(GPU_CONTESTED, subject, contested.day_ms, GapAmounts(times.gpu_ms, times.energy_mj))
    for day_ms, cluster, workload, *amounts in reader.foreign_days(start_ms, end_ms):
        found.add(WORKLOAD_FOREIGN, f"{own_name(cluster)}: {own_name(workload)}", day_ms, GapAmounts(*amounts))
    return FactGaps(found.by_day(), uncounted)


def _add_demand(
    found: GapSums, day_ms: int, subject: str, rows: Sequence[DemandDay], left_out: Sequence[DemandDay]
) -> None:
    """Of one model in one cluster on one day."""
    twice = set(_same(rows))
    for row in rows:
        if row.gateway not in twice and (row.unserved_tokens or row.unserved_requests):
            amounts = GapAmounts(tokens=row.unserved_tokens, requests=row.unserved_requests)
            found.add(NOT_SERVED, f"{subject}, by gateway {own_name(row.gateway)}", day_ms, amounts)
    for row in rows:
        if row in left_out or row.gateway in twice:
            others = [own_name(one.gateway) for one in rows if one not in left_out and one.gateway not in twice]
            behind = f"{subject}, gateway {own_name(row.gateway)} behind {subject_of(others)}"
            found.add(GATEWAYS_CHAINED, behind, day_ms, GapAmounts(tokens=row.tokens, requests=row.requests))
    counted = [row for row in rows if row not in left_out]
    if beyond := beyond_made(counted):
        gateways = subject_of([own_name(row.gateway) for row in counted])
        by = f"by gateway{'s' if len(counted) > 1 else ''} {gateways}"
        found.add(BEYOND_SERVED, f"{subject}, {by}", day_ms, GapAmounts(tokens=beyond))


def _same(rows: Sequence[DemandDay]) -> Iterator[str]:
    """Gateways that, of a model that no server ran, counted what one further out counted too."""
    unserved = [row for row in outermost_first(rows) if row.unserved_tokens == row.tokens and row.tokens]
    for one, other in combinations(unserved, 2):
        if _is_near(one.tokens, other.tokens) and _is_near(one.requests, other.requests):
            yield other.gateway


def _is_near(one: int, other: int) -> bool:
    return abs(one - other) <= EQUAL * max(one, other)


def _place(place: str) -> str:
    cluster, _, node = place.partition("/")
    return f"{own_name(cluster)}/{own_name(node)}"
