"""The fleet as a cost source: what the ledger's usage costs, line by line. Pure but for the reader.

In: usage (ledger/usage.py) of a period, the policy. Out: lines, day by day, of integers that add up: whatever way they
are summed, the sum of their `total` is the whole cost of the fleet, which is rate x time paid for plus tariff x
energy, pool by pool.

Waterfall, to the exact total: dark -> unallocated -> idle -> under_yield -> productive, each with its energy.
* dark: paid for and not reported, or reported as unknown
* idle and active time that no workload was found for belongs to a line of kind `untied`
"""

import operator
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from tokenyield_collector.ledger.usage import (
    WORK_SUMS,
    CapacityRow,
    CapacityTimes,
    UsageQuery,
    UsageReader,
    UsageRows,
    WorkIdentity,
    WorkRow,
)
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.rates import Rate
from tokenyield_collector.statements.host_power import MeasuredHosts, measured_by_day
from tokenyield_collector.statements.lines import FIELD_AT, FIELDS, TOKENS_AT, Carrier, LineKey, LineKind, Sums
from tokenyield_collector.statements.pricing import TIMES, Pricing, add_capacity, add_usage, add_work
from tokenyield_collector.statements.references import AppliedReference, references_of
from tokenyield_collector.statements.revenue import KindPrices, Revenue
from tokenyield_collector.statements.source import NO_NODE, Grain, Span, day_by_day
from tokenyield_wire.units import MS_PER_DAY

FLEET = "fleet"
_day_of = operator.attrgetter("day_ms")

assert WORK_SUMS[TIMES:] == FIELDS[TOKENS_AT:], "tokens of usage and of lines are added field by field"
_UNRATED_AT, _REVENUE_AT = FIELD_AT["unrated_ms"], FIELD_AT["revenue"]


HeldTimes = dict[tuple[int, str | None, tuple[str, str]], list[int]]
"""What workloads held by segment, pool and node: active ms, idle ms, active mJ, idle mJ."""


class FleetSource:
    """A `CostSource` over a ledger's usage; its keys have the grain that is asked for."""

    def __init__(self, reader: UsageReader, policy: Policy, grain: Grain) -> None:
        self._reader = reader
        self._policy = policy
        self._grain = grain
        self.references: Sequence[AppliedReference] = ()

    def lines(self, span: Span) -> Iterator[tuple[LineKey, Sums]]:
        if span.end_ms <= span.start_ms:
            return
        prices, rules, reader = self._policy.prices, self._policy.rules, self._reader
        pricing = Pricing(prices, span.start_ms, span.end_ms, by_hour=self._grain.hour)
        weights = prices.token_weights.per_thousand()
        paces, self.references = references_of(reader, prices, span.start_ms, span.end_ms, weights)
        carriers = _Carriers(self._policy, self._grain)
        usage = reader.usage(
            UsageQuery(
                start_ms=span.start_ms,
                end_ms=span.end_ms,
                by_node=self._grain.node or self._grain.cluster,
                weights=weights,
                pool_of=pricing.pool_of,
                segments=pricing.segments,
                references=paces,
                gateway_models=rules.gateway_models,
                group_of=carriers.number_of,
            )
        )
        host_days = reader.host_energy(span.start_ms, span.end_ms)
        measured = measured_by_day(host_days, reader.gpu_groups() if host_days else (), pricing.pool_of)
        day = _FleetDay(self._policy, self._grain, pricing, carriers, usage, measured)
        work_of, capacity_of = day_by_day(usage.work, _day_of), day_by_day(usage.capacity, _day_of)
        for day_ms in span.days():
            yield from day.lines(day_ms, work_of(day_ms), capacity_of(day_ms))


class _Carriers:
    """Carriers by number, as identities turn up."""

    def __init__(self, policy: Policy, grain: Grain) -> None:
        self._policy = policy
        self._grain = grain
        self._numbers: dict[Carrier, int] = {}
        self.listed: list[Carrier] = []

    def number_of(self, identity: WorkIdentity) -> int:
        carrier = Carrier(
            "work",
            self._policy.dimension_values(*identity),
            identity.model,
            identity.workload if self._grain.workload else "",
            identity.cluster if self._grain.cluster else "",
        )
        number = self._numbers.setdefault(carrier, len(self.listed))
        if number == len(self.listed):
            self.listed.append(carrier)
        return number


