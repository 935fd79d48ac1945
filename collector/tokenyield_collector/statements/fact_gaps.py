"""The gaps that facts show without any price: demand that no server made, requests and GPUs counted twice. Pure.

In: what of the facts does not fit each other (ledger/contradictions.py). Out: gaps (gaps.py). Reports and `verify` find
the same.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Protocol

from tokenyield_collector.ledger.contradictions import DemandDay, DoubledGpu
from tokenyield_collector.statements.gaps import (
    BEYOND_SERVED,
    GATEWAYS_CHAINED,
    GPU_TWICE,
    NOT_SERVED,
    DayGap,
    GapAmounts,
    GapSums,
    subject_of,
)
from tokenyield_collector.statements.names import own_name

SLACK = 0.01
"""Demand may be beyond what was made by this part: gateways count some requests in another hour, and some tokens by
estimates of their own."""
EQUAL = 0.005
"""Two gateways whose tokens and requests of a day differ by less, of a model that no server ran, counted the same."""


class ContradictionReader(Protocol):
    """The part of a ledger's usage that is needed."""

    def demand(self, start_ms: int, end_ms: int, gateway_models: Mapping[str, str]) -> Sequence[DemandDay]: ...

    def doubled_gpus(self, start_ms: int, end_ms: int) -> Sequence[DoubledGpu]: ...


def fact_gaps(
    reader: ContradictionReader, start_ms: int, end_ms: int, gateway_models: Mapping[str, str]
) -> list[DayGap]:
    found = GapSums()
    by_model: dict[tuple[int, str, str], list[DemandDay]] = defaultdict(list)
    for row in reader.demand(start_ms, end_ms, gateway_models):
        by_model[row.day_ms, row.cluster, row.model].append(row)
    for (day_ms, cluster, model), rows in by_model.items():
        _add_demand(found, day_ms, f"{own_name(cluster)}: model {own_name(model) or '-'}", rows)
    for gpu in reader.doubled_gpus(start_ms, end_ms):
        places = subject_of([_place(place) for place in gpu.places])
        by = f"by {places}" if len(gpu.places) > 1 else f"by two agents of {places}"
        found.add(GPU_TWICE, f"{own_name(gpu.gpu_uuid)}, {by}", gpu.day_ms, GapAmounts(gpu.over_ms, gpu.over_mj))
    return found.by_day()


def _add_demand(found: GapSums, day_ms: int, subject: str, rows: Sequence[DemandDay]) -> None:
    """Of one model in one cluster on one day."""
    twice = set(_same(rows))
    for row in rows:
        if row.gateway not in twice and (row.unserved_tokens or row.unserved_requests):
            amounts = GapAmounts(tokens=row.unserved_tokens, requests=row.unserved_requests)
            found.add(NOT_SERVED, f"{subject}, by gateway {own_name(row.gateway)}", day_ms, amounts)
    gateways = subject_of([own_name(row.gateway) for row in rows])
    of_all = f"{subject}, by gateway{'s' if len(rows) > 1 else ''} {gateways}"
    if twice:
        doubled = [row for row in rows if row.gateway in twice]
        amounts = GapAmounts(tokens=sum(row.tokens for row in doubled), requests=sum(row.requests for row in doubled))
        found.add(GATEWAYS_CHAINED, of_all, day_ms, amounts)
    if not (beyond := _beyond(rows)):
        return
    is_chain = len(rows) > 1 and not any(_beyond([row]) for row in rows)
    found.add(GATEWAYS_CHAINED if is_chain else BEYOND_SERVED, of_all, day_ms, GapAmounts(tokens=beyond))


def _beyond(rows: Sequence[DemandDay]) -> int:
    """Tokens of a served model that were requested and that no server made; 0 where that is within the slack."""
    beyond, requested = 0, 0
    for kind in ("prompt", "completion"):
        made = getattr(rows[0], f"made_{kind}")
        if made is not None:
            asked = sum(getattr(row, kind) for row in rows)
            requested += asked
            beyond += max(0, asked - made)
    return beyond if beyond > SLACK * requested else 0


def _same(rows: Iterable[DemandDay]) -> Iterator[str]:
    """Gateways that, of a model that no server ran, counted what a gateway of a smaller name counted too."""
    unserved = [row for row in rows if row.unserved_tokens == row.tokens and row.tokens]
    for one, other in combinations(unserved, 2):
        if _is_near(one.tokens, other.tokens) and _is_near(one.requests, other.requests):
            yield max(one.gateway, other.gateway)


def _is_near(one: int, other: int) -> bool:
    return abs(one - other) <= EQUAL * max(one, other)


def _place(place: str) -> str:
    cluster, _, node = place.partition("/")
    return f"{own_name(cluster)}/{own_name(node)}"
