"""What the exported counters stand at, from the hours of the ledger. Pure.

In: the facts of changed hours, and the price book for the names of pools. Out: series -> integer (ms, mJ, tokens).

A Prometheus counter may never go back, not even across a restart of the collector. These do not: an hour is recomputed
from windows that are only added, and hours given up by retention go into a *base* kept in the ledger. Money can be
corrected, so it is no counter; see to_date.py.
"""

import json
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from tokenyield_collector.ledger.facts import FACT_KINDS, Facts
from tokenyield_collector.live.series_names import Labels, name_of
from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.prices.rates import Rates
from tokenyield_collector.statements.names import own_name, pool_name
from tokenyield_wire.window import STATES, TOKEN_KINDS


class Series(NamedTuple):
    """A counter's name and label values, in the order of metrics/families.py."""

    metric: str
    labels: tuple[str, ...]

    def key(self) -> str:
        return json.dumps([self.metric, *self.labels], ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def of_key(cls, key: str) -> "Series":
        metric, *labels = json.loads(key)
        return cls(metric, tuple(labels))


class _Packed(NamedTuple):
    """What one hour adds to each series: 12 bytes each, where a dict takes 200.

    A month of 10,000 GPUs and 3,750 workloads has 20 million: 0.9 GB of the collector against 5.2 GB.
    """

    numbers: "array[int]"
    values: "array[int] | list[int]"
    """A list where a sum does not fit 64 bits: nobody made so many tokens, but whoever said so costs only memory."""


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
_MEASURES = {"throttled_lost": "throttled_lost_ms", "event": "gpu_events", "host": "host_mj"}
"""Kind of a measure -> its metric."""
COUNTED = tuple(kind for kind in FACT_KINDS if kind.field not in ("labels", "latency"))
"""What of an hour's facts is counted; the rest need not be read."""


class Counters:
    """Sums over all hours, kept up to date hour by hour. `bases` are the ledger's, of which others are left alone."""

    def __init__(self, prices: PriceBook, bases: Mapping[str, int]) -> None:
        self._prices = prices
        self._rates = Rates(prices)
        known = {Series.of_key(key): value for key, value in bases.items()}
        self._bases = {series: value for series, value in known.items() if series.metric in METRICS}
        self._hours: dict[int, _Packed] = {}
        self._numbers: dict[Series, int] = {}
        self._listed: list[Series] = []
        self._first_seen = {named: 0 for s in self._bases if (named := name_of(s.metric, s.labels)) is not None}
        """(class, name) of series -> the hour (ms) in which it was first seen; 0 before all that are kept."""
        self._names: dict[str, tuple[Labels, ...]] | None = None
        """What `names` last made, while it holds."""
        self._sums: dict[Series, int] = defaultdict(int)

    def update(self, hours: Iterable[int], facts: Facts) -> None:
        """Take the facts of `hours` (all there are of them) into the sums."""
        by_hour = _split(facts)
        for hour_ms in hours:
            fresh = self._of_hour(by_hour.get(hour_ms, Facts()), hour_ms)
            packed = self._packed(fresh)
            for series, value in self._unpacked(self._hours.get(hour_ms)):
                self._sums[series] -= value
            for series, value in fresh.items():
                self._sums[series] += value
                named = name_of(series.metric, series.labels)
                if named is not None and hour_ms < self._first_seen.get(named, hour_ms + 1):
                    self._first_seen[named] = hour_ms
                    self._names = None
            self._hours[hour_ms] = packed

    def values(self) -> dict[Series, int]:
        """What to show."""
        shown = {series: value + self._bases.get(series, 0) for series, value in self._sums.items()}
        for series, base in self._bases.items():
            shown.setdefault(series, base)
        return shown

    def names(self) -> dict[str, tuple[Labels, ...]]:
        """Class -> names (series_names.py), the first seen first: the same after every restart."""
        if self._names is None:
            names: dict[str, list[Labels]] = defaultdict(list)
            for name_class, name in sorted(self._first_seen, key=lambda named: (self._first_seen[named], named)):
                names[name_class].append(name)
            self._names = {name_class: tuple(of_class) for name_class, of_class in names.items()}
        return self._names

    def retire(self, before_ms: int) -> dict[str, int]:
        """Move hours before `before_ms` into the bases; returns what is added, for `Ledger.retire`."""
        added: dict[Series, int] = defaultdict(int)
        for hour_ms in [hour for hour in self._hours if hour < before_ms]:
            for series, value in self._unpacked(self._hours.pop(hour_ms)):
                added[series] += value
                self._sums[series] -= value
                self._bases[series] = self._bases.get(series, 0) + value
        return {series.key(): value for series, value in added.items()}

    def _packed(self, values: dict[Series, int]) -> "_Packed":
        numbers = array("I")
        for series in values:
            number = self._numbers.setdefault(series, len(self._listed))
            if number == len(self._listed):
                self._listed.append(series)
            numbers.append(number)
        try:
            return _Packed(numbers, array("q", values.values()))
        except OverflowError:
            return _Packed(numbers, list(values.values()))

    def _unpacked(self, packed: "_Packed | None") -> Iterator[tuple[Series, int]]:
        if packed is not None:
            for number, value in zip(packed.numbers, packed.values, strict=True):
                yield self._listed[number], value

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
