"""What the facts of an hour add to each exported counter. Pure.

In: facts, and the price book for the names of pools. Out: series -> integer (ms, mJ, tokens), hour by hour.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from tokenyield_collector.ledger.facts import FACT_KINDS, Facts
from tokenyield_collector.live.series import Series
from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.prices.rates import Rates
from tokenyield_collector.statements.names import own_name, pool_name
from tokenyield_wire.window import STATES, TOKEN_KINDS

OUTCOMES = {"requests": "answered", "requests_aborted": "aborted", "requests_failed": "failed"}
"""Kind of requests -> value of the label `outcome`."""
METRICS = (
    "tokens",
    "requests",
    "demand_tokens",
    "demand_requests",
    "energy_mj",
    "gpu_ms",
    "workload_energy_mj",
    "workload_gpu_ms",
    "parked_ms",
    "integrated_mj",
    "energy_error_mj",
    "activity_ms",
    "activity_known_ms",
    "throttled_ms",
    "throttled_lost_ms",
    "gpu_events",
    "host_mj",
    "price_missing_ms",
)
PLACE_METRICS = frozenset(
    ("gpu_ms", "energy_mj", "integrated_mj", "energy_error_mj", "activity_ms", "activity_known_ms")
)
"""Their labels are the cluster, the pool, and others. Which pool it is depends on the prices."""
_MEASURES = {"throttled_lost": "throttled_lost_ms", "event": "gpu_events", "host": "host_mj"}
"""Kind of a measure -> its metric."""
COUNTED = tuple(kind for kind in FACT_KINDS if kind.field not in ("labels", "latency"))
"""What of an hour's facts is counted; the rest need not be read."""


CountedHours = dict[int, Mapping[Series, int]]
"""Hour -> what it adds to each series."""


class Counting:
    """Under one price book. For one thread."""

    def __init__(self, prices: PriceBook) -> None:
        self._prices = prices
        self._rates = Rates(prices)

    def of_hours(self, hours_ms: Iterable[int], facts: Facts) -> CountedHours:
        """`facts` are all there are of these hours."""
        by_hour = _split(facts)
        return {hour_ms: self._of_hour(by_hour.get(hour_ms, Facts()), hour_ms) for hour_ms in hours_ms}

    def _of_hour(self, facts: Facts, hour_ms: int) -> dict[Series, int]:
        amounts: dict[Series, int] = defaultdict(int)
        pools: dict[tuple[str, str, str], str | None] = {}
        for gpu in facts.gpus:
            place = (gpu.cluster, gpu.node, gpu.gpu_model)
            if place not in pools:
                pools[place] = self._pool_of(facts, place, hour_ms)
            if pools[place] is None:
                amounts[Series("price_missing_ms", ())] += sum(getattr(gpu, f"{state}_ms") for state in STATES)
            cluster, pool = own_name(gpu.cluster), pool_name(pools[place])
            for state in STATES:
                amounts[Series("gpu_ms", (cluster, pool, state))] += getattr(gpu, f"{state}_ms")
                amounts[Series("energy_mj", (cluster, pool, state))] += getattr(gpu, f"{state}_mj")
            for metric in ("integrated_mj", "energy_error_mj", "activity_known_ms"):
                if amount := getattr(gpu, metric):
                    amounts[Series(metric, (cluster, pool))] += amount
            for unit in ("sm", "tensor", "dram"):
                if (busy_ms := getattr(gpu, f"{unit}_ms")) is not None:
                    amounts[Series("activity_ms", (cluster, pool, unit))] += busy_ms
        for reason in facts.reasons:
            if reason.kind == "throttled":
                amounts[Series("throttled_ms", (own_name(reason.cluster), reason.reason))] += reason.duration_ms
        for measure in facts.measures:
            if measure.kind in _MEASURES:
                amounts[Series(_MEASURES[measure.kind], (own_name(measure.cluster), measure.name))] += measure.amount
        for share in facts.shares:
            holder = (own_name(share.cluster), own_name(share.workload))
            for state in ("active", "idle"):
                labels = (*holder, state)
                amounts[Series("workload_gpu_ms", labels)] += getattr(share, f"{state}_ms")
                amounts[Series("workload_energy_mj", labels)] += getattr(share, f"{state}_mj")
            if share.parked_ms:
                amounts[Series("parked_ms", holder)] += share.parked_ms
        for row in facts.tokens:
            made_by = (own_name(row.cluster), own_name(row.workload), own_name(row.model))
            for kind in TOKEN_KINDS:
                if (count := getattr(row, kind)) is not None:
                    amounts[Series("tokens", (*made_by, kind, row.method))] += count
            for kind, outcome in OUTCOMES.items():
                if (count := getattr(row, kind)) is not None:
                    amounts[Series("requests", (*made_by, outcome))] += count
        for demand in facts.demand:
            team = json.loads(demand.caller).get("team", "")
            caller = tuple(map(own_name, (demand.cluster, demand.gateway, demand.model, team)))
            for kind in TOKEN_KINDS:
                if (count := getattr(demand, kind)) is not None:
                    amounts[Series("demand_tokens", (*caller, kind))] += count
            for kind, outcome in OUTCOMES.items():
                if (count := getattr(demand, kind)) is not None:
                    amounts[Series("demand_requests", (*caller, outcome))] += count
        return dict(amounts)

    def _pool_of(self, facts: Facts, place: tuple[str, str, str], hour_ms: int) -> str | None:
        """The first pool that matches and is paid for in that hour; None where there is none, or it has no price.

        GPUs beyond a count are counted with the pool itself: their part depends on all facts of the hour, and a counter
        may not go back.
        """
        for pool in self._prices.pools_of(*place, facts.node_labels.get(place[:2], {})):
            is_paid, rate = self._rates.priced(pool, hour_ms)
            if is_paid:
                return pool.name if rate is not None else None
        return None


def _split(facts: Facts) -> dict[int, Facts]:
    by_hour: dict[int, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for kind in COUNTED:
        for row in getattr(facts, kind.field):
            by_hour[row.hour_ms][kind.field].append(row)
    return {hour: Facts(node_labels=facts.node_labels, **rows) for hour, rows in by_hour.items()}