class _FleetDay:
    """Usage of one day into its lines."""

    def __init__(
        self,
        policy: Policy,
        grain: Grain,
        pricing: Pricing,
        carriers: _Carriers,
        usage: UsageRows,
        measured: Mapping[tuple[str, int], MeasuredHosts],
    ) -> None:
        self._grain = grain
        self._pricing = pricing
        self._carriers = carriers
        self._reported_ms = usage.reported_ms
        self._measured = measured
        self._revenue = Revenue(policy)
        self._nobody: tuple[None, ...] = (None,) * len(policy.rules.dimensions)
        self._host: dict[str, tuple[MeasuredHosts, int]] = {}
        """Of this day: pool -> what its hosts were measured to draw, and how long its GPUs reported (ms)."""
        self._rate_of: dict[tuple[str, int], Rate | None] = {}

    def lines(
        self, day_ms: int, work: Sequence[WorkRow], capacity: Sequence[CapacityRow]
    ) -> Iterator[tuple[LineKey, Sums]]:
        lines: dict[LineKey, Sums] = defaultdict(Sums)
        self._begin(day_ms, capacity)
        held = self._add_work(day_ms, work, lines)
        self._add_capacity(day_ms, capacity, held, lines)
        self._add_unreported(day_ms, lines)
        yield from lines.items()

    def _begin(self, day_ms: int, capacity: Sequence[CapacityRow]) -> None:
        self._rate_of = {}
        reported: dict[str, int] = defaultdict(int)
        for row in capacity if self._measured else ():
            times = CapacityTimes(*row.sums)
            reported[row.pool or ""] += times.active_ms + times.idle_ms + times.unallocated_ms + times.unknown_ms
        self._host = {
            pool: (self._measured[pool, day_ms], total_ms)
            for pool, total_ms in reported.items()
            if (pool, day_ms) in self._measured
        }

    def _add_work(self, day_ms: int, work: Sequence[WorkRow], lines: dict[LineKey, Sums]) -> HeldTimes:
        held: HeldTimes = defaultdict(lambda: [0] * 4)
        targets: dict[tuple[str | None, tuple[str, str], int, int], tuple[Sums, KindPrices]] = {}
        by_hour = self._grain.hour
        for row in work:
            at = (row.pool, row.node, row.group, row.segment if by_hour else 0)
            if at not in targets:
                carrier = self._carriers.listed[row.group]
                key = self._key(day_ms, row.segment, row.pool, row.node, carrier)
                targets[at] = lines[key], self._revenue.prices_of(carrier, day_ms)
            sums, token_prices = targets[at]
            tokens = row.sums[TIMES:]
            add_work(sums, self._rate(row.pool, row.segment), row.sums, held[row.segment, row.pool, row.node])
            sums[TOKENS_AT:] = map(operator.add, sums[TOKENS_AT:], tokens)
            for i, quanta in token_prices:
                sums[_REVENUE_AT] += tokens[i] * quanta
        return held

    def _add_capacity(
        self, day_ms: int, capacity: Sequence[CapacityRow], held: HeldTimes, lines: dict[LineKey, Sums]
    ) -> None:
        """What nobody held, and what was held by no workload that is known."""
        nothing = [0] * 4
        for row in capacity:
            times = CapacityTimes(*row.sums)
            known = held.get((row.segment, row.pool, row.node), nothing)
            rate = self._rate(row.pool, row.segment)
            active = (times.active_ms - known[0], times.active_mj - known[2])
            idle = (times.idle_ms - known[1], times.idle_mj - known[3])
            if any(active) or any(idle):
                sums = lines[self._lost_key(day_ms, row, "untied")]
                add_usage(sums, rate, (("productive", *active), ("idle", *idle)))
                sums[_UNRATED_AT] += active[0]
            if times.unallocated_ms or times.unallocated_mj:
                sums = lines[self._lost_key(day_ms, row, "unallocated")]
                add_usage(sums, rate, (("unallocated", times.unallocated_ms, times.unallocated_mj),))
            if times.unknown_ms or times.unknown_mj:
                sums = lines[self._lost_key(day_ms, row, "dark")]
                add_usage(sums, rate, (("dark", times.unknown_ms, times.unknown_mj),))

    def _add_unreported(self, day_ms: int, lines: dict[LineKey, Sums]) -> None:
        """What is paid for and not reported, hour by hour: more than is paid for in one hour is no less in another."""
        pricing = self._pricing
        for i, (start_ms, end_ms) in enumerate(pricing.pieces):
            if not day_ms <= start_ms < day_ms + MS_PER_DAY:
                continue
            for pool, listed in pricing.segments.items():
                rate = pricing.rates[pool][listed[i]]
                if rate is None or rate.count is None:
                    continue
                missing_ms = rate.count * (end_ms - start_ms) - self._reported_ms.get((pool, start_ms), 0)
                if missing_ms > 0:
                    carrier = Carrier("dark", self._nobody)
                    add_capacity(lines[self._key(day_ms, listed[i], pool, NO_NODE, carrier)], rate, "dark", missing_ms)

    def _lost_key(self, day_ms: int, row: CapacityRow, kind: LineKind) -> LineKey:
        cluster = row.node[0] if self._grain.cluster else ""
        carrier = Carrier(kind, self._nobody, cluster=cluster)
        return self._key(day_ms, row.segment, row.pool, row.node, carrier)

    def _key(self, day_ms: int, segment: int, pool: str | None, node: tuple[str, str], carrier: Carrier) -> LineKey:
        start_ms = day_ms
        if self._grain.hour and pool is not None:
            start_ms = self._pricing.hour_of.get((pool, segment), day_ms)
        return LineKey(start_ms, FLEET, pool, node if self._grain.node else NO_NODE, carrier)

    def _rate(self, pool: str | None, segment: int) -> Rate | None:
        if pool is None:
            return None
        if (pool, segment) not in self._rate_of:
            rate = self._pricing.rates[pool][segment]
            if rate is not None and pool in self._host:
                measured, reported_ms = self._host[pool]
                rate = rate.with_host(measured.mw(reported_ms, rate.host_mw))
            self._rate_of[pool, segment] = rate
        return self._rate_of[pool, segment]
